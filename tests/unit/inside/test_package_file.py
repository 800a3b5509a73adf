"""Firmware and kernel: the very bytes of the package, or nothing."""

import tarfile

import pytest

from tests.fakes.deb_files import member
from tests.fakes.leg_directory import LegDirectory

FIRMWARE = member("./usr/share/OVMF/OVMF.fd", b"firmware" * 1000)
LINK = member("./usr/share/ovmf/OVMF.fd", kind=tarfile.SYMTYPE, target="../OVMF/OVMF.fd")


@pytest.mark.parametrize("path", ["usr/share/OVMF/OVMF.fd", "usr/share/ovmf/OVMF.fd"])
def test_the_file_is_taken_as_it_is_and_links_are_followed(leg: LegDirectory, path: str) -> None:
    packages = [leg.put_package("ovmf", FIRMWARE, LINK)]
    leg.make("package_file", {"packages": packages, "file": path, "output": "OVMF.fd"})
    assert leg.output("OVMF.fd") == b"firmware" * 1000


def test_a_file_that_no_package_has_is_refused(leg: LegDirectory) -> None:
    packages = [leg.put_package("ovmf", FIRMWARE)]
    message = leg.refusal("package_file", {"packages": packages, "file": "usr/share/gone.fd", "output": "OVMF.fd"})
    assert message.startswith("packages: no file usr/share/gone.fd")


def test_a_package_that_is_cut_off_is_refused(leg: LegDirectory) -> None:
    package = leg.put_package("ovmf", FIRMWARE)
    leg.put(package, (leg.path / package).read_bytes()[:-40])
    message = leg.refusal("package_file", {"packages": [package], "file": "usr/share/OVMF/OVMF.fd", "output": "x"})
    assert message.startswith("ovmf_amd64.deb: ")
