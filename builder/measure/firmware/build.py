"""What a firmware file was built with, as far as the files in it tell (`measurement.md` 5.1, 5.4, 5.8)."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from builder.measure.firmware.boot_options import EFI_SHELL
from builder.measure.firmware.smbios import FirmwareStrings
from builder.measure.firmware.volume import cc_measurement_among, firmware_files
from builder.model.launch_profile import CcMeasurement

SECURE_BOOT_CONFIG_DXE = uuid.UUID("f0e6a44f-7195-41c3-ac64-54f202cd0a21")
SMBIOS_MEASUREMENT_DXE = uuid.UUID("d27fed59-abb4-4fed-bead-2a878c7e4a7e")
SMBIOS_PLATFORM_DXE = uuid.UUID("4110465d-5ff3-4f4b-b580-24ed0d06747a")
BDS_DXE = uuid.UUID("6d33944a-ec75-4855-a54d-809c75241f6c")

_UNKNOWN = "unknown"
_UNKNOWN_LITERAL = (_UNKNOWN + "\0").encode("utf-16-le")
_TEXT = re.compile(rb"(?:[ -~]\0){3,120}\0\0")
_DATE = re.compile(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}")
_ALIGNMENT = 16


@dataclass(frozen=True)
class FirmwareBuild:
    """Build options of a firmware; None where the file does not tell.

    `secure_boot`: built with SECURE_BOOT_ENABLE, which brings the SecureBoot variable and what enforces it;
    `smbios_measured`: has the driver that measures SMBIOS tables; `shell`: has the EFI shell, which becomes a boot
    option; `strings`: what its own type 0 structure says.
    """

    cc_measurement: CcMeasurement
    secure_boot: bool | None
    smbios_measured: bool | None
    shell: bool | None
    strings: FirmwareStrings | None


@lru_cache(maxsize=2)
def firmware_build(firmware: bytes) -> FirmwareBuild:
    """The build options of a firmware file. Not checked: that the drivers found are dispatched.

    The last files asked for are kept: unpacking one takes half a second, and profile and prediction both ask.
    """
    files = firmware_files(firmware, programs=frozenset({SMBIOS_PLATFORM_DXE, BDS_DXE}))
    return FirmwareBuild(
        cc_measurement=cc_measurement_among(files),
        secure_boot=files.has(SECURE_BOOT_CONFIG_DXE),
        smbios_measured=files.has(SMBIOS_MEASUREMENT_DXE),
        shell=files.has(EFI_SHELL),
        strings=firmware_strings(files.programs.get(SMBIOS_PLATFORM_DXE, b""), bds=files.programs.get(BDS_DXE, b"")),
    )


def firmware_strings(driver: bytes, *, bds: bytes) -> FirmwareStrings | None:
    """Vendor, version and release date out of the PE images of SmbiosPlatformDxe and BdsDxe; None if they do not tell.

    Compiled, the driver holds the literals it falls back to and, behind them, release date, version and vendor, each
    unless it is empty. That order was seen in every build looked at, and BdsDxe has the vendor but not the version: a
    driver in which that does not hold tells nothing.
    """
    start = driver.find(_UNKNOWN_LITERAL)
    fallback = _TEXT.match(driver, start + len(_UNKNOWN_LITERAL)) if start >= 0 else None
    if fallback is None or not _DATE.fullmatch(_decoded(fallback)):
        return None
    texts = list(_texts(driver, fallback.end()))
    release_date = texts.pop(0) if texts and _DATE.fullmatch(texts[0]) else _decoded(fallback)
    if not 1 <= len(texts) <= 2:
        return None
    vendor, version = texts[-1], texts[0] if len(texts) == 2 else _UNKNOWN
    if not _holds(bds, vendor):
        return None
    return FirmwareStrings(vendor, version, release_date)


def _texts(driver: bytes, start: int) -> Iterator[str]:
    """The UTF-16 texts behind `start`. Constants are aligned, and printable bytes may stand before one by chance."""
    for match in _TEXT.finditer(driver, start):
        before = -match.start() % _ALIGNMENT
        text = _decoded(match)[before // 2 :]
        if before % 2 == 0 and text:
            yield text


def _decoded(match: re.Match[bytes]) -> str:
    return match[0][:-2].decode("utf-16-le")


def _holds(program: bytes, text: str) -> bool:
    return (text + "\0").encode("utf-16-le") in program
