"""Files that appear whole or not at all, and what a disk's refusal is called."""

import errno
import stat
from pathlib import Path

import pytest

from builder.backends.atomic_file import atomic_file, storage_errors, write_atomically
from builder.errors import ExitStatus, MissingError


def test_file_is_written_with_mode_0644_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "lock.json", b"{}")

    assert (tmp_path / "lock.json").read_bytes() == b"{}"
    assert stat.S_IMODE((tmp_path / "lock.json").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["lock.json"]


def test_file_of_before_is_replaced(tmp_path: Path) -> None:
    write_atomically(tmp_path / "lock.json", b"a much longer text")
    write_atomically(tmp_path / "lock.json", b"new")

    assert (tmp_path / "lock.json").read_bytes() == b"new"


def write_and_fail(path: Path, error: BaseException) -> None:
    with atomic_file(path) as file:
        file.write(b"half of the n")
        raise error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_failure_in_the_middle_keeps_the_file_of_before(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "lock.json").write_bytes(b"old")
    with pytest.raises(type(error)):
        write_and_fail(tmp_path / "lock.json", error)

    assert (tmp_path / "lock.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["lock.json"]


def test_name_is_not_there_before_the_block_ends(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "lock.json") as file:
        file.write(b"x")
        assert not (tmp_path / "lock.json").exists()

    assert (tmp_path / "lock.json").exists()


def test_directory_that_is_not_there_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "lock.json", b"")


def test_full_device_is_an_error_with_the_path_and_a_status() -> None:
    """`/dev/full` refuses every write with ENOSPC."""

    def fill() -> None:
        with storage_errors(Path("/dev/full")), Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(MissingError, match=r"^/dev/full: cannot be written: No space left on device$") as caught:
        fill()
    assert caught.value.status is ExitStatus.MISSING
    assert "free some space" in str(caught.value.hint)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT])
def test_refusals_have_a_next_step(number: int) -> None:
    with pytest.raises(MissingError) as caught, storage_errors(Path("/somewhere")):
        raise OSError(number, "no")

    assert caught.value.message == "/somewhere: cannot be written: no"
    assert caught.value.hint
