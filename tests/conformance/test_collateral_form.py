"""DCAP collateral and verdicts: that they are the documents that INDEX.md says. Nothing here verifies a quote."""

import json
from pathlib import Path

import pytest

from builder.encoding.canonical_json import parse_json
from builder.errors import DocumentError
from builder.measure import parse_quote

VERDICTS = "dcap/verdicts.json"
# file -> FMSPC and kind of its TCB info
COLLATERAL = {
    "dcap/collateral/B0C06F_2025-06.json": ("B0C06F000000", "TDX"),
    "dcap/collateral/90C06F_2026-02.json": ("90C06F000000", "TDX"),
    "dcap/collateral/go-v5.json": ("90C06F000000", "TDX"),
    "dcap/collateral/lunal-50806f.json": ("50806F000000", "TDX"),
    "dcap/collateral/sgx_00A067110000.json": ("00A067110000", "SGX"),
}
COVERS = (VERDICTS, *COLLATERAL)


@pytest.mark.parametrize(("name", "expected"), COLLATERAL.items(), ids=COLLATERAL)
def test_collateral_holds_signed_texts_and_their_signatures(
    vectors: Path, name: str, expected: tuple[str, str]
) -> None:
    document = parse_json((vectors / name).read_bytes(), what=name)
    tcb_info = json.loads(document["tcb_info"])
    assert (tcb_info["fmspc"].upper(), tcb_info["id"]) == expected
    assert json.loads(document["qe_identity"])["id"] == ("TD_QE" if expected[1] == "TDX" else "QE")
    for member in ("tcb_info_signature", "qe_identity_signature"):
        assert len(bytes.fromhex(document[member])) == 64
    for member in ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"):
        assert document[member].startswith("-----BEGIN CERTIFICATE-----")
    for member in ("root_ca_crl", "pck_crl"):
        assert bytes.fromhex(document[member])[0] == 0x30


def test_every_verdict_is_about_a_quote_that_is_here(vectors: Path) -> None:
    rows = json.loads((vectors / VERDICTS).read_text())["rows"]
    assert len(rows) >= 5
    for row in rows:
        data = (vectors / row["file"]).read_bytes()
        if row["tcb_id"] == "TDX":
            parse_quote(data)
        else:
            with pytest.raises(DocumentError, match="SGX quote"):
                parse_quote(data)
