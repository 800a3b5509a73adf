"""Whether a built firmware is one for a TD: a first look before it leaves the step (`measurement.md` 2.1).

The measuring core reads the same metadata completely, and looks for the drivers in the volumes themselves. This is
here so that a build that went wrong without a word ends where it went wrong.
"""

import uuid
from collections.abc import Sequence

from builder.errors import BuildFailedError

_FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
_TDX_ENTRY = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
_TABLE_END = 32  # before the end of the file
_ENTRY_END = 18  # u16 length and GUID, behind the data of an entry
_SIGNATURE = b"TDVF"


def check_tdx_firmware(firmware: bytes, *, size: int, modules: str, wanted: Sequence[str]) -> None:
    """BuildFailedError unless the file has `size` bytes and TDX metadata, and each `wanted` module is among `modules`.

    `modules` is edk2's Guid.xref: a line `GUID NAME` for each module in a volume of the firmware.
    """
    if len(firmware) != size:
        raise BuildFailedError(f"the firmware has {len(firmware)} bytes, wanted {size}")
    names = {line.split()[-1] for line in modules.splitlines() if line.strip()}
    missing = [name for name in wanted if name not in names]
    if missing:
        raise BuildFailedError(f"the firmware has no {', '.join(missing)}, which its defines ask for")
    offset = _metadata_offset(firmware)
    if not 0 < offset <= size or firmware[size - offset : size - offset + 4] != _SIGNATURE:
        raise BuildFailedError(
            "the firmware has no TDX metadata", hint="choose a platform that has it: OvmfPkgX64 or IntelTdxX64"
        )


def _metadata_offset(firmware: bytes) -> int:
    """How far before the end of the file the metadata starts, as the GUIDed table says; 0 if it does not say."""
    end = len(firmware) - _TABLE_END
    if firmware[end - 16 : end] != _FOOTER.bytes_le:
        return 0
    start = end - int.from_bytes(firmware[end - _ENTRY_END : end - 16], "little")
    position = end - _ENTRY_END
    while position - _ENTRY_END >= max(start, 0):
        length = int.from_bytes(firmware[position - _ENTRY_END : position - 16], "little")
        if length < _ENTRY_END:
            return 0
        if firmware[position - 16 : position] == _TDX_ENTRY.bytes_le:
            return int.from_bytes(firmware[position - length : position - _ENTRY_END], "little")
        position -= length
    return 0
