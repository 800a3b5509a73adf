"""The indexes of an apt repository with given packages: what apt reads instead of a mirror.

As the page DebianRepository/Format of the Debian wiki describes them. Not signed: for a repository whose bytes were
checked one by one.
"""

import hashlib

from builder.errors import DocumentError
from builder.normalize.deb import control_paragraph

ARCHITECTURE = "amd64"

_PLACED = (b"filename:", b"size:", b"sha256:")  # apt reads names of fields in any case


def index_entry(deb: bytes, path: str) -> bytes:
    """The paragraph of one package in `Packages`: its own control fields, and where its bytes are.

    DocumentError for a package whose control file says that itself, or has more than one paragraph.
    """
    paragraph = control_paragraph(deb, what=path).rstrip(b"\n")
    lines = paragraph.split(b"\n")
    if any(line.lower().startswith(_PLACED) or not line.strip() for line in lines):
        raise DocumentError(f"{path}: its control file is not one paragraph without Filename, Size and SHA256")
    placed = f"\nFilename: {path}\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
    return paragraph + placed.encode("ascii")


def release_file(suite: str, *, index_sha256: str, index_size: int) -> str:
    """`Release` of a repository with the one index `main/binary-amd64/Packages`."""
    return (
        f"Suite: {suite}\nCodename: {suite}\nArchitectures: {ARCHITECTURE}\nComponents: main\n"
        f"Date: Thu, 01 Jan 1970 00:00:00 UTC\n"
        f"SHA256:\n {index_sha256} {index_size} main/binary-{ARCHITECTURE}/Packages\n"
    )
