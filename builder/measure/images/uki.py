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
_KERNEL = ".linux"
_MOST_KERNEL_PADDING = 256 << 20  # ukify gives the kernel the room that it needs to run, several times its size
_MOST_PADDING = 4 << 20  # no tool leaves room behind other sections


@dataclass(frozen=True)
class Uki:
    """A UKI as its stub sees it in memory: of each section its virtual size, filled up with zeros beyond the file.

    The zeros behind a kernel may be many times the file: they are not in `.linux`, but counted in `kernel_padding`.
    `stub` is what the stub says of its version, such as `257.13-1~deb13u1`; empty if it is no systemd-stub.
    `profiles` are the sections of each profile by name, base sections included; one that is not there or has no bytes
    is not in the mapping. A UKI without profiles has one.
    """

    image: bytes = field(repr=False)
    stub: str
    profiles: tuple[Mapping[str, bytes], ...] = field(repr=False)
    ambiguous: bool
    kernel_padding: tuple[int, ...]

    def profile(self, number: int) -> Mapping[str, bytes]:
        """The sections of a profile; DocumentError if there is none with this number."""
        if number >= len(self.profiles):
            raise DocumentError(f"UKI: profile {number}, of {len(self.profiles)} that it has")
        return self.profiles[number]


def parse_uki(image: bytes) -> Uki:
    """DocumentError for what is no PE image, has no `.linux` section, or grows in memory: its kernels by more than 256
    MiB, or the other sections by more than 4.

    `ambiguous` tells that two sections answer to one name for a stub that does not know profiles (before 257).
    Not checked: the kernel inside, and whether the firmware would load the image.
    """
    sections = parse_pe_image(image).sections
    known = [section for section in sections if section.name in SECTIONS]
    for is_kernel, most in ((True, _MOST_KERNEL_PADDING), (False, _MOST_PADDING)):
        padding = sum(_padding(section) for section in known if (section.name == _KERNEL) is is_kernel)
        if padding > most:
            raise DocumentError(f"UKI: {padding} bytes more in memory than in the file, wanted at most {most}")
    base, *overrides = map(_first_of_each, _split(known))
    if len(overrides) > MOST_PROFILES:
        raise DocumentError(f"UKI: {len(overrides)} profiles, wanted at most {MOST_PROFILES}")
    profiles = [_override(base, override) for override in overrides or [{}]]
    if not all(_KERNEL in profile for profile in profiles):
        raise DocumentError("UKI: no .linux section", hint="give a unified kernel image, or the kernel itself as one")
    contents = {section: _content(image, section) for profile in profiles for section in profile.values()}
    return Uki(
        image,
        loader_version(image, "systemd-stub"),
        tuple({name: contents[section] for name, section in profile.items()} for profile in profiles),
        _is_ambiguous(sections),
        tuple(_padding(profile[_KERNEL]) for profile in profiles),
    )


def _split(sections: Sequence[PeSection]) -> list[list[PeSection]]:
    """The base sections, then those of each profile, which starts with its `.profile`."""
    parts: list[list[PeSection]] = [[]]
    for section in sections:
        if section.name == _PROFILE:
            parts.append([])
        parts[-1].append(section)
    return parts


def _first_of_each(sections: Sequence[PeSection]) -> dict[str, PeSection]:
    """The first section of each name, empty ones included: they hide those that come later, and the base's."""
    return {section.name: section for section in reversed(sections)}


def _override(base: Mapping[str, PeSection], profile: Mapping[str, PeSection]) -> Mapping[str, PeSection]:
    return {name: section for name, section in {**base, **profile}.items() if section.virtual_size}


def _content(image: bytes, section: PeSection) -> bytes:
    content = image[section.start : section.start + min(section.raw_size, section.virtual_size)]
    return content if section.name == _KERNEL else content + bytes(_padding(section))


def _padding(section: PeSection) -> int:
    return max(0, section.virtual_size - section.raw_size)


def _is_ambiguous(sections: Sequence[PeSection]) -> bool:
    """Stubs before 257 compare only as many characters as the name they look for has, and use the last that fits."""
    return any(sum(section.name.startswith(name) for section in sections) > 1 for name in SECTIONS)
