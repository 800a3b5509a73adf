"""What a difference means: only what fits is said, and nothing where nothing does."""

from dataclasses import replace
from typing import Any

import pytest

from builder.errors import DocumentError
from builder.measure import (
    BootFiles,
    Measurer,
    ParsedEvent,
    Prediction,
    ReferenceValues,
    launch_profiles,
    parse_ccel,
    parse_tdvf,
    td_hob_list,
)
from builder.measure.boot.direct import rtmr2_events
from builder.measure.explain.by_memory import LAYOUTS, memory_sizes
from builder.measure.explain.log_comparison import compare_log
from builder.measure.explain.neighbours import Case, Materials, explain, explain_mrtd
from builder.measure.platforms.gce_td_hob import gce_machine_type, gce_ram_banks, gce_td_hob_list
from builder.model.digest import sha384_hex
from builder.model.event import EV_EVENT_TAG, EV_PLATFORM_CONFIG_FLAGS, PredictedEvent, UnpredictedEvent
from builder.model.launch_profile import LaunchProfile, PageOrder
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests
from tests.fakes.boot_files import Firmware, bzimage
from tests.fakes.event_logs import ccel_of

GIB, MIB = 1 << 30, 1 << 20
FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd" * 1000, "console=ttyS0 quiet")
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off,hpet=off", "Skylake-Server,phys-bits=46", ("serial",))


def digests_of(profile: LaunchProfile) -> AcpiDigests | DocumentError:
    """Stands for generated tables: every part of the machine changes them, and no other part of the profile does."""
    if profile.vmm.name != "qemu":
        return DocumentError("not covered")
    shape = repr((profile.vcpus, profile.memory, profile.vmm, profile.firmware.edk2)).encode()
    return AcpiDigests(sha384_hex(b"loader"), sha384_hex(b"rsdp"), sha384_hex(shape))


def values_of(
    *shapes: tuple[int, int], files: BootFiles = FILES, vmm: VmmSpec = VMM, edk2: str = "202502"
) -> ReferenceValues:
    profiles = launch_profiles(files, vmm=vmm, edk2=edk2, shapes=shapes)
    digests = [digests_of(profile) for profile in profiles]
    assert not any(isinstance(each, DocumentError) for each in digests)
    return Measurer(files).reference_values(
        (profile, each) for profile, each in zip(profiles, digests, strict=True) if isinstance(each, AcpiDigests)
    )


PUBLISHED = values_of((2, 2 * GIB), (4, 2 * GIB), (2, 4 * GIB))
BASE = PUBLISHED.predictions[0]
COMPUTING = Materials(acpi=digests_of)


def log_of(prediction: Prediction) -> tuple[ParsedEvent, ...]:
    return parse_ccel(ccel_of(event for event in prediction.events if isinstance(event, PredictedEvent)))


def meaning(
    log: tuple[ParsedEvent, ...],
    *,
    register: str,
    materials: Materials = COMPUTING,
    published: ReferenceValues = PUBLISHED,
    prediction: Prediction = BASE,
) -> tuple[str, ...]:
    (compared,) = [each for each in compare_log(prediction, log) if each.register == register]
    assert compared.difference is not None
    return explain(Case(compared.difference, prediction, published.predictions, log, materials))


def of_shape(vcpus: int, memory: int, **changes: Any) -> tuple[ParsedEvent, ...]:
    return log_of(values_of((vcpus, memory), **changes).predictions[0])


# memory


def test_a_published_neighbour_is_named() -> None:
    assert meaning(of_shape(2, 4 * GIB), register="rtmr0") == (
        "memory is 4 GiB, predicted for 2 GiB (as in the published profile '2cpu-4G')",
        "the ACPI tables are those of this memory, too, with 2 vCPUs, as predicted",
    )


@pytest.mark.parametrize(
    ("memory", "text"),
    [
        (8 * GIB, "8 GiB"),
        (512 * GIB, "512 GiB"),
        (4 << 40, "4096 GiB"),
        (256 * MIB, "256 MiB"),
        (2999 * MIB, "2999 MiB"),
        (16000 * MIB, "16000 MiB"),
        (64 * GIB - 128 * MIB, "65408 MiB"),
    ],
)
def test_memory_that_nobody_published_is_found(memory: int, text: str) -> None:
    assert meaning(of_shape(2, memory), register="rtmr0")[0] == f"memory is {text}, predicted for 2 GiB"


def test_vcpus_are_told_besides_memory() -> None:
    assert meaning(of_shape(16, 8 * GIB), register="rtmr0")[1] == (
        "the ACPI tables are those of this memory, too, with 16 vCPUs, predicted for 2"
    )


