"""Root file systems built in two real legs, and their members read by unsquashfs of the pinned root in a sandbox."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.backends.bubblewrap import Bubblewrap
from builder.backends.member_reader import SquashfsMembers
from builder.errors import BuildFailedError, MissingError
from builder.model.build_info import BuildInfo, Probe
from builder.model.comparison import CauseName, Comparison, Difference, DifferenceKind, Register
from builder.model.leg import LegRecord, encode_leg_record
from builder.model.plan import Artifact
from builder.model.variation import VARIATION_A, VARIATION_B, Variation
from builder.pipeline.diff import diff_paths
from builder.pipeline.explain import ExplainTools
from builder.pipeline.files import hash_file

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("pinned_root")]

ENVIRONMENT = {"SOURCE_DATE_EPOCH": "1700000000"}
# as builder.components.guest_os does it, but from a directory, so that owners and modes can go wrong
PACK = """
mksquashfs tree out/rootfs.img -quiet -no-progress -noappend -no-exports -no-xattrs -all-root -comp zstd
size=$(stat -c %s out/rootfs.img)
veritysetup format --salt=- --no-superblock --hash-offset=$size --root-hash-file=hash out/rootfs.img out/rootfs.img
printf 'roothash=%s ro' "$(cat hash)" >out/cmdline
"""
MODES = "chmod -R u=rwX,go=rX tree\n"
PLANTED = """
mkdir -p tree/etc 'tree/with space'
uname -n >tree/etc/built-on
pwd -P >tree/etc/built-in
date +%s >tree/etc/built-at
seq 20000 >tree/etc/same
echo "$HOME" >'tree/with space/home'
"""
SAME = "mkdir -p tree/etc; seq 20000 >tree/etc/same; ln -s same tree/etc/link\n"


@dataclass(frozen=True)
class Legs:
    """Runs a script in both legs, and compares what it left."""

    engine: Bubblewrap
    root: Path
    place: Path

    def build(self, variation: Variation, script: str) -> Path:
        directory = self.place / variation.name
        artifacts = directory / "artifacts"
        artifacts.mkdir(parents=True)
        started = int(time.time())
        with self.engine.open(self.root, variation, self.place / "scratch") as workspace:
            workspace.run(("sh", "-euc", script), ENVIRONMENT, bytearray().extend)
            for name in ("rootfs.img", "cmdline"):
                shutil.copyfile(workspace.get(name), artifacts / name)
        probe = Probe({}, {})
        info = BuildInfo(variation.name, "bubblewrap", "1", (probe, probe), {}, started, int(time.time()))
        files = [(path.name, *hash_file(path)) for path in sorted(artifacts.iterdir())]
        listed = tuple(Artifact("guest_os", name, size, sha256) for name, sha256, size in files)
        record = LegRecord("aa" * 32, "bb" * 32, "cc" * 32, info, listed)
        (directory / "leg.json").write_bytes(encode_leg_record(record))
        return directory

    def compare(self, script: str) -> Comparison:
        sides = [self.build(variation, script) for variation in (VARIATION_A, VARIATION_B)]
        return self.diff(*sides)

    def diff(self, a: Path, b: Path) -> Comparison:
        lister = SquashfsMembers(self.engine, self.root)
        comparison = diff_paths(a, b, ExplainTools(self.place / "explain", lister))
        assert not list(self.place.glob("explain/*")), "the comparison left files behind"
        return comparison


@pytest.fixture
def legs(pinned_root: Path, tmp_path: Path) -> Legs:
    return Legs(Bubblewrap(), pinned_root, tmp_path)


def by_member(comparison: Comparison) -> dict[str, Difference]:
    (rootfs,) = (artifact for artifact in comparison.artifacts if artifact.name == "rootfs.img")
    assert rootfs.notes == ()
    return {" > ".join((*difference.path[1:], difference.field)): difference for difference in rootfs.differences}


def test_every_planted_difference_is_found_in_its_member_and_explained(legs: Legs) -> None:
    comparison = legs.compare(PLANTED + MODES + PACK)
    found = by_member(comparison)
    causes = {name: (difference.kind, difference.cause.name) for name, difference in found.items()}
    assert causes == {
        "etc/built-on > ": (DifferenceKind.CONTENT, CauseName.HOSTNAME),
        "etc/built-in > ": (DifferenceKind.CONTENT, CauseName.PATH),
        "etc/built-at > ": (DifferenceKind.CONTENT, CauseName.CLOCK),
        "with space/home > ": (DifferenceKind.CONTENT, CauseName.PATH),
        "(dm-verity hash tree) > ": (DifferenceKind.CONTENT, CauseName.CONSEQUENCE),
    }
    assert {difference.measured.register for difference in found.values()} == {Register.RTMR2}
    (line,) = (artifact for artifact in comparison.artifacts if artifact.name == "cmdline")
    assert line.difference is not None
    assert line.difference.cause.name is CauseName.CONSEQUENCE
    assert "dm-verity root hash of rootfs.img" in line.difference.cause.evidence


def test_modes_that_the_umask_made_are_named(legs: Legs) -> None:
    found = by_member(legs.compare(SAME + PACK))
    modes = {name: difference for name, difference in found.items() if difference.field == "mode"}
    assert modes.keys() == {"/ > mode", "etc > mode", "etc/same > mode"}
    assert {difference.cause.name for difference in modes.values()} == {CauseName.UMASK}
    assert (modes["etc > mode"].a_excerpt, modes["etc > mode"].b_excerpt) == ("0755", "0700")


def test_two_legs_that_agree_have_no_difference(legs: Legs) -> None:
    comparison = legs.compare(SAME + MODES + PACK)
    assert comparison.identical
    assert not any(artifact.notes or artifact.differences for artifact in comparison.artifacts)


def test_an_image_that_cannot_be_read_is_still_placed(legs: Legs) -> None:
    a = legs.build(VARIATION_A, SAME + MODES + PACK) / "artifacts" / "rootfs.img"
    damaged = bytearray(a.read_bytes())
    damaged[96:196] = bytes(100)
    b = legs.place / "rootfs.img"
    b.write_bytes(damaged)
    (artifact,) = legs.diff(a, b).artifacts
    assert artifact.difference is not None
    assert artifact.difference.artifact_offset == 96
    assert any("members were not read" in note for note in artifact.notes)


def test_hostile_images_are_refused_by_the_reader_and_leave_nothing(legs: Legs) -> None:
    lister = SquashfsMembers(legs.engine, legs.root)
    for number, data in enumerate((b"", b"hsqs", b"hsqs" + b"\xff" * 8192, b"hsqs" + bytes(8192))):
        image = legs.place / f"image-{number}"
        image.write_bytes(data)
        with pytest.raises(BuildFailedError, match="unsquashfs"), lister(image, legs.place / "scratch"):
            pass
        assert not (legs.place / "scratch").exists()


def test_a_root_without_unsquashfs_is_an_error_that_names_it(legs: Legs, tmp_path: Path) -> None:
    empty = tmp_path / "empty-root"
    empty.mkdir()
    lister = SquashfsMembers(legs.engine, empty)
    image = tmp_path / "image"
    image.write_bytes(b"hsqs")
    with pytest.raises((MissingError, BuildFailedError)), lister(image, tmp_path / "scratch"):
        pass
