"""Roots as layers: the same bytes wherever they lie, every file in them, and no other content under the same digest."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from builder.backends.docker.layer import Image, Layer, LayerPart, image_archive, make_image, make_layer
from builder.encoding.canonical_json import parse_json
from builder.errors import DocumentError
from builder.model.digest import sha256_hex

LONG = "a-directory-with-a-long-name/" * 5 + "file"


def small_root(directory: Path, *, backwards: bool = False) -> Path:
    """A tree with everything that a pinned root has."""
    files = {"usr/bin/tool": 0o555, "etc/text": 0o444, "z": 0o444, LONG: 0o444, "etc/ümläut": 0o444}
    for path in sorted(files, reverse=backwards):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(path)
        (directory / path).chmod(files[path])
        os.utime(directory / path, (1_000, 1_000))
    (directory / "bin").symlink_to("usr/bin")
    os.utime(directory / "bin", (5, 5), follow_symlinks=False)
    (directory / "etc/same").hardlink_to(directory / "z")
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            os.utime(path, (0, 0))
    return directory


def layer_of(root: Path) -> Layer:
    return make_layer([LayerPart("", root)])


def members(layer: Layer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(layer.chunks()))) as archive:
        return {member.name: member for member in archive}


def test_two_trees_with_the_same_files_are_one_layer(tmp_path: Path) -> None:
    one, other = small_root(tmp_path / "one"), small_root(tmp_path / "elsewhere/other", backwards=True)
    if os.getuid() == 0:
        os.chown(other / "z", 1234, 4321)
    first, second = layer_of(one), layer_of(other)
    assert (first.sha256, first.size) == (second.sha256, second.size)
    assert b"".join(first.chunks()) == b"".join(second.chunks())


def test_digest_and_size_are_those_of_the_bytes(tmp_path: Path) -> None:
    layer = layer_of(small_root(tmp_path / "root"))
    data = b"".join(layer.chunks())
    assert (layer.sha256, layer.size) == (sha256_hex(data), len(data))


@pytest.mark.parametrize("change", ["content", "mode", "time", "name", "target"])
def test_another_tree_is_another_layer(tmp_path: Path, change: str) -> None:
    root = small_root(tmp_path / "root")
    before = layer_of(root).sha256
    match change:
        case "content":
            (root / "z").chmod(0o644)
            (root / "z").write_text("Z")
            os.utime(root / "z", (1_000, 1_000))
        case "mode":
            (root / "z").chmod(0o555)
        case "time":
            os.utime(root / "z", (1_000, 1_001))
        case "name":
            (root / "z").rename(root / "y")
            os.utime(root, (0, 0))
        case "target":
            (root / "bin").unlink()
            (root / "bin").symlink_to("usr/sbin")
            os.utime(root / "bin", (5, 5), follow_symlinks=False)
    assert layer_of(root).sha256 != before


def test_every_file_is_roots_and_nobody_may_write_it(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    (root / "etc/text").chmod(0o4777)
    found = members(layer_of(root))
    assert set(found) == {str(path.relative_to(root)) for path in root.rglob("*")}
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    assert all(member.mode & 0o7222 == 0 for member in found.values() if not member.issym())
    assert (found["bin"].linkname, found["bin"].mtime) == ("usr/bin", 5)
    assert found["usr/bin/tool"].mode == 0o555


def test_a_hard_link_is_one(tmp_path: Path) -> None:
    found = members(layer_of(small_root(tmp_path / "root")))
    assert found["etc/same"].isreg()
    assert (found["z"].islnk(), found["z"].linkname) == (True, "etc/same")


def test_parts_have_their_place_and_no_path_twice(tmp_path: Path) -> None:
    """Docker refuses a layer with a path that is in it twice."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o755)
        (tmp_path / name / "file").write_text(name)
    parts = [
        LayerPart("run", None),
        LayerPart("mnt/one", tmp_path / "one", own_times=False),
        LayerPart("mnt/deep/two", tmp_path / "two", own_times=False),
    ]
    with tarfile.open(fileobj=io.BytesIO(b"".join(make_layer(parts).chunks()))) as archive:
        names = archive.getnames()
        assert names == ["run", "mnt", "mnt/one", "mnt/one/file", "mnt/deep", "mnt/deep/two", "mnt/deep/two/file"]
        assert {member.mtime for member in archive} == {0}
        assert archive.getmember("run").mode == 0o755


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentError, match=r"pipe: neither file"):
        layer_of(tmp_path)


@pytest.mark.parametrize("content", ["other", "longer than it was", ""])
def test_a_file_that_changes_under_a_layer_is_found(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text("first")
    layer = layer_of(tmp_path)
    (tmp_path / "file").write_text(content)
    with pytest.raises(DocumentError, match="changed"):
        list(layer.chunks())


def small_image(directory: Path) -> Image:
    directory.mkdir()
    (directory / "file").write_text("text")
    return make_image("tdx-builder/root", (layer_of(directory),), {"label": "value"})


def test_an_image_is_named_by_all_that_it_is(tmp_path: Path) -> None:
    image = small_image(tmp_path / "one")
    assert image.name == f"tdx-builder/root:{sha256_hex(image.config)}"
    assert make_image("tdx-builder/root", image.layers, {"label": "other"}).name != image.name
    config = parse_json(image.config, what="config")
    assert config["rootfs"]["diff_ids"] == image.layer_ids
    assert config["config"] == {"Labels": {"label": "value"}}


def test_an_archive_has_the_layers_that_are_wanted(tmp_path: Path) -> None:
    image = small_image(tmp_path / "one")
    (layer,) = image.layers
    for wanted, names in ((True, {"manifest.json", "config", "layer"}), (False, {"manifest.json", "config"})):
        data = b"".join(image_archive(image, lambda _, wanted=wanted: wanted))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            content = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
        (entry,) = parse_json(content["manifest.json"], what="manifest")
        assert entry["RepoTags"] == [image.name]
        assert content[entry["Config"]] == image.config
        assert len(content) == len(names)
        assert (sha256_hex(content.get(entry["Layers"][0], b"")) == layer.sha256) is wanted
