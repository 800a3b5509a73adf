"""Unified kernel images: the sections that systemd-stub uses of one, and which version of the stub it is.

A UKI is an EFI program whose PE sections carry kernel, initrd, command line and more. A multi-profile UKI has base
sections and, after each `.profile` section, others that override them when that profile is started.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builder.errors import DocumentError
from builder.measure.images.loader_info import loader_version
from builder.measure.images.pe_image import PeSection, parse_pe_image

# In the order in which the stub measures them, whatever their order in the file; `.pcrsig` is used, but not measured.
SECTIONS = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrsig",
    ".pcrpkey",
    ".profile",
    ".dtbauto",
    ".hwids",
    ".efifw",
)
MOST_PROFILES = 256

_PROFILE = ".profile"
_MOST_PADDING = 256 << 20


@dataclass(frozen=True)
class Uki:
    """A UKI as its stub sees it in memory: of each section its virtual size, filled up with zeros beyond the file.

    `stub` is what the stub says of its version, such as `257.13-1~deb13u1`; empty if it is no systemd-stub.
    `profiles` are the sections of each profile by name, base sections included; one that is not there or has no bytes
    is not in the mapping. A UKI without profiles has one.
    """

    image: bytes = field(repr=False)
    stub: str
    profiles: tuple[Mapping[str, bytes], ...] = field(repr=False)
    ambiguous: bool

    def profile(self, number: int) -> Mapping[str, bytes]:
        """The sections of a profile; DocumentError if there is none with this number."""
        if number >= len(self.profiles):
            raise DocumentError(f"UKI: profile {number}, of {len(self.profiles)} that it has")
        return self.profiles[number]


def parse_uki(image: bytes) -> Uki:
    """DocumentError for what is no PE image, has no `.linux` section, or grows by more than 256 MiB in memory.

    `ambiguous` tells that two sections answer to one name for a stub that does not know profiles (before 257).
    Not checked: the kernel inside, and whether the firmware would load the image.
    """
    sections = parse_pe_image(image).sections
    known = [section for section in sections if section.name in SECTIONS]
    padding = sum(max(0, section.virtual_size - section.raw_size) for section in known)
    if padding > _MOST_PADDING:
        raise DocumentError(f"UKI: {padding} bytes more in memory than in the file, wanted at most {_MOST_PADDING}")
    base, *overrides = (_found(image, part) for part in _split(known))
    if len(overrides) > MOST_PROFILES:
        raise DocumentError(f"UKI: {len(overrides)} profiles, wanted at most {MOST_PROFILES}")
    profiles = tuple(_override(base, override) for override in overrides or [{}])
    if not all(".linux" in profile for profile in profiles):
        raise DocumentError("UKI: no .linux section", hint="give a unified kernel image, or the kernel itself as one")
    return Uki(image, loader_version(image, "systemd-stub"), profiles, _is_ambiguous(sections))


def _split(sections: Sequence[PeSection]) -> list[list[PeSection]]:
    """The base sections, then those of each profile, which starts with its `.profile`."""
    parts: list[list[PeSection]] = [[]]
    for section in sections:
        if section.name == _PROFILE:
            parts.append([])
        parts[-1].append(section)
    return parts


def _found(image: bytes, sections: Sequence[PeSection]) -> dict[str, bytes]:
    """The first section of each name, empty ones included: they hide those that come later, and the base's."""
    found: dict[str, bytes] = {}
    for section in sections:
        if section.name not in found:
            found[section.name] = _content(image, section)
    return found


def _override(base: Mapping[str, bytes], profile: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return {name: content for name, content in {**base, **profile}.items() if content}


def _content(image: bytes, section: PeSection) -> bytes:
    size = min(section.raw_size, section.virtual_size)
    return image[section.start : section.start + size] + bytes(section.virtual_size - size)


def _is_ambiguous(sections: Sequence[PeSection]) -> bool:
    """Stubs before 257 compare only as many characters as the name they look for has, and use the last that fits."""
    return any(sum(section.name.startswith(name) for section in sections) > 1 for name in SECTIONS)
