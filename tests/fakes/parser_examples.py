"""What parses bytes that anybody may have written: every such function, with a valid example to change.

A parser with no example here is neither fuzzed (`./nox -s fuzz`) nor fed hostile bytes in the tests: add it.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

from builder.measure import (
    AcpiBlobs,
    CloudHypervisorMachine,
    GceLaunch,
    GceMachine,
    KernelLoad,
    PageOrder,
    TdShimBoot,
    acpi_tables_of,
    authenticode_digest,
    blobs_for,
    cc_measurement_of,
    check_acpi,
    gce_machine_type,
    gce_prediction,
    kernel_release,
    mrtd_for,
    parse_app_compose,
    parse_ccel,
    parse_checksum_file,
    parse_dstack_event_log,
    parse_gpt,
    parse_gpt_event,
    parse_hob_list,
    parse_image_metadata,
    parse_mr_config_id,
    parse_pe_image,
    parse_quote,
    parse_signature_lists,
    parse_smbios,
    parse_td_hob_witness,
    parse_tdreport,
    parse_tdvf,
    parse_tdx_measurement,
    parse_tpm_log,
    parse_uki,
    parse_vm_config,
    patch_kernel,
    read_ccel,
    read_tpm_log,
    td_hob_list,
    td_shim_events,
    td_shim_hob_list,
)
from builder.measure.boot.systemd_stub import uki_events
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
from builder.measure.firmware.hob import END_OF_LIST
from builder.measure.firmware.image_authority import image_authorities
from builder.measure.firmware.signature_database import CERT_X509
from builder.measure.firmware.variable_store import stored_variables
from builder.measure.firmware.volume import TD_TCG2_DXE
from builder.measure.images.authenticode_signature import image_signatures
from tests.fakes.boot_files import (
    DXE_CORE,
    LZMA_SECTION,
    SECTIONS_S2,
    SECTIONS_TD_SHIM,
    SOME_FILE,
    VOLUME_IMAGE,
    Firmware,
    acpi_table,
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
from tests.fakes.dstack_images import checksum_file, image_files
from tests.fakes.efi_images import Disk, kernel, reader, uki
from tests.fakes.signed_images import signed_image, signer
from tests.fakes.variable_stores import signature_list, store_of

Parser = Callable[[bytes], Any]

SIGNER = signer("signer")
SIGNED = signed_image(kernel(), SIGNER)
STORE = store_of(EfiVariable(EFI_GLOBAL_VARIABLE, "PK", b"key"), EfiVariable(EFI_GLOBAL_VARIABLE, "KEK", b"another"))

TABLES = acpi_tables(3)
BLOBS = blobs_for(TABLES)
INNER = section(0x17, volume([ffs_file(SOME_FILE, b"core", kind=DXE_CORE), ffs_file(TD_TCG2_DXE, b"driver")]))
SMALL_FIRMWARE = Firmware(size=0x3000, sections=[(0, 0x1000, 0x1000, 0x1000, 0, 1), (0, 0, 0x8000, 0x1000, 2, 0)])
GCE_FIRMWARE = Firmware(sections=SECTIONS_S2).encode()
TD_SHIM = Firmware(sections=SECTIONS_TD_SHIM).encode()
METADATA = range(0xF000, 0xF140)  # of either
GCE_MACHINE = GceMachine(gce_machine_type("c3-standard-4"))
DSTACK_IMAGE = image_files()
CCEL = log_header([(0xC, 48)]) + log_record(1, 4, [(0xC, bytes(48))], b"data") * 2 + b"\xff" * 8
TPM_LOG = log_header([(4, 20), (0xC, 48)], index=0) + log_record(1, 4, [(4, bytes(20)), (0xC, bytes(48))], b"data")
ZERO_PARTS = hashlib.sha384(bytes(239)).digest() + hashlib.sha384(bytes(512)).digest()
TDREPORT = b"\x81" + bytes(31) + ZERO_PARTS + bytes(1024 - 128)


def hob(data: bytes) -> bytes:
    return td_hob_list(parse_tdvf(data), 1 << 30)


def acpi_table_hob(table: bytes) -> bytes:
    return td_shim_hob_list(TD_SHIM, CloudHypervisorMachine(1 << 30, 46, (table,)))


def mr_config_id(data: bytes) -> Any:
    return parse_mr_config_id(data.decode("latin-1"))


def gpt(data: bytes) -> Any:
    return parse_gpt(reader(data))


def authorities(data: bytes) -> Any:
    return image_authorities(data, db=signature_list(CERT_X509, SIGNER.der), dbx=b"")


def signature_lists(data: bytes) -> Any:
    return parse_signature_lists(data, what="db")


# public parsers that get their bytes by another function of the list
FED_BY_ANOTHER = {
    "parse_gpt": gpt,
    "parse_mr_config_id": mr_config_id,
    "parse_signature_lists": signature_lists,
}


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
    "ccel": (parse_ccel, CCEL, range(250)),
    "ccel with notes": (read_ccel, CCEL, range(250)),
    "tpm log": (parse_tpm_log, TPM_LOG, range(200)),
    "tpm log with notes": (read_tpm_log, TPM_LOG, range(200)),
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
    "hob list": (parse_hob_list, hob(SMALL_FIRMWARE.encode()) + END_OF_LIST, range(160)),
    "smbios": (
        parse_smbios,
        b"\x10\7\0\x10\1\2\3" + b"name\0\0" + b"\x20\x0b\0\x20" + bytes(9) + b"\x7f\4\0\x7f\0\0",
        range(30),
    ),
    "dstack checksums": (parse_checksum_file, checksum_file(DSTACK_IMAGE), range(150)),
    "dstack metadata": (parse_image_metadata, DSTACK_IMAGE["metadata.json"], range(300)),
    "dstack measurement": (parse_tdx_measurement, DSTACK_IMAGE["measurement.tdx.cbor"], range(600)),
    "dstack vm config": (
        parse_vm_config,
        b'{"cpu_count":2,"memory_size":2147483648,"qemu_version":"9.2.1","num_gpus":1,"host_share_mode":"vhd"}',
        range(100),
    ),
    "dstack compose": (
        parse_app_compose,
        b'{"manifest_version":2,"name":"app","key_provider":"kms","gpu_policy":{},"init_script":["a"]}',
        range(90),
    ),
    "td hob witness": (parse_td_hob_witness, bytes.fromhex("80100904000609020b021010"), range(12)),
    "mrconfigid": (mr_config_id, b"01" + b"ab" * 32 + b"00" * 15, range(96)),
    "gce firmware": (lambda data: gce_prediction(GceLaunch(GCE_MACHINE, data)), GCE_FIRMWARE, METADATA),
    "td-shim firmware": (lambda data: td_shim_events(data, TdShimBoot(b"kernel", "a", None)), TD_SHIM, METADATA),
    "td-shim acpi table": (acpi_table_hob, acpi_table(b"DSDT", b"devices"), range(44)),
    "td-shim hob list": (
        lambda data: acpi_tables_of(parse_hob_list(data)),
        acpi_table_hob(acpi_table(b"DSDT", b"devices")),
        range(600),
    ),
    "gpt": (gpt, Disk().encode(), range(512, 1400)),
    "gpt event": (parse_gpt_event, Disk().event(), range(400)),
    "pe image": (parse_pe_image, kernel(), range(0x200)),
    "uki": (parse_uki, uki(), range(0x240)),
    "uki events": (lambda data: uki_events(parse_uki(data)), uki(), range(0x240)),
    "image signatures": (image_signatures, SIGNED, range(len(SIGNED) - 1400, len(SIGNED))),
    "image authorities": (authorities, SIGNED, range(len(SIGNED) - 1400, len(SIGNED))),
    "variable store": (lambda data: stored_variables(data, edk2="202502"), STORE, range(260)),
    "signature lists": (
        signature_lists,
        bytes(16) + struct.pack("<III", 28 + 20, 0, 20) + bytes(16) + b"cert",
        range(48),
    ),
}
