"""Reading ELF files of x86-64: what a program loads, and what a kernel module says about itself.

Read from the file, not from the loader of the machine that builds: a loader also looks at the processor
(`glibc-hwcaps`), the environment and its cache, and would give each builder another list. Libraries that a program
opens while it runs (dlopen) are not found this way.
"""

import struct

from builder.errors import DocumentError

_HEADER = struct.Struct("<18xH20xQ10xHHH")  # e_machine, e_shoff, e_shentsize, e_shnum, e_shstrndx of 64 bytes
_SECTION = struct.Struct("<II8x8xQQ24x")  # sh_name, sh_type, sh_offset, sh_size
_DYNAMIC = struct.Struct("<qQ")
_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bit, little endian, version 1
_X86_64 = 62
_NOBITS = 8
_DT_NEEDED = 1


def interpreter(data: bytes, *, what: str) -> str | None:
    """The program loader an ELF file asks for, None for a static program or a library."""
    section = _sections(data, what).get(".interp")
    return None if section is None else _text(section, 0, what)


def needed_libraries(data: bytes, *, what: str) -> tuple[str, ...]:
    """The names of the libraries an ELF file asks the loader for, in its order."""
    sections = _sections(data, what)
    dynamic, names = sections.get(".dynamic", b""), sections.get(".dynstr", b"")
    if len(dynamic) % _DYNAMIC.size:
        raise DocumentError(f"{what}: .dynamic has {len(dynamic)} bytes, wanted a multiple of {_DYNAMIC.size}")
    return tuple(_text(names, value, what) for tag, value in _DYNAMIC.iter_unpack(dynamic) if tag == _DT_NEEDED)


def module_information(data: bytes, *, what: str) -> tuple[tuple[str, str], ...]:
    """The `.modinfo` of a kernel module: (`depends`, `dm-bufio`), ... as modinfo(8) lists them."""
    section = _sections(data, what).get(".modinfo")
    if section is None:
        raise DocumentError(f"{what}: not a kernel module: it has no .modinfo")
    fields = (text.partition("=") for text in section.decode("utf-8", "replace").split("\0") if text)
    return tuple((name, value) for name, _, value in fields)


def _sections(data: bytes, what: str) -> dict[str, bytes]:
    """Every section that has bytes in the file, by name."""
    if not data.startswith(_IDENT) or len(data) < _HEADER.size:
        raise DocumentError(f"{what}: not a 64-bit little-endian ELF file: it starts with {data[:8]!r}")
    machine, offset, entry_size, count, names_index = _HEADER.unpack_from(data)
    if machine != _X86_64:
        raise DocumentError(f"{what}: ELF file for machine {machine}, wanted {_X86_64} (x86-64)")
    if entry_size != _SECTION.size or not names_index < count:
        raise DocumentError(f"{what}: ELF file without a section table")
    table = _slice(data, offset, count * _SECTION.size, what)
    headers = list(_SECTION.iter_unpack(table))
    _, _, start, size = headers[names_index]
    names = _slice(data, start, size, what)
    return {
        _text(names, name, what): _slice(data, start, size, what)
        for name, kind, start, size in headers
        if kind != _NOBITS
    }


def _slice(data: bytes, offset: int, size: int, what: str) -> bytes:
    if offset + size > len(data):
        raise DocumentError(f"{what}: ELF file of {len(data)} bytes is cut off, wanted {offset + size}")
    return data[offset : offset + size]


def _text(strings: bytes, offset: int, what: str) -> str:
    end = strings.find(b"\0", offset)
    if end < 0:
        raise DocumentError(f"{what}: ELF file with a text beyond its string table")
    return strings[offset:end].decode("utf-8", "replace")
