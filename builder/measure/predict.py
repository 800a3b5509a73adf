"""Predicting registers: files, launch profiles and ACPI tables in, events and Reference Values out.

MRTD and CFV depend on the firmware alone, the HOB on memory, RTMR[1] on the image and the memory class, RTMR[2] on the
image: each is computed once for a matrix of shapes (`measurement.md` 13).
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

from builder.errors import DocumentError, RegisterDiffersError
from builder.measure.acpi import RSDP_FILE, TABLES_FILE, AcpiBlobs, check_acpi
from builder.measure.authenticode import authenticode_digest
from builder.measure.direct_boot import rtmr0_events, rtmr1_events, rtmr2_events
from builder.measure.firmware_volume import cc_measurement_of
from builder.measure.kernel_image import KernelLoad, check_kernel, initrd_address, kernel_release, patch_kernel
from builder.measure.load_options import encode_load_options
from builder.measure.mrtd import mrtd_for
from builder.measure.rtmr import registers_of
from builder.measure.td_hob import td_hob_list
from builder.measure.tdvf import SectionType, parse_tdvf
from builder.measure.variable_store import check_no_variables
from builder.model.digest import sha384_hex
from builder.model.launch_profile import (
    BootFiles,
    CcMeasurement,
    InitrdArgument,
    KernelForm,
    LaunchProfile,
    PageOrder,
)
from builder.model.reference_values import AcpiDigests, Prediction, ReferenceValues


class Measurer:
    """Predicts what TDs started from these files show. DocumentError if firmware, kernel or initrd are refused.

    Safe to use from one thread at a time.
    """

    def __init__(self, files: BootFiles) -> None:
        self._files = files
        self._metadata = parse_tdvf(files.firmware)
        check_kernel(files.kernel)
        if files.initrd == b"":
            raise DocumentError("initrd: an empty file", hint="give no initrd at all if the guest has none")
        self._td_hobs: dict[int, str] = {}
        self._kernels: dict[int | None, str] = {}
        self._load_options: dict[InitrdArgument | None, str] = {}

    @cached_property
    def mrtd(self) -> Mapping[PageOrder, str]:
        """MRTD in hex for both page orders."""
        return {order: mrtd_for(self._files.firmware, order).hex() for order in PageOrder}

    def predict(self, profile: LaunchProfile, acpi: AcpiBlobs | AcpiDigests) -> Prediction:
        """Events and registers of one profile.

        `acpi` are the blobs of exactly this shape, checked here for their CPU count, or digests that somebody states:
        then the prediction is only as good as that statement. DocumentError for whatever no rule covers, and for a
        profile that contradicts the files.
        """
        self._check_profile(profile)
        digests = checked_acpi_digests(profile, acpi) if isinstance(acpi, AcpiBlobs) else acpi
        events = (
            *rtmr0_events(
                profile.firmware,
                td_hob=self._td_hob(profile.memory),
                variable_store=self._variable_store,
                acpi=digests,
            ),
            *rtmr1_events(profile.firmware, kernel=self._kernel(profile), kernel_form=profile.kernel_form),
            *rtmr2_events(load_options=self._options(profile), initrd=self._initrd),
        )
        return Prediction(profile, registers_of(self.mrtd[profile.page_order], events), events, digests)

    def reference_values(self, shapes: Iterable[tuple[LaunchProfile, AcpiBlobs | AcpiDigests]]) -> ReferenceValues:
        """Predictions for a whole matrix. DocumentError if it is empty or two profiles share a name."""
        predictions = tuple(self.predict(profile, acpi) for profile, acpi in shapes)
        names = {prediction.profile.name for prediction in predictions}
        if not predictions or len(names) != len(predictions):
            raise DocumentError(f"{len(predictions)} launch profiles with {len(names)} names: wanted some, each once")
        return ReferenceValues(self.mrtd, predictions)

    def _check_profile(self, profile: LaunchProfile) -> None:
        """A profile may know less of the files than they show, but not something else."""
        stated, found = profile.firmware.cc_measurement, self._cc_measurement
        if CcMeasurement.UNKNOWN not in (stated, found) and stated is not found:
            raise DocumentError(
                f"profile {profile.name!r}: says that the measuring driver is {stated}, in the firmware it is {found}",
                hint="make the profile of exactly these files (`launch_profiles`)",
            )
        if profile.kernel_release != self._kernel_release:
            raise DocumentError(
                f"profile {profile.name!r}: is of kernel {profile.kernel_release!r}, the file says "
                f"{self._kernel_release!r}",
                hint="make the profile of exactly these files (`launch_profiles`)",
            )

    @cached_property
    def _cc_measurement(self) -> CcMeasurement:
        return cc_measurement_of(self._files.firmware)

    @cached_property
    def _kernel_release(self) -> str:
        return kernel_release(self._files.kernel)

    @cached_property
    def _variable_store(self) -> str:
        stores = self._metadata.of_type(SectionType.CFV)
        if len(stores) != 1:
            raise DocumentError(f"firmware: {len(stores)} CFV sections, wanted exactly one")
        store = stores[0].data(self._files.firmware)
        check_no_variables(store)
        return sha384_hex(store)

    @cached_property
    def _initrd(self) -> str | None:
        return None if self._files.initrd is None else sha384_hex(self._files.initrd)

    def _td_hob(self, memory: int) -> str:
        if memory not in self._td_hobs:
            self._td_hobs[memory] = sha384_hex(td_hob_list(self._metadata, memory))
        return self._td_hobs[memory]

    def _kernel(self, profile: LaunchProfile) -> str:
        """Memory decides nothing but the address of the initrd, so kernels are kept by that."""
        files = self._files
        if profile.kernel_form is KernelForm.RAW:
            return self._raw_kernel
        address = None
        if files.initrd is not None:
            address = initrd_address(files.kernel, len(files.initrd), memory=profile.memory)
        if address not in self._kernels:
            load = KernelLoad(profile.memory, None if files.initrd is None else len(files.initrd), files.command_line)
            self._kernels[address] = authenticode_digest(patch_kernel(files.kernel, load)).hex()
        return self._kernels[address]

    @cached_property
    def _raw_kernel(self) -> str:
        return authenticode_digest(self._files.kernel).hex()

    def _options(self, profile: LaunchProfile) -> str:
        argument = None if self._files.initrd is None else profile.firmware.initrd_argument
        if argument not in self._load_options:
            self._load_options[argument] = sha384_hex(encode_load_options(self._files.command_line, argument))
        return self._load_options[argument]


def check_predictions(values: ReferenceValues) -> None:
    """RegisterDiffersError unless every prediction's events replay to its registers and its MRTD is its page order's.

    Needs no files: it shows that a document agrees with itself, not that it is right.
    """
    for prediction in values.predictions:
        expected = registers_of(values.mrtd[prediction.profile.page_order], prediction.events)
        if prediction.registers != expected:
            raise RegisterDiffersError(
                f"profile {prediction.profile.name!r}: stated {prediction.registers}, its events give {expected}",
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
