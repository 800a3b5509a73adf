"""Runs mkosi with the recipe's own configuration, offline, and writes the tree it installs as one tar file.

Packages come from a repository made here of the locked ones, which mkosi takes in the place of every mirror. It runs
as an ordinary user in a user namespace with one id, as does all that it starts: every file it makes belongs to that
id. Owners are put back from the packages; what a maintainer script gives to another user belongs to root.
Parameters: `packages`, `files` (the configuration), `source_date_epoch`.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from builder.encoding.canonical_json import parse_json
from builder.errors import DocumentError
from builder.inside.command import run
from builder.inside.program import Parameters, read_input, run_program, write_output
from builder.inside.tree_files import read_directory
from builder.normalize.apt_repository import ARCHITECTURE, index_entry, release_file
from builder.normalize.deb import merged_usr_path, read_package
from builder.normalize.installed_tree import without_traces
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Tree

OUTPUT = "mkosi.tar"

_DISTRIBUTION = "debian"
_RELEASE = re.compile(r"[a-z][a-z0-9-]*")
_TREE = "tree"
_SUMMARY = "summary.json"
_UMASK = 0o022  # what scripts of maintainers and configurations are written for (determinism.md 2.1)


def make_tree(parameters: Parameters) -> None:
    """Write `mkosi.tar`, sorted, every time SOURCE_DATE_EPOCH. BuildFailedError if mkosi fails."""
    os.umask(_UMASK)
    here = Path.cwd()
    packages = parameters.texts("packages")
    _write_configuration(parameters, here / "configuration")
    options = _options(here, parameters.integer("source_date_epoch"))
    release = _release(here, options)
    _write_repository(packages, here / "repository", release)
    for name in ("cache", "output", "workspace"):
        (here / name).mkdir()
    run(("mkosi", *options, "build"), cwd=here)
    installed = read_directory(here / "output" / _TREE, dict(_owners(packages)), what="mkosi")
    tree = Tree()
    for member in without_traces(installed):
        tree.add(member, origin="mkosi")
    epoch = parameters.integer("source_date_epoch")
    write_output(OUTPUT, encode_tar(tree.members(), epoch=epoch, top=True))


def _write_configuration(parameters: Parameters, directory: Path) -> None:
    """The configuration where mkosi finds it, scripts executable."""
    for file in parameters.objects("files"):
        path = directory / file.text("path")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_input(file.text("input")))
        path.chmod(0o755 if file.boolean("executable") else 0o644)


def _options(here: Path, epoch: int) -> tuple[str, ...]:
    """What is ours to say, whatever the configuration says: a plain tree, from the locked packages, without a cache."""
    return (
        f"--directory={here}/configuration",
        "--format=directory",
        f"--output={_TREE}",
        f"--output-directory={here}/output",
        f"--workspace-directory={here}/workspace",
        f"--package-cache-dir={here}/cache",
        f"--local-mirror=file://{here}/repository",
        "--incremental=no",
        "--with-network=no",
        "--checksum=no",
        "--manifest-format=",
        f"--source-date-epoch={epoch}",
    )


def _release(here: Path, options: tuple[str, ...]) -> str:
    """The release that the configuration asks for, as mkosi reads it: it is a directory of the repository."""
    script = f'mkosi "$@" --json summary >{_SUMMARY}'
    run(("sh", "-euc", script, "sh", *options), cwd=here)
    document = parse_json(read_input(str(here / _SUMMARY)), what="mkosi summary")
    try:
        image = document["Images"][-1]
        distribution, release = image["Distribution"], image["Release"]
    except (KeyError, IndexError, TypeError) as error:
        raise DocumentError(
            "mkosi summary: no image with a Distribution and a Release", hint="wanted mkosi 25"
        ) from error
    if distribution != _DISTRIBUTION or not isinstance(release, str) or not _RELEASE.fullmatch(release):
        raise DocumentError(f"mkosi: {distribution!r} {release!r}, wanted a release of {_DISTRIBUTION!r}")
    return release


def _write_repository(packages: list[str], directory: Path, release: str) -> None:
    """The locked packages as an apt repository without signatures: every byte was checked before it came here."""
    index_directory = directory / "dists" / release / "main" / f"binary-{ARCHITECTURE}"
    pool = directory / "pool"
    index_directory.mkdir(parents=True)
    pool.mkdir()
    entries = []
    for path in packages:
        data = read_input(path)
        name = Path(path).name
        (pool / name).write_bytes(data)
        entries.append(index_entry(data, f"pool/{name}"))
    index = b"\n".join(entries)
    (index_directory / "Packages").write_bytes(index)
    text = release_file(release, index_sha256=hashlib.sha256(index).hexdigest(), index_size=len(index))
    (directory / "dists" / release / "Release").write_text(text, encoding="ascii")


def _owners(packages: list[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for path in packages:
        for entry in read_package(read_input(path), what=Path(path).name):
            if entry.uid or entry.gid:
                yield merged_usr_path(entry.path), (entry.uid, entry.gid)


if __name__ == "__main__":
    run_program(make_tree)