def test_nothing_is_said_of_tables_that_do_not_fit_the_memory() -> None:
    other = of_shape(2, 8 * GIB, vmm=replace(VMM, cpu="another"))
    assert len(meaning(other, register="rtmr0")) == 1
    assert len(meaning(of_shape(2, 8 * GIB), register="rtmr0", materials=Materials())) == 1


def test_another_section_layout_is_found() -> None:
    (layout,) = [layout for name, layout in LAYOUTS.items() if name.startswith("S2 ")]
    log = list(of_shape(2, 2 * GIB))
    log[0] = replace(log[0], digest=sha384_hex(td_hob_list(layout, 4 * GIB)))
    (statement,) = meaning(tuple(log), register="rtmr0", published=values_of((2, 2 * GIB)))
    assert statement.startswith("the firmware has section layout S2")
    assert statement.endswith("memory is 4 GiB, predicted for 2 GiB")


def test_a_firmware_at_hand_gives_its_own_layout() -> None:
    sections = list(Firmware().sections)
    sections[2] = (0, 0, 0x812000, 0xE000, 3, 0)
    firmware = Firmware(sections=sections).encode()
    files = replace(FILES, firmware=firmware)
    prediction = values_of((2, 2 * GIB), files=files).predictions[0]
    log = of_shape(2, 6 * GIB, files=files)
    without = meaning(log, register="rtmr0", prediction=prediction)
    assert without == ()
    found = meaning(log, register="rtmr0", prediction=prediction, materials=Materials(firmware=firmware))
    assert found == ("memory is 6 GiB, predicted for 2 GiB",)


def test_a_digest_that_fits_nothing_is_not_explained() -> None:
    log = list(of_shape(2, 2 * GIB))
    log[0] = replace(log[0], digest="ee" * 48)
    assert meaning(tuple(log), register="rtmr0") == ()


def test_every_size_tried_is_one_that_a_machine_can_have() -> None:
    sizes = list(memory_sizes())
    assert len(sizes) < 10_000
    assert min(sizes) == 256 * MIB
    assert max(sizes) == 4 << 40
    assert all(size % MIB == 0 for size in sizes)


def test_a_list_that_gce_writes_is_recognised_with_the_firmware_at_hand() -> None:
    firmware = FILES.firmware
    digest = sha384_hex(gce_td_hob_list(parse_tdvf(firmware), gce_ram_banks(gce_machine_type("c3-standard-4"))))
    log = [replace(event, digest=digest) if event.position == 0 else event for event in log_of(BASE)]
    (found,) = meaning(tuple(log), register="rtmr0", materials=Materials(firmware=firmware, acpi=digests_of))
    assert found == "the list is the one that GCE writes for machine type c3-standard-4"
    assert meaning(tuple(log), register="rtmr0") == ()


def test_firmware_too_large_for_the_smallest_machines_is_tried_with_the_others() -> None:
    sections = list(Firmware().sections)
    sections[2] = (0, 0, 0x20000000, 0x1000, 3, 0)  # at 512 MiB
    files = replace(FILES, firmware=Firmware(sections=sections).encode())
    prediction = values_of((2, 2 * GIB), files=files).predictions[0]
    found = meaning(
        of_shape(2, 6 * GIB, files=files),
        register="rtmr0",
        prediction=prediction,
        materials=Materials(firmware=files.firmware),
    )
    assert found == ("memory is 6 GiB, predicted for 2 GiB",)


def test_a_firmware_at_hand_that_is_none_is_refused() -> None:
    with pytest.raises(DocumentError):
        meaning(of_shape(2, 8 * GIB), register="rtmr0", materials=Materials(firmware=b"none"))
    assert parse_tdvf(FILES.firmware)


# the machine


@pytest.mark.parametrize(
    ("log", "statement"),
    [
        (of_shape(8, 2 * GIB), "8 vCPUs, predicted for 2"),
        (of_shape(1, 2 * GIB), "1 vCPU, predicted for 2"),
        (
            of_shape(2, 2 * GIB, vmm=replace(VMM, machine="q35,smm=off,hpet=off,pic=on")),
            "pic is on, predicted for 'q35,smm=off,pic=off,hpet=off'",
        ),
        (of_shape(2, 2 * GIB, vmm=replace(VMM, devices=())), "no serial port, predicted with it"),
        (
            of_shape(2, 2 * GIB, vmm=replace(VMM, devices=("serial", "virtio-rng-pci"))),
            "one PCI device more than predicted",
        ),
        (of_shape(2, 2 * GIB, vmm=replace(VMM, bridge_hotplug=False)), "ACPI hotplug of bridges is off"),
    ],
)
def test_a_machine_near_the_predicted_one_is_found(log: tuple[ParsedEvent, ...], statement: str) -> None:
    assert meaning(log, register="rtmr0") == (statement,)


