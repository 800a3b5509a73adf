"""The measuring core: what Intel TDX, the VMM, the firmware and the kernel put into MRTD and RTMR[0..3], from bytes.

A library in its own right: no I/O, no clock, nothing but values in and values out. Predicting:

    files = BootFiles(firmware, kernel, initrd, command_line)
    profiles = launch_profiles(files, vmm=vmm, edk2="202502", shapes=[(2, 2 << 30)])
    values = Measurer(files).reference_values(zip(profiles, acpi_blobs))

Explaining Evidence: `parse_quote`, `read_ccel`, `replay`, `compare_log`. Every refusal is a BuilderError.

The packages below hold one subject each (acpi, boot, dstack, evidence, explain, firmware, images, platforms); what is
public of them is public here. A name is imported when it is first used, so that whoever replays a log does not load
what checks signatures.
"""

from importlib import import_module

# module -> its public names
_PUBLIC = {
    "builder.measure.acpi.blobs": "AcpiBlobs check_acpi",
    "builder.measure.acpi.generator": "generate_acpi",
    "builder.measure.acpi.hardware": "AcpiMachine AcpiProfile",
    "builder.measure.acpi.loader": "blobs_for",
    "builder.measure.acpi.machine": "acpi_machine dstack_machine",
    "builder.measure.boot.disk": "disk_boot_events image_event kernel_boot_events",
    "builder.measure.boot.gpt": "Gpt GptPartition gpt_event parse_gpt parse_gpt_event",
    "builder.measure.boot.grub": "GrubForm GrubStep GrubStepKind grub_events grub_kernel_events",
    "builder.measure.boot.program": "BootProgram boot_program is_uki",
    "builder.measure.boot.shim": "ShimLists default_shim_lists shim_events",
    "builder.measure.boot.systemd_boot": "systemd_boot_events",
    "builder.measure.boot.systemd_stub": "UkiStart stub_caveats stub_version uki_events",
    "builder.measure.dstack.app": "AppPrediction Identities TdConfiguration identities_of predict_app",
    "builder.measure.dstack.compose": "AppCompose parse_app_compose",
    "builder.measure.dstack.identities": (
        "BootedTd KeyProviderKind MrConfigId RunningTd app_id boot_time_rtmr3 compose_hash device_id instance_id "
        "mr_aggregated mr_config_id_v1 mr_config_id_v2 mr_config_id_v3 mr_key_provider mr_system os_image_hash "
        "parse_mr_config_id"
    ),
    "builder.measure.dstack.image": (
        "ChecksumFile DstackImage ImageMetadata dstack_image encode_checksum_file measurement_differences "
        "parse_checksum_file parse_image_metadata unlisted_image"
    ),
    "builder.measure.dstack.log": "parse_dstack_event_log runtime_event_digest",
    "builder.measure.dstack.measurement": (
        "TdxMeasurement encode_tdx_measurement parse_tdx_measurement tdx_measurement_for"
    ),
    "builder.measure.dstack.names": "OvmfVariant",
    "builder.measure.dstack.profile": "dstack_acpi dstack_launch_profile measurement_events measurement_registers",
    "builder.measure.dstack.runtime": "RuntimeInputs RuntimeRules predicted_rtmr3 predicted_runtime_events",
    "builder.measure.dstack.td_hob_witness": "encode_td_hob_witness parse_td_hob_witness",
    "builder.measure.dstack.vm_config": "VmConfig VmConfigDocument parse_vm_config vm_config_for",
    "builder.measure.evidence.ccel_table": "CcelTable check_log_area parse_ccel_table",
    "builder.measure.evidence.event_data": "data_matches_digest event_name",
    "builder.measure.evidence.event_log": "EventLog parse_ccel parse_tpm_log read_ccel read_tpm_log",
    "builder.measure.evidence.event_structure": "StructureFinding structure_findings",
    "builder.measure.evidence.event_text": "event_text",
    "builder.measure.evidence.form": "EvidenceInput event_log_input quote_input",
    "builder.measure.evidence.guest_log": "candidate_logs proven_log replay_pcrs",
    "builder.measure.evidence.quote": "Quote TdReportBody parse_quote",
    "builder.measure.evidence.tdreport": "TdReport parse_tdreport",
    "builder.measure.explain.case": "Case Materials",
    "builder.measure.explain.difference": "EventDifference first_difference",
    "builder.measure.explain.log_comparison": "Outcome RegisterComparison best_comparison compare_log",
    "builder.measure.explain.neighbours": "explain_difference explain_mrtd",
    "builder.measure.firmware.boot_options": "BootDisk DiskKind disk_boot_variables",
    "builder.measure.firmware.build": "FirmwareBuild firmware_build firmware_strings",
    "builder.measure.firmware.efi_variables": (
        "EfiVariable SecureBootKeys encode_variable_data parse_variable_data secure_boot_keys secure_boot_setting "
        "secure_boot_variables variable_digest"
    ),
    "builder.measure.firmware.fw_cfg": "fw_cfg_events",
    "builder.measure.firmware.hob": "GuidHob HobList ResourceHob encode_hob_list parse_hob_list",
    "builder.measure.firmware.image_authority": "ImageRefusedError image_authorities",
    "builder.measure.firmware.mrtd": "mrtd_for mrtd_stream_length",
    "builder.measure.firmware.signature_database": "SignatureEntry parse_signature_lists",
    "builder.measure.firmware.smbios": "FirmwareStrings SmbiosStructure parse_smbios smbios_digest with_processor_id",
    "builder.measure.firmware.td_hob": "td_hob_list",
    "builder.measure.firmware.tdvf": "SectionType TdvfMetadata TdvfSection parse_tdvf",
    "builder.measure.firmware.variable_store": "stored_variables",
    "builder.measure.firmware.volume": "cc_measurement_of",
    "builder.measure.images.authenticode": "authenticode_digest",
    "builder.measure.images.authenticode_signature": "Signature image_signatures",
    "builder.measure.images.kernel_image": "KernelLoad kernel_release patch_kernel",
    "builder.measure.images.load_options": "encode_load_options",
    "builder.measure.images.pe_image": "PeImage PeSection parse_pe_image",
    "builder.measure.images.uki": "Uki parse_uki",
    "builder.measure.images.uki_initrd": "uki_initrd",
    "builder.measure.platforms.cloud_hypervisor": "TD_SHIM_CAVEATS CloudHypervisorLaunch cloud_hypervisor_prediction",
    "builder.measure.platforms.gce": (
        "GCE_ENDORSED_MRTDS GCE_LAYOUT GceMachine gce_disk_option gce_mrtd gce_mrtd_of_all_sections gce_rtmr0_events"
    ),
    "builder.measure.platforms.gce_prediction": "GCE_CAVEATS GceBoot GceLaunch gce_prediction",
    "builder.measure.platforms.gce_td_hob": (
        "GCE_MACHINE_TYPES EarlyAccept GceMachineType gce_machine_type gce_ram_banks gce_td_hob_list"
    ),
    "builder.measure.platforms.td_shim": "PayloadExtent TdShimBoot td_shim_events td_shim_mrtd",
    "builder.measure.platforms.td_shim_hob": "CloudHypervisorMachine acpi_tables_of td_shim_hob_list",
    "builder.measure.predict": "Measurer check_predictions",
    "builder.measure.profile": "VmmRules firmware_rules kernel_form_for launch_profiles vmm_rules",
    "builder.measure.rehearsal": "BootObservation mapped_log rehearsal_of rehearsed_events rehearsed_prediction",
    "builder.measure.rtmr": "extend registers_of replay",
    "builder.model.event": "ExpectedEvent ParsedEvent PredictedEvent UnpredictedEvent",
    "builder.model.launch_profile": (
        "CAVEATS BootFiles BootMethod BootOptions CcMeasurement DiskFiles FirmwareRules InitrdArgument KernelForm "
        "LaunchProfile PageOrder SecureBootVariable"
    ),
    "builder.model.platform_values": "Platform PlatformPrediction PlatformRegisters platform_values_document",
    "builder.model.recipe": "VmmSpec",
    "builder.model.reference_values": (
        "AcpiDigests Prediction ReferenceValues Registers parse_reference_values reference_values_document"
    ),
    "builder.model.rehearsal": "Rehearsal",
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names.split()}
_OTHER_NAMES = {"explain_difference": "explain"}  # the package of that name is in the way

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), _OTHER_NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
