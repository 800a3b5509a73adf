"""Pinned roots as images of a real daemon: loaded once, never pulled, and never another content under their name."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.backends.docker.daemon import open_daemon
from builder.backends.docker.host import find_host
from builder.backends.docker.layer import Image, LayerPart, image_archive, make_image, make_layer
from builder.backends.docker.owner import ROOT_LABEL
from builder.backends.docker.root import REPOSITORY, load_image
from builder.errors import BuildFailedError, DocumentError, MissingError
from tests.integration.docker_daemon import RunningDaemon, client_of

pytestmark = pytest.mark.xdist_group("docker")


def small_image(directory: Path) -> Image:
    """An image that no other test has."""
    directory.mkdir()
    (directory / "file").write_text(uuid.uuid4().hex)
    return make_image(REPOSITORY, (make_layer([LayerPart("", directory)]),), {})


def loads(daemon: RunningDaemon, image: Image) -> int:
    """How often an image was loaded, as the daemon tells it."""
    client = client_of(daemon)
    identity = client.inspect_image(image.name)["Id"]
    events = client.events(since=1, until=int(time.time()) + 1, filters={"type": "image", "event": "load"}, decode=True)
    return [event["id"] for event in events].count(identity)


def test_an_image_is_loaded_once_for_all_who_ask_at_the_same_time(local_daemon: RunningDaemon, tmp_path: Path) -> None:
    image = small_image(tmp_path / "root")
    daemon = open_daemon(find_host(local_daemon.url, {}))
    with ThreadPoolExecutor(8) as pool:
        identities = set(pool.map(lambda _: load_image(daemon, image, lambda: None), range(8)))
    assert identities == {client_of(local_daemon).inspect_image(image.name)["Id"]}
    assert loads(local_daemon, image) == 1


def test_another_content_under_the_name_of_a_root_is_refused(local_daemon: RunningDaemon, tmp_path: Path) -> None:
    wanted, other = small_image(tmp_path / "root"), small_image(tmp_path / "other")
    forged = Image(wanted.name, other.config, other.layers)
    client_of(local_daemon).load_image(b"".join(image_archive(forged, lambda _: True)))
    daemon = open_daemon(find_host(local_daemon.url, {}))
    with pytest.raises(MissingError, match=rf"{wanted.name} that is not the pinned root .* its layers") as caught:
        load_image(daemon, wanted, lambda: None)
    assert f"docker image rm {wanted.name}" in str(caught.value.hint)


def test_a_root_that_changes_while_it_is_loaded_is_refused(local_daemon: RunningDaemon, tmp_path: Path) -> None:
    image = small_image(tmp_path / "root")
    (tmp_path / "root/file").write_text(uuid.uuid4().hex)
    daemon = open_daemon(find_host(local_daemon.url, {}))
    with pytest.raises(DocumentError, match="changed while they were copied"):
        load_image(daemon, image, lambda: None)


def test_a_labelled_image_without_layers_stops_no_load(local_daemon: RunningDaemon, tmp_path: Path) -> None:
    empty = make_image(REPOSITORY, (), {ROOT_LABEL: "of somebody"})
    client_of(local_daemon).load_image(b"".join(image_archive(empty, lambda _: True)))
    image = small_image(tmp_path / "root")
    assert load_image(open_daemon(find_host(local_daemon.url, {})), image, lambda: None)


def test_an_interrupted_load_ends(local_daemon: RunningDaemon, tmp_path: Path) -> None:
    def interrupted() -> None:
        raise BuildFailedError("cancelled")

    daemon = open_daemon(find_host(local_daemon.url, {}))
    with pytest.raises(BuildFailedError, match="cancelled"):
        load_image(daemon, small_image(tmp_path / "root"), interrupted)
