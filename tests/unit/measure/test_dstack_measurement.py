"""dstack's measurement.tdx.cbor (`quotes.md` 8.3)."""

from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import KernelLoad, PageOrder, authenticode_digest, mrtd_for, patch_kernel
from builder.measure.dstack.measurement import (
    TdxMeasurement,
    encode_tdx_measurement,
    parse_tdx_measurement,
    tdx_measurement_for,
)
from builder.measure.dstack.names import OvmfVariant
from builder.measure.rtmr import extend
from builder.model.digest import sha384_hex
from tests.fakes.boot_files import bzimage
from tests.fakes.dstack_images import BOOT_FILES

# dstack's own test values (dstack-mr/src/tdx.rs of Dstack-TEE/dstack, Apache-2.0): a document and its digests
SAMPLE_COMMAND_LINE = f"console=ttyS0 init=/init panic=1 dstack.rootfs_hash={'1' * 64} dstack.rootfs_size=4096"
SAMPLE_OPTIONS = "bb4154e6e429e184bc63d544ae5720f868e5859b378b13bab69860e1fc65c09f1b67277bba010841fbe8bc3619e58d58"
SAMPLE_RTMR2 = "2fb6d31492cd2f073fe8fdaa9dbdff4dfdde92bf07f9a16c2b7123ae7be5090007974d33bfe8807ac56974160f8f2948"
SAMPLE_ENCODED = (
    "a36776657273696f6e0465696d616765a467636d646c696e65788c"
    + SAMPLE_COMMAND_LINE.encode().hex()
    + "736b65726e656c5f61757468656e7469636f64655830"
    + "22" * 48
    + "78186b65726e656c5f6865616465725f6e6f726d616c697a6564f5"
    + "6d696e697472645f7368613338345830"
    + "33" * 48
    + "6474647666a3646f766d6669707265323032353035646d727464a26b73696e676c655f706173735830"
    + "44" * 48
    + "6874776f5f706173735830"
    + "55" * 48
    + "6674645f686f6250"
    + "66" * 16
)
SAMPLE = TdxMeasurement(
    version=4,
    command_line=SAMPLE_COMMAND_LINE,
    load_options=SAMPLE_OPTIONS,
    kernel="22" * 48,
    kernel_header_normalized=True,
    initrd="33" * 48,
    ovmf_variant=OvmfVariant.PRE202505,
    mrtd={PageOrder.SINGLE_PASS: "44" * 48, PageOrder.TWO_PASS: "55" * 48},
    td_hob_witness=b"\x66" * 16,
)
WITNESS = bytes.fromhex("80100904000609020b021010")
FOUR = replace(SAMPLE, td_hob_witness=WITNESS)
THREE = replace(FOUR, version=3, command_line=None, kernel_header_normalized=False)


def test_version_4_is_encoded_as_dstack_encodes_its_sample() -> None:
    assert encode_tdx_measurement(SAMPLE).hex() == SAMPLE_ENCODED


def test_the_command_line_of_version_4_is_measured_as_in_dstacks_sample() -> None:
    parsed = parse_tdx_measurement(encode_tdx_measurement(FOUR))
    assert parsed.load_options == SAMPLE_OPTIONS
    register = extend(extend(bytes(48), bytes.fromhex(parsed.load_options)), bytes.fromhex(parsed.initrd))
    assert register.hex() == SAMPLE_RTMR2


@pytest.mark.parametrize(
    "measurement", [THREE, FOUR, replace(FOUR, kernel_header_normalized=False)], ids=lambda m: m.version
)
def test_a_document_is_read_as_it_was_written(measurement: TdxMeasurement) -> None:
    assert parse_tdx_measurement(encode_tdx_measurement(measurement)) == measurement


@pytest.mark.parametrize(
    ("memory", "covered"), [(1 << 30, False), (2 << 30, True), (2815 << 20, False), (2816 << 20, True)]
)
def test_a_rewritten_kernel_holds_for_some_memory_sizes_only(memory: int, *, covered: bool) -> None:
    assert THREE.covers_memory(memory) is covered
    assert FOUR.covers_memory(memory)


@pytest.mark.parametrize("version", [3, 4])
def test_a_document_made_of_files_states_what_they_give(version: int) -> None:
    made = tdx_measurement_for(
        BOOT_FILES, ovmf_variant=OvmfVariant.PRE202505, kernel_header_normalized=False, version=version
    )
    patched = patch_kernel(
        BOOT_FILES.kernel, KernelLoad(2 << 30, len(BOOT_FILES.initrd or b""), BOOT_FILES.command_line)
    )
    assert made.kernel == authenticode_digest(patched).hex()
    assert made.mrtd == {order: mrtd_for(BOOT_FILES.firmware, order).hex() for order in PageOrder}
    assert made.initrd == sha384_hex(BOOT_FILES.initrd or b"")
    assert parse_tdx_measurement(encode_tdx_measurement(made)) == made


