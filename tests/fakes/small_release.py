"""A small, signed release with firmware and kernel that have the form of real ones, and its artefacts."""

from dataclasses import dataclass
from pathlib import Path

from builder.backends.signers import FileSigner, KeyKind, load_public_key, load_signer, write_new_key
from builder.measure import Measurer, launch_profiles
from builder.model.launch_profile import BootFiles
from builder.model.plan import ArtifactSource, BuildPlan, Step
from builder.model.recipe import VmmSpec
from builder.model.reference_values import AcpiDigests, ReferenceValues
from builder.model.variation import Variation
from builder.pipeline.release import ReleaseOrder, release, show_artifacts
from builder.verify.public_key import PublicKey
from tests.fakes.boot_files import Firmware, bzimage
from tests.fakes.fake_sandbox import FakeSandbox
from tests.fakes.small_build import build_small, recipe_directory

FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd" * 1000, "console=ttyS0 root=abc size=4096")
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "host", ("serial",))
ACPI = AcpiDigests("1" * 96, "2" * 96, "3" * 96)
PLAN = BuildPlan(
    image="sample",
    version="1.2.3",
    source_date_epoch=1767225600,
    steps=(Step("all", ("make-all",), (), ("OVMF.fd", "vmlinuz", "initrd.img", "cmdline")),),
    artifacts=(
        ArtifactSource("firmware", "all", "OVMF.fd"),
        ArtifactSource("kernel", "all", "vmlinuz"),
        ArtifactSource("initrd", "all", "initrd.img"),
        ArtifactSource("guest_os", "all", "cmdline"),
    ),
)


@dataclass(frozen=True)
class SmallRelease:
    """Where it lies, and the key it was signed with."""

    manifest: Path
    artifacts: Path
    key: PublicKey
    signer: FileSigner


def make_all(directory: Path, variation: Variation) -> None:
    (directory / "out/OVMF.fd").write_bytes(FILES.firmware)
    (directory / "out/vmlinuz").write_bytes(FILES.kernel)
    (directory / "out/initrd.img").write_bytes(FILES.initrd or b"")
    (directory / "out/cmdline").write_text(FILES.command_line)


def small_values() -> ReferenceValues:
    """The values of two machines."""
    profiles = launch_profiles(FILES, vmm=VMM, edk2="202502", shapes=[(1, 1 << 30), (2, 2 << 30)])
    return Measurer(FILES).reference_values((profile, ACPI) for profile in profiles)


def publish_small(path: Path, kind: KeyKind = KeyKind.ED25519) -> SmallRelease:
    """Build and publish it below `path`."""
    written = write_new_key(path / "release-test-key", kind)
    a, b = build_small(path, FakeSandbox({"make-all": make_all}), PLAN)
    signer = load_signer(written.private)
    order = ReleaseOrder(recipe_directory(path), path / "out", path / "manifests", signer)
    published = release(
        order, (a, b), lambda _leg: small_values(), lambda comparison, _a, _b: comparison, rehearse=None
    )
    return SmallRelease(published.path, show_artifacts(order, a), load_public_key(written.public), signer)
