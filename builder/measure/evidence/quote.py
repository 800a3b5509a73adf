"""TDX quotes: layout only (`quotes.md` 1). Nothing in a parsed quote is to be believed before it is verified."""

from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.model.reference_values import Registers

QE_VENDOR_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_ECDSA_P256 = 2
_SGX, _TDX = 0x0, 0x81
_HEADER_SIZE = 48
# version 5 body type -> size; type 4 (TDX 1.5 extended, 885 bytes) is not accepted: no sample of it is known
_BODY_SGX = 1
_BODY_SIZES = {2: 584, 3: 648}
_TD_ATTRIBUTES = {0: "DEBUG", 28: "SEPT_VE_DISABLE", 30: "PKS", 31: "KL", 63: "PERFMON"}
_SGX_HINT = "give the quote of a TD; an SGX enclave has no RTMRs"


@dataclass(frozen=True)
class TdReportBody:
    """The measured part of a quote, every field in lower-case hex. The last two exist in TDX 1.5 bodies only."""

    tee_tcb_svn: str
    mrseam: str
    mrsignerseam: str
    seam_attributes: str
    td_attributes: str
    xfam: str
    mrtd: str
    mrconfigid: str
    mrowner: str
    mrownerconfig: str
    rtmr0: str
    rtmr1: str
    rtmr2: str
    rtmr3: str
    report_data: str
    tee_tcb_svn2: str | None = None
    mrservicetd: str | None = None

    @property
    def debug(self) -> bool:
        """Whether the TD runs in debug mode: then its memory is open to the host and no register means anything."""
        return bool(int.from_bytes(bytes.fromhex(self.td_attributes), "little") & 1)

    @property
    def td_attribute_names(self) -> tuple[str, ...]:
        """The bits that are set in TDATTRIBUTES, by name (`quotes.md` 1.3); a reserved one by its number."""
        value = int.from_bytes(bytes.fromhex(self.td_attributes), "little")
        return tuple(_TD_ATTRIBUTES.get(bit, f"reserved bit {bit}") for bit in range(64) if value >> bit & 1)

    @property
    def registers(self) -> Registers:
        """The registers that Reference Values are published for."""
        return Registers(self.mrtd, self.rtmr0, self.rtmr1, self.rtmr2)


@dataclass(frozen=True)
class Quote:
    """A TDX quote of version 4 or 5. `signed` is what its signature covers; `used` the size without trailing bytes.

    `trailing` counts the bytes behind it, which are common (padding) and belong to nothing.
    """

    version: int
    qe_svn: int
    pce_svn: int
    user_data: str
    body: TdReportBody
    signed: bytes
    used: int
    trailing: int


# `quotes.md` 1.3, in order
_FIELD_SIZES = {
    "tee_tcb_svn": 16,
    "mrseam": 48,
    "mrsignerseam": 48,
    "seam_attributes": 8,
    "td_attributes": 8,
    "xfam": 8,
    "mrtd": 48,
    "mrconfigid": 48,
    "mrowner": 48,
    "mrownerconfig": 48,
    "rtmr0": 48,
    "rtmr1": 48,
    "rtmr2": 48,
    "rtmr3": 48,
    "report_data": 64,
    "tee_tcb_svn2": 16,
    "mrservicetd": 48,
}


def parse_quote(data: bytes) -> Quote:
    """Parse a quote of version 4 or 5 from a TD.

    DocumentError for SGX quotes, other versions, key types and vendors, body types of unknown layout, and a signature
    section that does not lie inside the data. Bytes after it are common and ignored. Not checked: any signature.
    """
    reader = ByteReader(data, "quote")
    version = _check_header(reader)
    start, size = _body_position(reader, version)
    body = _parse_body(reader.slice(start, size, name="TD report body"))
    end = start + size
    signature_size = reader.u32(end, name="size of the signature section")
    reader.slice(end + 4, signature_size, name="signature section")
    return Quote(
        version=version,
        qe_svn=reader.u16(8, name="QE SVN"),
        pce_svn=reader.u16(10, name="PCE SVN"),
        user_data=reader.slice(28, 20, name="user data").hex(),
        body=body,
        signed=data[:end],
        used=end + 4 + signature_size,
        trailing=len(data) - (end + 4 + signature_size),
    )


def _check_header(reader: ByteReader) -> int:
    version = reader.u16(0, name="version")
    key_type = reader.u16(2, name="attestation key type")
    tee_type = reader.u32(4, name="TEE type")
    vendor = reader.slice(12, 16, name="QE vendor")
    if tee_type == _SGX or version == 3:
        raise DocumentError(f"quote: version {version}, TEE type {tee_type:#x}: an SGX quote", hint=_SGX_HINT)
    if version not in (4, 5) or tee_type != _TDX:
        raise DocumentError(
            f"quote: version {version}, TEE type {tee_type:#x}; wanted version 4 or 5 and TEE type 0x81"
        )
    if key_type != _ECDSA_P256:
        raise DocumentError(f"quote: attestation key type {key_type}, wanted {_ECDSA_P256} (ECDSA P-256)")
    if vendor != QE_VENDOR_INTEL:
        raise DocumentError(f"quote: QE vendor {vendor.hex()}, wanted Intel's {QE_VENDOR_INTEL.hex()}")
    return version


def _body_position(reader: ByteReader, version: int) -> tuple[int, int]:
    """Offset and size of the TD report body (`quotes.md` 1.2)."""
    if version == 4:
        return _HEADER_SIZE, _BODY_SIZES[2]
    kind = reader.u16(_HEADER_SIZE, name="body type")
    size = reader.u32(_HEADER_SIZE + 2, name="body size")
    if kind == _BODY_SGX:
        raise DocumentError("quote: body type 1: an SGX quote", hint=_SGX_HINT)
    if _BODY_SIZES.get(kind) != size:
        raise DocumentError(f"quote: body type {kind} of {size} bytes; wanted type 2 of 584 or type 3 of 648 bytes")
    return _HEADER_SIZE + 6, size


def _parse_body(body: bytes) -> TdReportBody:
    fields: dict[str, str] = {}
    offset = 0
    for name, size in _FIELD_SIZES.items():
        if offset < len(body):
            fields[name] = body[offset : offset + size].hex()
        offset += size
    return TdReportBody(**fields)
