"""Pinned roots as images on a daemon: made of their files, loaded once, checked by digest, and never pulled."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builder.backends.docker.daemon import TRANSFER_SECONDS, Daemon, api_errors, connected
from builder.backends.docker.layer import Image, Layer, LayerPart, image_archive, make_image, make_layer
from builder.backends.docker.options import BYTECODE, LOCALES
from builder.backends.docker.owner import ROOT_LABEL
from builder.backends.leg_environment import private_directories
from builder.backends.prepared_root import PreparedRoot
from builder.errors import BuildFailedError, MissingError
from builder.model.variation import Variation

REPOSITORY = "tdx-builder/root"
# of an image's configuration: what would reach into a leg without being asked for
_FOREIGN = ("Env", "Entrypoint", "Cmd", "Volumes", "User", "WorkingDir", "OnBuild", "Healthcheck", "ExposedPorts")

_loading: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
_loading_mutex = threading.Lock()


def root_layer(root: Path) -> Layer:
    """The files of a pinned root; reads all of them for the digest."""
    return make_layer([LayerPart("", root)])


def root_image(layer: Layer) -> Image:
    """The image of a pinned root alone, in which locales and bytecode are compiled."""
    return make_image(REPOSITORY, (layer,), _labels(layer))


def leg_image(layer: Layer, prepared: PreparedRoot, variation: Variation) -> Image:
    """The image of a leg: the pinned root, and above it the leg's locale and Python's bytecode where it needs them,
    and the directories that it has file systems of its own on."""
    private = sorted(private_directories(prepared.path, variation))
    parts = [LayerPart(directory.lstrip("/"), None) for directory in private]
    if prepared.bytecode is not None:
        parts.append(LayerPart(BYTECODE.lstrip("/"), prepared.bytecode, own_times=False))
    if prepared.locales is not None:
        compiled = prepared.locales / variation.locale
        parts.append(LayerPart(f"{LOCALES}/{variation.locale}".lstrip("/"), compiled, own_times=False))
    return make_image(REPOSITORY, (layer, make_layer(parts)), _labels(layer))


def load_image(daemon: Daemon, image: Image, check: Callable[[], None]) -> str:
    """Have the image on the daemon, checked; gives the id by which containers are to name it.

    Legs that ask at the same time wait for one load. `check` is called between pieces, and ends it by raising. An image
    of this name with another content is refused with MissingError.
    """
    with _lock_of(daemon, image):
        found = _inspect(daemon, image)
        if found is None:
            _load(daemon, image, check)
            found = _inspect(daemon, image)
        if found is None:
            raise BuildFailedError(f"{daemon} took {image.name}, and has no image of that name")
    _require_same(daemon, image, found)
    return str(found["Id"])


def _lock_of(daemon: Daemon, image: Image) -> threading.Lock:
    with _loading_mutex:
        return _loading[daemon.identity, image.name]


def _labels(layer: Layer) -> dict[str, str]:
    return {ROOT_LABEL: f"sha256:{layer.sha256}"}


def _inspect(daemon: Daemon, image: Image) -> dict[str, Any] | None:
    from docker.errors import ImageNotFound

    with connected(daemon) as client, api_errors(daemon, f"say what {image.name} is"):
        try:
            found: dict[str, Any] = client.inspect_image(image.name)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None
    return found


def _load(daemon: Daemon, image: Image, check: Callable[[], None]) -> None:
    present = _present_layers(daemon) if daemon.keeps_layers_apart else set()
    archive = image_archive(image, lambda layer: f"sha256:{layer.sha256}" not in present)
    with (
        connected(daemon, timeout=TRANSFER_SECONDS) as client,
        api_errors(daemon, f"load {image.name}"),
    ):
        messages = list(client.load_image(_checked(archive, check), quiet=True))  # type: ignore[no-untyped-call]
    errors = [str(message["error"]) for message in messages if isinstance(message, dict) and "error" in message]
    if errors:
        raise BuildFailedError(f"{daemon} cannot load {image.name}: {errors[0]}")


def _checked(chunks: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        check()
        yield chunk


def _present_layers(daemon: Daemon) -> set[str]:
    """Layers at the bottom of an image of ours: those the daemon has, whatever lies above them."""
    with connected(daemon) as client, api_errors(daemon, "list its images"):
        images = client.images(filters={"label": ROOT_LABEL})
        found = [client.inspect_image(image["Id"]) for image in images]  # type: ignore[no-untyped-call]
    # anybody can put the label on an image, one without layers included
    return {layer for image in found for layer in ((image.get("RootFS") or {}).get("Layers") or [])[:1]}


def _require_same(daemon: Daemon, image: Image, found: dict[str, Any]) -> None:
    layers = (found.get("RootFS") or {}).get("Layers")
    config = found.get("Config") or {}
    wanted = json.loads(image.config)["config"]["Labels"]
    foreign = [name for name in _FOREIGN if config.get(name)]
    platform = f"{found.get('Os')}/{found.get('Architecture')}"
    for what, value, expected in (
        ("layers", layers, image.layer_ids),
        ("labels", config.get("Labels"), wanted),
        ("settings", foreign, []),
        ("platform", platform, "linux/amd64"),
    ):
        if value != expected:
            raise MissingError(
                f"{daemon} has an image {image.name} that is not the pinned root of this name: its {what} are {value},"
                f" wanted {expected}",
                hint=f"find out who put it there, then remove it: docker image rm {image.name}",
            )
