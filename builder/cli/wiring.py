"""The backends of a run: the only place where ports meet what implements them."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from builder.errors import MissingError
from builder.model.components import PROD
from builder.ports import ArtifactStore

Command = TypeVar("Command", bound=Callable[..., object])

STORE_VARIABLE = "TDX_BUILDER_STORE"


def default_store() -> Path:
    """$TDX_BUILDER_STORE, or tdx-builder/store in the user's cache directory; MissingError if there is no such user.

    An empty variable is one that is not set: else the store would be made in the working directory.
    """
    if store := os.environ.get(STORE_VARIABLE):
        return Path(store)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "tdx-builder" / "store"
    try:
        return Path.home() / ".cache" / "tdx-builder" / "store"
    except RuntimeError as error:  # a user id that the system does not know, as in many containers
        raise MissingError(
            "no home directory, so no place for the store", hint=f"name one: --store DIRECTORY, or {STORE_VARIABLE}"
        ) from error


def recipe_argument(command: Command) -> Command:
    """RECIPE: a directory that holds a recipe.yaml."""
    return click.argument("recipe", type=click.Path(path_type=Path))(command)


def flavour_option(command: Command) -> Command:
    """--flavour, as the parameter `flavour`."""
    return click.option(
        "--flavour", default=PROD, show_default=True, metavar="NAME", help="Of RECIPE, as its `flavours` say."
    )(command)


def json_option(command: Command) -> Command:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def store_option(command: Command) -> Command:
    """--store."""
    return click.option(
        "--store",
        type=click.Path(path_type=Path),
        default=default_store,
        show_default=f"${STORE_VARIABLE}, or in the cache directory",
        help="Where inputs are kept, by digest.",
    )(command)


def mirror_options(command: Command) -> Command:
    """--mirror and --snapshot."""
    command = click.option(
        "--mirror", "mirrors", multiple=True, metavar="[ARCHIVE=]URL", help="Before the mirror of this host's apt."
    )(command)
    return click.option("--snapshot", metavar="URL", help="Base of a snapshot archive, used when a mirror fails.")(
        command
    )


def open_store(path: Path) -> ArtifactStore:
    """The store at `path`, made if it is not there."""
    from builder.backends.local_store import LocalStore

    return LocalStore(path)


def clock() -> int:
    """Seconds since 1970: read here only, so that the core never asks for the time."""
    return int(time.time())
