"""The app image: the digest that the guest pins is that of the image that is published."""

import io
import json
import tarfile
from hashlib import sha256
from typing import Any

import pytest

from tests.fakes.deb_files import member
from tests.fakes.elf_files import static_program_file
from tests.fakes.leg_directory import LegDirectory


@pytest.fixture
def parameters(leg: LegDirectory) -> dict[str, Any]:
    return {
        "packages": [leg.put_package("busybox", member("./bin/busybox", static_program_file(), mode=0o755))],
        "programs": ["bin/busybox"],
        "files": [{"path": "usr/bin/app", "input": leg.put("in/files/app", b"#!/bin/sh\n"), "executable": True}],
        "entrypoint": ["/usr/bin/app", "--fast"],
        "image": "sample",
        "version": "1",
        "compose": [],
        "source_date_epoch": 1767225600,
    }


def blobs(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}  # type: ignore[union-attr]


def test_the_digest_is_that_of_the_manifest_in_the_layout(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("app_image", parameters)
    digest = leg.output("app.digest").decode().removesuffix("\n").removeprefix("sha256:")
    files = blobs(leg.output("app.oci.tar"))
    assert sha256(files[f"blobs/sha256/{digest}"]).hexdigest() == digest
    assert json.loads(files["index.json"])["manifests"][0]["digest"] == f"sha256:{digest}"


def test_the_layer_holds_programs_and_files_of_root(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("app_image", parameters)
    files = blobs(leg.output("app.oci.tar"))
    (layer,) = [data for data in files.values() if data[257:262] == b"ustar"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        found = {info.name: (info.mode, info.uid, info.gid, info.mtime) for info in tar}
    assert list(found) == ["bin", "usr", "usr/bin", "usr/bin/app", "usr/bin/busybox"]
    assert found["usr/bin/app"] == (0o755, 0, 0, 1767225600)
    assert {each[1:] for each in found.values()} == {(0, 0, 1767225600)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entrypoint": ["/usr/bin/gone"]}, "app image: no file usr/bin/gone"),
        ({"programs": ["bin/gone"]}, "app image: no file bin/gone"),
        ({"packages": []}, "app image: no file bin/busybox"),
    ],
)
def test_an_app_that_could_not_run_is_refused(
    leg: LegDirectory, parameters: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    assert leg.refusal("app_image", {**parameters, **change}).startswith(message)


COMPOSE = b"""\
services:
  web:
    image: sample@{app_digest}
    network_mode: none
    read_only: true
    cap_drop: [ALL]
"""


def test_the_description_names_the_image_by_its_digest(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("app_image", {**parameters, "compose": [leg.put("in/own/compose.yaml", COMPOSE)]})
    description = json.loads(leg.output("app-compose.json"))
    digest = leg.output("app.digest").strip()
    assert description["name"] == "sample"
    assert description["docker_compose_file"].encode() == COMPOSE.replace(b"{app_digest}", digest)


def test_without_a_compose_file_there_is_no_description(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("app_image", parameters)
    assert not (leg.path / "out" / "app-compose.json").exists()


def test_a_compose_file_that_is_refused_leaves_no_image(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    compose = leg.put("in/own/compose.yaml", COMPOSE + b"    privileged: true\n")
    message = leg.refusal("app_image", {**parameters, "compose": [compose]})
    assert message.startswith("compose file: services.web: unknown field 'privileged'")
