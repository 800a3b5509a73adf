"""Firmware and boot loaders as Debian ships them today: their own keys, and who vouches for what."""

from pathlib import Path

import pytest

from builder.measure.firmware.build import firmware_build
from builder.measure.firmware.efi_variables import SecureBootKeys, secure_boot_keys
from builder.measure.firmware.image_authority import ImageRefusedError, image_authorities
from builder.measure.firmware.state import secure_boot_of, variable_store
from builder.measure.firmware.variable_store import stored_variables
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.authenticode_signature import image_signatures
from builder.model.launch_profile import CcMeasurement, SecureBootVariable
from tests.integration.debian import debian_files, one_file

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("ovmf-inteltdx", "shim-signed", "grub-efi-amd64-signed", "systemd-boot-efi")
    return debian_files(tmp_path_factory, "firmware", suites=("sid",), packages=names)


@pytest.fixture(scope="module")
def firmware(packages: Path) -> bytes:
    return one_file(packages, "usr/share/ovmf/OVMF.inteltdx*.fd").read_bytes()


@pytest.fixture(scope="module")
def keys(firmware: bytes) -> SecureBootKeys:
    return secure_boot_keys(stored_variables(variable_store(firmware), edk2="202508"))


def test_debians_tdx_firmware_enforces_secure_boot_with_its_own_keys(firmware: bytes, keys: SecureBootKeys) -> None:
    build = firmware_build(firmware)
    assert build.cc_measurement is CcMeasurement.PRESENT
    assert (build.secure_boot, build.smbios_measured) == (True, True)
    assert build.strings is not None
    assert "Debian" in build.strings.vendor
    assert secure_boot_of(firmware, build, edk2="202508") is SecureBootVariable.ENABLED
    assert all((keys.pk, keys.kek, keys.db, keys.dbx))


def test_its_db_vouches_for_shim_and_for_nothing_that_shim_would_start(packages: Path, keys: SecureBootKeys) -> None:
    shim = one_file(packages, "usr/lib/shim/shimx64.efi.signed").read_bytes()
    (authority,) = image_authorities(shim, db=keys.db, dbx=keys.dbx)
    assert b"Microsoft" in authority.data
    for name in ("grub/x86_64-efi-signed/grubx64.efi.signed", "systemd/boot/efi/systemd-bootx64.efi"):
        with pytest.raises(ImageRefusedError):
            image_authorities(one_file(packages, f"usr/lib/{name}").read_bytes(), db=keys.db, dbx=keys.dbx)


@pytest.mark.parametrize("name", ["shim/shimx64.efi.signed", "grub/x86_64-efi-signed/grubx64.efi.signed"])
def test_signatures_are_over_the_digest_of_their_image(packages: Path, name: str) -> None:
    image = one_file(packages, f"usr/lib/{name}").read_bytes()
    (signature, *_) = image_signatures(image)
    assert signature.image_digest == authenticode_digest(image, algorithm=signature.algorithm)
