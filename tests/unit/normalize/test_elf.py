"""Reading ELF files: a damaged one is refused, never read as one that needs nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.elf import interpreter, module_information, needed_libraries
from tests.fakes.elf_files import elf_file, module_file, program_file, static_program_file

PROGRAM = program_file("libdevmapper.so.1.02.1", "libc.so.6")


def test_a_program_names_its_loader_and_its_libraries_in_order() -> None:
    assert interpreter(PROGRAM, what="sample") == "/lib64/ld-linux-x86-64.so.2"
    assert needed_libraries(PROGRAM, what="sample") == ("libdevmapper.so.1.02.1", "libc.so.6")


def test_a_static_program_needs_nothing() -> None:
    assert interpreter(static_program_file(), what="sample") is None
    assert needed_libraries(static_program_file(), what="sample") == ()


def test_a_module_says_what_it_depends_on() -> None:
    module = module_file("license=GPL", "depends=dm-mod,dm-bufio", "name=dm_verity")
    assert dict(module_information(module, what="sample"))["depends"] == "dm-mod,dm-bufio"


def test_a_program_is_not_a_module() -> None:
    with pytest.raises(DocumentError, match="sample: not a kernel module"):
        module_information(PROGRAM, what="sample")


@pytest.mark.parametrize("size", range(len(PROGRAM)))
def test_a_program_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(DocumentError, match="sample: "):
        needed_libraries(PROGRAM[:size], what="sample")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF\x01" + PROGRAM[5:],  # 32 bit
        b"\x7fELF\x02\x02" + PROGRAM[6:],  # big endian
        PROGRAM[:0x12] + b"\xb7\0" + PROGRAM[0x14:],  # for aarch64
        PROGRAM[:0x28] + b"\xff" * 8 + PROGRAM[0x30:],  # section table far away
        PROGRAM[:0x3C] + b"\xff\xff" + PROGRAM[0x3E:],  # too many sections
        PROGRAM[:0x3E] + b"\xff\xff" + PROGRAM[0x40:],  # names in a section that is not there
        PROGRAM[:0x3A] + b"\0\0" + PROGRAM[0x3C:],  # sections of no size
        elf_file({".dynamic": b"\1" + bytes(15), ".dynstr": b"name without an end"}),
        elf_file({".dynamic": bytes(17), ".dynstr": b"\0"}),
        elf_file({".dynamic": b"\1" + bytes(15)}),
    ],
)
def test_what_is_not_a_whole_elf_file_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="sample: "):
        needed_libraries(data, what="sample")


@given(st.integers(0, len(PROGRAM) - 1), st.integers(0, 255))
def test_one_wrong_byte_is_read_or_refused_and_nothing_else(position: int, value: int) -> None:
    data = PROGRAM[:position] + bytes([value]) + PROGRAM[position + 1 :]
    try:
        assert all(isinstance(name, str) for name in needed_libraries(data, what="sample"))
    except DocumentError as error:
        assert error.message.startswith("sample: ")
