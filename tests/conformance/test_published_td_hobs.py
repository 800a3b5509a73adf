"""TD HOB lists against published digests and the logs of real TDs (`measurement.md` 4)."""

import json
from pathlib import Path

import pytest

from builder.measure import TdvfMetadata, parse_ccel, parse_tdvf, td_hob_list
from builder.model.digest import sha384_hex
from tests.fakes.section_layouts import HOBS_S, HOBS_S2, MIB, S2, VIRTEE, S, td_hob

PUBLISHED = "tdhob/oasis_subset.json"
COMPLETE = "pairs/dstack-1cpu-1g/td_hob.bin"
CLOUD_HYPERVISOR = "tdhob/tdshim_cloudhv_td_hob.bin"
# log -> layout and memory of the guest
LOGS = {
    "pairs/qemu-direct-2g/ccel.bin": (S, 2048),
    "pairs/dstack-1cpu-1g/ccel.bin": (S, 1024),
    "ccel/CCEL_data_ovmf": (S2, 2048),
    "ccel/CCEL_data_grub": (S2, 10240),
}
COVERS = (VIRTEE, PUBLISHED, COMPLETE, CLOUD_HYPERVISOR, *LOGS)


@pytest.mark.parametrize(("mebibytes", "digest"), HOBS_S2.items())
def test_td_hob_of_layout_s2(mebibytes: int, digest: str) -> None:
    assert td_hob(S2, mebibytes) == digest


@pytest.mark.parametrize(("mebibytes", "digest"), HOBS_S.items())
def test_td_hob_of_layout_s(mebibytes: int, digest: str) -> None:
    assert td_hob(S, mebibytes) == digest


def test_td_hobs_as_another_project_publishes_them(vectors: Path) -> None:
    published = json.loads((vectors / PUBLISHED).read_text())["td_hob"]
    assert len(published) == 5
    for entry in published:
        assert td_hob(S2, entry["memory_mib"]) == entry["sha384"]


def test_a_complete_td_hob_list_byte_by_byte(vectors: Path) -> None:
    assert td_hob_list(S, 1024 * MIB) == (vectors / COMPLETE).read_bytes()


@pytest.mark.parametrize(("log", "metadata", "mebibytes"), [(log, *shape) for log, shape in LOGS.items()], ids=LOGS)
def test_the_first_event_of_real_logs(vectors: Path, log: str, metadata: TdvfMetadata, mebibytes: int) -> None:
    assert parse_ccel((vectors / log).read_bytes())[0].digest == td_hob(metadata, mebibytes)


def test_the_firmware_file_has_layout_s2(vectors: Path) -> None:
    metadata = parse_tdvf((vectors / VIRTEE).read_bytes())
    assert {size: td_hob(metadata, size) for size in HOBS_S2} == HOBS_S2


@pytest.mark.parametrize(("log", "metadata", "mebibytes"), [(log, *shape) for log, shape in LOGS.items()], ids=LOGS)
def test_the_first_event_fits_no_other_layout_or_size(
    vectors: Path, log: str, metadata: TdvfMetadata, mebibytes: int
) -> None:
    found = parse_ccel((vectors / log).read_bytes())[0].digest
    others = [(layout, size) for layout in (S, S2) for size in (*HOBS_S2, 10240, mebibytes + 1, mebibytes - 1)]
    assert found not in {td_hob(*other) for other in others if other != (metadata, mebibytes)}


def test_a_list_of_cloud_hypervisor_is_its_whole_events_content(vectors: Path) -> None:
    """Measured with its end-of-list HOB; the digest is that of a real td-shim log (`measurement.md` 4.5)."""
    data = (vectors / CLOUD_HYPERVISOR).read_bytes()
    assert sha384_hex(data).startswith("c6e6d33de4104b8196acfb57a9866ef6")
    assert data.endswith(b"\xff\xff\x08\0\0\0\0\0")
