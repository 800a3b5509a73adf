"""The programs that start one another when a TD boots from a disk, or from a UKI in a kernel's place, and their events.

What cannot be derived, such as what GRUB's scripts do, is an UnpredictedEvent: the registers that it extends stay open.
"""

from builder.errors import DocumentError
from builder.measure.boot.disk import disk_boot_events, image_event, kernel_boot_events
from builder.measure.boot.gpt import parse_gpt_event
from builder.measure.boot.program import BootProgram, Loader
from builder.measure.boot.ready_to_boot import Events
from builder.measure.boot.shim import shim_events
from builder.measure.boot.systemd_boot import HANDS_ON_NO_OPTIONS, systemd_boot_events
from builder.measure.boot.systemd_stub import UkiStart, stub_version, uki_events
from builder.measure.images.loader_info import loader_version
from builder.model.event import EV_EFI_BOOT_SERVICES_APPLICATION, EV_EVENT_TAG, EV_IPL, UnpredictedEvent
from builder.model.launch_profile import BootFiles, DiskFiles, FirmwareRules, SecureBootVariable

_UKI = "UKI"
_SCRIPTS = "its scripts, what it finds and who sits at its menu decide what it loads and measures"
_NOT_GIVEN = "what it starts is not given"


def uki_boot_events(rules: FirmwareRules, files: BootFiles, program: BootProgram, *, boot_variables: Events) -> Events:
    """A UKI that QEMU is given as kernel: all of RTMR[1] and [2], and of RTMR[0] what its stub adds.

    DocumentError for a UKI that no rule covers.
    """
    if program.uki is None:
        raise DocumentError("kernel: no unified kernel image")
    start = UkiStart(files.command_line, from_disk=False, secure_boot=_enforced(rules))
    return kernel_boot_events(
        rules,
        kernel=image_event(_UKI, files.kernel),
        chain=uki_events(program.uki, start),
        boot_variables=boot_variables,
    )


def disk_events(
    rules: FirmwareRules, files: BootFiles, program: BootProgram, *, boot_variables: Events, authorities: Events
) -> Events:
    """A boot from a disk: RTMR[1] and [2] as far as they can be derived, and what the programs add to RTMR[0].

    `authorities` are the events of secure boot for the images that the firmware itself loads.
    """
    if files.disk is None:
        raise DocumentError("disk: none is given")
    chain = (*authorities, *_loader_events(rules, files.kernel, files.disk, program))
    gpt = parse_gpt_event(files.disk.partition_table)
    return disk_boot_events(rules, gpt=gpt, chain=chain, boot_variables=boot_variables)


def firmware_loaded(files: BootFiles, program: BootProgram) -> tuple[bytes, ...]:
    """The images whose signatures the firmware itself checks under secure boot: behind shim, shim does."""
    following = files.disk.next_image if files.disk is not None else None
    if program.loader is Loader.SYSTEMD_BOOT and following is not None:
        return files.kernel, following
    return (files.kernel,)


def _loader_events(rules: FirmwareRules, image: bytes, disk: DiskFiles, program: BootProgram) -> Events:
    start = UkiStart(
        secure_boot=_enforced(rules),
        shim=program.loader is Loader.SHIM,
        systemd_boot=program.loader is Loader.SYSTEMD_BOOT,
    )
    match program.loader:
        case Loader.UKI:
            return (image_event(_UKI, image), *_uki_events(program, start, disk))
        case Loader.SYSTEMD_BOOT:
            return (*_menu_events(image, disk), *_next_events(_UKI, disk, program, start))
        case Loader.SHIM:
            return (*_shim_events(image), *_next_events("grubx64.efi", disk, program, start))
        case _:
            return (image_event("BOOTX64.EFI", image), *_open("BOOTX64.EFI", _SCRIPTS))


def _next_events(name: str, disk: DiskFiles, program: BootProgram, start: UkiStart) -> Events:
    if disk.next_image is None:
        return _open(name, _NOT_GIVEN)
    event = image_event(name, disk.next_image)
    return (event, *(_open(name, _SCRIPTS) if program.uki is None else _uki_events(program, start, disk)))


def _uki_events(program: BootProgram, start: UkiStart, disk: DiskFiles) -> Events:
    """What the stub and its kernel do; open as a whole where no rule covers this UKI."""
    try:
        if program.uki is None:
            raise DocumentError(_NOT_GIVEN)
        events = uki_events(program.uki, start)
    except DocumentError as error:
        return _open(_UKI, error.message)
    if disk.beside:
        reason = f"the partition has {', '.join(disk.beside)}, which the stub measures and adds to what it starts"
        return (*events, UnpredictedEvent("rtmr2", EV_IPL, "files beside the UKI", reason, repeats=True))
    return events


def _menu_events(image: bytes, disk: DiskFiles) -> Events:
    try:
        events = systemd_boot_events(image, loader_conf=disk.loader_conf)
    except DocumentError as error:
        return (image_event("systemd-boot", image), *_open("systemd-boot", error.message))
    version = stub_version(loader_version(image, "systemd-boot"), program="systemd-boot")
    if version >= HANDS_ON_NO_OPTIONS:
        return events
    reason = f"not known whether systemd-boot {version} hands on and measures the command line that is in the UKI"
    return (*events, UnpredictedEvent("rtmr2", EV_EVENT_TAG, "load options", reason, repeats=True))


def _shim_events(image: bytes) -> Events:
    try:
        return shim_events(image)
    except DocumentError as error:
        return (image_event("shim", image), *_open("shim", error.message))


def _open(name: str, reason: str) -> Events:
    """Both registers that whatever starts next extends."""
    text = f"{name}: {reason}"
    return (
        UnpredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, f"after {name}", text, repeats=True),
        UnpredictedEvent("rtmr2", EV_IPL, f"after {name}", text, repeats=True),
    )


def _enforced(rules: FirmwareRules) -> bool:
    return rules.secure_boot_variable is SecureBootVariable.ENABLED
