"""The Authenticode digest of an EFI image, as OVMF computes it when it measures one (`measurement.md` 6.4).

No padding, and trailing data counts even without a certificate table; several public tools differ in one or the other.
"""

import hashlib
from collections.abc import Iterator

from builder.errors import DocumentError
from builder.measure.images.padding import zeros
from builder.measure.images.pe_image import PeImage, parse_pe_image


def authenticode_digest(image: bytes, *, algorithm: str = "sha384", padding: int = 0) -> bytes:
    """Digest of a PE image. `algorithm` is a hashlib name: TDX measures SHA-384, signatures mostly hold SHA-256.
    `padding` is how many zeros follow the image where it is loaded from memory.

    DocumentError for anything but PE32 and PE32+, for sections beyond the end of the file (edk2 would read past its
    buffer) and for a certificate table larger than what is left of the file. Not checked: any signature.
    """
    parsed = parse_pe_image(image)
    digest = hashlib.new(algorithm)
    for start, end in (*_header_ranges(parsed), *_content_ranges(parsed, len(image) + padding)):
        _update(digest, image, start, end)
    return digest.digest()


def _update(digest: "hashlib._Hash", image: bytes, start: int, end: int) -> None:
    digest.update(memoryview(image)[start:end])
    for piece in zeros(end - max(start, len(image))):
        digest.update(piece)


def _header_ranges(image: PeImage) -> Iterator[tuple[int, int]]:
    """Step 2: the headers without CheckSum and without the certificate table's directory entry."""
    yield 0, image.checksum
    if image.certificate_entry is None:
        yield image.checksum + 4, image.header_size
    else:
        yield image.checksum + 4, image.certificate_entry
        yield image.certificate_entry + 8, image.header_size


def _content_ranges(image: PeImage, size: int) -> Iterator[tuple[int, int]]:
    """Steps 3 and 4: the sections in the order of the file, then what follows, without the certificate table."""
    total = image.content_size
    end = size - image.certificate_size
    if total < size and end < total:
        raise DocumentError(
            f"EFI image: headers and sections are {total:#x} bytes and certificates {image.certificate_size:#x}, "
            f"more than the file's {size:#x}"
        )
    yield from sorted((section.start, section.start + section.raw_size) for section in image.sections)
    if end > total:
        yield total, end
