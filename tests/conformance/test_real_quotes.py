"""Every quote and TDREPORT handed out: what it carries, and that nothing of it can be cut or changed unnoticed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.errors import DocumentError
from builder.measure import Quote, parse_ccel, parse_quote, parse_tdreport, replay
from builder.measure.evidence.form import quote_input

EXPECTED = "expected_registers.json"
TDREPORT = "pairs/qemu-direct-2g/tdreport.bin"
SGX = "quotes/317ca572f1_dcap-qvl_sgx_quote.bin"
IN_JSON = "pairs/dstack-2cpu-2g/tdx-lite-getquote.json"


@dataclass(frozen=True)
class Form:
    """Version, bytes that belong to the quote, and bytes behind it; `tdx_15` for a body with two more fields."""

    version: int
    used: int
    trailing: int
    tdx_15: bool = False


QUOTES = {
    "pairs/dstack-1cpu-1g/quote.bin": Form(4, 4936, 70),
    "pairs/gcp-cos113/quote.bin": Form(4, 4935, 3065),
    "pairs/qemu-direct-2g/quote.bin": Form(4, 4936, 307),
    "quotes/00313b766d_dcap-qvl_tdx_quote_outdated.bin": Form(5, 5006, 0, tdx_15=True),
    "quotes/05c9677175_attestation-rs_tdx_quote_live.bin": Form(4, 4936, 307),
    "quotes/18d07608fe_dcap-qvl_quote_hex.bin": Form(4, 4936, 70),
    "quotes/21a37a0572_go-tdx-guest_quote_v5_sample.bin": Form(5, 5006, 0, tdx_15=True),
    "quotes/263b491bb1_dcap-qvl_tdx_quote.bin": Form(4, 4936, 70),
    "quotes/7dec895fae_dcap-qvl_quote-from-tappd.bin": Form(4, 4936, 70),
}
COVERS = (*QUOTES, SGX, TDREPORT, IN_JSON, EXPECTED)
EVERY_QUOTE = pytest.mark.parametrize("name", QUOTES)


def quote(vectors: Path, name: str) -> Quote:
    return parse_quote((vectors / name).read_bytes())


def expected_quotes(vectors: Path) -> dict[str, dict[str, Any]]:
    document: dict[str, Any] = json.loads((vectors / EXPECTED).read_text())
    return dict(document["quotes"])


def test_every_quote_carries_the_expected_registers(vectors: Path) -> None:
    spelled = {"mr_td": "mrtd", "mr_seam": "mrseam", "mr_signer_seam": "mrsignerseam", "mr_config_id": "mrconfigid"}
    spelled |= {"mr_owner": "mrowner", "mr_owner_config": "mrownerconfig"}
    expected = expected_quotes(vectors)
    assert set(expected) == set(QUOTES)
    for name, fields in expected.items():
        parsed = quote(vectors, name)
        assert parsed.version == fields.pop("version")
        assert {field: getattr(parsed.body, spelled.get(field, field)) for field in fields} == fields, name
        assert not parsed.body.debug


@EVERY_QUOTE
def test_the_form_of_a_quote(vectors: Path, name: str) -> None:
    parsed, form = quote(vectors, name), QUOTES[name]
    assert (parsed.version, parsed.used, parsed.trailing) == (form.version, form.used, form.trailing)
    body = 648 if form.tdx_15 else 584
    assert len(parsed.signed) == {4: 48, 5: 54}[form.version] + body
    assert (parsed.body.mrservicetd is not None) == (parsed.body.tee_tcb_svn2 is not None) == form.tdx_15
    assert parsed.body.td_attribute_names == ("SEPT_VE_DISABLE",)
    assert parsed.body.mrsignerseam == "00" * 48


@EVERY_QUOTE
def test_padding_says_nothing(vectors: Path, name: str) -> None:
    data = (vectors / name).read_bytes()
    parsed = parse_quote(data)
    bare = parse_quote(data[: parsed.used])
    other = parse_quote(data[: parsed.used] + b"\xff" * 100)
    assert bare.body == other.body == parsed.body
    assert bare.signed == other.signed == parsed.signed
    assert (bare.trailing, other.trailing) == (0, 100)


@EVERY_QUOTE
def test_a_quote_that_was_cut_is_refused(vectors: Path, name: str) -> None:
    data = (vectors / name).read_bytes()
    for size in (*range(0, QUOTES[name].used, 61), QUOTES[name].used - 1):
        with pytest.raises(DocumentError):
            parse_quote(data[:size])


@EVERY_QUOTE
@pytest.mark.parametrize(
    ("offset", "value"), [(0, 3), (0, 6), (2, 3), (4, 0), (4, 0x80), (12, 0)], ids=lambda value: str(value)
)
def test_a_quote_of_another_kind_is_refused(vectors: Path, name: str, offset: int, value: int) -> None:
    data = bytearray((vectors / name).read_bytes())
    data[offset] = value
    with pytest.raises(DocumentError):
        parse_quote(bytes(data))


@EVERY_QUOTE
def test_a_quote_handed_around_as_text_is_the_same(vectors: Path, name: str) -> None:
    data = (vectors / name).read_bytes()
    assert quote_input(data).data == quote_input(data.hex().encode()).data == data


def test_trailing_bytes_are_no_part_of_a_quote(vectors: Path) -> None:
    parsed = quote(vectors, "pairs/gcp-cos113/quote.bin")
    assert (parsed.used, len(parsed.signed)) == (4935, 632)


def test_the_quote_in_a_dstack_answer_is_found(vectors: Path) -> None:
    found = quote_input((vectors / IN_JSON).read_bytes())
    assert found.form == "hex in JSON"
    parsed = parse_quote(found.data)
    assert parsed.body.rtmr0.startswith("f8438db36b96")
    assert parsed.body.mrconfigid.startswith("0186b0e55f2fa8")


def test_a_real_sgx_quote_is_refused_as_one(vectors: Path) -> None:
    with pytest.raises(DocumentError, match="SGX quote"):
        quote(vectors, SGX)


def test_a_tdreport_shows_what_its_log_replays_to(vectors: Path) -> None:
    report = parse_tdreport((vectors / TDREPORT).read_bytes())
    replayed = replay(parse_ccel((vectors / "pairs/qemu-direct-2g/ccel_other_cmdline.bin").read_bytes()))
    assert [report.rtmr0, report.rtmr1, report.rtmr2, report.rtmr3] == list(replayed.values())
    assert report.mrtd == quote(vectors, "pairs/qemu-direct-2g/quote.bin").body.mrtd


@pytest.mark.parametrize("offset", [0, 32, 80, 256, 300, 512, 528, 720, 1023])
def test_a_tdreport_that_was_changed_is_refused(vectors: Path, offset: int) -> None:
    data = bytearray((vectors / TDREPORT).read_bytes())
    data[offset] ^= 1
    with pytest.raises(DocumentError):
        parse_tdreport(bytes(data))