@pytest.mark.parametrize(
    ("predicted", "found", "statement"),
    [
        (replace(VMM, devices=()), VMM, "a serial port, predicted without"),
        (replace(VMM, pci_hole64=GIB), VMM, "the 64-bit PCI hole has QEMU's default size"),
        (replace(VMM, devices=("serial", "e1000")), VMM, "no e1000, predicted with it"),
    ],
)
def test_what_the_machine_does_not_have_is_found(predicted: VmmSpec, found: VmmSpec, statement: str) -> None:
    values = values_of((2, 2 * GIB), vmm=predicted)
    log = of_shape(2, 2 * GIB, vmm=found)
    assert meaning(log, register="rtmr0", prediction=values.predictions[0], published=values) == (statement,)


def test_vcpus_and_memory_are_found_together_where_the_td_hob_hides_neither() -> None:
    """The HOB is the predicted one: only the tables are another machine's."""
    other = digests_of(replace(BASE.profile, vcpus=32, memory=16 * GIB))
    assert isinstance(other, AcpiDigests)
    log = [replace(event, digest=other.tables) if event.digest == acpi().tables else event for event in log_of(BASE)]
    assert meaning(tuple(log), register="rtmr0") == (
        "32 vCPUs, predicted for 2; memory is 16 GiB, predicted for 2 GiB",
    )


def test_a_published_machine_with_other_devices_is_named_by_them() -> None:
    other = values_of((2, 2 * GIB), vmm=replace(VMM, devices=("serial", "e1000"))).predictions[0]
    other = replace(other, profile=replace(other.profile, name="with a card"))
    published = replace(PUBLISHED, predictions=(BASE, other))
    assert meaning(log_of(other), register="rtmr0", published=published, materials=Materials()) == (
        "vmm.devices is serial, e1000, predicted for serial (as in the published profile 'with a card')",
    )


def test_another_qemu_is_found_by_its_tables() -> None:
    log = list(of_shape(2, 2 * GIB))
    other = digests_of(replace(BASE.profile, vmm=replace(VMM, version="11.1.3")))
    assert isinstance(other, AcpiDigests)
    log = [replace(event, digest=other.tables) if event.digest == acpi().tables else event for event in log]
    assert meaning(tuple(log), register="rtmr0") == ("the tables are those of QEMU 11.1.3, predicted for 10.0.2",)


def acpi() -> AcpiDigests:
    digests = digests_of(BASE.profile)
    assert isinstance(digests, AcpiDigests)
    return digests


def test_a_published_machine_is_named_by_what_decides_its_tables() -> None:
    assert meaning(of_shape(4, 2 * GIB), register="rtmr0", materials=Materials()) == (
        "4 vCPUs, predicted for 2 (as in the published profile '4cpu-2G')",
    )


def test_a_published_machine_that_shares_one_file_only_is_not_named() -> None:
    """The loader script is that of the published 4 vCPUs, the tables are nobody's."""
    published = values_of((2, 2 * GIB), (4, 2 * GIB))
    four = published.predictions[1]
    events = tuple(
        replace(event, digest="dd" * 48) if event.name == "etc/table-loader" else event for event in four.events
    )
    published = replace(published, predictions=(published.predictions[0], replace(four, events=events)))
    log = tuple(
        replace(event, digest={acpi().loader: "dd" * 48, acpi().tables: "ee" * 48}.get(event.digest, event.digest))
        for event in log_of(BASE)
    )
    assert meaning(log, register="rtmr0", published=published, materials=Materials()) == ()
    whole = replace(published, predictions=(published.predictions[0], replace(four, events=events)))
    found = meaning(log_of(whole.predictions[1]), register="rtmr0", published=whole, materials=Materials())
    assert found == ("4 vCPUs, predicted for 2 (as in the published profile '4cpu-2G')",)


def test_a_machine_fits_only_with_all_three_of_its_files() -> None:
    """The tables alone are those of 8 vCPUs; the loader script is nobody's."""
    log = [
        replace(event, digest="ee" * 48) if event.digest == acpi().loader else event for event in of_shape(8, 2 * GIB)
    ]
    assert meaning(tuple(log), register="rtmr0") == ()


