"""dstack images and machines on the command line, for `measure` of an image's directory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import click

from builder.encoding.canonical_json import parse_json
from builder.errors import DocumentError
from builder.measure.dstack.image import DstackImage, measurement_differences
from builder.measure.dstack.profile import image_variant
from builder.measure.dstack.vm_config import VmConfig, VmConfigDocument, parse_vm_config, vm_config_for
from builder.model.reference_values import ReferenceValues
from builder.model.size import parse_size
from builder.pipeline.dstack_image import dstack_reference_values, read_dstack_image
from builder.pipeline.files import read_document

_OTHER_IMAGE = "measure the image that the machine claims to run"
_NEEDED = "a dstack image needs its machine: --vm-config, or all of --vcpus, --memory and --qemu"


@dataclass(frozen=True)
class DstackMachines:
    """What the options say: VmConfig files, or plain machines by vCPUs, memory and QEMU version; and the firmware."""

    vm_configs: tuple[Path, ...]
    vcpus: tuple[int, ...]
    memory: tuple[str, ...]
    qemu: str | None
    edk2: str | None


@dataclass(frozen=True)
class MeasuredImage:
    """The image with its values. `differences` are those of its TDX document, None without one; `notes` say what the
    values rest on."""

    image: DstackImage
    values: ReferenceValues
    differences: tuple[str, ...] | None
    notes: tuple[str, ...]


def measure_image(directory: Path, machines: DstackMachines) -> MeasuredImage:
    """Reference Values of the image in a directory, for every machine; the ACPI tables are generated.

    A VmConfig that came with a quote says what its sender claims: these are values of that machine, not a verdict.
    UsageError for a machine that is not complete, DocumentError for one that no rule covers or that runs another image.
    """
    _check_machines(machines)
    image = read_dstack_image(directory)
    claims = {path: _claim(path, image, edk2=machines.edk2) for path in machines.vm_configs}
    configs = [*(claim.config for claim in claims.values()), *_plain_configs(machines)]
    _check_distinct(configs)
    values = dstack_reference_values(image, configs, edk2=machines.edk2)
    differences = None
    if image.measurement is not None:
        variant = image_variant(image.metadata, configs[0].ovmf_variant, edk2=machines.edk2)
        differences = measurement_differences(image, variant=variant)
    return MeasuredImage(image, values, differences, tuple(_notes(image, claims)))


def _check_machines(machines: DstackMachines) -> None:
    plain = (machines.vcpus, machines.memory, machines.qemu)
    if machines.vm_configs and plain != ((), (), None):
        raise click.UsageError("--vm-config states the whole machine: leave out --vcpus, --memory and --qemu")
    if not machines.vm_configs and not all(plain):
        raise click.UsageError(_NEEDED)
    if len(set(machines.vm_configs)) != len(machines.vm_configs):
        raise click.UsageError("--vm-config: the same file twice")


def _plain_configs(machines: DstackMachines) -> Iterator[VmConfig]:
    for vcpus, memory in product(machines.vcpus, machines.memory):
        size = parse_size(memory, what="--memory")
        yield vm_config_for(vcpus=vcpus, memory=size, qemu_version=machines.qemu or "")


def _claim(path: Path, image: DstackImage, *, edk2: str | None) -> VmConfigDocument:
    """A VmConfig from its own file, or from the answer in which it came beside the quote."""
    try:
        document = parse_vm_config(_vm_config_text(read_document(path)))
    except DocumentError as error:
        raise DocumentError(f"{path}: {error.message}", hint=error.hint) from error
    claimed = document.os_image_hash
    if claimed is not None and image.os_image_hash not in (None, claimed):
        raise DocumentError(
            f"{path}: VmConfig of os_image_hash {claimed}, the image has {image.os_image_hash}", hint=_OTHER_IMAGE
        )
    _check_claimed_document(path, document, image, edk2=edk2)
    return document


def _check_claimed_document(path: Path, document: VmConfigDocument, image: DstackImage, *, edk2: str | None) -> None:
    """DocumentError if the TDX document that came in the VmConfig is not that of the image's files."""
    if document.measurement in (None, image.measurement):
        return
    variant = image_variant(image.metadata, document.config.ovmf_variant, edk2=edk2)
    differences = measurement_differences(replace(image, measurement=document.measurement), variant=variant)
    if differences:
        raise DocumentError(
            f"{path}: VmConfig with the TDX document of other files: {differences[0]}", hint=_OTHER_IMAGE
        )


def _vm_config_text(data: bytes) -> bytes:
    document = parse_json(data, what="VmConfig")
    text = document.get("vm_config") if isinstance(document, dict) else None
    return text.encode("utf-8") if isinstance(text, str) else data


def _check_distinct(configs: Sequence[VmConfig]) -> None:
    """Profiles are named by vCPUs and memory."""
    shapes = [(config.vcpus, config.memory) for config in configs]
    repeated = [shape for shape in shapes if shapes.count(shape) > 1]
    if repeated:
        vcpus, memory = repeated[0]
        raise click.UsageError(f"two machines of {vcpus} vCPUs and {memory} bytes: measure them one after the other")


def _notes(image: DstackImage, claims: dict[Path, VmConfigDocument]) -> Iterator[str]:
    if image.os_image_hash is None:
        yield "os_image_hash: none: no sha256sum.txt lists the files, and nothing says which image they are"
    for path, claim in claims.items():
        yield f"{path}: this machine is what its sender claims; compare it with one that you allow"
        if claim.os_image_hash is None or image.os_image_hash is None:
            yield f"{path}: that the machine runs this image was not checked: it claims {claim.os_image_hash or 'none'}"
        if claim.unused:
            yield f"{path}: not measured: {', '.join(claim.unused)}"
