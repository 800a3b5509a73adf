"""Predicting registers: files, launch profiles and ACPI tables in, events and Reference Values out.

MRTD and CFV depend on the firmware alone, the HOB on memory, RTMR[1] on the image and the memory class, RTMR[2] on the
image: each is computed once for a matrix of shapes (`measurement.md` 13).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from builder.errors import DocumentError, RegisterDiffersError
from builder.measure.acpi.blobs import RSDP_FILE, TABLES_FILE, AcpiBlobs, check_acpi
from builder.measure.boot.chain import disk_events, firmware_loaded, uki_boot_events
from builder.measure.boot.direct import (
    FirmwareState,
    direct_boot_variables,
    rtmr0_events,
    rtmr1_events,
    rtmr2_events,
)
from builder.measure.boot.disk_device import disk_variable_events
from builder.measure.boot.program import boot_program
from builder.measure.boot.ready_to_boot import Events
from builder.measure.firmware.build import FirmwareBuild, firmware_build
from builder.measure.firmware.efi_variables import EfiVariable, SecureBootKeys, secure_boot_keys
from builder.measure.firmware.mrtd import mrtd_for
from builder.measure.firmware.smbios import UnknownStringsError, smbios_digest
from builder.measure.firmware.state import (
    has_boot_order,
    kernel_authorities,
    secure_boot_of,
    variable_store,
    variables_of,
)
from builder.measure.firmware.td_hob import td_hob_list
from builder.measure.firmware.tdvf import parse_tdvf
from builder.measure.images.authenticode import authenticode_digest
from builder.measure.images.kernel_image import KernelLoad, initrd_address, patch_kernel
from builder.measure.images.load_options import encode_load_options
from builder.measure.rtmr import registers_of
from builder.model.digest import checked_sha384, sha384_hex
from builder.model.event import EV_EFI_VARIABLE_BOOT, ExpectedEvent, UnpredictedEvent
from builder.model.launch_profile import (
    BootFiles,
    BootMethod,
    CcMeasurement,
    FirmwareRules,
    InitrdArgument,
    KernelForm,
    LaunchProfile,
    PageOrder,
)
from builder.model.reference_values import AcpiDigests, Prediction, ReferenceValues

SmbiosTables = bytes | str
_NO_SMBIOS: Mapping[str, SmbiosTables] = {}


@dataclass(frozen=True)
class _Started:
    """What the firmware starts: who vouches for it under secure boot before the boot option is taken, and what it adds
    to RTMR[1] and [2], and to the end of RTMR[0]."""

    authorities: Events
    events: Events


@dataclass(frozen=True)
class _LoadedKernel:
    """The kernel as the firmware gets it: its Authenticode digest (hex), and who vouches for it under secure boot."""

    digest: str
    authorities: Events


class Measurer:
    """Predicts what TDs started from these files show. DocumentError if firmware, kernel or initrd are refused.

    Safe to use from one thread at a time.
    """

    def __init__(self, files: BootFiles, *, keys: SecureBootKeys | None = None) -> None:
        """`keys` are the secure-boot keys that the TD finds, where they are not those in the firmware file."""
        self._files = files
        self._keys = keys
        self._metadata = parse_tdvf(files.firmware)
        self._program = boot_program(files)
        self._started: dict[tuple[FirmwareRules, Events], _Started] = {}
        self._td_hobs: dict[int, str] = {}
        self._kernels: dict[tuple[FirmwareRules, KernelForm, int | None], _LoadedKernel] = {}
        self._load_options: dict[InitrdArgument | None, str] = {}
        self._stored: dict[FirmwareRules, tuple[EfiVariable, ...]] = {}

    @cached_property
    def mrtd(self) -> Mapping[PageOrder, str]:
        """MRTD in hex for both page orders."""
        return {order: mrtd_for(self._files.firmware, order).hex() for order in PageOrder}

    def predict(
        self, profile: LaunchProfile, acpi: AcpiBlobs | AcpiDigests, *, smbios: SmbiosTables | None = None
    ) -> Prediction:
        """Events and registers of one profile.

        `acpi` are the blobs of exactly this shape, checked here for their CPU count, or digests that somebody states:
        then the prediction is only as good as that statement. `smbios` is QEMU's file `etc/smbios/smbios-tables` for
        the processor that the TD sees (`firmware.smbios.with_processor_id`), or the digest (hex) that somebody states
        of what the firmware measures of it; without it, RTMR[0] of firmware from 202505 on is not predicted.
        DocumentError for whatever no rule covers, and for a profile that contradicts the files.
        """
        self._check_profile(profile)
        digests = checked_acpi_digests(profile, acpi) if isinstance(acpi, AcpiBlobs) else acpi
        boot_variables = self._boot_variables(profile)
        started = self._start(profile, boot_variables)
        state = replace(
            self._state(profile.firmware, smbios), authorities=started.authorities, boot_variables=boot_variables
        )
        rtmr0 = rtmr0_events(
            profile.firmware,
            td_hob=self._td_hob(profile.memory),
            variable_store=self._variable_store,
            acpi=digests,
            state=state,
            vmm=profile.vmm,
        )
        events = tuple(sorted((*rtmr0, *started.events), key=_register))
        return Prediction(profile, registers_of(self.mrtd[profile.page_order], events), events, digests)

    def reference_values(
        self,
        shapes: Iterable[tuple[LaunchProfile, AcpiBlobs | AcpiDigests]],
        *,
        smbios: Mapping[str, SmbiosTables] = _NO_SMBIOS,
    ) -> ReferenceValues:
        """Predictions for a whole matrix; `smbios` by the name of the profile, for those that have it.

        DocumentError if it is empty or two profiles share a name.
        """
        predictions = tuple(self.predict(profile, acpi, smbios=smbios.get(profile.name)) for profile, acpi in shapes)
        names = {prediction.profile.name for prediction in predictions}
        if not predictions or len(names) != len(predictions):
            raise DocumentError(
                f"{len(predictions)} launch profiles with {len(names)} names: wanted some, each once",
                hint="state every machine once: 2G and 2048M are the same memory",
            )
        return ReferenceValues(self.mrtd, predictions)

    def _state(self, rules: FirmwareRules, smbios: SmbiosTables | None) -> FirmwareState:
        state = FirmwareState(
            keys=self._keys_of(rules),
            smbios_measured=self._build.smbios_measured is not False,
            kernel_given=self._program.method is not BootMethod.DISK,
        )
        if smbios is None or not rules.fw_cfg_events:
            return state
        if isinstance(smbios, str):
            return replace(state, smbios=checked_sha384(smbios, what="SMBIOS tables"))
        try:
            return replace(state, smbios=smbios_digest(smbios, self._build.strings))
        except UnknownStringsError as error:
            return replace(state, smbios_reason=error.message)

    def _boot_variables(self, profile: LaunchProfile) -> Events:
        rules = profile.firmware
        if has_boot_order(self._variables(rules)):
            reason = "the firmware's variable store has a BootOrder, and no rule here says what becomes of it"
            register = rules.boot_variables_register
            return (UnpredictedEvent(register, EV_EFI_VARIABLE_BOOT, "BootOrder", reason, repeats=True),)
        if self._program.method is BootMethod.DISK:
            return disk_variable_events(rules, profile.vmm.devices, has_shell=self._build.shell)
        return direct_boot_variables(rules)

    def _start(self, profile: LaunchProfile, boot_variables: Events) -> _Started:
        """Of UKIs and disks, the firmware and its boot variables decide everything, so that they are hashed once."""
        rules = profile.firmware
        if self._program.method is BootMethod.KERNEL:
            kernel = self._kernel(profile)
            rtmr1 = rtmr1_events(
                rules, kernel=kernel.digest, kernel_form=profile.kernel_form, boot_variables=boot_variables
            )
            rtmr2 = rtmr2_events(load_options=self._options(profile), initrd=self._initrd)
            return _Started(kernel.authorities, (*rtmr1, *rtmr2))
        key = (rules, boot_variables)
        if key not in self._started:
            self._started[key] = self._start_program(rules, boot_variables)
        return self._started[key]

    def _start_program(self, rules: FirmwareRules, boot_variables: Events) -> _Started:
        files, program, keys = self._files, self._program, self._keys_of(rules)
        found = (
            event
            for image in firmware_loaded(files, program)
            for event in kernel_authorities(image, rules=rules, keys=keys)
        )
        authorities = tuple(dict.fromkeys(found))  # the firmware measures each entry of db once
        if program.method is BootMethod.UKI:
            return _Started(authorities, uki_boot_events(rules, files, program, boot_variables=boot_variables))
        events = disk_events(rules, files, program, boot_variables=boot_variables, authorities=authorities)
        return _Started((), events)

    def _keys_of(self, rules: FirmwareRules) -> SecureBootKeys:
        return secure_boot_keys(self._variables(rules)) if self._keys is None else self._keys

    def _variables(self, rules: FirmwareRules) -> tuple[EfiVariable, ...]:
        if rules not in self._stored:
            self._stored[rules] = variables_of(self._files.firmware, rules)
        return self._stored[rules]

    def _check_profile(self, profile: LaunchProfile) -> None:
        """A profile may know less of the files than they show, but not something else."""
        rules, build = profile.firmware, self._build
        secure_boot = secure_boot_of(self._files.firmware, build, edk2=rules.edk2, keys=self._keys)
        found = {
            "the measuring driver is": (rules.cc_measurement, build.cc_measurement),
            "the SecureBoot variable is": (rules.secure_boot_variable, secure_boot),
            "the VMM starts a": (profile.boot, self._program.method),
            "it is of kernel": (profile.kernel_release or "none", self._program.release or "none"),
            "SMBIOS tables are measured:": (rules.fw_cfg_events, build.smbios_measured or rules.fw_cfg_events),
        }
        for what, (stated, shown) in found.items():
            if shown is not None and stated != shown and CcMeasurement.UNKNOWN not in (stated, shown):
                raise DocumentError(
                    f"profile {profile.name!r}: says that {what} {stated}, the files say {shown}",
                    hint="make the profile of these very files, with the firmware's edk2 release (`launch_profiles`)",
                )

    @cached_property
    def _build(self) -> FirmwareBuild:
        return firmware_build(self._files.firmware)

    @cached_property
    def _variable_store(self) -> str:
        return sha384_hex(variable_store(self._files.firmware))

    @cached_property
    def _initrd(self) -> str | None:
        return None if self._files.initrd is None else sha384_hex(self._files.initrd)

    def _td_hob(self, memory: int) -> str:
        if memory not in self._td_hobs:
            self._td_hobs[memory] = sha384_hex(td_hob_list(self._metadata, memory))
        return self._td_hobs[memory]

    def _kernel(self, profile: LaunchProfile) -> "_LoadedKernel":
        """Memory decides nothing but the address of the initrd, so kernels are kept by that."""
        files, rules = self._files, profile.firmware
        address = None
        if files.initrd is not None:  # QEMU refuses one that does not fit whichever kernel it serves
            address = initrd_address(files.kernel, len(files.initrd), memory=profile.memory)
        key = (rules, profile.kernel_form, address if profile.kernel_form is KernelForm.PATCHED else None)
        if key not in self._kernels:
            image = files.kernel if profile.kernel_form is KernelForm.RAW else self._patched(profile.memory)
            self._kernels[key] = _LoadedKernel(
                authenticode_digest(image).hex(), kernel_authorities(image, rules=rules, keys=self._keys_of(rules))
            )
        return self._kernels[key]

    def _patched(self, memory: int) -> bytes:
        files = self._files
        initrd_size = None if files.initrd is None else len(files.initrd)
        return patch_kernel(files.kernel, KernelLoad(memory, initrd_size, files.command_line))

    def _options(self, profile: LaunchProfile) -> str:
        argument = None if self._files.initrd is None else profile.firmware.initrd_argument
        if argument not in self._load_options:
            self._load_options[argument] = sha384_hex(encode_load_options(self._files.command_line, argument))
        return self._load_options[argument]


def _register(event: ExpectedEvent) -> str:
    return event.register


def check_predictions(values: ReferenceValues) -> None:
    """RegisterDiffersError unless every prediction's events replay to its registers and its MRTD is its page order's.

    Needs no files: it shows that a document agrees with itself, not that it is right.
    """
    for prediction in values.predictions:
        expected = registers_of(values.mrtd[prediction.profile.page_order], prediction.events)
        if prediction.registers != expected:
            stated, given = asdict(prediction.registers), asdict(expected)
            name = next(register for register in given if stated[register] != given[register])
            raise RegisterDiffersError(
                f"profile {prediction.profile.name!r}: {name} is stated as {stated[name] or 'not predicted'}, "
                f"its events give {given[name] or 'nothing that could be predicted'}",
                hint="the document was edited or damaged after it was made",
            )


def checked_acpi_digests(profile: LaunchProfile, blobs: AcpiBlobs) -> AcpiDigests:
    """Digests of the blobs of a profile's machine, for `Measurer.predict` without keeping the blobs.

    DocumentError if they are not of this CPU count, or of a machine with a TPM, which has one event more.
    """
    order = check_acpi(blobs, profile.vcpus)
    if order != (RSDP_FILE, TABLES_FILE):
        raise DocumentError(
            f"profile {profile.name!r}: the loader allocates {', '.join(order)}; wanted {RSDP_FILE}, {TABLES_FILE}",
            hint="read the tables of the machine without a TPM",
        )
    return blobs.digests()