def test_a_machine_that_no_generator_covers_is_not_explained() -> None:
    foreign = replace(BASE, profile=replace(BASE.profile, vmm=replace(VMM, name="other")))
    assert meaning(of_shape(8, 2 * GIB), register="rtmr0", prediction=foreign) == ()


# variables and layout


def changed(name: str, digest: str) -> tuple[ParsedEvent, ...]:
    return tuple(replace(event, digest=digest) if event.name == name else event for event in log_of(BASE))


def named(log: tuple[ParsedEvent, ...]) -> tuple[ParsedEvent, ...]:
    """The log with the predicted names, which the data of these made-up events does not give."""
    return tuple(
        replace(event, name=predicted.name)
        for event, predicted in zip(log, [each for each in BASE.events if each.register], strict=True)
    )


@pytest.mark.parametrize(
    ("position", "digest", "statement"),
    [
        (
            1,
            "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790",
            "4 MiB",
        ),
        (
            2,
            "cfa4e2c606f572627bf06d5669cc2ab1128358d27b45bc63ee9ea56ec109cfafb7194006f847a6a74b5eaed6b73332ec",
            "SecureBoot is 00 (off)",
        ),
        (
            2,
            "2cded0c6f453d4c6f59c5e14ec61abc6b018314540a2367cba326a52aa2b315ccc08ce68a816ce09c6ef2ac7e514ae1f",
            "SecureBoot is 01 (on)",
        ),
        (
            12,
            "5068e6a9ded2a1c3a8ebb5d26004410ea8670742d8f444c5c3d161b76c66fa23a7b1d2fb3f9840570b675384b5818f2d",
            "Boot0000 is the one of edk2 from 202505 on",
        ),
    ],
)
def test_known_values_of_variables_are_recognised(position: int, digest: str, statement: str) -> None:
    log = log_of(BASE)
    register = [event for event in log if event.register == "rtmr0"]
    log = tuple(replace(event, digest=digest) if event is register[position] else event for event in log)
    (found,) = meaning(log, register="rtmr0")
    assert statement in found


def test_separators_of_older_firmware_are_recognised_by_the_whole_register() -> None:
    log = of_shape(2, 2 * GIB, edk2="202408", vmm=VMM)
    with_old_tables = [event for event in log if event.event_type != EV_PLATFORM_CONFIG_FLAGS]
    ours = [event for event in log_of(BASE) if event.event_type == EV_PLATFORM_CONFIG_FLAGS]
    log = (*with_old_tables[:8], *ours, *with_old_tables[8:])
    assert meaning(log, register="rtmr0") == (
        "ReadyToBoot's separator is in rtmr0, predicted in rtmr1: so does edk2 before 202411",
    )


def test_separators_of_newer_firmware_are_recognised_too() -> None:
    old = values_of((2, 2 * GIB), edk2="202408").predictions[0]
    new = list(log_of(values_of((2, 2 * GIB)).predictions[0]))
    old_tables = digests_of(old.profile)
    assert isinstance(old_tables, AcpiDigests)
    log = tuple(replace(event, digest=old_tables.tables) if event.digest == acpi().tables else event for event in new)
    for register in ("rtmr0", "rtmr1"):
        compared = [each for each in compare_log(old, log) if each.register == register and each.difference is not None]
        assert len(compared) == 1
    expected = "ReadyToBoot's separator is in rtmr1, predicted in rtmr0: so does edk2 from 202411 on"
    assert meaning(log, register="rtmr0", prediction=old) == (expected,)


def test_a_separator_too_many_is_not_called_older_firmware_if_something_else_differs() -> None:
    log = of_shape(8, 2 * GIB, edk2="202408")
    assert not any("separator" in text for text in meaning(log, register="rtmr0"))


def test_a_log_that_ends_early_says_how_much_was_as_predicted() -> None:
    log = log_of(BASE)[:-1]
    assert meaning(log, register="rtmr2") == ("the log has 1 of 2 events of rtmr2, and these are as predicted",)
    empty = tuple(event for event in log if event.register != "rtmr2")
    assert "an EFI stub" not in meaning(empty, register="rtmr2")[0]
    assert "before Linux 6.9" in meaning(empty, register="rtmr2")[1]


def test_what_follows_the_predicted_events_is_named_by_type() -> None:
    log = log_of(BASE)
    assert meaning((*log, replace(log[-1], event_type=0xD)), register="rtmr2") == (
        "all events of rtmr2 are as predicted, and 1 (EV_IPL) more follow",
    )


