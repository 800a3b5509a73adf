"""What systemd's EFI programs say of themselves in a section of their own."""

import re

from builder.measure.images.pe_image import parse_pe_image

_SECTION = ".sdmagic"


def loader_version(image: bytes, program: str) -> str:
    """The version that `systemd-stub` or `systemd-boot` states, such as `257.13-1~deb13u1`; empty if it states none.

    DocumentError if the image is no PE image.
    """
    pattern = re.compile(rb"#### LoaderInfo: " + re.escape(program.encode("ascii")) + rb" ([!-~]{1,64}) ####")
    for section in parse_pe_image(image).sections:
        if section.name == _SECTION:
            match = pattern.search(image, section.start, section.start + section.raw_size)
            return match[1].decode("ascii") if match else ""
    return ""
