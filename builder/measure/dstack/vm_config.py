"""dstack's VmConfig: the machine that a quote's sender says it ran on (`measurement.md` 9.1, 9.2).

It arrives beside the quote, from the guest's side: it is Evidence, and Evidence never supplies its own expectation
(design 6). What follows from it is a candidate, to be appraised only after `shape_differences` found it to be a shape
that the verifier allows. Its os_image_hash and measurement documents are claims of the same kind.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from builder.encoding.canonical_json import parse_json
from builder.errors import DocumentError
from builder.measure.acpi.blobs import MAX_VCPUS
from builder.measure.dstack.image import ChecksumFile, parse_checksum_file
from builder.measure.dstack.measurement import FILE_NAME, TdxMeasurement, parse_tdx_measurement
from builder.measure.dstack.names import OvmfVariant, parse_ovmf_variant
from builder.measure.profile import parse_version
from builder.model.digest import sha256_hex
from builder.model.launch_profile import PageOrder

_MAX_SIZE = 1 << 20
_MIB = 1 << 20
_MAX_ADDRESS = 1 << 52
_MAX_DEVICES = 64
_OLDEST = (8, 0, 0)
_FIRST_SINGLE_PASS = (9, 0, 0)
_IMAGE_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HEX = re.compile(r"[0-9a-f]{64}")
_SHARE_MODES = ("", "9p", "vvfat", "vhd")

# Of other platforms, of the evidence itself, or of the guest's user space: no register of the boot depends on them.
_UNMEASURED = frozenset(
    {
        "spec_version",
        "mr_config",
        "gcp_measurement",
        "aws_measurement",
        "sev_snp_measurement",
        "aws_pcr_replay",
        "gcp_tpm_replay",
    }
)


@dataclass(frozen=True)
class VmConfig:
    """A dstack machine; every version-dependent default is filled in. Sizes in bytes.

    `page_order` and `pic` are what the document states, or what its QEMU version does. `nics` and `verity_volumes` are
    PCI devices like every other; `host_share` is a 9p device or one more disk, and occupies a slot either way.
    DocumentError for a version, a vCPU count or a memory size that dstack does not run.
    """

    vcpus: int
    memory: int
    qemu_version: str
    page_order: PageOrder
    pic: bool
    pci_hole64: int | None = None
    hugepages: bool = False
    gpus: int = 0
    nvswitches: int = 0
    nics: int = 1
    verity_volumes: int = 0
    hotplug: bool = True
    host_share: str = "9p"
    ovmf_variant: OvmfVariant | None = None

    def __post_init__(self) -> None:
        checked_qemu_version(self.qemu_version)
        if not 1 <= self.vcpus <= MAX_VCPUS:
            raise DocumentError(f"VmConfig: {self.vcpus} vCPUs, wanted 1 to {MAX_VCPUS}")
        if self.memory % _MIB or not 0 < self.memory <= _MAX_ADDRESS:
            raise DocumentError(f"VmConfig: memory of {self.memory} bytes, wanted whole MiB")
        if self.nvswitches and not self.gpus:
            raise DocumentError(
                f"VmConfig: {self.nvswitches} NVSwitches without a GPU: no dstack VMM starts such a machine",
                hint="state the GPUs as well",
            )


@dataclass(frozen=True)
class VmConfigDocument:
    """A parsed VmConfig with what it claims besides the machine.

    `os_image_hash` is a claim; the measurement material is bound to it (and to nothing else) if it is there at all.
    `unused` are the names of members that no register depends on.
    """

    config: VmConfig
    os_image_hash: str | None
    image: str | None
    is_lite: bool
    measurement: TdxMeasurement | None
    unused: tuple[str, ...]


def vm_config_for(*, vcpus: int, memory: int, qemu_version: str) -> VmConfig:
    """dstack's plain machine with the defaults of its QEMU version; `dataclasses.replace` makes others of it."""
    page_order, pic = version_defaults(qemu_version)
    return VmConfig(vcpus=vcpus, memory=memory, qemu_version=qemu_version, page_order=page_order, pic=pic)


def version_defaults(qemu_version: str) -> tuple[PageOrder, bool]:
    """Page order and pic where a VmConfig states neither (`measurement.md` 9.1)."""
    if checked_qemu_version(qemu_version) < _FIRST_SINGLE_PASS:
        return PageOrder.TWO_PASS, True
    return PageOrder.SINGLE_PASS, False


