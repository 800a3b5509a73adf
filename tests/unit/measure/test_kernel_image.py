"""QEMU's kernel header rewrite (`measurement.md` 6.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure import KernelLoad, kernel_release, patch_kernel
from builder.measure.images.kernel_image import has_boot_header, initrd_address
from tests.fakes.boot_files import bzimage
from tests.fakes.efi_images import uki

KERNEL = bzimage()
MIB, GIB = 1 << 20, 1 << 30
SIZE = 12_345_678


def load(memory: int = 2 * GIB, initrd_size: int | None = SIZE, command_line: str = "console=ttyS0") -> KernelLoad:
    return KernelLoad(memory, initrd_size, command_line)


def changed_offsets(patched: bytes, kernel: bytes = KERNEL) -> set[int]:
    assert len(patched) == len(kernel)
    return {offset for offset, (old, new) in enumerate(zip(kernel, patched, strict=True)) if old != new}


def test_only_the_fields_of_the_boot_protocol_change() -> None:
    fields = {0x210, 0x211, *range(0x218, 0x220), 0x224, 0x225, *range(0x228, 0x22C)}
    assert changed_offsets(patch_kernel(KERNEL, load())) <= fields


def test_the_two_bytes_after_the_heap_pointer_stay() -> None:
    assert patch_kernel(KERNEL, load())[0x226:0x228] == KERNEL[0x226:0x228]


def test_the_values_are_those_of_the_specification() -> None:
    patched = patch_kernel(KERNEL, load())
    assert patched[0x210] == 0xB0
    assert patched[0x211] == KERNEL[0x211] | 0x80
    assert patched[0x224:0x226] == b"\x00\xfe"
    assert patched[0x228:0x22C] == b"\x00\x00\x02\x00"
    assert patched[0x21C:0x220] == SIZE.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("memory", "address"),
    [
        (1 * GIB, 0x3F411000),  # these were read from QEMU 7.2.22
        (2047 * MIB, 0x7F311000),
        (2 * GIB, 0x7F411000),
        (2815 * MIB, 0xAF311000),
        (2816 * MIB, 0x7F411000),
        (3 * GIB, 0x7F411000),
    ],
)
def test_the_initrd_is_placed_below_the_top_of_low_memory(memory: int, address: int) -> None:
    assert initrd_address(KERNEL, SIZE, memory=memory) == address


def test_without_the_flag_the_kernels_own_limit_holds() -> None:
    limited = bzimage(xloadflags=0)  # initrd_addr_max 0x7fffffff
    assert initrd_address(limited, SIZE, memory=2815 * MIB) == (0x7FFFFFFF - SIZE) & ~0xFFF


@pytest.mark.parametrize(("flags", "above"), [(0x02, True), (0x3F, True), (0x40, False), (0x7D, False)], ids=hex)
def test_only_bit_1_of_xloadflags_lets_the_initrd_go_higher(flags: int, above: bool) -> None:
    """As QEMU 10.0.13 served these kernels; bit 6 says something else (five-level paging)."""
    address = initrd_address(bzimage(xloadflags=flags), SIZE, memory=2815 * MIB)
    assert address == (0xAF311000 if above else (0x7FFFFFFF - SIZE) & ~0xFFF)


def test_memory_matters_only_through_the_initrd() -> None:
    assert patch_kernel(KERNEL, load(GIB, None)) == patch_kernel(KERNEL, load(64 * GIB, None))
    assert patch_kernel(KERNEL, load(GIB)) != patch_kernel(KERNEL, load(2 * GIB))
    assert patch_kernel(KERNEL, load(2 * GIB)) == patch_kernel(KERNEL, load(64 * GIB))


@given(st.integers(min_value=1, max_value=1 << 31), st.sampled_from([256 * MIB, GIB, 2815 * MIB, 2816 * MIB, 1 << 40]))
def test_an_initrd_is_page_aligned_inside_low_memory_or_refused(size: int, memory: int) -> None:
    try:
        address = initrd_address(KERNEL, size, memory=memory)
    except DocumentError:
        assert size >= min(memory, 2 * GIB) - 0x28001
    else:
        assert address % 4096 == 0
        assert address >= 0
        assert address + size <= memory - 0x28000


@pytest.mark.parametrize(
    ("command_line", "mode"),
    [
        ("vga=normal", 0xFFFF),
        ("quiet vga=ext", 0xFFFE),
        ("vga=ask quiet", 0xFFFD),
        ("vga=791", 791),
        ("vga=0x317 quiet", 0x317),
        ("vga=017", 15),
        ("vga=0", 0),
        ("xvga=1 vga=2", 1),
    ],
)
def test_a_video_mode_is_written(command_line: str, mode: int) -> None:
    patched = patch_kernel(KERNEL, load(command_line=command_line))
    assert patched[0x1FA:0x1FC] == mode.to_bytes(2, "little")


@pytest.mark.parametrize("command_line", ["vga=", "vga=08", "vga=hello", "vga=1x", "vga=-1", "vga= 1", "vga=0xg"])
def test_a_video_mode_that_qemu_would_not_take_is_refused(command_line: str) -> None:
    with pytest.raises(DocumentError, match="vga="):
        patch_kernel(KERNEL, load(command_line=command_line))


REFUSED = {
    "empty": (b"", "not a Linux bzImage"),
    "text": (b"#!/bin/sh\n" * 1000, "not a Linux bzImage"),
    "short": (KERNEL[:4095], "not a Linux bzImage"),
    "old protocol": (bzimage(protocol=0x20B), "boot protocol 0x20b"),
    "zImage": (bzimage(loadflags=0), "not loaded high"),
    "set-up code beyond the end": (KERNEL[:0x1F1] + b"\xff" + KERNEL[0x1F2:], "set-up code of 131072 bytes"),
}


@pytest.mark.parametrize(("kernel", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_bzimage_is_refused(kernel: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        patch_kernel(kernel, load())


def test_an_initrd_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DocumentError, match="does not fit"):
        patch_kernel(KERNEL, load(memory=8 * MIB))


@pytest.mark.parametrize(
    ("stated", "release"),
    [(b"6.1.0-18-amd64 (x@y) #1", "6.1.0-18-amd64"), (b"7.0", "7.0"), (b"unknown", ""), (b"", ""), (b"\xff6.1", "")],
)
def test_the_release_is_what_the_kernel_states(stated: bytes, release: str) -> None:
    assert kernel_release(bzimage(release=stated)) == release


def test_a_kernel_without_a_version_pointer_states_no_release() -> None:
    assert kernel_release(KERNEL[:0x20E] + b"\0\0" + KERNEL[0x210:]) == ""
    assert kernel_release(KERNEL[:0x20E] + b"\xff\xff" + KERNEL[0x210:]) == ""


def test_a_uki_is_no_kernel_whose_header_qemu_rewrites() -> None:
    assert has_boot_header(bzimage())
    assert not has_boot_header(uki())
    assert not has_boot_header(b"")
