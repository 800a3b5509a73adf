"""Where a benchmark works: a directory of its own below out/, removed at the end, and tdx-builder to run in it."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import adopt_orphans, measure_command
from benchmarks.usage import Usage
from builder.backends.scratch import scratch_directory
from builder.errors import DocumentError
from builder.model.components import FirmwarePackage, FirmwareSpec, KernelPackage, KernelSpec


@dataclass(frozen=True)
class Setting:
    """What the options say: the recipe, the store that has its packages, and how often long work is repeated."""

    recipe: Path
    store: Path
    rounds: int


@dataclass(frozen=True)
class Workplace:
    """A fresh directory. Its `store` is a link to the store, so that unpacked roots are kept here not beside that."""

    setting: Setting
    path: Path

    @property
    def store(self) -> Path:
        """The store, to be named in arguments."""
        return self.path / "store"

    def run(self, verb: str, *arguments: str | Path) -> Usage:
        """`tdx-builder verb ...`, where a verb that uses the store is told where it is."""
        store = ("--store", self.store) if verb in ("fetch", "build", "release") else ()
        return self.measure([sys.executable, "-m", "builder", verb, *map(str, (*arguments, *store))])

    def build(self, out: str, *options: str) -> Usage:
        """`tdx-builder build` of the recipe into the directory `out` of this place, without network and step cache."""
        return self.run("build", self.setting.recipe, "--offline", "--no-cache", "--out", self.path / out, *options)

    def measure(self, argv: Sequence[str]) -> Usage:
        """Any program."""
        return measure_command(argv, self.path / "messages")

    def release(self) -> tuple[Usage, Usage]:
        """Make a key and publish a release below `manifests`, built in `out`; gives what either cost."""
        key = self.run("key", "new", self.path / "key")
        options = ("--key", self.path / "key", "--out", self.path / "out", "--manifests", self.path / "manifests")
        return key, self.run("release", self.setting.recipe, "--offline", *options)

    @property
    def manifest(self) -> Path:
        """The manifest that `release` has published."""
        (path,) = self.path.glob("manifests/*/*/manifest.json")
        return path

    def verify(self, *options: str | Path) -> Usage:
        """`tdx-builder verify` of that manifest."""
        return self.run("verify", self.manifest, "--key", self.path / "key.pub", *options)


@contextmanager
def workplace(setting: Setting) -> Iterator[Workplace]:
    """A workplace of this process. Nothing of it is left afterwards."""
    adopt_orphans()
    with scratch_directory(Path("out") / f"bench-{os.getpid()}") as path:
        setting.store.mkdir(parents=True, exist_ok=True)
        (path / "store").symlink_to(setting.store.resolve())
        yield Workplace(setting, path)


def packaged_file(spec: FirmwareSpec | KernelSpec) -> str:
    """The file that a component takes out of its packages; DocumentError for one that is built or fetched."""
    if not isinstance(spec, FirmwarePackage | KernelPackage):
        raise DocumentError(f"{type(spec).__name__}: no file of a package", hint="name a recipe such as quickstart")
    return spec.file
