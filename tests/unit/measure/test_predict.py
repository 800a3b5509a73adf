"""Predictions from whole files; the numbers themselves are checked in tests/vectors."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.encoding.canonical_json import encode_canonical, parse_json
from builder.errors import DocumentError, RegisterDiffersError
from builder.measure import (
    CAVEATS,
    AcpiBlobs,
    BootFiles,
    KernelForm,
    LaunchProfile,
    Measurer,
    PageOrder,
    PredictedEvent,
    ReferenceValues,
    blobs_for,
    check_predictions,
    first_difference,
    launch_profiles,
    parse_reference_values,
    reference_values_document,
    replay,
)
from builder.measure.firmware.build import SMBIOS_MEASUREMENT_DXE
from builder.measure.firmware.smbios import SmbiosStructure, smbios_digest
from builder.measure.firmware.volume import TD_TCG2_DXE
from builder.model.recipe import VmmSpec
from tests.fakes.boot_files import (
    CFV,
    DXE_CORE,
    SECTIONS_S,
    SOME_FILE,
    Firmware,
    acpi_tables,
    bzimage,
    ffs_file,
    volume,
)
from tests.fakes.variable_stores import store_of

FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd", "console=ttyS0")
VMM = VmmSpec("qemu", "10.2.1", "q35,smm=off,pic=off", "Skylake-Server,phys-bits=46", ("virtio-rng-pci",))
GIB = 1 << 30
Shape = tuple[int, int]


def profile_of(shape: Shape, *, vmm: str = "10.2.1", edk2: str = "202502", files: BootFiles = FILES) -> LaunchProfile:
    (only,) = launch_profiles(files, vmm=dataclasses.replace(VMM, version=vmm), edk2=edk2, shapes=[shape])
    return only


def acpi_of(shape: Shape) -> AcpiBlobs:
    return blobs_for(acpi_tables(shape[0], dsdt=str(shape).encode()))


def matrix(*shapes: Shape, vmm: str = "10.2.1", edk2: str = "202502") -> ReferenceValues:
    profiles = (profile_of(shape, vmm=vmm, edk2=edk2) for shape in shapes)
    return Measurer(FILES).reference_values(
        (profile, acpi_of(shape)) for profile, shape in zip(profiles, shapes, strict=True)
    )


ACPI = acpi_of((1, GIB)).digests()
VALUES = matrix((1, GIB), (2, GIB), (2, 2 * GIB), (8, 64 * GIB))


def test_registers_are_the_replay_of_the_events() -> None:
    for prediction in VALUES.predictions:
        replayed = replay(event for event in prediction.events if isinstance(event, PredictedEvent))
        assert not prediction.unpredicted
        registers = prediction.registers
        assert [registers.rtmr0, registers.rtmr1, registers.rtmr2] == [
            replayed[name] for name in ("rtmr0", "rtmr1", "rtmr2")
        ]
        assert registers.mrtd == VALUES.mrtd[prediction.profile.page_order]
    check_predictions(VALUES)


def test_no_predicted_register_is_zero() -> None:
    for prediction in VALUES.predictions:
        assert "00" * 48 not in dataclasses.astuple(prediction.registers)


def test_every_shape_has_its_own_rtmr0_and_they_share_the_rest() -> None:
    registers = [prediction.registers for prediction in VALUES.predictions]
    assert len({each.rtmr0 for each in registers}) == len(registers)
    assert len({(each.mrtd, each.rtmr1, each.rtmr2) for each in registers}) == 1


def test_events_stand_in_the_order_of_the_specification() -> None:
    """`measurement.md` 5.2, 6.1 and 7.1 for the generation G2."""
    names = [(event.register, event.name) for event in VALUES.predictions[0].events]
    assert [name for register, name in names if register == "rtmr0"] == [
        "TD HOB",
        "variable store",
        "SecureBoot",
        "PK",
        "KEK",
        "db",
        "dbx",
        "separator",
        "etc/table-loader",
        "etc/acpi/rsdp",
        "etc/acpi/tables",
        "BootOrder",
        "Boot0000",
    ]
    assert [name for register, name in names if register == "rtmr1"] == [
        "kernel",
        "Calling EFI Application from Boot Option",
        "separator",
        "Exit Boot Services Invocation",
        "Exit Boot Services Returned with Success",
    ]
    assert [name for register, name in names if register == "rtmr2"] == ["LOADED_IMAGE::LoadOptions", "Linux initrd"]


def names_of(register: str, *, vmm: str = "7.2.22", edk2: str) -> list[str]:
    (prediction,) = matrix((1, GIB), vmm=vmm, edk2=edk2).predictions
    return [event.name for event in prediction.of_register(register)]


@pytest.mark.parametrize("vmm", ["8.2.2", "10.2.1"])
def test_an_initrd_that_does_not_fit_the_machine_is_refused_whichever_kernel_is_served(vmm: str) -> None:
    files = dataclasses.replace(FILES, initrd=bytes(GIB // 8))
    profile = profile_of((1, GIB // 8), vmm=vmm, files=files)
    with pytest.raises(DocumentError, match="does not fit below"):
        Measurer(files).predict(profile, ACPI)


def test_before_202302_acpi_is_stated_but_not_measured() -> None:
    (prediction,) = matrix((1, GIB), edk2="202211").predictions
    assert "etc/acpi/tables" not in [event.name for event in prediction.events]
    assert prediction.acpi == acpi_of((1, GIB)).digests()


def test_the_separator_moved_in_202411() -> None:
    assert names_of("rtmr0", edk2="202408")[-1] == "separator"
    assert names_of("rtmr1", edk2="202408").count("separator") == 0
    assert names_of("rtmr0", edk2="202411")[-1] == "Boot0000"
    assert names_of("rtmr1", edk2="202411").count("separator") == 1


SMBIOS = SmbiosStructure(0, 0, bytes(22), (b"vendor",)).encode() + bytes.fromhex("7f04007f0000")


@pytest.mark.parametrize("edk2", ["202505", "202508", "202605"])
def test_without_smbios_tables_rtmr0_of_new_firmware_is_open_and_the_rest_is_predicted(edk2: str) -> None:
    (prediction,) = matrix((1, GIB), edk2=edk2).predictions
    registers = prediction.registers
    assert registers.rtmr0 is None
    assert None not in (registers.mrtd, registers.rtmr1, registers.rtmr2)
    (open_event,) = prediction.unpredicted
    assert (open_event.name, open_event.type_name) == ("SMBIOS tables", "EV_EFI_HANDOFF_TABLES")
    assert "smbios_processor" in prediction.profile.caveats


def test_with_smbios_tables_it_is_predicted_in_the_order_of_a_real_log() -> None:
    """`measurement.md` 5.1: the 17 events that dstack calls stable202505."""
    profile = profile_of((1, GIB), edk2="202505")
    prediction = Measurer(FILES).predict(profile, acpi_of((1, GIB)), smbios=SMBIOS)
    assert prediction.registers.rtmr0 is not None
    assert [event.name for event in prediction.of_register("rtmr0")] == [
        "TD HOB",
        "variable store",
        "BootMenu",
        "bootorder",
        "SecureBoot",
        "PK",
        "KEK",
        "db",
        "dbx",
        "separator",
        "etc/table-loader",
        "etc/acpi/rsdp",
        "etc/acpi/tables",
        "SMBIOS tables",
        "BootOrder",
        "Boot0000",
        "Boot0001",
    ]
    stated = Measurer(FILES).predict(profile, acpi_of((1, GIB)), smbios=smbios_digest(SMBIOS, None))
    assert stated == prediction


def test_where_the_firmware_does_not_tell_its_own_strings_the_event_stays_open() -> None:
    tables = SmbiosStructure(1, 1, bytes(23), (b"QEMU",)).encode() + SMBIOS[-6:]
    profile = profile_of((1, GIB), edk2="202505")
    prediction = Measurer(FILES).predict(profile, ACPI, smbios=tables)
    (open_event,) = prediction.unpredicted
    assert "no type 0" in open_event.reason
    assert prediction.registers.rtmr0 is None


@pytest.mark.parametrize("smbios", [b"", b"tables", "", "ab", "g" * 96])
def test_broken_smbios_tables_and_digests_are_refused(smbios: bytes | str) -> None:
    with pytest.raises(DocumentError, match="SMBIOS tables"):
        Measurer(FILES).predict(profile_of((1, GIB), edk2="202505"), ACPI, smbios=smbios)


def test_smbios_tables_go_to_the_profile_of_their_name() -> None:
    profiles = [profile_of(shape, edk2="202605") for shape in ((1, GIB), (2, GIB))]
    shapes = [(profile, acpi_of((profile.vcpus, GIB))) for profile in profiles]
    one, two = Measurer(FILES).reference_values(shapes, smbios={"2cpu-1G": SMBIOS}).predictions
    assert one.registers.rtmr0 is None
    assert two.registers.rtmr0 is not None


def test_firmware_that_measures_no_smbios_has_no_open_event() -> None:
    """IntelTdx always has that driver, OvmfPkgX64 only with TPM support."""
    files = [ffs_file(SOME_FILE, b"core", kind=DXE_CORE), ffs_file(TD_TCG2_DXE, b"driver")]
    boot = dataclasses.replace(
        FILES, firmware=Firmware(extra={0: store_of(), 0x2000: volume(files)}, filler=bytes(16)).encode()
    )
    prediction = Measurer(boot).predict(profile_of((1, GIB), edk2="202505", files=boot), acpi_of((1, GIB)))
    assert not prediction.unpredicted
    assert "SMBIOS tables" not in [event.name for event in prediction.events]


def test_firmware_with_a_driver_that_its_release_does_not_have_is_refused() -> None:
    files = [ffs_file(SOME_FILE, b"core", kind=DXE_CORE), ffs_file(SMBIOS_MEASUREMENT_DXE, b"driver")]
    boot = dataclasses.replace(FILES, firmware=Firmware(extra={0x2000: volume(files)}, filler=bytes(16)).encode())
    with pytest.raises(DocumentError, match="SMBIOS tables are measured: False, the files say True"):
        Measurer(boot).predict(profile_of((1, GIB), edk2="202502", files=boot), acpi_of((1, GIB)))


def test_before_202505_smbios_tables_change_nothing() -> None:
    profile = profile_of((1, GIB))
    plain = Measurer(FILES).predict(profile, acpi_of((1, GIB)))
    assert Measurer(FILES).predict(profile, acpi_of((1, GIB)), smbios=SMBIOS) == plain


def test_each_input_shows_in_the_events_that_name_it() -> None:
    changes = {
        "firmware": dataclasses.replace(FILES, firmware=Firmware(extra={0x10: b"changed"}).encode()),
        "kernel": dataclasses.replace(FILES, kernel=FILES.kernel[:0x7000] + b"!" + FILES.kernel[0x7001:]),
        "initrd": dataclasses.replace(FILES, initrd=b"other!"),
        "command_line": dataclasses.replace(FILES, command_line="console=ttyS1"),
    }
    original = VALUES.predictions[0]
    for name, files in changes.items():
        changed = Measurer(files).predict(original.profile, ACPI)
        pairs = zip(original.events, changed.events, strict=True)
        (different,) = [before for before, after in pairs if before != after]
        assert isinstance(different, PredictedEvent)
        assert name in different.input


def test_memory_shows_in_a_patched_kernel_and_not_in_a_raw_one() -> None:
    patched = matrix((1, GIB), (1, 2 * GIB), (1, 64 * GIB), vmm="8.2.2").predictions
    assert {each.profile.kernel_form for each in patched} == {KernelForm.PATCHED}
    assert patched[0].registers.rtmr1 != patched[1].registers.rtmr1
    assert patched[1].registers.rtmr1 == patched[2].registers.rtmr1


def test_the_page_order_of_the_vmm_selects_mrtd() -> None:
    for version, order in (("8.2.2", PageOrder.TWO_PASS), ("10.2.1", PageOrder.SINGLE_PASS)):
        values = matrix((1, GIB), vmm=version)
        assert values.predictions[0].registers.mrtd == values.mrtd[order]
        assert set(values.mrtd) == set(PageOrder)


def test_a_guest_without_initrd_measures_none() -> None:
    files = dataclasses.replace(FILES, initrd=None)
    prediction = Measurer(files).predict(VALUES.predictions[0].profile, ACPI)
    assert [event.name for event in prediction.of_register("rtmr2")] == ["LOADED_IMAGE::LoadOptions"]
    patched = profile_of((1, GIB), vmm="8.2.2")
    assert Measurer(files).predict(patched, ACPI).registers.rtmr1


@given(
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from([512 << 20, GIB, 2 * GIB, 3 * GIB])), min_size=2, unique=True)
)
@settings(max_examples=20)
def test_a_matrix_gives_what_each_shape_alone_gives(shapes: list[Shape]) -> None:
    together = matrix(*shapes, vmm="8.2.2")
    for shape, prediction in zip(shapes, together.predictions, strict=True):
        assert matrix(shape, vmm="8.2.2").predictions == (prediction,)


def test_stated_digests_give_what_the_blobs_give() -> None:
    measurer = Measurer(FILES)
    for shape in ((1, GIB), (300, 2 * GIB)):
        blobs, profile = acpi_of(shape), profile_of(shape)
        assert measurer.predict(profile, blobs) == measurer.predict(profile, blobs.digests())


def test_tables_of_another_shape_are_refused() -> None:
    with pytest.raises(DocumentError, match="MADT lists 2 processors, the machine shape has 3"):
        Measurer(FILES).predict(profile_of((3, GIB)), acpi_of((2, GIB)))


def test_tables_of_a_machine_with_a_tpm_are_refused() -> None:
    blobs = acpi_of((1, GIB))
    tpm = blobs.loader[128:256].replace(b"etc/acpi/tables", b"etc/tpm/log\0\0\0\0")
    with_tpm = dataclasses.replace(blobs, loader=blobs.loader[:128] + tpm + blobs.loader[128:-128])
    with pytest.raises(DocumentError, match="etc/tpm/log"):
        Measurer(FILES).predict(profile_of((1, GIB)), with_tpm)


@pytest.mark.parametrize("shapes", [[], [(1, GIB), (1, GIB)]], ids=["none", "twice the same"])
def test_an_empty_or_ambiguous_matrix_is_refused(shapes: list[Shape]) -> None:
    with pytest.raises(DocumentError, match="launch profiles"):
        matrix(*shapes)


def test_unusable_files_are_refused_at_once() -> None:
    with pytest.raises(DocumentError, match="firmware"):
        Measurer(dataclasses.replace(FILES, firmware=b"firmware"))
    with pytest.raises(DocumentError, match="kernel"):
        Measurer(dataclasses.replace(FILES, kernel=b"kernel"))
    with pytest.raises(DocumentError, match="initrd"):
        Measurer(dataclasses.replace(FILES, initrd=b""))


@pytest.mark.parametrize("stores", [0, 2])
def test_firmware_without_one_variable_store_is_refused(stores: int) -> None:
    others = [section for section in SECTIONS_S if section[4] != CFV]
    sections = [*others, *((0, 0x1000, 0x10000000 * (1 + index), 0x1000, CFV, 0) for index in range(stores))]
    files = dataclasses.replace(FILES, firmware=Firmware(sections=sections).encode())
    with pytest.raises(DocumentError, match=f"{stores} CFV sections"):
        Measurer(files).predict(VALUES.predictions[0].profile, ACPI)


def firmware_with(driver: bool) -> bytes:
    files = [ffs_file(SOME_FILE, b"core", kind=DXE_CORE), *([ffs_file(TD_TCG2_DXE, b"driver")] if driver else [])]
    return Firmware(extra={0x2000: volume(files)}, filler=bytes(16)).encode()


@pytest.mark.parametrize(("stated", "real"), [(True, False), (False, True)])
def test_a_profile_that_contradicts_the_firmware_is_refused(stated: bool, real: bool) -> None:
    made_of = dataclasses.replace(FILES, firmware=firmware_with(stated))
    profile = profile_of((1, GIB), files=made_of)
    Measurer(made_of).predict(profile, acpi_of((1, GIB)))
    Measurer(FILES).predict(profile, acpi_of((1, GIB)))  # of this file nothing can be told, so nothing contradicts
    with pytest.raises(DocumentError, match="measuring driver is"):
        Measurer(dataclasses.replace(FILES, firmware=firmware_with(real))).predict(profile, acpi_of((1, GIB)))


def test_a_profile_of_another_kernel_is_refused() -> None:
    other = profile_of((1, GIB), files=dataclasses.replace(FILES, kernel=bzimage(release=b"6.1.0")))
    with pytest.raises(DocumentError, match=r"it is of kernel 6\.1\.0, the files say 6\.12\.1-test"):
        Measurer(FILES).predict(other, acpi_of((1, GIB)))


def test_the_document_gives_the_values_back() -> None:
    document = parse_json(encode_canonical(reference_values_document(VALUES)), what="document")
    assert parse_reference_values(document, what="document") == VALUES
    assert reference_values_document(parse_reference_values(document, what="document")) == document


def test_the_document_writes_shared_things_once() -> None:
    document = reference_values_document(VALUES)
    digests = [(event["register"], event["name"], event["digest"]) for event in document["events"]]
    assert len(set(digests)) == len(digests)
    assert len(document["rules"]["firmware"]) == len(document["rules"]["vmm"]) == 1
    # per shape: memory or not, three ACPI blobs at most
    assert len(document["events"]) <= 20 + 4 * len(VALUES.predictions)


def test_the_document_explains_its_caveats() -> None:
    document = reference_values_document(VALUES)
    used = {caveat for profile in document["profiles"] for caveat in profile["caveats"]}
    assert used
    assert document["caveats"] == {key: CAVEATS[key] for key in used}


def test_an_edited_register_or_event_does_not_agree_with_itself() -> None:
    prediction = VALUES.predictions[0]
    other = VALUES.predictions[1]
    edited = [
        dataclasses.replace(prediction, registers=other.registers),
        dataclasses.replace(prediction, events=prediction.events[:-1]),
        dataclasses.replace(prediction, events=other.events),
        dataclasses.replace(prediction, events=()),
    ]
    for each in edited:
        with pytest.raises(RegisterDiffersError, match="1cpu-1G"):
            check_predictions(ReferenceValues(VALUES.mrtd, (each,)))


def test_an_mrtd_of_the_other_page_order_does_not_agree() -> None:
    single, two = (VALUES.mrtd[order] for order in (PageOrder.SINGLE_PASS, PageOrder.TWO_PASS))
    swapped = {PageOrder.SINGLE_PASS: two, PageOrder.TWO_PASS: single}
    with pytest.raises(RegisterDiffersError):
        check_predictions(ReferenceValues(swapped, VALUES.predictions))


def test_two_predictions_differ_first_where_their_input_does() -> None:
    first, second = VALUES.predictions[0], VALUES.predictions[2]
    difference = first_difference(first.events, second.events)
    assert difference is not None
    assert (difference.register, difference.position) == ("rtmr0", 0)
    assert "decided by firmware, profile.memory" in difference.describe()
