"""The bzImage as QEMU serves it: the header rewrite that changes the measured kernel (`measurement.md` 6.3)."""

import re
from dataclasses import dataclass

from builder.encoding.byte_reader import ByteReader
from builder.errors import DocumentError
from builder.measure.firmware.td_hob import low_memory

_LEAST_SIZE = 4096
_MAGIC = b"HdrS"
_LEAST_PROTOCOL = 0x20C
_CMDLINE_ADDRESS = 0x20000
_CMDLINE_OFFSET = 0xFE00  # 0x20000 - 0x10000 - 0x200
_LOADER_QEMU = 0xB0
_CAN_USE_HEAP = 0x80
_LOADED_HIGH = 0x01
_ABOVE_4G = 1 << 1  # XLF_CAN_BE_LOADED_ABOVE_4G in Linux, Documentation/arch/x86/boot.rst; by hand against QEMU 10.0.13
_ACPI_RESERVE = 0x28000
_VIDEO_MODES = {"normal": 0xFFFF, "ext": 0xFFFE, "ask": 0xFFFD}
_VIDEO_MODE = re.compile(r"(0[xX][0-9a-fA-F]{1,8}|0[0-7]{0,10}|[1-9][0-9]{0,8})(?: |$)")
_RELEASE = re.compile(rb"[0-9]+\.[0-9]+[!-~]{0,120}")


@dataclass(frozen=True)
class KernelLoad:
    """What QEMU's rewrite depends on besides the kernel: sizes in bytes; `initrd_size` None if there is no initrd."""

    memory: int
    initrd_size: int | None
    command_line: str


def patch_kernel(kernel: bytes, load: KernelLoad) -> bytes:
    """The kernel with the header that QEMU before 10.2 serves through fw_cfg.

    DocumentError for files that are no bzImage, are older than boot protocol 2.12 or not loaded high, for an initrd
    that does not fit below the limit, and for a `vga=` that QEMU would not take. Not covered: device trees.
    """
    check_kernel(kernel)
    header = bytearray(kernel)
    header[0x210] = _LOADER_QEMU
    header[0x211] |= _CAN_USE_HEAP
    header[0x224:0x226] = _CMDLINE_OFFSET.to_bytes(2, "little")
    header[0x228:0x22C] = _CMDLINE_ADDRESS.to_bytes(4, "little")
    mode = _video_mode(load.command_line)
    if mode is not None:
        header[0x1FA:0x1FC] = mode.to_bytes(2, "little")
    if load.initrd_size is not None:
        header[0x218:0x21C] = initrd_address(kernel, load.initrd_size, memory=load.memory).to_bytes(4, "little")
        header[0x21C:0x220] = load.initrd_size.to_bytes(4, "little")
    return bytes(header)


def has_boot_header(kernel: bytes) -> bool:
    """Whether QEMU takes the file for a Linux kernel, whose header it may rewrite (`measurement.md` 6.3).

    Any other EFI program given as kernel, such as a UKI, is served and measured as it is: seen with QEMU 7.2.22, and
    with 10.0.13 under edk2 202211 and 202502.
    """
    return kernel[0x202:0x206] == _MAGIC


def check_kernel(kernel: bytes) -> None:
    """DocumentError unless this is a bzImage whose header rewrite is known."""
    if len(kernel) < _LEAST_SIZE or not has_boot_header(kernel):
        raise DocumentError(
            f"kernel: {len(kernel)} bytes, and no HdrS at 0x202: not a Linux bzImage", hint="give the vmlinuz file"
        )
    reader = ByteReader(kernel, "kernel")
    protocol = reader.u16(0x206, name="boot protocol")
    if protocol < _LEAST_PROTOCOL:
        raise DocumentError(f"kernel: boot protocol {protocol:#x}, wanted {_LEAST_PROTOCOL:#x} or later")
    if not kernel[0x211] & _LOADED_HIGH:
        raise DocumentError(
            "kernel: not loaded high (bit 0 of loadflags is clear): a zImage, which no rule here covers"
        )
    setup = ((kernel[0x1F1] or 4) + 1) * 512
    if setup > len(kernel):
        raise DocumentError(f"kernel: set-up code of {setup} bytes in a file of {len(kernel)}", hint="it is truncated")


def initrd_address(kernel: bytes, size: int, *, memory: int) -> int:
    """Where QEMU puts an initrd of `size` bytes in a guest with `memory` bytes. DocumentError if it does not fit."""
    reader = ByteReader(kernel, "kernel")
    above_4g = reader.u16(0x236, name="xloadflags") & _ABOVE_4G
    highest = 0xFFFFFFFF if above_4g else reader.u32(0x22C, name="initrd_addr_max")
    limit = min(highest, low_memory(memory) - _ACPI_RESERVE - 1)
    if size >= limit:
        raise DocumentError(
            f"initrd of {size} bytes does not fit below {limit:#x} in a guest with {memory} bytes of memory",
            hint="give the machine shape more memory, or make the initrd smaller",
        )
    return (limit - size) & ~0xFFF


def kernel_release(kernel: bytes) -> str:
    """The release the kernel states in its header, such as `6.1.0-18-amd64`; empty if it states none."""
    check_kernel(kernel)
    pointer = ByteReader(kernel, "kernel").u16(0x20E, name="kernel_version")
    match = _RELEASE.match(kernel, pointer + 0x200) if pointer else None
    return match[0].decode("ascii") if match else ""


def _video_mode(command_line: str) -> int | None:
    """The mode QEMU writes for the first `vga=` anywhere in the command line, None without one."""
    _, found, text = command_line.partition("vga=")
    if not found:
        return None
    for name, mode in _VIDEO_MODES.items():
        if text.startswith(name):
            return mode
    match = _VIDEO_MODE.match(text)
    if match is None:
        raise DocumentError(f"command line: QEMU does not take vga={text.split(' ')[0]!r}")
    base = 16 if match[1][:2].lower() == "0x" else 8 if match[1].startswith("0") else 10
    return int(match[1], base) & 0xFFFF
