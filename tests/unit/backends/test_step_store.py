"""Where the step cache lies: bounded, and never trimmed under somebody who uses it."""

import json
import os
from pathlib import Path

import pytest

from builder.backends.step_store import StepStore, open_step_store
from builder.errors import DocumentError

MEGABYTE = 1 << 20


def add(store: StepStore, path: Path, number: int, size: int = MEGABYTE) -> str:
    """An entry used at second `number`, with a log and one output of its own; gives its digest."""
    digests = []
    for content in (bytes([number]) * size, bytes([number])):
        source = path / "source"
        source.write_bytes(content)
        digests.append(store.objects.add_file(source)[0])
    name = f"{number:064x}"
    entry = {"outputs": {"output": {"sha256": digests[0], "size": size}}, "log": digests[1]}
    store.write(name, json.dumps(entry).encode())
    os.utime(path / f"steps/entries/{name}.json", (number, number))
    return name


def count_objects(path: Path) -> int:
    return len(list((path / "steps/store/objects").glob("*/*")))


def test_what_was_written_is_read_and_nothing_else(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "steps")
    store.write("a" * 64, b"entry")
    assert StepStore(tmp_path / "steps").read("a" * 64) == b"entry"
    assert store.read("b" * 64) is None
    with pytest.raises(DocumentError, match="not a SHA-256"):
        store.read("../../etc/passwd")


def test_what_was_used_least_lately_is_removed_when_it_is_opened(tmp_path: Path) -> None:
    with open_step_store(tmp_path / "steps") as store:
        names = [add(store, tmp_path, number) for number in (1, 2, 3)]
        assert store.read(names[0]) is not None  # used now, and so the last to go
    with open_step_store(tmp_path / "steps", most_bytes=2 * MEGABYTE + 100) as store:
        assert [store.read(name) is not None for name in names] == [True, False, True]
        assert count_objects(tmp_path) == 4


def test_a_file_of_two_entries_counts_once_and_stays_with_one_of_them(tmp_path: Path) -> None:
    with open_step_store(tmp_path / "steps") as store:
        first = add(store, tmp_path, 1)
        data = store.read(first)
        assert data is not None
        store.write("2" * 64, data)
    with open_step_store(tmp_path / "steps", most_bytes=MEGABYTE + 100) as store:
        assert store.read(first) == store.read("2" * 64) == data
        assert count_objects(tmp_path) == 2


def test_files_that_no_entry_names_are_removed(tmp_path: Path) -> None:
    with open_step_store(tmp_path / "steps") as store:
        (tmp_path / "of a failed build").write_bytes(b"x")
        store.objects.add_file(tmp_path / "of a failed build")
    with open_step_store(tmp_path / "steps"):
        assert count_objects(tmp_path) == 0


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"log": 1, "outputs": {}}', b'{"log": "../x", "outputs": {"a": {"sha256": "/etc/passwd"}}}']
)
def test_a_damaged_entry_is_removed(tmp_path: Path, data: bytes) -> None:
    with open_step_store(tmp_path / "steps") as store:
        store.write("a" * 64, data)
    with open_step_store(tmp_path / "steps") as store:
        assert store.read("a" * 64) is None


def test_nothing_is_removed_while_another_run_uses_it(tmp_path: Path) -> None:
    """Its outputs are there before the entry that names them."""
    with open_step_store(tmp_path / "steps") as store:
        name = add(store, tmp_path, 1)
        with open_step_store(tmp_path / "steps", most_bytes=0) as other:
            assert other.read(name) is not None
        assert count_objects(tmp_path) == 2
    with open_step_store(tmp_path / "steps", most_bytes=0) as store:
        assert store.read(name) is None
        assert count_objects(tmp_path) == 0
