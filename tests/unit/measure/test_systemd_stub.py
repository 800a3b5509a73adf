"""What systemd-stub measures, version by version. Emulated boots of 252, 254, 257 and 262 showed the same."""

import pytest

from builder.errors import DocumentError
from builder.measure.boot.systemd_stub import UkiStart, stub_caveats, stub_version, uki_events
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.uki import parse_uki
from builder.measure.images.uki_initrd import uki_initrd
from builder.model.digest import sha384_hex
from builder.model.event import PredictedEvent, UnpredictedEvent
from builder.model.launch_profile import CAVEATS
from tests.fakes.efi_images import Section, kernel, pe_image, stub_magic, uki

LINE = "console=ttyS0 quiet"
CONTENT = {".cmdline": LINE.encode(), ".initrd": b"initrd", ".osrel": b"ID=x", ".uname": b"6.12", ".sbat": b"sbat"}
SECTIONS = [Section(name, content) for name, content in CONTENT.items()]
KERNEL_EVENT = "kernel of the UKI"
FROM_QEMU = UkiStart(from_disk=False)


def names(version: str, start: UkiStart = FROM_QEMU, *more: Section, register: str = "rtmr2") -> list[str]:
    events = uki_events(parse_uki(uki(version, *SECTIONS, *more)), start)
    return [event.name for event in events if event.register == register]


def digests(version: str, start: UkiStart = FROM_QEMU, *more: Section) -> dict[str, str]:
    events = uki_events(parse_uki(uki(version, *SECTIONS, *more)), start)
    return {event.name: event.digest for event in events if isinstance(event, PredictedEvent)}


def unpredicted(version: str, start: UkiStart = FROM_QEMU, *more: Section) -> dict[str, str]:
    events = uki_events(parse_uki(uki(version, *SECTIONS, *more)), start)
    return {event.name: event.register for event in events if isinstance(event, UnpredictedEvent)}


LINUX = ["LOADED_IMAGE::LoadOptions", "Linux initrd"]


def test_257_measures_name_and_content_of_every_section_in_its_own_order() -> None:
    measured = [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]
    assert names("257.1") == [text for name in measured for text in (f"{name} (name)", name)] + LINUX
    found = digests("257.1")
    assert found[".cmdline (name)"] == sha384_hex(b".cmdline\0")
    assert {name: found[name] for name in CONTENT} == {name: sha384_hex(content) for name, content in CONTENT.items()}
    assert found[".linux"] == sha384_hex(kernel())
    assert found["LOADED_IMAGE::LoadOptions"] == sha384_hex((LINE + "\0").encode("utf-16-le"))
    handed_over = uki_initrd(CONTENT, 257)
    assert handed_over is not None
    assert found["Linux initrd"] == sha384_hex(handed_over)


@pytest.mark.parametrize("version", ["252.39-1~deb12u2", "255.4", "254"])
def test_before_256_a_td_gets_nothing_but_the_kernels_own_events(version: str) -> None:
    assert names(version) == LINUX


@pytest.mark.parametrize(
    ("name", "since"), [(".ucode", 256), (".pcrpkey", 256), (".profile", 257), (".hwids", 257), (".splash", 256)]
)
def test_newer_sections_are_measured_by_newer_stubs_only(name: str, since: int) -> None:
    section = Section(name, b"x")
    for version in range(256, 263):
        assert (name in names(str(version), FROM_QEMU, section)) == (version >= since)


def test_the_signature_of_pcrs_is_not_measured_but_handed_over() -> None:
    signed = digests("257", FROM_QEMU, Section(".pcrsig", b"{}"))
    assert ".pcrsig" not in signed
    assert signed["Linux initrd"] != digests("257")["Linux initrd"]
    del signed["Linux initrd"]
    assert signed.items() <= digests("257").items()


@pytest.mark.parametrize(("name", "version"), [(".dtbauto", "257"), (".efifw", "258")])
def test_sections_chosen_by_the_hardware_cannot_be_predicted(name: str, version: str) -> None:
    assert unpredicted(version, FROM_QEMU, Section(name, b"x")) == {name: "rtmr2"}


