"""Words that several of dstack's documents share (`quotes.md` 8, `measurement.md` 9.2)."""

from enum import StrEnum

from builder.errors import DocumentError


class OvmfVariant(StrEnum):
    """dstack's name for the firmware's event layout (`measurement.md` 5.1)."""

    PRE202505 = "pre202505"
    STABLE202505 = "stable202505"

    @property
    def edk2(self) -> str:
        """The edk2 tag whose rules hold: the last one before the change, or the first one with it."""
        return "202502" if self is OvmfVariant.PRE202505 else "202505"


def ovmf_variant_of(edk2: str) -> OvmfVariant:
    """The layout of a firmware of edk2 tag `YYYYMM`, whose form is for `firmware_rules` to check."""
    return OvmfVariant.PRE202505 if edk2 < OvmfVariant.STABLE202505.edk2 else OvmfVariant.STABLE202505


def parse_ovmf_variant(text: str, *, what: str) -> OvmfVariant:
    """One of the two names; DocumentError for another."""
    try:
        return OvmfVariant(text)
    except ValueError as error:
        raise DocumentError(
            f"{what}: OVMF variant {text[:80]!r}, wanted one of {', '.join(OvmfVariant)}",
            hint="a newer dstack may have written this; no rule here covers its firmware",
        ) from error
