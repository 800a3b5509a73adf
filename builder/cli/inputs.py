"""`lock`, `fetch` and `export-inputs`."""

import os
from pathlib import Path

import click

from builder.cli.output import Result, emit
from builder.cli.progress import progress_display
from builder.cli.wiring import json_option, mirror_options, open_store, recipe_argument, store_option
from builder.model.location import Locations
from builder.model.lock import Lock
from builder.model.recipe import Recipe
from builder.model.source_package import ARCHITECTURE as SOURCE
from builder.ports import ArtifactStore, Progress, Resolver


@click.command()
@recipe_argument
@click.option("--check", is_flag=True, help="Write nothing; fail if locking again would give another lock.")
@click.option(
    "--offline", is_flag=True, help="With --check: compare with the recipe and its files only, not the archive."
)
@mirror_options
@json_option
def lock(
    recipe: Path, mirrors: tuple[str, ...], snapshot: str | None, *, check: bool, offline: bool, as_json: bool
) -> int:
    """Pin every input of RECIPE by digest, in lock.json beside it."""
    from builder.pipeline.inputs import load_locked_recipe, load_recipe, recipe_path

    if offline and not check:
        raise click.UsageError("--offline goes with --check: apt cannot resolve without an archive")
    if offline:
        locked = load_locked_recipe(recipe).lock
        lines = [f"lock: fresh for the recipe and its files: {_counted(locked)}; the archive was not asked"]
        return emit(Result("lock", {**_counts(locked), "archive": "not asked"}, lines), as_json=as_json)
    directory, parsed = recipe_path(recipe).parent, load_recipe(recipe)
    resolver = _resolver(parsed, mirrors, snapshot)
    return _check(directory, parsed, resolver, as_json) if check else _lock(directory, parsed, resolver, as_json)


def _check(directory: Path, recipe: Recipe, resolver: Resolver, as_json: bool) -> int:
    from builder.pipeline.lock import check_lock

    locked = check_lock(directory, recipe, resolver=resolver)
    lines = [f"lock: fresh: {_counted(locked)}; the archive gives the same"]
    return emit(Result("lock", {**_counts(locked), "archive": "same"}, lines), as_json=as_json)


def _lock(directory: Path, recipe: Recipe, resolver: Resolver, as_json: bool) -> int:
    from builder.backends.atomic_file import write_atomically
    from builder.pipeline.lock import lock_recipe

    outcome = lock_recipe(directory, recipe, resolver=resolver, write=write_atomically)
    size = outcome.lock.total_size
    state = "written" if outcome.written else "unchanged"
    lines = [
        *(f"  {change}" for change in outcome.changes),
        f"lock: {state}: {_counted(outcome.lock)}, {size} bytes",
    ]
    document = {
        **_counts(outcome.lock),
        "bytes": size,
        "written": outcome.written,
        "changes": list(outcome.changes),
    }
    return emit(Result("lock", document, lines), as_json=as_json)


@click.command()
@recipe_argument
@click.option("--offline", is_flag=True, help="Fetch nothing; fail if something is not in the store.")
@click.option("--from", "archive", type=click.Path(path_type=Path), help="Take the inputs from an exported archive.")
@store_option
@mirror_options
@json_option
def fetch(
    recipe: Path,
    archive: Path | None,
    store: Path,
    mirrors: tuple[str, ...],
    snapshot: str | None,
    *,
    offline: bool,
    as_json: bool,
) -> int:
    """Fetch the locked inputs of RECIPE into the store, or import them.

    With --from and a RECIPE that does not exist, the recipe directory is made from the archive.
    """
    from builder.pipeline.inputs import load_locked_recipe

    opened = open_store(store)
    if archive is not None:
        return _import(recipe, archive, opened, as_json)
    locked = load_locked_recipe(recipe).lock
    with progress_display() as progress:
        fetched = fetch_missing(locked, opened, progress, mirrors=mirrors, snapshot=snapshot, offline=offline)
    lines = [f"fetch: {_counted(locked)} in the store, {fetched} fetched now"]
    return emit(Result("fetch", {**_counts(locked), "fetched": fetched}, lines), as_json=as_json)


def _import(recipe: Path, archive: Path, store: ArtifactStore, as_json: bool) -> int:
    from builder.backends.input_archive import open_archive
    from builder.pipeline.fetch import import_inputs, restore_recipe
    from builder.pipeline.inputs import load_locked_recipe

    wanted = load_locked_recipe(recipe).lock if recipe.exists() else None
    with open_archive(archive) as reader:
        imported = import_inputs(reader, store=store, wanted=wanted)
    if wanted is None:
        restore_recipe(imported, recipe, store=store)
    found = imported.lock
    lines = [f"fetch: {_counted(found)} of {found.image} {found.version} imported from {archive}"]
    return emit(Result("fetch", {**_counts(found), "restored": wanted is None}, lines), as_json=as_json)


@click.command("export-inputs")
@recipe_argument
@click.argument("archive", type=click.Path(path_type=Path))
@store_option
@json_option
def export_inputs(recipe: Path, archive: Path, store: Path, *, as_json: bool) -> int:
    """Write the locked inputs of RECIPE to ARCHIVE: everything a release is rebuilt from without a network."""
    from builder.backends.input_archive import write_archive
    from builder.pipeline.fetch import export_inputs as export
    from builder.pipeline.inputs import load_locked_recipe

    locked = load_locked_recipe(recipe)
    members = export(locked.path, locked.lock, store=open_store(store), archive=archive, write=write_archive)
    size = archive.stat().st_size
    lines = [f"export-inputs: {members} members, {size} bytes: {archive}"]
    return emit(Result("export-inputs", {"members": members, "bytes": size}, lines), as_json=as_json)


def fetch_missing(
    locked: Lock,
    store: ArtifactStore,
    progress: Progress,
    *,
    mirrors: tuple[str, ...],
    snapshot: str | None,
    offline: bool,
) -> int:
    """Fetch what the store lacks, or with `offline` fail if it lacks anything; gives the number fetched."""
    from builder.backends.http_fetcher import HttpFetcher, HttpSettings
    from builder.backends.mirrors import find_locations, host_proxies
    from builder.pipeline.fetch import fetch_inputs, require_inputs

    if offline or all(store.path(item.sha256) for item in locked.downloads):
        require_inputs(locked, store)
        return 0
    locations = find_locations(mirrors, snapshot, environment=os.environ)
    fetcher = HttpFetcher(HttpSettings(proxies=host_proxies()))
    return fetch_inputs(locked, store=store, fetcher=fetcher, locations=locations, progress=progress)


def _counts(lock: Lock) -> dict[str, object]:
    tarballs = sum(package.architecture == SOURCE for package in lock.packages.values())
    return {"packages": len(lock.packages) - tarballs, "tarballs": tarballs, "prebuilt": len(lock.files)}


def _counted(lock: Lock) -> str:
    """How much is pinned, in words: `88 packages`, `88 packages, 3 tarballs, 1 prebuilt`."""
    return ", ".join(f"{count} {name}" for name, count in _counts(lock).items() if count or name == "packages")


def _resolver(recipe: Recipe, mirrors: tuple[str, ...], snapshot: str | None) -> Resolver:
    from builder.backends.apt.program import AptSettings
    from builder.backends.apt.resolver import AptResolver
    from builder.backends.mirrors import find_locations, host_proxies

    locations: Locations = find_locations(mirrors, snapshot, environment=os.environ)
    chosen = {archive.name: locations.mirror(archive.name) for archive in recipe.archives}
    return AptResolver(AptSettings(recipe.archives, chosen, host_proxies()))