@pytest.mark.parametrize("version", ["252", "254", "256", "257"])
def test_up_to_257_the_firmware_loads_and_measures_the_kernel_inside(version: str) -> None:
    assert names(version, register="rtmr1") == [KERNEL_EVENT]
    assert digests(version)[KERNEL_EVENT] == authenticode_digest(kernel()).hex()


@pytest.mark.parametrize("version", ["258", "260", "262"])
def test_from_258_on_the_stub_starts_the_kernel_itself(version: str) -> None:
    assert names(version, register="rtmr1") == []


def test_with_secure_boot_the_kernel_inside_is_not_measured_by_any_stub() -> None:
    assert names("257", UkiStart(secure_boot=True), register="rtmr1") == []


@pytest.mark.parametrize("version", ["257", "262"])
def test_with_secure_boot_and_shim_nobody_can_tell(version: str) -> None:
    start = UkiStart(secure_boot=True, shim=True, from_disk=False)
    assert unpredicted(version, start)[KERNEL_EVENT] == "rtmr1"


def test_the_kernel_counts_as_it_is_in_memory() -> None:
    grown = uki("257", linux=kernel() + b"padding")
    (event,) = (event for event in uki_events(parse_uki(grown)) if event.register == "rtmr1")
    assert isinstance(event, PredictedEvent)
    assert event.digest == authenticode_digest(kernel() + b"padding").hex()


def test_the_zeros_behind_a_kernel_in_memory_count() -> None:
    """As ukify makes them, which gives the kernel the room that it needs to run."""
    inside = kernel()
    grown = pe_image([stub_magic("257"), Section(".linux", inside, virtual_size=len(inside) + 100_000)])
    written_out = inside + bytes(100_000)
    digests = {each.name: each.digest for each in uki_events(parse_uki(grown)) if isinstance(each, PredictedEvent)}
    assert digests[KERNEL_EVENT] == authenticode_digest(written_out).hex() != authenticode_digest(inside).hex()
    assert digests[".linux"] == sha384_hex(written_out)


def test_kernels_that_need_the_handover_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"older than Linux 5\.8"):
        uki_events(parse_uki(uki("257", linux=kernel(image_version=0))))


GIVEN = UkiStart(load_options=" console=ttyS0 given ", from_disk=False)


def test_given_load_options_replace_the_command_line_and_are_measured_twice() -> None:
    assert names("257", GIVEN)[-3:] == ["load options", *LINUX]
    found = digests("257", GIVEN)
    assert found["load options"] == found["LOADED_IMAGE::LoadOptions"]
    assert found["load options"] == sha384_hex("console=ttyS0 given\0".encode("utf-16-le"))
    assert found[".cmdline"] == sha384_hex(LINE.encode())


def test_secure_boot_drops_given_load_options() -> None:
    secure = UkiStart(load_options="console=ttyS0 given", from_disk=False, secure_boot=True)
    assert names("257", secure) == names("257")
    assert digests("257", secure)["LOADED_IMAGE::LoadOptions"] == digests("257")["LOADED_IMAGE::LoadOptions"]


def test_before_254_secure_boot_drops_them_only_for_an_embedded_line() -> None:
    plain = uki("252", Section(".initrd", b"i"))
    secure = UkiStart(load_options="given", secure_boot=True)
    assert [event.name for event in uki_events(parse_uki(plain), secure)] == LINUX
    assert [event.name for event in uki_events(parse_uki(plain), secure, version=254)] == LINUX[1:]


def test_without_any_command_line_the_kernel_measures_none() -> None:
    assert [event.name for event in uki_events(parse_uki(uki("254", Section(".initrd", b"i"))))] == [
        KERNEL_EVENT,
        "Linux initrd",
    ]


def test_a_uki_without_initrd_has_no_event_for_one() -> None:
    assert [event.name for event in uki_events(parse_uki(uki("254")))] == [KERNEL_EVENT]


