"""A pinned root for the tests that run real legs, made from packages of the Debian mirror of this host."""

import os
from pathlib import Path

import pytest

from builder.backends.deb_root import unpack_root
from builder.backends.process import run
from builder.errors import BuildFailedError
from tests.fakes.silent_progress import SilentProgress

# what the legs of recipes/quickstart need, and nothing else
ROOT_PACKAGES = (
    "coreutils",
    "cryptsetup-bin",
    "dash",
    "kmod",
    "libfaketime",
    "libpython3.11-stdlib",
    "locales",
    "python3-minimal",
    "squashfs-tools",
    "util-linux",
)


@pytest.fixture(scope="session")
def root_debs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The packages of a pinned root. TDX_BUILDER_TEST_DEBS names a directory that keeps them between runs."""
    kept = os.environ.get("TDX_BUILDER_TEST_DEBS")
    directory = Path(kept) if kept else tmp_path_factory.mktemp("debs")
    archives = directory / "archives"
    if not archives.is_dir():
        try:
            _download(directory)
        except BuildFailedError as error:
            pytest.skip(f"no packages from the Debian mirror of this host: {error.message}")
    return sorted(archives.glob("*.deb"))


@pytest.fixture(scope="session")
def pinned_root(root_debs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked root, shared by all tests: legs cannot change it."""
    root = tmp_path_factory.mktemp("roots") / "tools"
    unpack_root(root_debs, root, SilentProgress())
    return root


def _download(directory: Path) -> None:
    """Let apt fetch the packages and all that they depend on, in a state of its own that has nothing installed."""
    for name in ("lists/partial", "fetched/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "status").touch()
    options = {
        "Dir::State::lists": directory / "lists",
        "Dir::State::status": directory / "status",
        "Dir::Cache": directory,
        "Dir::Cache::archives": directory / "fetched",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    run(["apt-get", *words, "update"])
    run(["apt-get", *words, "install", "--download-only", "--yes", "--no-install-recommends", *ROOT_PACKAGES])
    (directory / "fetched").rename(directory / "archives")
