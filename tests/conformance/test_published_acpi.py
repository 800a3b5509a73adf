"""ACPI files and RTMR[0] against published values and real TDs (`measurement.md` 5.13, `acpi.md` 10, 11.3)."""

import gzip
import json
from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.measure import (
    AcpiBlobs,
    AcpiDigests,
    CcMeasurement,
    SecureBootVariable,
    TdvfMetadata,
    blobs_for,
    check_acpi,
    first_difference,
    parse_ccel,
    parse_quote,
    replay,
)
from builder.measure.boot.direct import Events, rtmr0_events
from builder.measure.profile import firmware_rules
from tests.fakes.section_layouts import MIB, S2, S, td_hob

DSTACK = tuple(f"pairs/dstack-1cpu-1g/{name}" for name in ("acpi_loader.bin", "acpi_rsdp.bin", "acpi_tables.bin"))
TEMPLATES = tuple(f"acpi/oasis/template_qemu_cpu{vcpus}.bin.gz" for vcpus in (1, 2))
LIVE = tuple(f"acpi/fortanix-runtime-capture/{name}" for name in ("acpi_tables.bin", "expected.json", "metadata.json"))
PAIR = ("pairs/dstack-1cpu-1g/quote.bin", "pairs/dstack-1cpu-1g/ccel.bin")
COVERS = (*DSTACK, *TEMPLATES, *LIVE, *PAIR, "tdhob/oasis_subset.json", "quotes/18d07608fe_dcap-qvl_quote_hex.bin")

# `measurement.md` 5.3: an empty variable store
EMPTY_STORE_4M = "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790"


def dstack_1cpu(vectors: Path) -> AcpiBlobs:
    folder = vectors / "pairs/dstack-1cpu-1g"
    return AcpiBlobs(*((folder / f"acpi_{name}.bin").read_bytes() for name in ("loader", "rsdp", "tables")))


def test_loader_and_rsdp_follow_from_the_tables(vectors: Path) -> None:
    blobs = dstack_1cpu(vectors)
    assert blobs_for(blobs.tables) == blobs
    check_acpi(blobs, 1)
    with pytest.raises(DocumentError, match="MADT lists 1 processors"):
        check_acpi(blobs, 2)


def test_acpi_digests_as_another_project_publishes_them(vectors: Path) -> None:
    """Its templates: two dwords of the DSDT depend on memory (`acpi.md` 11.3)."""
    published = json.loads((vectors / "tdhob/oasis_subset.json").read_text())["acpi"]
    assert len(published) == 6
    for entry in published:
        template = (vectors / f"acpi/oasis/template_qemu_cpu{entry['cpus']}.bin.gz").read_bytes()
        tables = bytearray(gzip.decompress(template))
        memory = entry["memory_mib"] * MIB if entry["memory_mib"] < 2816 else 0x80000000
        length_at = int.from_bytes(tables[68:72], "little") - 684
        tables[length_at - 12 : length_at - 8] = memory.to_bytes(4, "little")
        tables[length_at : length_at + 4] = (0xE0000000 - memory).to_bytes(4, "little")
        blobs = blobs_for(bytes(tables))
        check_acpi(blobs, entry["cpus"])
        assert blobs.digests() == AcpiDigests(entry["loader"], entry["rsdp"], entry["tables"])


def rtmr0(acpi: AcpiDigests, *, metadata: TdvfMetadata, mebibytes: int, edk2: str = "202502") -> Events:
    rules = firmware_rules(edk2, secure_boot_variable=SecureBootVariable.ABSENT, cc_measurement=CcMeasurement.PRESENT)
    return rtmr0_events(rules, td_hob=td_hob(metadata, mebibytes), variable_store=EMPTY_STORE_4M, acpi=acpi)


def test_rtmr0_of_a_1_gib_guest_from_its_parts(vectors: Path) -> None:
    events = rtmr0(dstack_1cpu(vectors).digests(), metadata=S, mebibytes=1024)
    quote = parse_quote((vectors / "pairs/dstack-1cpu-1g/quote.bin").read_bytes())
    assert replay(events)["rtmr0"] == quote.body.rtmr0
    assert quote.body.rtmr0.startswith("274c2344116d")
    log = parse_ccel((vectors / "pairs/dstack-1cpu-1g/ccel.bin").read_bytes())
    assert first_difference(events, [event for event in log if event.register == "rtmr0"]) is None


@pytest.mark.parametrize(
    ("metadata", "mebibytes", "edk2"), [(S2, 1024, "202502"), (S, 2048, "202502"), (S, 1024, "202408")]
)
def test_rtmr0_differs_with_any_wrong_rule(vectors: Path, metadata: TdvfMetadata, mebibytes: int, edk2: str) -> None:
    events = rtmr0(dstack_1cpu(vectors).digests(), metadata=metadata, mebibytes=mebibytes, edk2=edk2)
    assert not replay(events)["rtmr0"].startswith("274c2344116d")


