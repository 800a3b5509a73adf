"""dstack's VmConfig (`measurement.md` 9.1, 9.2)."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import PageOrder
from builder.measure.dstack.names import OvmfVariant
from builder.measure.dstack.vm_config import (
    VmConfig,
    VmConfigDocument,
    parse_vm_config,
    shape_differences,
    version_defaults,
    vm_config_for,
)
from builder.model.digest import sha256_hex
from tests.fakes.dstack_images import checksum_file, image_files

PLAIN: dict[str, Any] = {"cpu_count": 2, "memory_size": 2 << 30, "qemu_version": "9.2.1"}
FILES = image_files()
CHECKSUMS = checksum_file(FILES)


def parsed(**members: Any) -> VmConfigDocument:
    document = {name: value for name, value in {**PLAIN, **members}.items() if value is not ...}
    return parse_vm_config(json.dumps(document).encode())


def material(*, checksums: bytes = CHECKSUMS, document: bytes = FILES["measurement.tdx.cbor"]) -> dict[str, str]:
    return {
        "measurement": base64.b64encode(document).decode(),
        "checksum_file": base64.b64encode(checksums).decode(),
    }


def test_the_plain_machine_has_one_nic_and_shares_by_9p() -> None:
    assert parsed().config == vm_config_for(vcpus=2, memory=2 << 30, qemu_version="9.2.1")
    assert parsed().config == VmConfig(2, 2 << 30, "9.2.1", PageOrder.SINGLE_PASS, pic=False, nics=1, host_share="9p")


def test_every_member_reaches_its_field() -> None:
    found = parsed(
        pci_hole64_size=1 << 44,
        hugepages=True,
        num_gpus=8,
        num_nvswitches=4,
        num_nics=3,
        num_verity_volumes=2,
        hotplug_off=True,
        host_share_mode="vhd",
        ovmf_variant="stable202505",
        image="dstack-nvidia-0.6.0",
        pic=True,
    )
    assert found.config == VmConfig(
        vcpus=2,
        memory=2 << 30,
        qemu_version="9.2.1",
        page_order=PageOrder.SINGLE_PASS,
        pic=True,
        pci_hole64=1 << 44,
        hugepages=True,
        gpus=8,
        nvswitches=4,
        nics=3,
        verity_volumes=2,
        hotplug=False,
        host_share="vhd",
        ovmf_variant=OvmfVariant.STABLE202505,
    )
    assert found.image == "dstack-nvidia-0.6.0"


@pytest.mark.parametrize(
    ("version", "defaults"),
    [
        ("8.0.0", (PageOrder.TWO_PASS, True)),
        ("8.2.2", (PageOrder.TWO_PASS, True)),
        ("9.0.0", (PageOrder.SINGLE_PASS, False)),
        ("9.1.0", (PageOrder.SINGLE_PASS, False)),
        ("11.1.3", (PageOrder.SINGLE_PASS, False)),
    ],
)
def test_page_order_and_pic_follow_from_the_version(version: str, defaults: tuple[PageOrder, bool]) -> None:
    config = parsed(qemu_version=version).config
    assert (config.page_order, config.pic) == version_defaults(version) == defaults


@pytest.mark.parametrize("version", ["8.2.2", "9.2.1"])
def test_single_pass_add_pages_is_true_for_two_passes(version: str) -> None:
    assert parsed(qemu_version=version, qemu_single_pass_add_pages=True).config.page_order is PageOrder.TWO_PASS
    assert parsed(qemu_version=version, qemu_single_pass_add_pages=False).config.page_order is PageOrder.SINGLE_PASS


@pytest.mark.parametrize(("version", "stated"), [("8.2.2", False), ("9.2.1", True)])
def test_a_stated_pic_wins_over_the_version(version: str, *, stated: bool) -> None:
    assert parsed(qemu_version=version, pic=stated).config.pic is stated


@pytest.mark.parametrize("version", [..., None, 9, ["9.2.1"]], ids=str)
def test_an_absent_version_is_never_defaulted(version: object) -> None:
    with pytest.raises(DocumentError, match="qemu_version") as error:
        parsed(qemu_version=version)
    assert error.value.hint is not None
    assert "page order" in error.value.hint


@pytest.mark.parametrize(
    "version", ["", "9.2", "9.2.1.0", "9.2.1-rc1", "9.2.1+ds-1", "v9.2.1", "9.02.1", " 9.2.1", "9.2.1\n", "９.2.1"]
)
def test_a_version_is_exactly_three_decimal_numbers(version: str) -> None:
    with pytest.raises(DocumentError, match="three decimal numbers"):
        parsed(qemu_version=version)


@pytest.mark.parametrize("version", ["7.2.22", "0.0.0"])
def test_versions_that_ran_no_dstack_are_refused(version: str) -> None:
    with pytest.raises(DocumentError, match=r"before 8\.0\.0"):
        parsed(qemu_version=version)


@pytest.mark.parametrize(
    "members",
    [
        {"cpu_count": ...},
        {"cpu_count": 0},
        {"cpu_count": 4097},
        {"cpu_count": -1},
        {"cpu_count": True},
        {"cpu_count": "2"},
        {"cpu_count": None},
        {"memory_size": ...},
        {"memory_size": 0},
        {"memory_size": (2 << 30) + 4096},
        {"memory_size": 1 << 53},
        {"memory_size": (1 << 52) + (1 << 20)},
        {"memory_size": "2G"},
        {"pci_hole64_size": -1},
        {"pci_hole64_size": None},
        {"hugepages": 1},
        {"hugepages": None},
        {"host_share_mode": None},
        {"tdx_attestation_variant": None},
        {"os_image_hash": None},
        {"hotplug_off": "false"},
        {"pic": "on"},
        {"qemu_single_pass_add_pages": 0},
        {"num_gpus": 65},
        {"num_gpus": -1},
        {"num_nics": None},
        {"num_nvswitches": 1},
        {"num_verity_volumes": []},
        {"host_share_mode": "nfs"},
        {"host_share_mode": 9},
        {"ovmf_variant": "pre202605"},
        {"ovmf_variant": 0},
        {"image": "../dstack"},
        {"image": ""},
        {"image": 7},
        {"os_image_hash": "AB" * 32},
        {"os_image_hash": "ab" * 31},
        {"os_image_hash": 7},
        {"tdx_attestation_variant": "light"},
        {"tdx_attestation_variant": True},
    ],
    ids=str,
)
def test_wrong_types_and_ranges_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        parsed(**members)


def test_a_software_tpm_is_refused() -> None:
    assert parsed(swtpm=False).config == parsed().config
    with pytest.raises(DocumentError, match="swtpm is true"):
        parsed(swtpm=True)


def test_several_numa_nodes_are_refused() -> None:
    assert parsed(numa_nodes=[]).config == parsed().config
    with pytest.raises(DocumentError, match="numa_nodes"):
        parsed(numa_nodes=[{"cpus": 1}])


def test_members_that_no_register_depends_on_are_listed() -> None:
    assert parsed(spec_version=1, mr_config="{}", aws_measurement={}).unused == (
        "aws_measurement",
        "mr_config",
        "spec_version",
    )


def test_a_member_nobody_knows_is_refused_unless_vouched_for() -> None:
    data = json.dumps({**PLAIN, "smbios": "vendor"}).encode()
    with pytest.raises(DocumentError, match="unknown member 'smbios'"):
        parse_vm_config(data)
    assert parse_vm_config(data, accept={"smbios"}).unused == ("smbios",)


def test_material_of_the_image_is_read() -> None:
    found = parsed(os_image_hash=sha256_hex(CHECKSUMS), tdx_measurement=material(), tdx_attestation_variant="lite")
    assert found.is_lite
    assert found.measurement is not None
    assert found.measurement.version == 4


def test_lite_without_material_is_refused() -> None:
    with pytest.raises(DocumentError, match="lite"):
        parsed(tdx_attestation_variant="lite")


def test_material_of_another_image_is_refused() -> None:
    with pytest.raises(DocumentError, match="the checksum file has SHA-256"):
        parsed(os_image_hash="ab" * 32, tdx_measurement=material())


def test_material_without_an_image_hash_is_refused() -> None:
    with pytest.raises(DocumentError, match="os_image_hash is None"):
        parsed(tdx_measurement=material())


def test_a_document_that_is_not_the_listed_one_is_refused() -> None:
    other = image_files(document_version=3)["measurement.tdx.cbor"]
    with pytest.raises(DocumentError, match="the checksum file lists"):
        parsed(os_image_hash=sha256_hex(CHECKSUMS), tdx_measurement=material(document=other))


def test_a_checksum_file_that_does_not_list_the_document_is_refused() -> None:
    checksums = CHECKSUMS.replace(b"measurement.tdx.cbor", b"measurement.snp.cbor")
    with pytest.raises(DocumentError, match="lists None"):
        parsed(os_image_hash=sha256_hex(checksums), tdx_measurement=material(checksums=checksums))


def test_a_checksum_file_with_a_line_of_another_form_is_refused() -> None:
    """Its maker may have minted it: a path that another parser skips must not be read past."""
    checksums = CHECKSUMS + b"ab  ../evil\n"
    with pytest.raises(DocumentError, match="line 6"):
        parsed(os_image_hash=sha256_hex(checksums), tdx_measurement=material(checksums=checksums))


@pytest.mark.parametrize(
    "value",
    [
        [],
        "text",
        {},
        {"measurement": ""},
        {**material(), "more": 1},
        {**material(), "measurement": "!"},
        {**material(), "checksum_file": 7},
        {**material(), "measurement": "YQ"},
    ],
    ids=str,
)
def test_material_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(DocumentError, match="tdx_measurement"):
        parsed(os_image_hash=sha256_hex(CHECKSUMS), tdx_measurement=value)


def test_equal_shapes_do_not_differ() -> None:
    assert shape_differences(parsed(spec_version=1).config, parsed().config) == ()


@pytest.mark.parametrize(
    "members",
    [
        {"cpu_count": 3},
        {"memory_size": 3 << 30},
        {"qemu_version": "9.2.2"},
        {"qemu_single_pass_add_pages": True},
        {"pic": True},
        {"pci_hole64_size": 1 << 40},
        {"hugepages": True},
        {"num_gpus": 1},
        {"num_nics": 2},
        {"num_verity_volumes": 1},
        {"hotplug_off": True},
        {"host_share_mode": "vvfat"},
        {"ovmf_variant": "pre202505"},
    ],
    ids=str,
)
def test_every_member_of_the_machine_makes_another_shape(members: dict[str, Any]) -> None:
    (difference,) = shape_differences(parsed(**members).config, parsed().config)
    assert ": found " in difference


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"cpu_count":2,"cpu_count":4}',
        b'{"cpu_count":2.5}',
        b"\xff",
        b" " * ((1 << 20) + 1),
    ],
    ids=lambda data: data[:20].decode("latin-1"),
)
def test_what_is_no_strict_object_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_vm_config(data)


def test_a_machine_that_cannot_be_is_refused_however_it_is_made() -> None:
    config = parsed().config
    for changes in ({"vcpus": 0}, {"memory": 1}, {"nvswitches": 1}, {"qemu_version": "9.2"}):
        with pytest.raises(DocumentError):
            replace(config, **changes)  # type: ignore[arg-type]


@given(
    st.dictionaries(
        st.sampled_from([*PLAIN, "pic", "swtpm", "num_gpus", "image", "tdx_measurement", "os_image_hash", "x"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(st.integers(), max_size=2)),
    )
)
def test_hostile_members_are_refused_or_parsed(members: dict[str, Any]) -> None:
    try:
        document = parse_vm_config(json.dumps(members).encode())
    except DocumentError:
        return
    assert document.config.qemu_version == members["qemu_version"]