def test_a_normalized_kernel_is_measured_as_it_is() -> None:
    made = tdx_measurement_for(BOOT_FILES, ovmf_variant=OvmfVariant.PRE202505, kernel_header_normalized=True)
    assert made.kernel == authenticode_digest(bzimage()).hex()


@pytest.mark.parametrize(("version", "normalized"), [(3, True), (2, False), (5, False)])
def test_what_a_version_cannot_state_is_not_written(version: int, *, normalized: bool) -> None:
    with pytest.raises(DocumentError, match=f"version {version}"):
        tdx_measurement_for(
            BOOT_FILES, ovmf_variant=OvmfVariant.PRE202505, kernel_header_normalized=normalized, version=version
        )


def test_an_image_without_initrd_has_no_document() -> None:
    with pytest.raises(DocumentError, match="no initrd"):
        tdx_measurement_for(
            replace(BOOT_FILES, initrd=None), ovmf_variant=OvmfVariant.PRE202505, kernel_header_normalized=False
        )


def document(**changes: object) -> dict[str, object]:
    decoded: dict[str, object] = cbor2.loads(encode_tdx_measurement(FOUR))
    return {**decoded, **changes}


def image(**changes: object) -> dict[str, object]:
    members: dict[str, object] = dict(cbor2.loads(encode_tdx_measurement(FOUR))["image"])
    return document(image={name: value for name, value in {**members, **changes}.items() if value is not None})


def tdvf(**changes: object) -> dict[str, object]:
    return document(tdvf={**cbor2.loads(encode_tdx_measurement(FOUR))["tdvf"], **changes})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (document(version=2), "version 2"),
        (document(version=5), "version 5"),
        (document(version="4"), "version is '4'"),
        (document(version=True), "version is True"),
        (document(image=[]), "image is"),
        (document(more=1), "not the encoding"),
        (image(cmdline=None), "cmdline is None"),
        (image(cmdline=""), "command line of 0"),
        (image(cmdline="x" * 17000), "command line of 17000"),
        (image(cmdline="a\nb"), "not printable"),
        (image(cmdline="ä"), "not printable"),
        (image(cmdline_sha384=bytes(48)), "not the encoding"),
        (image(kernel_authenticode=bytes(47)), "47 bytes"),
        (image(kernel_authenticode="22" * 48), "wanted bytes"),
        (image(initrd_sha384=None), "initrd_sha384 is None"),
        (image(kernel_header_normalized=False), "not the encoding"),
        (image(kernel_header_normalized=1), "wanted bool"),
        (tdvf(ovmf="post202605"), "OVMF variant"),
        (tdvf(mrtd={"single_pass": bytes(48)}), "two_pass is None"),
        (tdvf(td_hob=b""), "numbers"),
        (tdvf(td_hob=None), "td_hob is None"),
        ({}, "version is None"),
        ([], "not a map"),
        (None, "not a map"),
    ],
    ids=str,
)
def test_other_documents_are_refused(changed: object, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        parse_tdx_measurement(cbor2.dumps(changed))


def test_version_3_cannot_say_that_the_header_is_normalized() -> None:
    members = cbor2.loads(encode_tdx_measurement(THREE))
    members["image"]["kernel_header_normalized"] = True
    with pytest.raises(DocumentError, match="not the encoding"):
        parse_tdx_measurement(cbor2.dumps(members))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xa1",
        encode_tdx_measurement(FOUR) + b"\0",
        encode_tdx_measurement(FOUR)[:-1],
        b"\xd9\xd9\xf7" + encode_tdx_measurement(FOUR),
        encode_tdx_measurement(FOUR).replace(b"version\x04", b"version\x18\x04"),
        cbor2.dumps(dict(reversed(document().items()))),
        cbor2.dumps(document(), canonical=True),
        b"\x81" * 100_000,
        b"\x81" * 1000,
        b"\xa1\x67version\x5b" + b"\xff" * 8,
        b"\xa1\x80\x01",
        b"\xc4\x82\x1b" + b"\xff" * 8 + b"\x01",
        b"\xd8\x23\x61(",
        b"\xd8\x1e\x82\x01\x00",
        b"\xbf\xff",
    ],
    ids=lambda data: data[:12].hex(),
)
def test_what_is_not_the_one_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_tdx_measurement(data)


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_tdx_measurement(data)


@given(st.integers(0, len(encode_tdx_measurement(FOUR)) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_seen(position: int, value: int) -> None:
    data = bytearray(encode_tdx_measurement(FOUR))
    data[position] = value
    try:
        parsed = parse_tdx_measurement(bytes(data))
    except DocumentError:
        return
    assert encode_tdx_measurement(parsed) == data
    assert (parsed == FOUR) == (data == encode_tdx_measurement(FOUR))
