"""The initrd that systemd-stub hands to the kernel of a UKI: its sections and small cpio archives, one after another.

Archives that the stub makes of files beside the UKI (credentials, system extensions, addons) are not covered.
"""

from collections.abc import Iterable, Mapping

_MAGIC = b"070701"
_DIRECTORY = 0o040555
_FILE = 0o100444
_TRAILER = b"TRAILER!!!"
_TARGET = b".extra"

# What stubs pack into archives of their own, in their order, and since which version
_PACKED = (
    (".pcrsig", b"tpm2-pcr-signature.json", 252),
    (".pcrpkey", b"tpm2-pcr-public-key.pem", 252),
    (".osrel", b"os-release", 257),
    (".profile", b"profile", 257),
)
_MICROCODE_SINCE = 256


def uki_initrd(sections: Mapping[str, bytes], version: int) -> bytes | None:
    """The initrd as the kernel gets it from a stub of this version; None if there is nothing to hand over.

    One part alone is handed over as it is; several are each filled up to a multiple of four.
    """
    names = [".ucode", ".initrd"] if version >= _MICROCODE_SINCE else [".initrd"]
    parts = [sections[name] for name in names if name in sections]
    packed = [
        _archive(file_name, sections[name])
        for name, file_name, since in _PACKED
        if version >= since and name in sections
    ]
    return _joined([*parts, *packed])


def _joined(parts: Iterable[bytes]) -> bytes | None:
    found = list(parts)
    if len(found) == 1:
        return found[0]
    return b"".join(_padded(part) for part in found) or None


def _archive(name: bytes, content: bytes) -> bytes:
    """An archive of one file below `.extra`, as the stub writes it: inodes count from 1, no times, no owners."""
    return b"".join(
        (
            _header(1, _DIRECTORY, 0, _TARGET),
            _header(2, _FILE, len(content), _TARGET + b"/" + name),
            _padded(content),
            _header(0, 0, 0, _TRAILER),
        )
    )


def _header(inode: int, mode: int, size: int, name: bytes) -> bytes:
    fields = (inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0)
    numbers = b"".join(b"%08x" % number for number in fields)
    # of the two numbers that the stub writes as constants, this is one, and with another case
    length = b"0000000B" if name == _TRAILER else b"%08x" % (len(name) + 1)
    return _padded(_MAGIC + numbers + length + b"%08x" % 0 + name + b"\0")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
