"""Directories that are removed whatever modes were set inside them, and nothing beside them."""

from pathlib import Path

from builder.backends.scratch import remove_tree


def test_a_read_only_tree_is_removed(tmp_path: Path) -> None:
    inner = tmp_path / "tree/inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for directory in (inner, inner.parent):
        directory.chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_what_a_link_points_to_is_neither_removed_nor_given_other_modes(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "inner").mkdir(parents=True)
    target.chmod(0o755)
    (tmp_path / "tree").mkdir()
    for link in (tmp_path / "link", tmp_path / "tree/link"):
        link.symlink_to(target)
        remove_tree(link if link.parent == tmp_path else link.parent)
        assert not link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o755
    assert (target / "inner").is_dir()
