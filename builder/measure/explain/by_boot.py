"""Which variable, kernel, command line or initrd a digest fits (`measurement.md` 5.3, 5.4, 5.9, 6.2, 7.2)."""

from collections.abc import Iterator, Mapping

from builder.errors import DocumentError
from builder.measure.evidence.event_data import data_matches_digest
from builder.measure.evidence.event_text import event_text
from builder.measure.explain.case import Candidate, Case, memory_text
from builder.measure.firmware.efi_variables import (
    EFI_GLOBAL_VARIABLE,
    EFI_IMAGE_SECURITY_DATABASE,
    EfiVariable,
    boot_variable_digest,
    boot_variables,
    variable_digest,
)
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.kernel_image import KernelLoad, patch_kernel
from builder.measure.images.load_options import encode_load_options
from builder.model.digest import sha256_hex, sha384_hex
from builder.model.event import ParsedEvent
from builder.model.launch_profile import BootOptions

_GIB = 1 << 30
_SUFFIX, _PREFIX, _SHIM_PREFIX = " initrd=initrd", "initrd=initrd ", "kernel "
_MEMORY_CLASSES = (_GIB, 2 * _GIB)  # the address of the initrd is the same from 2816 MiB on as for 2 GiB

# `measurement.md` 5.3
_VARIABLE_STORES: Mapping[str, str] = {
    "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790": (
        "an empty 4 MiB build's (no keys enrolled)"
    ),
    "f87302177b059d54a2cf0c5f13340dbabf5c9dd60dc3f996c68b776fbe4de959769443a3d8ef6538b97d7e151c8298e8": (
        "an empty 2 MiB build's (no keys enrolled)"
    ),
    "327d4a91229b3993a7f6f64740d94ff689d44b45edada6e255596d4c7aa287576a92fb1f5c350c287caf60670a5bad5a": (
        "the one of Debian's OVMF.inteltdx.ms.fd 2026.08 (Microsoft's keys enrolled)"
    ),
}
# `measurement.md` 5.11
_FW_CFG_ITEMS: Mapping[str, str] = {
    "1dd6f7b457ad880d840d41c961283bab688e94e4b59359ea45686581e90feccea3c624b1226113f824f315eb60ae0a7c": (
        "the fw_cfg item BootMenu (00 00)"
    ),
    "53d3dbc00691328371e74c1b1c77bdf1bf4ff79dd1b55222b694fe8341cd8b0adb3a9ab9286552c681272883b9b0fc1d": (
        "the fw_cfg item bootorder of direct kernel boot"
    ),
}
_BOOT_OPTIONS = {
    BootOptions.UI_APP: "edk2 up to 202502",
    BootOptions.BOOT_MANAGER_MENU_APP: "edk2 from 202505 on",
}


def variable_store_candidates(_case: Case) -> Iterator[Candidate]:
    """Variable stores that are known by their digest."""
    for digest, text in _VARIABLE_STORES.items():
        yield digest, f"the variable store is {text}"


def fw_cfg_candidates(_case: Case) -> Iterator[Candidate]:
    """Items that only newer firmware measures."""
    for digest, text in _FW_CFG_ITEMS.items():
        yield digest, f"the event is {text}, which edk2 measures from 202505 on"


def secure_boot_candidates(case: Case) -> Iterator[Candidate]:
    """SecureBoot in its three forms, the others absent; else what the log shows, if the digest covers it."""
    for data, text in ((b"", "absent"), (b"\0", "00 (off)"), (b"\1", "01 (on)")):
        digest = variable_digest(EfiVariable(EFI_GLOBAL_VARIABLE, "SecureBoot", data)).hex()
        yield digest, f"SecureBoot is {text}"
    for vendor, name in (
        (EFI_GLOBAL_VARIABLE, "PK"),
        (EFI_GLOBAL_VARIABLE, "KEK"),
        (EFI_IMAGE_SECURITY_DATABASE, "db"),
        (EFI_IMAGE_SECURITY_DATABASE, "dbx"),
    ):
        yield variable_digest(EfiVariable(vendor, name)).hex(), f"{name} is absent: no keys are enrolled"
    yield from covered_data_candidates(case)


def boot_variable_candidates(case: Case) -> Iterator[Candidate]:
    """Boot variables of a guest without disks under other firmware; else what the log shows, if covered."""
    for options, where in _BOOT_OPTIONS.items():
        for variable in boot_variables(options):
            yield boot_variable_digest(variable).hex(), f"{variable.name} is the one of {where}"
    yield from covered_data_candidates(case)


def covered_data_candidates(case: Case) -> Iterator[Candidate]:
    """What the log says the event is: only where the digest covers it, so that it is not just the log's word."""
    event = case.difference.observed
    if isinstance(event, ParsedEvent) and data_matches_digest(event):
        yield event.digest, f"the log's data, which the digest covers, says: {event_text(event)}"


def kernel_candidates(case: Case) -> Iterator[Candidate]:
    """Every kernel at hand, as it is and as QEMU rewrites it."""
    for kernel in case.materials.kernels:
        name = f"the kernel with SHA-256 {sha256_hex(kernel)[:16]}…"
        yield authenticode_digest(kernel).hex(), f"{name} was measured as it is (raw)"
        yield from _patched_kernels(case, kernel, name)


def _patched_kernels(case: Case, kernel: bytes, name: str) -> Iterator[Candidate]:
    predicted = case.profile.memory
    sizes: list[int | None] = [len(initrd) for initrd in case.materials.initrds]
    for memory in (predicted, *_MEMORY_CLASSES):
        for size in (*sizes, None):
            for command_line in case.materials.command_lines or ("",):
                try:
                    image = patch_kernel(kernel, KernelLoad(memory, size, command_line))
                except DocumentError:
                    continue
                initrd = "without initrd" if size is None else f"for an initrd of {size} bytes"
                yield (
                    authenticode_digest(image).hex(),
                    f"{name} was measured as QEMU rewrites it {initrd} at {memory_text(memory)}",
                )


def load_options_candidates(case: Case) -> Iterator[Candidate]:
    """Every command line at hand, and none, in every form in which a firmware hands it over."""
    for command_line in dict.fromkeys((*case.materials.command_lines, "")):
        for text in dict.fromkeys((command_line, command_line.strip(), f"{command_line} ")):
            yield from _forms(text)


def _forms(text: str) -> Iterator[Candidate]:
    forms = {
        text: "without initrd=initrd",
        text + _SUFFIX: "initrd=initrd behind, as edk2 up to 202505",
        _PREFIX + text: "initrd=initrd in front, as edk2 from 202508 on",
    }
    for form, meaning in forms.items():
        for prefix in ("", _SHIM_PREFIX):
            via = "; started through -shim" if prefix else ""
            yield (
                sha384_hex(encode_load_options(prefix + form, None)),
                f"the load options are {prefix + form!r} ({meaning}{via})",
            )


def initrd_candidates(case: Case) -> Iterator[Candidate]:
    """Every initrd at hand."""
    for initrd in case.materials.initrds:
        yield sha384_hex(initrd), f"the initrd is the one with SHA-256 {sha256_hex(initrd)[:16]}…"
    yield sha384_hex(b""), "the initrd is empty"
