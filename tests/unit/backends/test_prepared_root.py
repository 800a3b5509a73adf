"""What stands beside a pinned root: the programs of a leg are those that its tasks name."""

from pathlib import Path

from builder.backends.prepared_root import leg_program_digests, leg_programs, prepare_root
from builder.inside import leg_files
from builder.model.digest import sha256_hex
from builder.model.task import programs_digest
from tests.fakes.leg_directory import LegDirectory


def prepared(path: Path) -> Path:
    root = path / "root"
    root.mkdir()
    return prepare_root(root, "C", lambda *_: None).programs


def test_the_programs_of_a_leg_lie_under_the_digest_that_its_tasks_name(tmp_path: Path) -> None:
    programs = prepared(tmp_path)
    assert programs.name == programs_digest(leg_program_digests())
    found = {path.relative_to(programs).as_posix(): path for path in programs.rglob("*") if path.is_file()}
    assert {name: sha256_hex(path.read_bytes()) for name, path in found.items()} == leg_program_digests()
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o644}


def test_all_programs_are_there_as_a_workspace_has_them(tmp_path: Path) -> None:
    programs, leg = prepared(tmp_path), LegDirectory(tmp_path / "leg")
    for name in leg_files():
        assert (programs / name).read_bytes() == (leg.path / "inside" / name).read_bytes()


def test_programs_are_read_once_so_that_an_update_during_a_build_changes_no_later_step() -> None:
    assert leg_programs() is leg_programs()
