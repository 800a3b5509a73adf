"""The quickstart image boots under emulation and runs its app, and one wrong bit keeps it from doing so."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from builder.backends.process import run
from builder.components.plan import plan_build
from tests.fakes.recipes import sample_lock, sample_recipe
from tests.integration.conftest import RealRelease

pytestmark = pytest.mark.slow

ARTEFACTS = ("OVMF.fd", "vmlinuz", "initrd.img", "app.oci.tar", "rootfs.img", "cmdline")
EPOCH = str(sample_recipe().source_date_epoch)
LIMIT = 600.0  # seconds; a boot takes about ten, and a guest that hangs is a failure
RAN = "tdx-builder: app quickstart ran: "
REFUSED = "tdx-builder: boot refused: "

Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Guest:
    """What a virtual machine is started with."""

    vmm_root: Path
    release: Path
    rootfs: Path
    command_line: str

    def console(self) -> str:
        """Start it, wait until it has powered itself off, and give back what it wrote to its console."""
        mounts = ["--ro-bind", str(self.vmm_root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
        mounts += ["--ro-bind", str(self.release), "/run/release", "--ro-bind", str(self.rootfs), "/run/rootfs.img"]
        machine = ["-machine", "q35,smm=off", "-accel", "tcg", "-m", "1G", "-nodefaults", "-display", "none"]
        boot = ["-bios", "/run/release/OVMF.fd", "-kernel", "/run/release/vmlinuz"]
        boot += ["-initrd", "/run/release/initrd.img", "-append", self.command_line]
        disk = ["-drive", "file=/run/rootfs.img,if=none,id=root,format=raw,readonly=on"]
        disk += ["-device", "virtio-blk-pci,drive=root"]
        qemu = ["/usr/bin/qemu-system-x86_64", *machine, *boot, *disk, "-no-reboot", "-serial", "stdio"]
        command = ["bwrap", "--unshare-all", "--die-with-parent", "--tmpfs", "/tmp", *mounts, "--", *qemu]
        return run(command, environment={}, timeout=LIMIT).stdout.decode("utf-8", "replace")


@pytest.fixture(scope="module")
def guest(real_release: RealRelease, vmm_root: Path) -> Guest:
    release = real_release.artifacts
    assert sorted(path.name for path in release.iterdir()) == sorted(ARTEFACTS)
    text = (release / "cmdline").read_text(encoding="ascii")
    return Guest(vmm_root, release, release / "rootfs.img", text)


def app_digest(release: Path) -> str:
    with tarfile.open(release / "app.oci.tar") as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        (entry,) = json.load(index)["manifests"]
    return str(entry["digest"])


def data_size(guest: Guest) -> int:
    """Bytes of the root file system before its hash tree."""
    (word,) = [word for word in guest.command_line.split() if word.startswith("tdxb.rootsize=")]
    return int(word.partition("=")[2])


def test_the_published_app_runs_and_the_machine_powers_off(guest: Guest) -> None:
    console = guest.console()
    assert f"{RAN}{app_digest(guest.release)}" in console
    assert REFUSED not in console


@pytest.mark.parametrize("where", ["first byte", "middle of the data", "padding", "top of the tree", "end of the tree"])
def test_one_flipped_bit_of_the_root_file_system_stops_the_boot(guest: Guest, where: str, tmp_path: Path) -> None:
    size, data = data_size(guest), bytearray(guest.rootfs.read_bytes())
    position = {
        "first byte": 0,
        "middle of the data": size // 2,
        "padding": size - 1,
        "top of the tree": size,
        "end of the tree": len(data) - 1,
    }[where]
    data[position] ^= 1
    bad = tmp_path / "rootfs.img"
    bad.write_bytes(data)
    console = replace(guest, rootfs=bad).console()
    assert f"{REFUSED}/dev/vda does not match root hash" in console
    assert RAN not in console
    assert "Hello" not in console


def test_a_root_file_system_without_its_tree_stops_the_boot(guest: Guest, tmp_path: Path) -> None:
    bad = tmp_path / "rootfs.img"
    bad.write_bytes(guest.rootfs.read_bytes()[: data_size(guest)])
    console = replace(guest, rootfs=bad).console()
    assert f"{REFUSED}/dev/vda cannot be opened as a dm-verity device" in console
    assert RAN not in console


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tdxb.roothash=", "tdxb.roothash=0", "tdxb.roothash has 65 digits, wanted 64"),
        ("tdxb.roothash=", "other=", "tdxb.roothash is '', wanted 64 hex digits"),
        ("tdxb.rootsize=", "tdxb.rootsize=$(poweroff)", "tdxb.rootsize is '$(poweroff)"),
    ],
)
def test_a_command_line_that_does_not_bind_the_root_stops_the_boot(
    guest: Guest, old: str, new: str, message: str
) -> None:
    console = replace(guest, command_line=guest.command_line.replace(old, new)).console()
    assert f"{REFUSED}{message}" in console
    assert RAN not in console


def test_another_root_hash_stops_the_boot(guest: Guest) -> None:
    (word,) = [word for word in guest.command_line.split() if word.startswith("tdxb.roothash=")]
    other = f"tdxb.roothash={'0' * 64}"
    console = replace(guest, command_line=guest.command_line.replace(word, other)).console()
    assert f"{REFUSED}/dev/vda does not match root hash {'0' * 64}" in console
    assert RAN not in console


class OtherRoot:
    """A root file system with one changed file under a dm-verity tree of its own: intact, but not the one released."""

    def __init__(self, guest: Guest, tools_root: Path, directory: Path) -> None:
        self._guest = guest
        self._tools_root = tools_root
        self._directory = directory

    def guest_with(self, name: str, change: Change) -> Guest:
        """The guest whose verified root has `change` made to the file that ends in `name`."""
        (self._directory / "in").mkdir()
        (self._directory / "out").mkdir()
        self._run("sqfs2tar release/rootfs.img >in/old.tar")
        (self._directory / "in/root.tar").write_bytes(self._changed(name, change))
        (image,) = [step for step in plan_build(sample_recipe(), sample_lock()).steps if step.name == "root_image"]
        self._run(image.argv[-1])
        root_hash, size = ((self._directory / "out" / name).read_text().strip() for name in ("root.hash", "root.size"))
        text = f"console=ttyS0 quiet panic=-1 tdxb.roothash={root_hash} tdxb.rootsize={size}"
        return replace(self._guest, rootfs=self._directory / "out/rootfs.img", command_line=text)

    def _run(self, script: str) -> None:
        mounts = ["--ro-bind", str(self._tools_root), "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run"]
        mounts += ["--bind", str(self._directory), "/run/build", "--tmpfs", "/tmp", "--chdir", "/run/build"]
        mounts += ["--ro-bind", str(self._guest.release), "/run/build/release"]
        environment = {"PATH": "/usr/sbin:/usr/bin", "SOURCE_DATE_EPOCH": EPOCH}
        run(["bwrap", *mounts, "--", "sh", "-euc", script], environment=environment, timeout=LIMIT)

    def _changed(self, name: str, change: Change) -> bytes:
        changed = []
        output = io.BytesIO()
        with (
            tarfile.open(self._directory / "in/old.tar") as old,
            tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as new,
        ):
            for member in old:
                file = old.extractfile(member) if member.isfile() else None
                data = file.read() if file else b""
                if member.name.endswith(name):
                    changed.append(member.name)
                    data = change(data)
                    member.size = len(data)
                new.addfile(member, io.BytesIO(data))
        assert len(changed) == 1, f"{name} stands for {changed}"
        return output.getvalue()


@pytest.fixture
def other_root(guest: Guest, pinned_root: Path, tmp_path: Path) -> OtherRoot:
    return OtherRoot(guest, pinned_root, tmp_path)


def manifest_of(release: Path) -> dict[str, str]:
    """The digests that the manifest of the app names: `config` and `layer`, and its own: `manifest`."""
    digest = app_digest(release)
    with tarfile.open(release / "app.oci.tar") as tar:
        blob = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
        assert blob is not None
        document = json.load(blob)
    return {
        "manifest": digest,
        "config": document["config"]["digest"],
        "layer": document["layers"][0]["digest"],
    }


def flipped_last_byte(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("blob", ["manifest", "config", "layer"])
def test_an_app_that_is_not_what_its_digest_says_never_runs(guest: Guest, other_root: OtherRoot, blob: str) -> None:
    digest = manifest_of(guest.release)[blob]
    console = other_root.guest_with(digest.removeprefix("sha256:"), flipped_last_byte).console()
    assert "tdx-builder: root file system verified" in console
    assert f"tdx-builder: app refused: its {blob} does not have digest" in console
    assert digest in console
    assert RAN not in console
    assert "Hello" not in console


def test_an_app_that_is_not_the_pinned_one_never_runs(guest: Guest, other_root: OtherRoot) -> None:
    pin = b"sha256:" + b"0" * 64 + b"\n"
    console = other_root.guest_with("tdx-builder/app.digest", lambda _: pin).console()
    assert f"app refused: the image is '{app_digest(guest.release)}', pinned is 'sha256:000" in console
    assert RAN not in console