def test_rtmr0_of_a_live_td_from_its_tables(vectors: Path) -> None:
    """8 vCPU, 16 GiB, five devices: loader and rsdp derived, layout S, the store of an unmodified OVMF_VARS_4M.fd."""
    folder = vectors / "acpi/fortanix-runtime-capture"
    blobs = blobs_for((folder / "acpi_tables.bin").read_bytes())
    check_acpi(blobs, 8)
    expected = json.loads((folder / "expected.json").read_text())["rtmr0"]
    assert replay(rtmr0(blobs.digests(), metadata=S, mebibytes=16384))["rtmr0"] == expected


# `acpi.md` 10.1: rows whose RTMR[0] is that of a real quote or was published
ROWS = {
    "8.2.2, 1 vCPU, 2 GiB": (
        2048,
        "39740da2ea1e7e6c69e5e6569755b2ad6d622a8a9983a2c5b32d5574659dbdc4ca8b95b1c766bd610bc5c26dcde842f8",
        "6385b89d2decb3de678d51faba0ff3506835915818fd3ee53a739aa678cd9c76bdd755adfa0aa714cf35a1abe062b253",
        "05705c3ca9d71e908d5ce70d4331b6aadce5331b9a6a546f222f017fb0e1797b951a3dac72f59cb197a0c897a201ca07",
        "68102e7b524af310f7b7d426ce75481e36c40f5d513a9009c046e9d37e31551f0134d954b496a3357fd61d03f07ffe96",
    ),
    "8.2.2, 2 vCPU, 2 GiB": (
        2048,
        "095d04cf26fe03aef6e3561fa24c1aa1cea93f4aeaf563b1f9f7616184c53454875925759434769cec2490acb563a337",
        "8d9a4d4777a1bc77ecd9d8d37a4628129a80052a510320159a20a923bd07a0e90d8d1f2e1ebf088992b25f0d0fa672ef",
        "3070721e169bc41884724cb0e6b3082e1baf249083d8b389181ba50b9afa951057876c380b8870e8c2facf2eff67a2b6",
        "f8438db36b96f85d8752ff7f24a89ec05c79ec9eda2ba732c897fb970ca429365b7471b1c054cb84f17b1c2b23ba6640",
    ),
    "8.2.2, 8 vCPU, 64 GiB": (
        65536,
        "6dae15170c9fea6455681e3f838941a642ff9001a02a333e9ca8549af1db4ba47f01403e31dabe6e8a0b41ddd38b6d99",
        "b3a62232ef6be064cce25a8b92cf55d4a6c099ee7a9c0852ce0c7d572393dae84895c0f59a9db5000f0b34a90c1b1bec",
        "b6ed8ff3fca3c308f3f1ec7889054cc900b1c6dad9b14aedd0144d046626c81a5dbae47937f4949bb2d674a0bd699a7b",
        "e673be2f70beefb70b48a6109eed4715d7270d4683b3bf356fa25fafbf1aa76e39e9127e6e688ccda98bdab1d4d47f46",
    ),
    "9.2.1, 16 vCPU, 64 GiB, GPU": (
        65536,
        "2065dd48d647e4377db277ba203526901a17845e93e0df4c2dfc3ce136e0910324ead1e1c86b8d90c2acdf9c85ffac53",
        "772b0169c66b52e4453fff9e3c6257635ea950ebcc8edd7ef2e2f8241cf6a155f39df01a7c7a194b6bc0abe5de11861d",
        "abfb2256644b5786eefdcb92303d2008c36cb9500d98997e215ef5080745d4bf2e5b3629090918e193e7f05b173d48c5",
        "2e3843265f8ecdd4e2282694747f6f2f111605c33f2a8882f5734ee6f3a6ce63d8f34aeef06093dcda76fa5f9d33d8d6",
    ),
}


@pytest.mark.parametrize(("mebibytes", "loader", "rsdp", "tables", "expected"), ROWS.values(), ids=ROWS)
def test_rtmr0_of_quotes_from_published_acpi_digests(
    mebibytes: int, loader: str, rsdp: str, tables: str, expected: str
) -> None:
    events = rtmr0(AcpiDigests(loader, rsdp, tables), metadata=S2, mebibytes=mebibytes)
    assert replay(events)["rtmr0"] == expected


def test_rtmr0_of_a_real_quote_in_the_vectors(vectors: Path) -> None:
    quote = parse_quote((vectors / "quotes/18d07608fe_dcap-qvl_quote_hex.bin").read_bytes())
    assert quote.body.rtmr0 == ROWS["8.2.2, 1 vCPU, 2 GiB"][-1]
