"""The quickstart's locked inputs, pinned roots and one real release, made once and shared by all test processes."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.backends.deb_root import unpack_root
from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.local_store import LocalStore
from builder.backends.mirrors import find_locations, host_proxies
from builder.cli.main import run
from builder.cli.wiring import default_store
from builder.model.lock import Lock, parse_lock
from builder.pipeline.fetch import fetch_inputs
from tests.fakes.silent_progress import SilentProgress

RECIPE = Path(__file__).parents[2] / "recipes/quickstart"


@dataclass(frozen=True)
class RealRelease:
    """A release of the quickstart made by the command line: its directory, manifest, artefacts and public key."""

    out: Path
    manifest: Path
    artifacts: Path
    public_key: Path


@pytest.fixture(scope="session")
def store() -> Path:
    """The user's own store: what is fetched once stays, and every object is checked before it is used."""
    return default_store()


@pytest.fixture(scope="session")
def quickstart_lock() -> Lock:
    return parse_lock((RECIPE / "lock.json").read_bytes(), what="lock.json")


@pytest.fixture(scope="session")
def locked_inputs(store: Path, quickstart_lock: Lock) -> LocalStore:
    """A store that has every locked package, fetched from the mirror of this host if need be."""
    opened = LocalStore(store)
    fetch_inputs(
        quickstart_lock,
        store=opened,
        fetcher=HttpFetcher(HttpSettings(proxies=host_proxies())),
        locations=find_locations((), None, environment=os.environ),
        progress=SilentProgress(),
    )
    return opened


def group_debs(lock: Lock, store: LocalStore, group: str) -> list[Path]:
    """The packages of one group of the lock."""
    paths = [store.path(package.sha256) for package in lock.group(group)]
    return [path for path in paths if path is not None]


@pytest.fixture(scope="session")
def root_debs(quickstart_lock: Lock, locked_inputs: LocalStore) -> list[Path]:
    """The packages of the root that builds artefacts."""
    return group_debs(quickstart_lock, locked_inputs, "roots.tools")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A directory that the first test process to ask for it makes, and all others share."""
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    shared.mkdir(exist_ok=True)
    directory = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / f"{name}.made").exists():
            make(directory)
            (shared / f"{name}.made").touch()
    return directory


@pytest.fixture(scope="session")
def pinned_root(root_debs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That root, unpacked; legs cannot change it."""
    return made_once(tmp_path_factory, "tools", lambda root: unpack_root(root_debs, root, SilentProgress()))


@pytest.fixture(scope="session")
def vmm_root(quickstart_lock: Lock, locked_inputs: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root with QEMU 10.0.2, unpacked."""
    debs = group_debs(quickstart_lock, locked_inputs, "roots.vmm")
    return made_once(tmp_path_factory, "vmm", lambda root: unpack_root(debs, root, SilentProgress()))


@pytest.fixture(scope="session")
def real_release(locked_inputs: LocalStore, store: Path, tmp_path_factory: pytest.TempPathFactory) -> RealRelease:
    """The quickstart, released by the command line as a user would."""

    def make(out: Path) -> None:
        out.mkdir()
        key = out / "release-test-key"
        assert run(["key", "new", str(key)]) == 0
        options = ["--key", str(key), "--out", str(out), "--manifests", str(out / "manifests"), "--store", str(store)]
        assert run(["release", str(RECIPE), *options, "--offline"]) == 0

    out = made_once(tmp_path_factory, "release", make)
    (manifest,) = (out / "manifests").rglob("manifest.json")
    return RealRelease(out, manifest, out / "artifacts", out / "release-test-key.pub")
