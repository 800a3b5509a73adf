"""TDREPORT: what the TDX module hands a TD, before it becomes a quote (`quotes.md` 1.6). MACed, not signed."""

import hashlib
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError

_SIZE = 1024
_TYPE_TDX = 0x81
_TCB_INFO = (256, 239)
_TD_INFO = (512, 512)


@dataclass(frozen=True)
class TdReport:
    """The registers of a TDREPORT, in lower-case hex."""

    mrtd: str
    rtmr0: str
    rtmr1: str
    rtmr2: str
    rtmr3: str
    report_data: str


def parse_tdreport(data: bytes) -> TdReport:
    """Parse 1024 bytes of TDREPORT; DocumentError unless both of its digests are those of its parts.

    Not checked: the MAC, which only the CPU that made it can check.
    """
    if len(data) != _SIZE or data[0] != _TYPE_TDX:
        raise DocumentError(f"TDREPORT: {len(data)} bytes starting with {data[:1].hex()}, wanted {_SIZE} and 81")
    reader = ByteReader(data, "TDREPORT")
    for name, digest_offset, (offset, size) in (("TEE_TCB_INFO", 32, _TCB_INFO), ("TDINFO", 80, _TD_INFO)):
        digest = hashlib.sha384(reader.slice(offset, size, name=name)).digest()
        if digest != reader.slice(digest_offset, 48, name=f"digest of {name}"):
            raise DocumentError(f"TDREPORT: the digest of {name} does not fit its bytes")
    return TdReport(
        mrtd=reader.slice(528, 48, name="MRTD").hex(),
        rtmr0=reader.slice(720, 48, name="RTMR[0]").hex(),
        rtmr1=reader.slice(768, 48, name="RTMR[1]").hex(),
        rtmr2=reader.slice(816, 48, name="RTMR[2]").hex(),
        rtmr3=reader.slice(864, 48, name="RTMR[3]").hex(),
        report_data=reader.slice(128, 64, name="REPORTDATA").hex(),
    )