def checked_qemu_version(version: str) -> tuple[int, int, int]:
    """The version's three numbers; DocumentError for another form, and for QEMU before 8.0.0, which ran no dstack."""
    parsed = parse_version(version)
    if parsed < _OLDEST:
        raise DocumentError(f"QEMU {version}: dstack refuses versions before 8.0.0", hint="state the real version")
    return parsed


def parse_vm_config(data: bytes, *, accept: Collection[str] = ()) -> VmConfigDocument:
    """Parse the JSON text that dstack delivers with a quote.

    DocumentError for wrong types and ranges, a software TPM, several NUMA nodes, members that nothing here knows (a
    name in `accept` is one whose harmlessness the caller vouches for), a missing QEMU version - dstack assumes 9.1.0
    then, which published wrong numbers for QEMU 8.2 -, and measurement material that does not hash to os_image_hash.
    """
    if len(data) > _MAX_SIZE:
        raise DocumentError(f"VmConfig: {len(data)} bytes, wanted at most {_MAX_SIZE}")
    document = parse_json(data, what="VmConfig")
    if not isinstance(document, dict):
        raise DocumentError("VmConfig: not an object")
    members = _Members(document)
    config = _config(members)
    os_image_hash = members.image_hash()
    result = VmConfigDocument(
        config=config,
        os_image_hash=os_image_hash,
        image=members.image_name(),
        is_lite=members.choice("tdx_attestation_variant", ("legacy", "lite"), default="legacy") == "lite",
        measurement=_measurement(members.optional("tdx_measurement"), os_image_hash),
        unused=members.unused(accept),
    )
    if result.is_lite and result.measurement is None:
        raise DocumentError("VmConfig: tdx_attestation_variant is lite, but there is no tdx_measurement")
    return result


def shape_differences(candidate: VmConfig, allowed: VmConfig) -> tuple[str, ...]:
    """Where the candidate is not the verifier's machine: `field: found, wanted`; empty if it is the same."""
    pairs = [(each.name, getattr(candidate, each.name), getattr(allowed, each.name)) for each in fields(VmConfig)]
    return tuple(f"{name}: found {found}, wanted {wanted}" for name, found, wanted in pairs if found != wanted)


def _config(members: "_Members") -> VmConfig:
    if members.flag("swtpm"):
        raise DocumentError(
            "VmConfig: swtpm is true: the tables of a machine with a TPM are not measured here",
            hint="run the guest without a software TPM",
        )
    if members.optional("numa_nodes") not in (None, []):
        raise DocumentError("VmConfig: numa_nodes: no rule here covers dstack's machines with several NUMA nodes")
    version = members.qemu_version()
    pic, variant = members.optional_flag("pic"), members.optional("ovmf_variant")
    return VmConfig(
        vcpus=members.integer("cpu_count", smallest=1, largest=MAX_VCPUS),
        memory=members.integer("memory_size", smallest=_MIB, largest=_MAX_ADDRESS),
        qemu_version=version,
        page_order=_page_order(members.optional_flag("qemu_single_pass_add_pages"), version),
        pic=version_defaults(version)[1] if pic is None else pic,
        pci_hole64=members.integer("pci_hole64_size", largest=_MAX_ADDRESS, default=0) or None,
        hugepages=members.flag("hugepages"),
        gpus=members.integer("num_gpus", largest=_MAX_DEVICES, default=0),
        nvswitches=members.integer("num_nvswitches", largest=_MAX_DEVICES, default=0),
        nics=members.integer("num_nics", largest=_MAX_DEVICES, default=1),
        verity_volumes=members.integer("num_verity_volumes", largest=_MAX_DEVICES, default=0),
        hotplug=not members.flag("hotplug_off"),
        host_share=members.choice("host_share_mode", _SHARE_MODES, default="") or "9p",
        ovmf_variant=None if variant is None else parse_ovmf_variant(str(variant), what="VmConfig"),
    )


def _page_order(stated: bool | None, qemu_version: str) -> PageOrder:
    """The member's name says the opposite of what it does: true is two passes (`measurement.md` 1.5)."""
    if stated is None:
        return version_defaults(qemu_version)[0]
    return PageOrder.TWO_PASS if stated else PageOrder.SINGLE_PASS


