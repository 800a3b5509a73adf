"""What a build is made from: a recipe directory with its lock, and the locked bytes in the store.

The store hashes every object before a run gets it, so that no byte enters a leg unchecked (I1).
"""

import threading
from dataclasses import dataclass
from pathlib import Path

from builder.errors import DocumentError, MissingError
from builder.model.components import PROD
from builder.model.digest import sha256_hex
from builder.model.lock import FILE_NAME as LOCK
from builder.model.lock import Lock, LockedSource, parse_lock
from builder.model.lock_differences import check_fresh
from builder.model.recipe import FILE_NAME as RECIPE
from builder.model.recipe import Recipe, parse_recipe
from builder.pipeline.files import read_document
from builder.pipeline.lock import read_sources
from builder.ports import ArtifactStore

_FETCH_HINT = "run `tdx-builder fetch` on the recipe, or import an input archive with `fetch --from`"


@dataclass(frozen=True)
class RecipeDirectory:
    """A recipe with the fresh lock beside it, and the digest of the lock file."""

    path: Path
    recipe: Recipe
    lock: Lock
    lock_sha256: str


def load_recipe(directory: Path, *, flavour: str = PROD) -> Recipe:
    """The recipe in `directory`, which may also be the path of the recipe file itself."""
    path = recipe_path(directory)
    return parse_recipe(read_document(path), what=str(path), flavour=flavour)


def recipe_path(directory: Path) -> Path:
    """Where the recipe of `directory` lies; DocumentError with a hint if there is none."""
    path = directory / RECIPE if directory.is_dir() else directory
    if path.name != RECIPE or not path.is_file():
        raise DocumentError(f"{directory}: no {RECIPE} there", hint=f"name a directory that holds a {RECIPE}")
    return path


def load_locked_recipe(directory: Path, *, flavour: str = PROD) -> RecipeDirectory:
    """Recipe and lock, parsed, with the lock checked against the recipe and its files; DocumentError if stale.

    The lock is that of all flavours."""
    path = recipe_path(directory)
    recipe = load_recipe(path, flavour=flavour)
    lock_path = path.parent / LOCK
    if not lock_path.is_file():
        raise DocumentError(f"{lock_path}: missing", hint=f"run `tdx-builder lock {directory}`")
    data = read_document(lock_path)
    lock = parse_lock(data, what=str(lock_path))
    check_fresh(lock, recipe, read_sources(path.parent, recipe), what=str(lock_path))
    return RecipeDirectory(path.parent, recipe, lock, sha256_hex(data))


class BuildInputs:
    """The locked bytes of one run. Safe to use from several threads."""

    def __init__(self, recipe_directory: RecipeDirectory, store: ArtifactStore, scratch: Path) -> None:
        self._directory = recipe_directory
        self._store = store
        self._scratch = scratch
        self._mutex = threading.Lock()
        scratch.mkdir(parents=True, exist_ok=True)
        for source in recipe_directory.lock.sources.values():
            self._store_source(source)

    @property
    def recipe(self) -> Recipe:
        """The recipe of this run."""
        return self._directory.recipe

    @property
    def lock(self) -> Lock:
        """The lock of this run."""
        return self._directory.lock

    @property
    def lock_sha256(self) -> str:
        """Digest of the lock file."""
        return self._directory.lock_sha256

    def object(self, sha256: str) -> Path:
        """The file with this digest, checked by the store; MissingError if it is not there."""
        path = self._store.path(sha256)
        if path is None:
            raise MissingError(
                f"input sha256:{sha256} ({self._describe(sha256)}) is not in the store", hint=_FETCH_HINT
            )
        return path

    def debs(self, group: str) -> list[Path]:
        """The packages of a group as files, in the lock's order."""
        return [self.object(package.sha256) for package in self.lock.group(group)]

    def text(self, text: str) -> Path:
        """`text` as a file."""
        data = text.encode("utf-8")
        path = self._scratch / sha256_hex(data)
        with self._mutex:
            if not path.exists():
                path.write_bytes(data)
        return path

    def _describe(self, sha256: str) -> str:
        for item in self.lock.downloads:
            if item.sha256 == sha256:
                return item.key
        return "a file of the recipe"

    def _store_source(self, source: LockedSource) -> None:
        found, _ = self._store.add_file(self._directory.path / source.path)
        if found != source.sha256:
            raise DocumentError(f"{source.path}: changed while it was read: SHA-256 {found}, locked {source.sha256}")
