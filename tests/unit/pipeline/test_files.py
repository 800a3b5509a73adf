"""Reading what a user named: whatever it is, an end or an error comes."""

import os
from pathlib import Path

import pytest

from builder.errors import DocumentError
from builder.pipeline.files import MAX_DOCUMENT, read_document


def test_a_document_is_read_whole(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "document").write_bytes(data)
    assert read_document(tmp_path / "document") == data


def test_an_enormous_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_DOCUMENT + 1)
    with pytest.raises(DocumentError, match="more than"):
        read_document(tmp_path / "huge")


@pytest.mark.slow
def test_a_device_without_an_end_is_refused() -> None:
    with pytest.raises(DocumentError, match="more than"):
        read_document(Path("/dev/zero"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DocumentError, match="cannot be read"):
            read_document(path)
