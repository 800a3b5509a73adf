"""Containers with every field under the test's control, so that a difference can be planted in exactly one place."""

import io
import json
import struct
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256


@dataclass(frozen=True)
class Entry:
    """A member of a cpio or tar archive."""

    name: str
    data: bytes = b""
    mode: int = 0o100644
    uid: int = 0
    gid: int = 0
    mtime: int = 1_700_000_000
    ino: int = 1
    nlink: int = 1


ENTRIES = (
    Entry("etc", mode=0o040755),
    Entry("etc/hostname", b"localhost\n"),
    Entry("init", b"#!/bin/sh\nexec /bin/true\n", mode=0o100755),
    Entry("lib/data", bytes(range(256)) * 4),
)


def changed(name: str, entries: Sequence[Entry] = ENTRIES, **changes: object) -> tuple[Entry, ...]:
    """`entries` with the one called `name` changed."""
    assert any(entry.name == name for entry in entries)
    return tuple(replace(entry, **changes) if entry.name == name else entry for entry in entries)  # type: ignore[arg-type]


def cpio_archive(entries: Sequence[Entry] = ENTRIES) -> bytes:
    """A newc archive, padded to 512 bytes as cpio does."""
    body = b"".join(cpio_member(entry) for entry in (*entries, Entry("TRAILER!!!", mode=0, mtime=0)))
    return body + bytes(-len(body) % 512)


def cpio_member(entry: Entry) -> bytes:
    """One member with its header."""
    name = entry.name.encode() + b"\0"
    numbers = (entry.ino, entry.mode, entry.uid, entry.gid, entry.nlink, entry.mtime, len(entry.data))
    header = b"070701" + b"".join(b"%08x" % number for number in (*numbers, 0, 0, 0, 0, len(name), 0)) + name
    return header + bytes(-len(header) % 4) + entry.data + bytes(-len(entry.data) % 4)


def tar_of(entries: Sequence[Entry] = ENTRIES, *, layout: int = tarfile.GNU_FORMAT, **pax: str) -> bytes:
    """A tar archive; `pax` are records of every member."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=layout) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.mode, info.uid, info.gid, info.mtime = entry.mode & 0o7777, entry.uid, entry.gid, entry.mtime
            info.type = tarfile.DIRTYPE if entry.mode & 0o170000 == 0o040000 else tarfile.REGTYPE
            info.size, info.pax_headers = len(entry.data), pax
            archive.addfile(info, io.BytesIO(entry.data))
    return output.getvalue()


def oci_archive(layer: bytes, **config: object) -> bytes:
    """An OCI layout with one layer, in a tar archive; `config` are further members of the image's config."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> dict[str, object]:
        digest = sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    described = blob(layer)
    document = {"rootfs": {"type": "layers", "diff_ids": [described["digest"]]}, **config}
    manifest = {"config": blob(json.dumps(document).encode()), "layers": [described]}
    index = json.dumps({"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode())]}).encode()
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs}
    return tar_of([Entry(name, data) for name, data in sorted(files.items())])


def elf_file(sections: dict[str, bytes]) -> bytes:
    """A 64-bit ELF file with these sections, in this order, and the table of their names."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    contents = [*sections.items(), (".shstrtab", names)]
    table, body = [bytes(64)], b""
    for name, data in contents:
        place = 64 + len(body)
        table.append(
            struct.pack("<IIQQQQIIQQ", names.index(name.encode() + b"\0"), 1, 0, 0, place, len(data), 0, 0, 1, 0)
        )
        body += data
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(table), len(table) - 1)
    return header + body + b"".join(table)


def pe_file(sections: dict[str, bytes], *, timestamp: int = 0, tail: bytes = b"") -> bytes:
    """A PE file with these sections behind 512 bytes of headers."""
    table, body = b"", b""
    for name, data in sections.items():
        table += struct.pack("<8sIIII16x", name.encode(), len(data), 0x1000, len(data), 512 + len(body))
        body += data
    header = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    header += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), timestamp, 0, 0, 0, 0) + table
    return header.ljust(512, b"\0") + body + tail


def squashfs_image(data: bytes, *, created: int = 1_700_000_000, verity: bytes = b"") -> bytes:
    """A squashfs superblock (4.0), some bytes as its data, padding, and a dm-verity area. Nothing can unpack it."""
    superblock = struct.pack("<4sIIIIHHHHHHQQ", b"hsqs", 1, created, 131072, 0, 6, 17, 0, 1, 4, 0, 0, 96 + len(data))
    image = superblock.ljust(96, b"\xff") + data
    return image + bytes(-len(image) % 4096) + verity


def pseudo_file(entries: Sequence[Entry] = ENTRIES) -> bytes:
    """What `unsquashfs -pf` writes for these members."""
    lines, data = [], b""
    for entry in entries:
        common = f"{entry.mtime} {entry.mode & 0o7777:o} {entry.uid} {entry.gid}"
        name = entry.name.replace("\\", "\\\\").replace(" ", "\\ ")
        if entry.mode & 0o170000 == 0o040000:
            lines.append(f"{name} D {common}\n")
        else:
            lines.append(f"{name} R {common} {len(entry.data)} {len(data)}\n")
            data += entry.data
    return "".join(lines).encode() + b"#\n# START OF DATA - DO NOT MODIFY\n#\n" + data
