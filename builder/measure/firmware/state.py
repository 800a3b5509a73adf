"""What a firmware file's own variables decide: whether secure boot is on, by which keys, and who vouches for a kernel.

A TD has no flash: its firmware starts with the variables of its own file, or with none (`FirmwareRules.store_used`).
"""

from builder.errors import DocumentError
from builder.measure.boot.direct import authority_event, unknown_authority_event
from builder.measure.boot.ready_to_boot import Events
from builder.measure.firmware.build import FirmwareBuild
from builder.measure.firmware.efi_variables import (
    EFI_GLOBAL_VARIABLE,
    EfiVariable,
    SecureBootKeys,
    secure_boot_setting,
)
from builder.measure.firmware.tdvf import SectionType, parse_tdvf
from builder.measure.firmware.variable_store import stored_variables
from builder.model.launch_profile import FirmwareRules, SecureBootVariable


def variable_store(firmware: bytes) -> bytes:
    """The firmware's CFV section. DocumentError unless it has exactly one."""
    stores = parse_tdvf(firmware).of_type(SectionType.CFV)
    if len(stores) != 1:
        raise DocumentError(f"firmware: {len(stores)} CFV sections, wanted exactly one")
    return stores[0].data(firmware)


def secure_boot_of(
    firmware: bytes, build: FirmwareBuild, *, edk2: str, keys: SecureBootKeys | None = None
) -> SecureBootVariable | None:
    """What this build measures as SecureBoot with its own variables, or with `keys` in place of those.

    None if the file does not tell whether it was built with secure boot. DocumentError for a damaged store.
    """
    if build.secure_boot is None:
        return None
    if not build.secure_boot:
        return SecureBootVariable.ABSENT
    if keys is not None:
        return SecureBootVariable.ENABLED if keys.pk else SecureBootVariable.DISABLED
    return secure_boot_setting(stored_variables(variable_store(firmware), edk2=edk2))


def variables_of(firmware: bytes, rules: FirmwareRules) -> tuple[EfiVariable, ...]:
    """The variables that a TD with this firmware starts with. DocumentError for a damaged store."""
    return stored_variables(variable_store(firmware), edk2=rules.edk2) if rules.store_used else ()


def has_boot_order(variables: tuple[EfiVariable, ...]) -> bool:
    """Whether a BootOrder is among them. Boot#### without one change nothing: the firmware writes over them."""
    return any((each.vendor, each.name) == (EFI_GLOBAL_VARIABLE, "BootOrder") for each in variables)


def kernel_authorities(kernel: bytes, *, rules: FirmwareRules, keys: SecureBootKeys) -> Events:
    """The authority events for a kernel image, as the firmware gets it; none while secure boot is off.

    DocumentError if the firmware would not load it: `-kernel` does not bypass secure boot (seen in boots).
    """
    if rules.secure_boot_variable is not SecureBootVariable.ENABLED:
        return ()
    from builder.measure.firmware.image_authority import ImageRefusedError, image_authorities  # loads cryptography

    try:
        return tuple(authority_event(entry.encode()) for entry in image_authorities(kernel, db=keys.db, dbx=keys.dbx))
    except ImageRefusedError as error:
        raise DocumentError(
            f"kernel: secure boot is on, and the firmware does not take this kernel: {error.message}",
            hint=(
                "sign the kernel for a key in db, and serve it unchanged (QEMU 10.0 with edk2 202502, or later): older "
                "firmware starts a refused kernel by its legacy loader, without measuring it; from 202511 on it stops"
            ),
        ) from error
    except DocumentError as error:
        return (unknown_authority_event(f"which entry of db vouches for the kernel cannot be told: {error.message}"),)
