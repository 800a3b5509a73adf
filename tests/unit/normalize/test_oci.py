"""The OCI layout: every digest is that of the bytes it names, and nothing but the inputs decides them."""

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from builder.normalize.oci import Image, ImageConfig, encode_image

CONFIG = ImageConfig("quickstart:0.1.0", ("/usr/bin/greet", "--loud"), 1_767_225_600)
LAYER = b"layer" * 100


def image_of(config: ImageConfig = CONFIG, layer: bytes = LAYER) -> Image:
    return encode_image(config, layer=(layer,), layer_sha256=sha256(layer).hexdigest(), layer_size=len(layer))


def document(image: Image, path: str) -> Any:
    (found,) = [member for member in image.members if member.path == path]
    return json.loads(found.read())


def blob(image: Image, descriptor: dict[str, Any]) -> bytes:
    (found,) = [member for member in image.members if member.path == f"blobs/{descriptor['digest'].replace(':', '/')}"]
    data = found.read()
    assert len(data) == descriptor["size"] == found.size
    return data


def test_every_blob_has_the_digest_it_is_named_by() -> None:
    blobs = [member for member in image_of().members if member.path.startswith("blobs/")]
    assert len(blobs) == 3
    assert all(member.path == f"blobs/sha256/{sha256(member.read()).hexdigest()}" for member in blobs)


def test_index_manifest_config_and_layer_hang_together() -> None:
    image = image_of()
    (entry,) = document(image, "index.json")["manifests"]
    assert entry["digest"] == image.digest
    manifest = json.loads(blob(image, entry))
    (layer,) = manifest["layers"]
    config = json.loads(blob(image, manifest["config"]))
    assert blob(image, layer) == LAYER
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]  # uncompressed: the digest of the layer itself
    assert config["config"]["Entrypoint"] == ["/usr/bin/greet", "--loud"]


def test_the_time_of_the_image_is_source_date_epoch() -> None:
    image = image_of()
    manifest = json.loads(blob(image, document(image, "index.json")["manifests"][0]))
    config = json.loads(blob(image, manifest["config"]))
    assert config["created"] == config["history"][0]["created"] == "2026-01-01T00:00:00Z"


def test_only_oci_media_types_are_used() -> None:
    text = b"".join(member.read() for member in image_of().members)
    assert b"docker" not in text
    assert text.count(b"application/vnd.oci.image.") == 5


def test_members_are_sorted_with_the_documents_of_the_layout_last() -> None:
    names = [member.path for member in image_of().members]
    assert names == sorted(names)
    assert names[-2:] == ["index.json", "oci-layout"]


def test_the_same_inputs_give_the_digest_that_was_published() -> None:
    # another value here means that no published app can be reproduced any more
    assert image_of().digest == "sha256:b7bdce6466cafc5b747d5058b9da8a8e7f417f5361b69da682fc6c34380b249d"


@pytest.mark.parametrize(
    ("config", "layer"),
    [
        (CONFIG, b"other"),
        (replace(CONFIG, entrypoint=("/usr/bin/greet",)), LAYER),
        (replace(CONFIG, created=CONFIG.created + 1), LAYER),
    ],
)
def test_other_inputs_give_another_digest(config: ImageConfig, layer: bytes) -> None:
    assert image_of(config, layer).digest != image_of().digest


def test_the_name_of_an_image_is_not_part_of_its_digest() -> None:
    assert image_of(replace(CONFIG, name="other")).digest == image_of().digest
