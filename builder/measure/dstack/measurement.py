"""dstack's `measurement.tdx.cbor`: what an image puts into MRTD and the RTMRs, without the image (`quotes.md` 8.3).

The document is worth what binds it: its digest stands in the image's `sha256sum.txt`, whose digest is the
os_image_hash, and that has to be one the verifier allows: whoever asks can mint another set of the three. Version 3 is
proven by a real quote, version 4 by the encoding that dstack publishes as a test value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import DocumentError
from builder.measure.dstack.names import OvmfVariant, parse_ovmf_variant
from builder.measure.dstack.td_hob_witness import encode_td_hob_witness, parse_td_hob_witness
from builder.measure.firmware.mrtd import mrtd_for
from builder.measure.firmware.td_hob import LOW_MEMORY_LIMIT, LOW_MEMORY_SPLIT, td_hob_list
from builder.measure.firmware.tdvf import parse_tdvf
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.kernel_image import KernelLoad, patch_kernel
from builder.measure.images.load_options import encode_load_options
from builder.model.digest import sha384_hex
from builder.model.launch_profile import BootFiles, InitrdArgument, PageOrder

FILE_NAME = "measurement.tdx.cbor"
VERSIONS = (3, 4)

_MAX_SIZE = 64 << 10
_MAX_DEPTH = 4
_MAX_COMMAND_LINE = 16 << 10
_WITHOUT_COMMAND_LINE = 3
_NORMALIZED = "kernel_header_normalized"


@dataclass(frozen=True)
class TdxMeasurement:
    """The document in parts; digests are SHA-384 in hex.

    `load_options` is that of the measured command line; only version 4 states `command_line`, without the
    `initrd=initrd` of the firmware. `kernel` is the Authenticode digest: of the file if `kernel_header_normalized`, and
    otherwise of QEMU's rewritten copy in a guest of `covers_memory`.
    """

    version: int
    command_line: str | None
    load_options: str
    kernel: str
    kernel_header_normalized: bool
    initrd: str
    ovmf_variant: OvmfVariant
    mrtd: Mapping[PageOrder, str]
    td_hob_witness: bytes

    def covers_memory(self, memory: int) -> bool:
        """Whether `kernel` holds for a guest with `memory` bytes (`measurement.md` 6.3)."""
        return self.kernel_header_normalized or memory == LOW_MEMORY_SPLIT or memory >= LOW_MEMORY_LIMIT

    def td_hob(self, memory: int) -> str:
        """SHA-384 of the TD HOB list in a guest with `memory` bytes; DocumentError as `td_hob_list`."""
        return sha384_hex(td_hob_list(parse_td_hob_witness(self.td_hob_witness), memory))


def parse_tdx_measurement(data: bytes, *, what: str = FILE_NAME) -> TdxMeasurement:
    """Parse a document of version 3 or 4.

    DocumentError for anything that is not, byte for byte, the one encoding of its content: other members or their
    order, longer forms of lengths, bytes after the end. Whether the values are those of any image is not checked.
    """
    document = _Members(_decoded(data, what), what)
    version = document.integer("version")
    if version not in VERSIONS:
        raise DocumentError(f"{what}: version {version}, wanted 3 or 4", hint="a newer dstack may have written this")
    image, tdvf = document.members("image"), document.members("tdvf")
    mrtd = tdvf.members("mrtd")
    command_line = None if version == _WITHOUT_COMMAND_LINE else image.text("cmdline")
    measurement = TdxMeasurement(
        version=version,
        command_line=command_line,
        load_options=image.digest("cmdline_sha384") if command_line is None else _load_options(command_line, what),
        kernel=image.digest("kernel_authenticode"),
        kernel_header_normalized=version != _WITHOUT_COMMAND_LINE and image.flag(_NORMALIZED),
        initrd=image.digest("initrd_sha384"),
        ovmf_variant=parse_ovmf_variant(tdvf.text("ovmf"), what=what),
        mrtd={order: mrtd.digest(order.value) for order in PageOrder},
        td_hob_witness=tdvf.binary("td_hob"),
    )
    parse_td_hob_witness(measurement.td_hob_witness, what=what)
    if encode_tdx_measurement(measurement) != data:
        raise DocumentError(
            f"{what}: not the encoding that dstack writes: other members, another order or longer forms of numbers",
            hint="take the file from the image again, unchanged",
        )
    return measurement


def encode_tdx_measurement(measurement: TdxMeasurement) -> bytes:
    """The document as dstack's image build writes it: the same measurement gives the same bytes."""
    import cbor2

    return cbor2.dumps(
        {
            "version": measurement.version,
            "image": dict(_image_members(measurement)),
            "tdvf": {
                "ovmf": str(measurement.ovmf_variant),
                "mrtd": {order.value: bytes.fromhex(measurement.mrtd[order]) for order in PageOrder},
                "td_hob": measurement.td_hob_witness,
            },
        }
    )