def _measurement(material: Any, os_image_hash: str | None) -> TdxMeasurement | None:
    """The document and the checksum file that lists it, which has to be the one of os_image_hash."""
    if material is None:
        return None
    if not isinstance(material, dict) or set(material) != {"measurement", "checksum_file"}:
        raise DocumentError("VmConfig: tdx_measurement: wanted an object of measurement and checksum_file")
    data, checksums = (_decoded(material, name) for name in ("measurement", "checksum_file"))
    if os_image_hash is None or sha256_hex(checksums) != os_image_hash:
        raise DocumentError(
            f"VmConfig: tdx_measurement: the checksum file has SHA-256 {sha256_hex(checksums)}, os_image_hash is "
            f"{os_image_hash}",
            hint="the document belongs to another image",
        )
    _check_listed(parse_checksum_file(checksums), data)
    return parse_tdx_measurement(data, what=f"VmConfig: {FILE_NAME}")


def _check_listed(checksums: ChecksumFile, data: bytes) -> None:
    listed = checksums.digests.get(FILE_NAME)
    if listed != sha256_hex(data):
        raise DocumentError(f"VmConfig: {FILE_NAME} has SHA-256 {sha256_hex(data)}, the checksum file lists {listed}")


def _decoded(material: Mapping[str, Any], name: str) -> bytes:
    value = material[name]
    try:
        if not isinstance(value, str):
            raise ValueError("not text")
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise DocumentError(f"VmConfig: tdx_measurement: {name} is not base64: {error}") from error


class _Members:
    """The members of the document, typed; it remembers which were asked for."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._asked: set[str] = set()

    def optional(self, name: str) -> Any:
        self._asked.add(name)
        return self._document.get(name)

    def optional_flag(self, name: str) -> bool | None:
        value = self.optional(name)
        if value is not None and not isinstance(value, bool):
            raise DocumentError(f"VmConfig: {name} is {_shown(value)}, wanted true or false")
        return value

    def flag(self, name: str) -> bool:
        value = self.optional_flag(name)
        if value is None and name in self._document:
            raise DocumentError(f"VmConfig: {name} is null, wanted true or false")
        return bool(value)

    def integer(self, name: str, *, smallest: int = 0, largest: int, default: int | None = None) -> int:
        value = self.optional(name)
        if value is None and default is not None and name not in self._document:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
            raise DocumentError(f"VmConfig: {name} is {_shown(value)}, wanted a number from {smallest} to {largest}")
        return value

    def choice(self, name: str, choices: tuple[str, ...], *, default: str) -> str:
        self._asked.add(name)
        value = self._document.get(name, default)
        if not isinstance(value, str) or value not in choices:
            raise DocumentError(f"VmConfig: {name} is {_shown(value)}, wanted one of {', '.join(map(repr, choices))}")
        return value

    def qemu_version(self) -> str:
        value = self.optional("qemu_version")
        if not isinstance(value, str):
            raise DocumentError(
                f"VmConfig: qemu_version is {_shown(value)}, wanted text such as '9.2.1'",
                hint="find out which QEMU ran the guest: page order, pic and ACPI tables depend on it",
            )
        return value

    def image_hash(self) -> str | None:
        self._asked.add("os_image_hash")
        value = self._document.get("os_image_hash", "")
        if value == "":
            return None
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise DocumentError(f"VmConfig: os_image_hash is {_shown(value)}, wanted 64 lower-case hex digits")
        return value

    def image_name(self) -> str | None:
        value = self.optional("image")
        if value is not None and not (isinstance(value, str) and _IMAGE_NAME.fullmatch(value)):
            raise DocumentError(f"VmConfig: image is {_shown(value)}, wanted the name of an image")
        return value

    def unused(self, accept: Collection[str]) -> tuple[str, ...]:
        """The members that were not asked for; DocumentError if one of them is not known to be harmless."""
        names = sorted(set(self._document) - self._asked)
        unknown = [name for name in names if name not in _UNMEASURED and name not in accept]
        if unknown:
            raise DocumentError(
                f"VmConfig: unknown member {unknown[0][:80]!r}: a register may depend on it",
                hint="a newer dstack may have written this; accept the name only if you know that it is not measured",
            )
        return tuple(names)


def _shown(value: Any) -> str:
    return repr(value)[:80]
