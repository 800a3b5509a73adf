"""Comparing files and directories: what is there is compared, and what cannot be compared is an error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from builder.compare.render import comparison_lines
from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError, MissingError
from builder.model.build_info import BuildInfo, Probe
from builder.model.comparison import CauseName, Comparison, DifferenceKind, Register, comparison_document
from builder.model.leg import LegRecord, encode_leg_record
from builder.model.plan import Artifact
from builder.pipeline.diff import diff_paths
from builder.pipeline.explain import ExplainTools
from builder.pipeline.file_source import open_source
from tests.fakes.archives import changed, cpio_archive, oci_archive, pseudo_file, squashfs_image, tar_of

STARTED = 1_790_000_000


@pytest.fixture
def tools(tmp_path: Path) -> ExplainTools:
    return ExplainTools(tmp_path / "scratch")


def directory(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name.replace("__", ".")).write_bytes(data)
    return path


def test_two_equal_directories_are_identical(tmp_path: Path, tools: ExplainTools) -> None:
    a, b = (directory(tmp_path / side, vmlinuz=b"kernel", cmdline=b"root=x") for side in "ab")
    comparison = diff_paths(a, b, tools)
    assert comparison.identical
    assert [artifact.name for artifact in comparison.artifacts] == ["cmdline", "vmlinuz"]
    assert not (tmp_path / "scratch").exists()


def test_a_file_compared_with_itself_is_identical(tmp_path: Path, tools: ExplainTools) -> None:
    path = directory(tmp_path / "a", vmlinuz=b"kernel") / "vmlinuz"
    assert diff_paths(path, path, tools).identical


def test_two_empty_directories_are_not_identical(tmp_path: Path, tools: ExplainTools) -> None:
    a, b = (directory(tmp_path / side) for side in "ab")
    assert not diff_paths(a, b, tools).identical


def test_a_file_that_only_one_directory_has(tmp_path: Path, tools: ExplainTools) -> None:
    a = directory(tmp_path / "a", vmlinuz=b"kernel")
    b = directory(tmp_path / "b", vmlinuz=b"kernel", initrd__img=b"initrd")
    comparison = diff_paths(a, b, tools)
    assert not comparison.identical
    (missing,) = comparison.differing
    assert missing.difference is not None
    assert missing.difference.kind is DifferenceKind.ONLY_IN_B
    assert missing.difference.measured.register is Register.RTMR2


def test_empty_files_are_equal_only_to_empty_files(tmp_path: Path, tools: ExplainTools) -> None:
    a, b = directory(tmp_path / "a", x=b"", y=b""), directory(tmp_path / "b", x=b"", y=b"y")
    comparison = diff_paths(a, b, tools)
    assert [artifact.identical for artifact in comparison.artifacts] == [True, False]


def test_two_files_are_one_artifact(tmp_path: Path, tools: ExplainTools) -> None:
    a, b = directory(tmp_path / "a", initrd__img=cpio_archive()), directory(tmp_path / "b")
    (b / "other.img").write_bytes(cpio_archive(changed("init", data=b"#!/bin/sh\nexec /bin/TRUE\n")))
    (artifact,) = diff_paths(a / "initrd.img", b / "other.img", tools).artifacts
    assert artifact.difference is not None
    assert artifact.difference.path == ("initrd.img", "init")


def test_files_below_a_directory_are_compared_too(tmp_path: Path, tools: ExplainTools) -> None:
    for side, data in (("a", b"1"), ("b", b"2")):
        directory(tmp_path / side / "deep" / "er", file=data)
    comparison = diff_paths(tmp_path / "a", tmp_path / "b", tools)
    assert [artifact.name for artifact in comparison.differing] == ["deep/er/file"]


@pytest.mark.parametrize(
    ("a", "b"), [("file", "directory"), ("directory", "file"), ("file", "absent"), ("absent", "absent")]
)
def test_sides_that_are_not_of_one_kind_are_refused(tmp_path: Path, tools: ExplainTools, a: str, b: str) -> None:
    directory(tmp_path / "directory")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DocumentError, match="two files, or two directories") as error:
        raise_with_hint(tmp_path / a, tmp_path / b, tools)
    assert a in str(error.value)


def raise_with_hint(a: Path, b: Path, tools: ExplainTools) -> None:
    try:
        diff_paths(a, b, tools)
    except DocumentError as error:
        raise DocumentError(f"{error.message}: {error.hint}") from error


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("vmlinuz"), os.mkfifo])
def test_what_is_no_regular_file_is_refused_and_not_passed_over(
    tmp_path: Path, tools: ExplainTools, make: object
) -> None:
    a, b = (directory(tmp_path / side, vmlinuz=b"kernel") for side in "ab")
    assert callable(make)
    make(b / "odd")
    with pytest.raises(DocumentError, match="odd: neither a regular file nor a directory"):
        diff_paths(a, b, tools)


def test_a_link_to_a_directory_is_refused_and_not_passed_over(tmp_path: Path, tools: ExplainTools) -> None:
    a, b = (directory(tmp_path / side, vmlinuz=b"kernel") for side in "ab")
    (b / "odd").symlink_to(a, target_is_directory=True)
    with pytest.raises(DocumentError, match="odd"):
        diff_paths(a, b, tools)


def test_names_that_cannot_be_told_apart_are_refused(tmp_path: Path, tools: ExplainTools) -> None:
    a, b = (directory(tmp_path / side) for side in "ab")
    for name in (b"x\x01", b"x\\x01"):
        (a / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(DocumentError, match="so does another"):
        diff_paths(a, b, tools)


def test_a_name_that_is_no_text_can_be_reported(tmp_path: Path, tools: ExplainTools) -> None:
    a, b = (directory(tmp_path / side) for side in "ab")
    (a / os.fsdecode(b"\xff\x1b")).write_bytes(b"")
    comparison = diff_paths(a, b, tools)
    encode_canonical(comparison_document(comparison))
    assert "\\xff\\x1b: DIFFERS" in comparison_lines(comparison)[0]


def leg_directory(path: Path, leg: str, **files: bytes) -> Path:
    artifacts = directory(path / "artifacts", **files)
    listed = tuple(
        Artifact("kernel", each.name, each.stat().st_size, sha256(each.read_bytes()).hexdigest())
        for each in sorted(artifacts.iterdir())
    )
    probe = Probe({"num_cpus": "affinity 2, online 2"}, {})
    info = BuildInfo(leg, "bubblewrap", "1", (probe, probe), {}, STARTED, STARTED + 60)
    record = LegRecord("aa" * 32, "bb" * 32, "cc" * 32, info, listed)
    (path / "leg.json").write_bytes(encode_leg_record(record))
    (path / "log").write_bytes(os.urandom(16))
    return path


def test_the_records_of_two_legs_let_a_cause_be_named(tmp_path: Path, tools: ExplainTools) -> None:
    a = leg_directory(tmp_path / "a", "a", image=b"built on alpha;")
    b = leg_directory(tmp_path / "b", "b", image=b"built on beta.example.invalid;")
    (artifact,) = diff_paths(a, b, tools).artifacts
    assert artifact.component == "kernel"
    assert artifact.difference is not None
    assert artifact.difference.cause.name is CauseName.HOSTNAME
    assert artifact.difference.measured.register is Register.RTMR1


def test_the_records_of_one_leg_twice_name_no_cause(tmp_path: Path, tools: ExplainTools) -> None:
    a = leg_directory(tmp_path / "a", "a", image=b"built on alpha;")
    b = leg_directory(tmp_path / "b", "a", image=b"built on beta.example.invalid;")
    (artifact,) = diff_paths(a, b, tools).artifacts
    assert artifact.difference is not None
    assert artifact.difference.cause.name is CauseName.UNKNOWN


def test_a_leg_of_a_variation_that_is_not_known_names_no_cause(tmp_path: Path, tools: ExplainTools) -> None:
    a = leg_directory(tmp_path / "a", "a", image=b"built on alpha;")
    b = leg_directory(tmp_path / "b", "other", image=b"built on beta.example.invalid;")
    (artifact,) = diff_paths(a, b, tools).artifacts
    assert artifact.difference is not None
    assert artifact.difference.cause.name is CauseName.UNKNOWN


def test_a_damaged_record_is_refused(tmp_path: Path, tools: ExplainTools) -> None:
    a = leg_directory(tmp_path / "a", "a", image=b"x")
    (a / "leg.json").write_bytes(b"{}")
    with pytest.raises(DocumentError, match=r"leg\.json"):
        diff_paths(a, a, tools)


def test_a_document_that_names_the_digest_of_another_artifact_is_a_consequence(
    tmp_path: Path, tools: ExplainTools
) -> None:
    sides = []
    for side, data in (("a", b"one"), ("b", b"two")):
        digest = sha256(data).hexdigest().encode()
        sides.append(directory(tmp_path / side, vmlinuz=data, manifest=b"kernel sha256:" + digest + b"\n"))
    manifest, kernel = diff_paths(*sides, tools).differing
    assert manifest.difference is not None
    assert kernel.difference is not None
    assert manifest.difference.cause.name is CauseName.CONSEQUENCE
    assert "vmlinuz" in manifest.difference.cause.evidence
    assert kernel.difference.cause.name is CauseName.UNKNOWN


def test_the_root_hash_on_the_command_line_is_a_consequence(tmp_path: Path, tools: ExplainTools) -> None:
    sides = []
    for side, fill in (("a", b"1"), ("b", b"2")):
        top = fill * 4096
        line = b"console=hvc0 roothash=" + sha256(top).hexdigest().encode() + b" ro"
        image = squashfs_image(fill * 100, verity=top)
        sides.append(directory(tmp_path / side, cmdline=line, rootfs__img=image))
    line_artifact, _ = diff_paths(*sides, tools).differing
    assert line_artifact.difference is not None
    assert line_artifact.difference.cause.name is CauseName.CONSEQUENCE
    assert "root hash of rootfs.img" in line_artifact.difference.cause.evidence


class Lister:
    """Lists what it is told, and remembers which files it saw and whether its scratch directory was free."""

    def __init__(self, *listings: bytes) -> None:
        self.listings = list(listings)
        self.images: list[bytes] = []

    @contextmanager
    def __call__(self, image: Path, scratch: Path) -> Iterator[Path]:
        self.images.append(image.read_bytes())
        scratch.mkdir(parents=True)
        (scratch / "listing").write_bytes(self.listings.pop(0))
        yield scratch / "listing"
        (scratch / "listing").unlink()
        scratch.rmdir()


def test_a_lister_sees_the_files_themselves_and_leaves_nothing_behind(tmp_path: Path) -> None:
    images = squashfs_image(b"A" * 100), squashfs_image(b"B" * 100)
    a, b = (directory(tmp_path / side, rootfs__img=image) for side, image in zip("ab", images, strict=True))
    lister = Lister(pseudo_file(), pseudo_file(changed("init", mode=0o100700)))
    (artifact,) = diff_paths(a, b, ExplainTools(tmp_path / "scratch", lister)).artifacts
    assert artifact.difference is not None
    assert (artifact.difference.path, artifact.difference.kind) == (("rootfs.img", "init"), DifferenceKind.MODE)
    assert tuple(lister.images) == images
    assert not list((tmp_path / "scratch").iterdir())


def test_an_image_inside_a_layer_is_copied_out_for_the_lister(tmp_path: Path) -> None:
    images = squashfs_image(b"A" * 100), squashfs_image(b"B" * 100)
    a, b = (
        directory(tmp_path / side, app__oci__tar=oci_archive(tar_of(changed("init", data=image))))
        for side, image in zip("ab", images, strict=True)
    )
    lister = Lister(pseudo_file(), pseudo_file(changed("init", data=b"other")))
    (artifact,) = diff_paths(a, b, ExplainTools(tmp_path / "scratch", lister)).artifacts
    assert artifact.difference is not None
    assert artifact.difference.path == ("app.oci.tar", "manifests[0].layers[0]", "init", "init")
    assert tuple(lister.images) == images
    assert not list((tmp_path / "scratch").iterdir())


def test_a_lister_that_is_not_there_is_noted(tmp_path: Path) -> None:
    @contextmanager
    def absent(image: Path, scratch: Path) -> Iterator[Path]:
        raise MissingError(f"{image}: no pinned root at {scratch}")
        yield image

    a, b = (directory(tmp_path / side, rootfs__img=squashfs_image(side.encode() * 100)) for side in "ab")
    comparison = diff_paths(a, b, ExplainTools(tmp_path / "scratch", absent))
    (artifact,) = comparison.differing
    assert artifact.differences
    assert any("no pinned root" in note for note in artifact.notes)
    assert any("no pinned root" in line for line in comparison_lines(comparison))


def test_a_file_source_reads_pieces(tmp_path: Path) -> None:
    path = directory(tmp_path / "a", x=b"0123456789") / "x"
    with open_source(path) as source:
        assert (source.size, source.read(3, 4), source.read(8, 9)) == (10, b"3456", b"89")


@pytest.mark.parametrize("name", ["absent", "."])
def test_what_is_no_file_is_not_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(DocumentError, match="not a regular file"), open_source(tmp_path / name):
        pass


def test_a_closed_file_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    with open_source(directory(tmp_path / "a", x=b"0123456789") / "x") as source:
        pass
    with pytest.raises(DocumentError, match="cannot be read"):
        source.read(0, 1)


def lines_of(comparison: Comparison) -> str:
    return "\n".join(comparison_lines(comparison))


def test_the_lines_name_place_kind_cause_and_register(tmp_path: Path, tools: ExplainTools) -> None:
    a = leg_directory(tmp_path / "a", "a", image=b"same", other=b"built in /build/a;")
    b = leg_directory(
        tmp_path / "b", "b", image=b"same", other=b"built in /srv/second-leg/some/longer/build-directory;"
    )
    text = lines_of(diff_paths(a, b, tools))
    assert "image: identical" in text
    assert "other: DIFFERS" in text
    assert "other: content at byte 10 (byte 0xa of the artefact)" in text
    assert "cause: path (high confidence): build path" in text
    assert "register: rtmr1, by the Authenticode digest" in text


def test_the_lines_say_missing_and_unmeasured(tmp_path: Path, tools: ExplainTools) -> None:
    verity = b"verity\0\0" + bytes(8) + b"%b" + bytes(48)
    sides = [
        directory(
            tmp_path / side, rootfs__img=squashfs_image(b"x", verity=(verity % (side.encode() * 16)).ljust(4096, b"\0"))
        )
        for side in "ab"
    ]
    (sides[0] / "cmdline").write_bytes(b"x")
    text = lines_of(diff_paths(*sides, tools))
    assert "cmdline: DIFFERS (a: 1 bytes" in text
    assert "b: missing" in text
    assert "metadata-other (uuid)" in text
    assert "register: none, but it must be the same" in text
    assert "cause: unknown" in text
