"""What parses bytes that anybody may have written: every such function, with a valid example to change.

A parser with no example here is neither fuzzed (`./nox -s fuzz`) nor fed hostile bytes in the tests: add it.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from builder.measure import (
    AcpiBlobs,
    KernelLoad,
    PageOrder,
    authenticode_digest,
    blobs_for,
    cc_measurement_of,
    check_acpi,
    kernel_release,
    mrtd_for,
    parse_ccel,
    parse_dstack_event_log,
    parse_quote,
    parse_tdreport,
    parse_tdvf,
    parse_tpm_log,
    patch_kernel,
    td_hob_list,
)
from builder.measure.evidence.ccel_table import parse_ccel_table
from builder.measure.evidence.device_path_text import device_path_text
from builder.measure.evidence.event_text import load_option_text
from builder.measure.evidence.form import event_log_input, quote_input
from builder.measure.evidence.quote import QE_VENDOR_INTEL
from builder.measure.firmware.efi_variables import (
    EFI_GLOBAL_VARIABLE,
    EfiVariable,
    encode_variable_data,
    parse_variable_data,
)
from builder.measure.firmware.volume import TD_TCG2_DXE
from tests.fakes.boot_files import (
    DXE_CORE,
    LZMA_SECTION,
    SOME_FILE,
    VOLUME_IMAGE,
    Firmware,
    acpi_tables,
    bzimage,
    ffs_file,
    guided_section,
    log_header,
    log_record,
    lzma_alone,
    section,
    volume,
)

Parser = Callable[[bytes], Any]

TABLES = acpi_tables(3)
BLOBS = blobs_for(TABLES)
INNER = section(0x17, volume([ffs_file(SOME_FILE, b"core", kind=DXE_CORE), ffs_file(TD_TCG2_DXE, b"driver")]))
SMALL_FIRMWARE = Firmware(size=0x3000, sections=[(0, 0x1000, 0x1000, 0x1000, 0, 1), (0, 0, 0x8000, 0x1000, 2, 0)])
ZERO_PARTS = hashlib.sha384(bytes(239)).digest() + hashlib.sha384(bytes(512)).digest()
TDREPORT = b"\x81" + bytes(31) + ZERO_PARTS + bytes(1024 - 128)


def hob(data: bytes) -> bytes:
    return td_hob_list(parse_tdvf(data), 1 << 30)


# parser -> (a valid example, the offsets worth changing)
PARSERS: dict[str, tuple[Parser, bytes, range]] = {
    "tdvf": (parse_tdvf, SMALL_FIRMWARE.encode(), range(0x1FF0, 0x3000)),
    "mrtd": (lambda data: mrtd_for(data, PageOrder.SINGLE_PASS), SMALL_FIRMWARE.encode(), range(0x2000, 0x2050)),
    "td_hob": (hob, SMALL_FIRMWARE.encode(), range(0x2000, 0x2050)),
    "authenticode": (authenticode_digest, bzimage(), range(0x200)),
    "kernel": (lambda data: patch_kernel(data, KernelLoad(1 << 30, 1000, "")), bzimage(), range(0x1F0, 0x240)),
    "kernel release": (kernel_release, bzimage(), range(0x1F0, 0x600)),
    "loader": (lambda data: check_acpi(AcpiBlobs(data, BLOBS.rsdp, TABLES), 3), BLOBS.loader, range(1400)),
    "rsdp": (lambda data: check_acpi(AcpiBlobs(BLOBS.loader, data, TABLES), 3), BLOBS.rsdp, range(20)),
    "tables": (lambda data: check_acpi(AcpiBlobs(BLOBS.loader, BLOBS.rsdp, data), 3), TABLES, range(600)),
    "tables to blobs": (blobs_for, TABLES, range(600)),
    "ccel": (
        parse_ccel,
        log_header([(0xC, 48)]) + log_record(1, 4, [(0xC, bytes(48))], b"data") * 2 + b"\xff" * 8,
        range(250),
    ),
    "tpm log": (
        parse_tpm_log,
        log_header([(4, 20), (0xC, 48)], index=0) + log_record(1, 4, [(4, bytes(20)), (0xC, bytes(48))], b"data"),
        range(200),
    ),
    "dstack log": (
        parse_dstack_event_log,
        b'[{"imr":0,"event_type":4,"digest":"' + b"ab" * 48 + b'","event":"","event_payload":"00"}]',
        range(180),
    ),
    "ccel table": (
        parse_ccel_table,
        b"CCEL8\0\0\0\x01\x9d".ljust(36, b"\0") + b"\2\0\0\0" + b"\0\0\1\0\0\0\0\0" + b"\0\x10\0\0\0\0\0\0",
        range(56),
    ),
    "device path": (device_path_text, b"\2\1\x0c\0\xd0\x41\x03\x0a\0\0\0\0\1\1\6\0\0\4\x7f\xff\4\0", range(22)),
    "load option": (load_option_text, b"\1\0\0\0\4\0a\0b\0\0\0\x7f\xff\4\0", range(16)),
    "quote as text": (quote_input, b"ab" * 64, range(128)),
    "quote in JSON": (quote_input, b'{"quote":"' + b"ab" * 64 + b'"}', range(140)),
    "log in JSON": (event_log_input, b'{"event_log":"[]"}', range(18)),
    "quote 4": (
        parse_quote,
        b"\x04\0\x02\0\x81\0\0\0\0\0\0\0" + QE_VENDOR_INTEL + bytes(20 + 584) + b"\4\0\0\0abcd",
        range(640),
    ),
    "quote 5": (
        parse_quote,
        b"\x05\0\x02\0\x81\0\0\0\0\0\0\0" + QE_VENDOR_INTEL + bytes(20) + b"\2\0\x48\2\0\0" + bytes(584) + bytes(8),
        range(60),
    ),
    "tdreport": (parse_tdreport, TDREPORT, range(1024)),
    "variable": (
        parse_variable_data,
        encode_variable_data(EfiVariable(EFI_GLOBAL_VARIABLE, "db", b"12")),
        range(40),
    ),
    "firmware volume": (
        cc_measurement_of,
        volume([ffs_file(SOME_FILE, guided_section(LZMA_SECTION, lzma_alone(INNER)), kind=VOLUME_IMAGE)]),
        range(300),
    ),
}