PROFILES = (Section(".profile", b"ID=a"), Section(".profile", b"ID=b"), Section(".cmdline", b"console=ttyS0 second"))


def test_load_options_choose_a_profile() -> None:
    first, second = (digests("257", UkiStart(text, from_disk=False), *PROFILES) for text in ("", "@1"))
    assert first[".profile"] == sha384_hex(b"ID=a")
    assert second[".profile"] == sha384_hex(b"ID=b")
    assert second[".cmdline"] == sha384_hex(b"console=ttyS0 second")
    with pytest.raises(DocumentError, match="profile 2, of 2"):
        digests("257", UkiStart("@2"), *PROFILES)


def test_the_number_of_a_profile_is_measured_into_rtmr2_from_261_on() -> None:
    start = UkiStart("@1", from_disk=False)
    assert "UKI profile" not in names("259", start, *PROFILES)
    assert unpredicted("260", start, *PROFILES) == {"UKI profile": "rtmr2"}
    assert names("261", start, *PROFILES)[0] == "UKI profile"
    assert digests("261", start, *PROFILES)["UKI profile"] == sha384_hex("1\0".encode("utf-16-le"))
    assert "UKI profile" not in names("261", FROM_QEMU, *PROFILES)


def test_the_boot_secret_of_261_makes_the_initrd_of_a_disk_unpredictable() -> None:
    assert unpredicted("260", UkiStart()) == {}
    assert unpredicted("261", UkiStart()) == {"Linux initrd": "rtmr2"}
    assert unpredicted("261", FROM_QEMU) == {}


def test_261_adds_a_console_unless_there_is_one() -> None:
    quiet = UkiStart("quiet", from_disk=False)
    assert unpredicted("260", quiet) == {}
    assert unpredicted("261", quiet) == {"LOADED_IMAGE::LoadOptions": "rtmr2"}
    assert unpredicted("261", UkiStart("a console=x", from_disk=False)) == {}
    assert unpredicted("261", UkiStart("noconsole=x", from_disk=False)) == {"LOADED_IMAGE::LoadOptions": "rtmr2"}


def test_262_measures_smbios_once() -> None:
    assert unpredicted("262") == {"smbios:type1": "rtmr0"}
    assert unpredicted("262", UkiStart(from_disk=False, systemd_boot=True)) == {}
    assert unpredicted("261") == {}


def test_ambiguous_sections_are_refused_for_stubs_that_take_the_last() -> None:
    twice = parse_uki(uki("257", Section(".cmdline", b"console=1"), Section(".cmdline", b"console=2")))
    uki_events(twice)
    with pytest.raises(DocumentError, match="two sections answer to one name"):
        uki_events(twice, version=256)


@pytest.mark.parametrize(
    ("text", "number"), [("257.13-1~deb13u1", 257), ("v258-rc1", 258), ("262~devel", 262), ("254", 254)]
)
def test_versions_are_their_first_number(text: str, number: int) -> None:
    assert stub_version(text) == number


@pytest.mark.parametrize("text", ["", "systemd", "25", "25713", "vv257"])
def test_what_has_no_version_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="no version in"):
        stub_version(text)


@pytest.mark.parametrize("text", ["251.9", "263"])
def test_versions_that_no_rule_covers_are_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="252 to 262"):
        stub_version(text)


def test_a_uki_of_another_stub_needs_a_version() -> None:
    other = parse_uki(uki("").replace(b"LoaderInfo", b"LoaderIngo"))
    with pytest.raises(DocumentError, match="no version"):
        uki_events(other)
    assert uki_events(other, version=257)


@pytest.mark.parametrize("version", range(252, 263))
def test_every_prediction_comes_with_caveats_that_exist(version: int) -> None:
    caveats = stub_caveats(version)
    assert set(caveats) <= set(CAVEATS)
    assert ("uki_stub_without_cc" in caveats) == (version < 256)
    assert ("uki_stub_not_booted" in caveats) == (version not in (252, 254, 257, 262))