def tdx_measurement_for(
    files: BootFiles, *, ovmf_variant: OvmfVariant, kernel_header_normalized: bool, version: int = 4
) -> TdxMeasurement:
    """What dstack's image build should state about these files.

    DocumentError for files that are refused, for an image without initrd, and for a normalised header in version 3,
    which cannot state it. dstack pads kernels to eight bytes before it hashes them, the firmware does not: for a kernel
    of another size the digest differs from dstack's.
    """
    if files.initrd is None:
        raise DocumentError(f"{FILE_NAME}: the image has no initrd, and the document cannot say so")
    if version not in VERSIONS or (kernel_header_normalized and version == _WITHOUT_COMMAND_LINE):
        raise DocumentError(f"{FILE_NAME}: version {version} cannot state this image", hint="write version 4")
    load = KernelLoad(LOW_MEMORY_SPLIT, len(files.initrd), files.command_line)
    kernel = files.kernel if kernel_header_normalized else patch_kernel(files.kernel, load)
    return TdxMeasurement(
        version=version,
        command_line=None if version == _WITHOUT_COMMAND_LINE else files.command_line,
        load_options=_load_options(files.command_line, FILE_NAME),
        kernel=authenticode_digest(kernel).hex(),
        kernel_header_normalized=kernel_header_normalized,
        initrd=sha384_hex(files.initrd),
        ovmf_variant=ovmf_variant,
        mrtd={order: mrtd_for(files.firmware, order).hex() for order in PageOrder},
        td_hob_witness=encode_td_hob_witness(parse_tdvf(files.firmware)),
    )


def _load_options(command_line: str, what: str) -> str:
    if not 0 < len(command_line) <= _MAX_COMMAND_LINE:
        raise DocumentError(f"{what}: command line of {len(command_line)} characters, wanted 1 to {_MAX_COMMAND_LINE}")
    return sha384_hex(encode_load_options(command_line, InitrdArgument.SUFFIX))


def _image_members(measurement: TdxMeasurement) -> Iterator[tuple[str, Any]]:
    """In the order of dstack's encoder, which leaves the flag out where it is not set."""
    if measurement.command_line is None:
        yield "cmdline_sha384", bytes.fromhex(measurement.load_options)
    else:
        yield "cmdline", measurement.command_line
    yield "kernel_authenticode", bytes.fromhex(measurement.kernel)
    if measurement.kernel_header_normalized:
        yield _NORMALIZED, True
    yield "initrd_sha384", bytes.fromhex(measurement.initrd)


def _decoded(data: bytes, what: str) -> Any:
    import cbor2

    if len(data) > _MAX_SIZE:
        raise DocumentError(f"{what}: {len(data)} bytes, wanted at most {_MAX_SIZE}")
    try:
        return cbor2.loads(data, max_depth=_MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, ArithmeticError, RecursionError) as error:
        raise DocumentError(f"{what}: not a CBOR document: {str(error)[:200]}") from error


class _Members:
    """The members of a map, typed; what is not asked for is found by encoding again."""

    def __init__(self, value: Any, what: str) -> None:
        if type(value) is not dict:
            raise DocumentError(f"{what}: {_shown(value)} is not a map")
        self._value = value
        self._what = what

    def _typed(self, name: str, wanted: type) -> Any:
        value = self._value.get(name)
        if type(value) is not wanted:
            raise DocumentError(f"{self._what}: {name} is {_shown(value)}, wanted {wanted.__name__}")
        return value

    def members(self, name: str) -> "_Members":
        return _Members(self._typed(name, dict), f"{self._what}: {name}")

    def integer(self, name: str) -> int:
        return int(self._typed(name, int))

    def text(self, name: str) -> str:
        return str(self._typed(name, str))

    def binary(self, name: str) -> bytes:
        return bytes(self._typed(name, bytes))

    def flag(self, name: str) -> bool:
        return name in self._value and bool(self._typed(name, bool))

    def digest(self, name: str) -> str:
        value = self.binary(name)
        if len(value) != 48:
            raise DocumentError(f"{self._what}: {name} is {len(value)} bytes, wanted the 48 of a SHA-384")
        return value.hex()


def _shown(value: Any) -> str:
    return repr(value)[:80]
