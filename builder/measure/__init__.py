"""The measuring core: what Intel TDX, the VMM, the firmware and the kernel put into MRTD and RTMR[0..2], from bytes.

A library in its own right: no I/O, no clock, nothing but values in and values out. Predicting:

    files = BootFiles(firmware, kernel, initrd, command_line)
    profiles = launch_profiles(files, vmm=vmm, edk2="202502", shapes=[(2, 2 << 30)])
    values = Measurer(files).reference_values(zip(profiles, acpi_blobs))

Explaining Evidence: `parse_quote`, `parse_ccel`, `replay`, `first_difference`. Every refusal is a DocumentError.
"""

from builder.measure.acpi.blobs import AcpiBlobs, check_acpi
from builder.measure.acpi.loader import blobs_for
from builder.measure.dstack.log import parse_dstack_event_log
from builder.measure.evidence.event_data import data_matches_digest
from builder.measure.evidence.event_log import parse_ccel, parse_tpm_log
from builder.measure.evidence.quote import Quote, TdReportBody, parse_quote
from builder.measure.evidence.tdreport import TdReport, parse_tdreport
from builder.measure.explain.difference import EventDifference, first_difference
from builder.measure.firmware.mrtd import mrtd_for, mrtd_stream_length
from builder.measure.firmware.td_hob import td_hob_list
from builder.measure.firmware.tdvf import SectionType, TdvfMetadata, TdvfSection, parse_tdvf
from builder.measure.firmware.volume import cc_measurement_of
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.kernel_image import KernelLoad, kernel_release, patch_kernel
from builder.measure.images.load_options import encode_load_options
from builder.measure.predict import Measurer, check_predictions
from builder.measure.profile import VmmRules, firmware_rules, kernel_form_for, launch_profiles, vmm_rules
from builder.measure.rtmr import extend, replay
from builder.model.event import ParsedEvent, PredictedEvent
from builder.model.launch_profile import (
    CAVEATS,
    BootFiles,
    CcMeasurement,
    FirmwareRules,
    KernelForm,
    LaunchProfile,
    PageOrder,
    SecureBootVariable,
)
from builder.model.recipe import VmmSpec
from builder.model.reference_values import (
    AcpiDigests,
    Prediction,
    ReferenceValues,
    Registers,
    parse_reference_values,
    reference_values_document,
)

__all__ = [
    "CAVEATS",
    "AcpiBlobs",
    "AcpiDigests",
    "BootFiles",
    "CcMeasurement",
    "EventDifference",
    "FirmwareRules",
    "KernelForm",
    "KernelLoad",
    "LaunchProfile",
    "Measurer",
    "PageOrder",
    "ParsedEvent",
    "PredictedEvent",
    "Prediction",
    "Quote",
    "ReferenceValues",
    "Registers",
    "SectionType",
    "SecureBootVariable",
    "TdReport",
    "TdReportBody",
    "TdvfMetadata",
    "TdvfSection",
    "VmmRules",
    "VmmSpec",
    "authenticode_digest",
    "blobs_for",
    "cc_measurement_of",
    "check_acpi",
    "check_predictions",
    "data_matches_digest",
    "encode_load_options",
    "extend",
    "firmware_rules",
    "first_difference",
    "kernel_form_for",
    "kernel_release",
    "launch_profiles",
    "mrtd_for",
    "mrtd_stream_length",
    "parse_ccel",
    "parse_dstack_event_log",
    "parse_quote",
    "parse_reference_values",
    "parse_tdreport",
    "parse_tdvf",
    "parse_tpm_log",
    "patch_kernel",
    "reference_values_document",
    "replay",
    "td_hob_list",
    "vmm_rules",
]
