"""What systemd-stub, the EFI program of a unified kernel image, measures, and what it makes the kernel measure.

The rules change with the version of the stub. Versions 252, 254, 257 and 262 were booted under emulation with a TPM,
and measured what is predicted here; that the same goes into RTMRs from 256 on was read in the source. Nothing beside
the UKI is covered: addons, credentials and extensions that the stub finds on its partition change RTMR[2].
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from builder.errors import DocumentError
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.padding import zeros
from builder.measure.images.pe_image import image_version
from builder.measure.images.stub_command_line import StubOptions, embedded_command_line, mangle, split_options
from builder.measure.images.uki import SECTIONS, Uki
from builder.measure.images.uki_initrd import uki_initrd
from builder.model.event import (
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EVENT_TAG,
    EV_IPL,
    ExpectedEvent,
    PredictedEvent,
    UnpredictedEvent,
)

# The first versions in which systemd's EFI programs tell a TD what they tell a TPM: tagged events, and SMBIOS tables.
# The change for tagged events is of the days between 260 and 261.
TAGS_TO_CC_UNCERTAIN = 260
TAGS_TO_CC = 261
MEASURES_SMBIOS_TO_CC = 262

_OLDEST, _NEWEST = 252, 262
_BOOTED = {252, 254, 257, 262}
_MEASURES_TO_CC = 256
_KNOWS_PROFILES = 257
_STARTS_KERNEL_ITSELF = 258
_ADDS_CONSOLE = 261
_MAKES_BOOT_SECRET = 261
_SINCE = {".uname": 254, ".sbat": 254, ".ucode": 256, ".profile": 257, ".dtbauto": 257, ".hwids": 257, ".efifw": 258}
_CHOSEN_BY_HARDWARE = (".dtbauto", ".efifw")
_NOT_MEASURED = ".pcrsig"
_KERNEL = "kernel of the UKI"
_LOAD_OPTIONS = "LOADED_IMAGE::LoadOptions"
_INITRD = "Linux initrd"
_INPUT = "UKI, load options"
_NUMBER = re.compile(r"v?([0-9]{3,4})(?![0-9])")
_CONSOLE = re.compile(r"(?:^| )console=")

Events = tuple[ExpectedEvent, ...]


@dataclass(frozen=True)
class UkiStart:
    """How a UKI is started.

    `load_options` is what the firmware or boot loader passes: QEMU's `-append`, or nothing. `from_disk` tells an EFI
    system partition from QEMU's `-kernel`; `shim` that shim came before; `systemd_boot` that systemd-boot did.
    """

    load_options: str = ""
    from_disk: bool = True
    secure_boot: bool = False
    shim: bool = False
    systemd_boot: bool = False


@dataclass(frozen=True)
class _Run:
    """One start of a UKI by a stub of this version."""

    version: int
    sections: Mapping[str, bytes]
    kernel_padding: int
    options: StubOptions
    start: UkiStart

    @property
    def given(self) -> str | None:
        """The load options as the stub uses and measures them; None if it has none, or secure boot makes it drop them.

        With secure boot a TD's stub drops them always; before 254 only where the UKI has a command line.
        """
        dropped = self.start.secure_boot and (".cmdline" in self.sections or self.version >= 254)
        return None if dropped or not self.options.text else mangle(self.options.text, self.version)

    @property
    def command_line(self) -> str | None:
        """What the kernel gets, None if that is nothing; from 261 on before the stub adds a console."""
        if self.given is not None or ".cmdline" not in self.sections:
            return self.given
        return embedded_command_line(self.sections[".cmdline"], self.version)


def stub_version(text: str, *, program: str = "systemd-stub") -> int:
    """The number that rules go by, of a version such as `257.13-1~deb13u1`; DocumentError where no rule covers it."""
    match = _NUMBER.match(text)
    if match is None:
        raise DocumentError(f"{program}: no version in {text!r}", hint="give the version, if the program is systemd's")
    number = int(match[1])
    if not _OLDEST <= number <= _NEWEST:
        raise DocumentError(f"{program} {text}: no rule covers versions other than {_OLDEST} to {_NEWEST}")
    return number


def stub_caveats(version: int) -> tuple[str, ...]:
    """The keys of CAVEATS that go with a prediction for a stub of this version."""
    cc = "uki_stub_cc_unverified" if version >= _MEASURES_TO_CC else "uki_stub_without_cc"
    return (cc, *(() if version in _BOOTED else ("uki_stub_not_booted",)), "uki_files_beside_it")


def started_kernel(uki: Uki, load_options: str) -> bytes:
    """The kernel that a stub starts with these load options, which may choose a profile; errors as in `uki_events`.

    As it is in the file: without the zeros that follow it in memory.
    """
    options = split_options(load_options, profiles=stub_version(uki.stub) >= _KNOWS_PROFILES)
    return uki.profile(options.profile)[".linux"]


def uki_events(uki: Uki, start: UkiStart | None = None, *, version: int | None = None) -> Events:
    """The events from the stub's start until the kernel leaves boot services, of RTMR[0], [1] and [2].

    `version` stands for the one that the UKI states. The event of the UKI itself, which the firmware measures before
    it starts it, is not among them (`boot.disk.image_event`). DocumentError for whatever no rule covers. The two
    events of the kernel are those of Linux 6.9 and later (`measurement.md` 7.1).
    """
    start = start or UkiStart()
    number = stub_version(uki.stub) if version is None else stub_version(str(version))
    if number < _KNOWS_PROFILES and uki.ambiguous:
        raise DocumentError(f"UKI: two sections answer to one name, which no rule covers for systemd-stub {number}")
    options = split_options(start.load_options, profiles=number >= _KNOWS_PROFILES)
    sections = uki.profile(options.profile)
    run = _Run(number, sections, uki.kernel_padding[options.profile], options, start)
    return (
        *((smbios_event(),) if number >= MEASURES_SMBIOS_TO_CC and not start.systemd_boot else ()),
        *(_payload_events(run) if number >= _MEASURES_TO_CC else ()),
        *_kernel_image_events(run),
        *_command_line_events(run),
        *_initrd_events(run),
    )


def smbios_event() -> UnpredictedEvent:
    """The SMBIOS tables that systemd-boot or else systemd-stub 262 measures, one event each: PCR 1, hence RTMR[0]."""
    reason = "the VMM's SMBIOS tables of type 1 and 11 are measured, which are not given"
    return UnpredictedEvent("rtmr0", EV_EVENT_TAG, "smbios:type1", reason, repeats=True)


def _payload_events(run: _Run) -> Events:
    """What the stub itself measures, into PCR 12, 11 and again 12: all in RTMR[2]."""
    return (
        *_profile_events(run),
        *(event for name in SECTIONS for event in _section_events(run, name)),
        *(() if run.given is None else (_event(EV_IPL, "load options", _utf16(run.given)),)),
    )


def _profile_events(run: _Run) -> Events:
    if run.options.profile == 0 or run.version < TAGS_TO_CC_UNCERTAIN:
        return ()
    if run.version < TAGS_TO_CC:
        reason = f"not known whether systemd-stub {run.version} extends RTMR2 with the number of the profile"
        return (UnpredictedEvent("rtmr2", EV_EVENT_TAG, "UKI profile", reason, repeats=True),)
    return (_event(EV_EVENT_TAG, "UKI profile", _utf16(str(run.options.profile))),)


def _section_events(run: _Run, name: str) -> Events:
    """Two for each section: its name with a NUL, then its content."""
    if name not in run.sections or name == _NOT_MEASURED or run.version < _SINCE.get(name, 0):
        return ()
    if name in _CHOSEN_BY_HARDWARE:
        return (
            UnpredictedEvent(
                "rtmr2", EV_IPL, name, "measured only if it is for the hardware that the stub sees", repeats=True
            ),
        )
    name_event = _event(EV_IPL, f"{name} (name)", name.encode("ascii") + b"\0")
    padding = run.kernel_padding if name == ".linux" else 0
    return name_event, _event(EV_IPL, name, run.sections[name], padding=padding)


def _kernel_image_events(run: _Run) -> Events:
    """The kernel inside, where the stub has the firmware load it; secure boot is worked around with its measuring."""
    kernel = run.sections[".linux"]
    if image_version(kernel)[0] < 1:
        raise DocumentError("UKI: a kernel older than Linux 5.8 is started by a handover that no rule here covers")
    if run.start.secure_boot and run.start.shim:
        reason = "depends on the version of shim, and on whether it lets the stub work around secure boot"
        return (UnpredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, _KERNEL, reason, repeats=True),)
    if run.version >= _STARTS_KERNEL_ITSELF or run.start.secure_boot:
        return ()
    digest = authenticode_digest(kernel, padding=run.kernel_padding).hex()
    return (PredictedEvent("rtmr1", EV_EFI_BOOT_SERVICES_APPLICATION, _KERNEL, digest, _INPUT),)


def _command_line_events(run: _Run) -> Events:
    """The kernel measures its load options, if it gets any."""
    line = run.command_line
    if run.version >= _ADDS_CONSOLE and not _CONSOLE.search(line or ""):
        reason = "the stub adds a console= that it derives from the devices of the machine, unless the line has one"
        return (UnpredictedEvent("rtmr2", EV_EVENT_TAG, _LOAD_OPTIONS, reason),)
    return () if line is None else (_event(EV_EVENT_TAG, _LOAD_OPTIONS, _utf16(line)),)


def _initrd_events(run: _Run) -> Events:
    if run.version >= _MAKES_BOOT_SECRET and run.start.from_disk:
        reason = (
            f"systemd-stub {run.version} adds a secret of its machine to the initrd if it can store one on the disk"
        )
        return (UnpredictedEvent("rtmr2", EV_EVENT_TAG, _INITRD, reason),)
    initrd = uki_initrd(run.sections, run.version)
    return () if initrd is None else (_event(EV_EVENT_TAG, _INITRD, initrd),)


def _utf16(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


def _event(event_type: int, name: str, content: bytes, *, padding: int = 0) -> PredictedEvent:
    digest = hashlib.sha384(content)
    for piece in zeros(padding):
        digest.update(piece)
    return PredictedEvent("rtmr2", event_type, name, digest.hexdigest(), _INPUT)
