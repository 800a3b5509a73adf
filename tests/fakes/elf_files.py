"""ELF files made in memory: a header, sections, and nothing that could run."""

import struct
from collections.abc import Mapping

DT_NEEDED = 1
DT_RUNPATH = 29


def elf_file(sections: Mapping[str, bytes]) -> bytes:
    """A 64-bit little-endian ELF file with these sections."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    contents = {"": b"", **sections, ".shstrtab": names}
    body = b""
    table = b""
    for name, data in contents.items():
        kind = 0 if not name else 1
        position = names.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        table += struct.pack("<IIQQQQIIQQ", position, kind, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        body += data
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, len(contents), len(contents) - 1
    )
    return header + body + table


def program_file(*libraries: str, loader: str | None = "/lib64/ld-linux-x86-64.so.2") -> bytes:
    """A program or library that needs `libraries`; `loader` None for a library or a static program."""
    names = b"\0"
    dynamic = b""
    for library in libraries:
        dynamic += struct.pack("<qQ", DT_NEEDED, len(names))
        names += library.encode() + b"\0"
    dynamic += struct.pack("<qQ", DT_RUNPATH, 0) + struct.pack("<qQ", 0, 0)
    sections = {".dynstr": names, ".dynamic": dynamic}
    return elf_file(sections if loader is None else {".interp": loader.encode() + b"\0", **sections})


def static_program_file() -> bytes:
    """A program that needs nothing."""
    return elf_file({".text": b"\x90"})


def module_file(*fields: str) -> bytes:
    """A kernel module with these fields of .modinfo, each `name=value`."""
    return elf_file({".modinfo": b"".join(field.encode() + b"\0" for field in fields)})
