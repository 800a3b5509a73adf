"""What systemd-boot measures before it starts a UKI."""

import pytest

from builder.errors import DocumentError
from builder.measure.boot.systemd_boot import systemd_boot_events
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.loader_info import loader_version
from builder.model.digest import sha384_hex
from builder.model.event import PredictedEvent, UnpredictedEvent
from tests.fakes.efi_images import Section, pe_image

CONF = b"timeout 0\n"


def menu(version: str) -> bytes:
    return pe_image([Section(".sdmagic", f"#### LoaderInfo: systemd-boot {version} ####\0".encode())])


def test_a_td_of_257_gets_the_image_and_nothing_else() -> None:
    (event,) = systemd_boot_events(menu("257.13-1~deb13u1"), loader_conf=CONF)
    assert isinstance(event, PredictedEvent)
    assert (event.register, event.digest) == ("rtmr1", authenticode_digest(menu("257.13-1~deb13u1")).hex())


def test_a_td_of_261_gets_the_configuration_too() -> None:
    _, event = systemd_boot_events(menu("261"), loader_conf=CONF)
    assert isinstance(event, PredictedEvent)
    assert (event.register, event.type_name, event.digest) == ("rtmr1", "EV_EVENT_TAG", sha384_hex(CONF))
    assert len(systemd_boot_events(menu("261"), loader_conf=None)) == 1


def test_in_between_nobody_can_tell() -> None:
    _, event = systemd_boot_events(menu("260.2"), loader_conf=CONF)
    assert isinstance(event, UnpredictedEvent)
    assert event.register == "rtmr1"


def test_262_measures_smbios_tables_that_are_not_given() -> None:
    _, smbios, configuration = systemd_boot_events(menu("262"), loader_conf=CONF)
    assert isinstance(smbios, UnpredictedEvent)
    assert (smbios.register, configuration.name) == ("rtmr0", "loader.conf")


def test_programs_of_unknown_versions_are_refused() -> None:
    with pytest.raises(DocumentError, match="systemd-boot 263: no rule"):
        systemd_boot_events(menu("263"), loader_conf=None)
    with pytest.raises(DocumentError, match="systemd-boot: no version"):
        systemd_boot_events(pe_image([Section(".text", b"grub")]), loader_conf=None)
    assert systemd_boot_events(pe_image([Section(".text", b"x")]), loader_conf=None, version=257)


def test_a_stub_is_not_taken_for_a_menu() -> None:
    stub = pe_image([Section(".sdmagic", b"#### LoaderInfo: systemd-stub 257 ####\0")])
    assert loader_version(stub, "systemd-stub") == "257"
    assert loader_version(stub, "systemd-boot") == ""
