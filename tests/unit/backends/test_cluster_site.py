"""A build on a worker: what must never happen is a step after its end, or a directory that nobody removes."""

from pathlib import Path

import pytest

from builder.backends.cluster.site import BuildOnWorker, WorkerSettings
from builder.errors import BuildFailedError, DocumentError, MissingError
from builder.model.task import Content, RootTask

pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")


@pytest.fixture
def build(tmp_path: Path) -> BuildOnWorker:
    settings = WorkerSettings(str(tmp_path / "shared"), build="1", cold=True)
    return BuildOnWorker(settings, tmp_path / "store", tmp_path / "build")


def test_directory_of_a_build_goes_with_its_last_step(build: BuildOnWorker) -> None:
    with build.holding(), build.holding():
        build.directory.mkdir()
        (build.directory / "read-only").mkdir(mode=0o500)
        build.end()
        assert build.directory.exists(), "a step still works there"
    assert not build.directory.exists()


def test_directory_of_a_build_stays_between_its_steps(build: BuildOnWorker) -> None:
    with build.holding():
        build.directory.mkdir()
    assert build.directory.exists()
    build.end()
    assert not build.directory.exists()


def test_no_step_begins_after_the_end(build: BuildOnWorker) -> None:
    build.cancel()
    with pytest.raises(BuildFailedError, match="cancelled"), build.holding():
        pass
    with pytest.raises(BuildFailedError, match="cancelled"):
        build.engine("bubblewrap")


def test_engine_is_the_same_for_all_steps_and_has_to_be_known(build: BuildOnWorker) -> None:
    assert build.engine("bubblewrap") is build.engine("bubblewrap")
    with pytest.raises(DocumentError, match="'chroot' is not an engine"):
        build.engine("chroot")


def test_root_whose_packages_are_nowhere_is_an_error(build: BuildOnWorker) -> None:
    with pytest.raises(MissingError, match="f" * 64):
        build.root(RootTask("tools", (Content("f" * 64, 1),)))
