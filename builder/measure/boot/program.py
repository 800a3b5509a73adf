"""What a TD's firmware starts, told from the files: a Linux kernel, a unified kernel image, or the loader of a disk."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from builder.errors import DocumentError
from builder.measure.boot.shim import is_shim
from builder.measure.boot.systemd_stub import started_kernel, stub_caveats, stub_version
from builder.measure.images.kernel_image import check_kernel, has_boot_header, kernel_release
from builder.measure.images.loader_info import loader_version
from builder.measure.images.pe_image import parse_pe_image
from builder.measure.images.uki import Uki, parse_uki
from builder.model.launch_profile import BootFiles, BootMethod

_RELEASE = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})")
_FIRST_STUB_WITH_CC = (6, 9)


class Loader(Enum):
    """What the EFI program on a disk is, as far as its events are covered."""

    UKI = auto()
    SYSTEMD_BOOT = auto()
    SHIM = auto()
    OTHER = auto()


@dataclass(frozen=True)
class BootProgram:
    """What is started. `loader` is that of a disk; `uki` is what it leads to, or what the VMM gives; `caveats` are keys
    of CAVEATS for all of it; `release` is that of the Linux kernel, empty if it states none or is not known."""

    method: BootMethod
    loader: Loader | None
    uki: Uki | None = field(repr=False)
    release: str
    caveats: tuple[str, ...]


def boot_program(files: BootFiles) -> BootProgram:
    """What these files start.

    DocumentError for a kernel that is neither a Linux kernel nor a UKI that rules cover, and for an initrd or command
    line beside what does not take one. On a disk, what is not covered stays open instead (`boot.chain`).
    """
    if files.initrd == b"":
        raise DocumentError("initrd: an empty file", hint="give no initrd at all if the guest has none")
    if files.disk is not None:
        return _disk_program(files)
    if not has_boot_header(files.kernel) and is_uki(files.kernel):
        return _uki_program(files)
    check_kernel(files.kernel)
    release = kernel_release(files.kernel)
    return BootProgram(BootMethod.KERNEL, None, None, release, tuple(_linux_caveats(release)))


def is_uki(image: bytes) -> bool:
    """Whether an image has the section that makes it a UKI."""
    try:
        return any(section.name == ".linux" for section in parse_pe_image(image).sections)
    except DocumentError:
        return False


def loader_of(image: bytes) -> Loader:
    """What an EFI program is. DocumentError if it is no PE image."""
    if loader_version(image, "systemd-boot"):
        return Loader.SYSTEMD_BOOT
    if is_uki(image):
        return Loader.UKI
    return Loader.SHIM if is_shim(image) else Loader.OTHER


def _uki_program(files: BootFiles) -> BootProgram:
    if files.initrd is not None:
        raise DocumentError(
            "initrd: given beside a UKI, which brings its own; no rule here covers what its stub makes of both",
            hint="leave the initrd out, or put it into the UKI",
        )
    uki = parse_uki(files.kernel)
    release, caveats = _uki_traits(uki, files.command_line)
    return BootProgram(BootMethod.UKI, None, uki, release, caveats)


def _disk_program(files: BootFiles) -> BootProgram:
    if files.initrd is not None or files.command_line:
        raise DocumentError(
            "disk: an initrd or a command line is given beside it; without a kernel the VMM passes neither on",
            hint="leave them out: the loader of the disk has its own",
        )
    loader = loader_of(files.kernel)
    caveats = ("disk_as_given", *(("disk_menu_untouched",) if loader is Loader.SYSTEMD_BOOT else ()))
    image = files.kernel if loader is Loader.UKI else files.disk.next_image if files.disk else None
    if image is None or not is_uki(image):
        return BootProgram(BootMethod.DISK, loader, None, "", caveats)
    uki = parse_uki(image)
    try:
        release, more = _uki_traits(uki, "")
    except DocumentError:
        return BootProgram(BootMethod.DISK, loader, uki, "", caveats)
    return BootProgram(BootMethod.DISK, loader, uki, release, (*caveats, *more))


def _uki_traits(uki: Uki, load_options: str) -> tuple[str, tuple[str, ...]]:
    """Release of the kernel inside, and caveats. DocumentError for a stub that no rule covers."""
    kernel = started_kernel(uki, load_options)
    release = kernel_release(kernel) if has_boot_header(kernel) else ""
    return release, (*stub_caveats(stub_version(uki.stub)), *_linux_caveats(release))


def _linux_caveats(release: str) -> Iterator[str]:
    match = _RELEASE.match(release)
    if match is None:
        yield "linux_stub_unknown"
    elif (int(match[1]), int(match[2])) < _FIRST_STUB_WITH_CC:
        yield "linux_stub_without_cc"