def test_firmware_that_measures_no_tables_is_recognised() -> None:
    log = tuple(event for event in log_of(BASE) if event.event_type != EV_PLATFORM_CONFIG_FLAGS)
    assert meaning(log, register="rtmr0") == (
        "the firmware does not measure the ACPI tables: so does edk2 before 202302",
    )


def test_a_register_that_could_not_be_predicted_has_no_layout_to_compare_with() -> None:
    events = tuple(
        UnpredictedEvent(event.register, event.event_type, event.name, "why")
        if event.name == "etc/acpi/rsdp"
        else event
        for event in BASE.events
    )
    opened = replace(BASE, events=events)
    log = tuple(event for event in log_of(BASE) if event.register != "rtmr0")
    assert meaning(log, register="rtmr0", prediction=opened) == ()


# kernel, command line, initrd


def test_the_form_of_the_kernel_is_found() -> None:
    log = of_shape(2, 2 * GIB, vmm=replace(VMM, version="8.2.2"))
    materials = Materials(kernels=(FILES.kernel,), initrds=(FILES.initrd or b"",), command_lines=(FILES.command_line,))
    (statement,) = meaning(log, register="rtmr1", materials=materials)
    assert statement.endswith("was measured as QEMU rewrites it for an initrd of 6000 bytes at 2 GiB")
    raw = meaning(
        log_of(BASE),
        register="rtmr1",
        materials=materials,
        prediction=values_of((2, 2 * GIB), vmm=replace(VMM, version="8.2.2")).predictions[0],
        published=values_of((2, 2 * GIB), vmm=replace(VMM, version="8.2.2")),
    )
    assert raw[0].endswith("was measured as it is (raw)")


def test_another_kernel_is_found_among_those_at_hand_and_no_other() -> None:
    other = bzimage(release=b"6.13.0 (a@b)")
    log = of_shape(2, 2 * GIB, files=replace(FILES, kernel=other))
    assert meaning(log, register="rtmr1", materials=Materials(kernels=(FILES.kernel,))) == ()
    assert len(meaning(log, register="rtmr1", materials=Materials(kernels=(FILES.kernel, other)))) == 1


@pytest.mark.parametrize(
    ("text", "meaning_of"),
    [
        ("console=ttyS0 quiet", "without initrd=initrd"),
        ("initrd=initrd console=ttyS0 quiet", "in front, as edk2 from 202508 on"),
        ("kernel console=ttyS0 quiet initrd=initrd", "behind, as edk2 up to 202505; started through -shim"),
        ("console=ttyS0 quiet  initrd=initrd", "behind"),  # a space at the end of the command line
        ("other initrd=initrd", "behind"),
        ("", "without"),
    ],
)
def test_load_options_are_found_among_the_command_lines_at_hand(text: str, meaning_of: str) -> None:
    digest = sha384_hex((text + "\0").encode("utf-16-le"))
    wanted = rtmr2_events(load_options=digest, initrd=sha384_hex(FILES.initrd or b""))
    log = (*(event for event in log_of(BASE) if event.register != "rtmr2"), *log_of(replace(BASE, events=wanted)))
    materials = Materials(command_lines=(FILES.command_line, "other"))
    (statement,) = meaning(log, register="rtmr2", materials=materials)
    assert statement.startswith(f"the load options are {text!r} (")
    assert meaning_of in statement
    if "console" not in text and text:
        assert meaning(log, register="rtmr2", materials=replace(materials, command_lines=(FILES.command_line,))) == ()


def test_an_initrd_at_hand_is_recognised() -> None:
    log = of_shape(2, 2 * GIB, files=replace(FILES, initrd=b"another"))
    assert meaning(log, register="rtmr2", materials=Materials(initrds=(b"third",))) == ()
    (statement,) = meaning(log, register="rtmr2", materials=Materials(initrds=(b"third", b"another")))
    assert statement.startswith("the initrd is the one with SHA-256 ")


def test_the_other_page_order_is_named_for_an_mrtd_and_nothing_else() -> None:
    other = PUBLISHED.mrtd[PageOrder.TWO_PASS]
    (statement,) = explain_mrtd(PUBLISHED, other)
    assert "page order two_pass" in statement
    assert explain_mrtd(PUBLISHED, "ee" * 48) == ()


def test_no_more_than_five_things_are_said() -> None:
    log = tuple(
        replace(event, digest=sha384_hex(b"")) if event.event_type == EV_EVENT_TAG else event for event in log_of(BASE)
    )
    materials = Materials(initrds=(b"",) * 9)
    assert 1 <= len(meaning(log, register="rtmr2", materials=materials)) <= 5
