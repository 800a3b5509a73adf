"""An OCI image with one layer, as an image layout, always the same bytes (`formats.md` 12).

The layer is stored uncompressed: then its diff_id is its digest, and no compressor decides the digest of the image.
Only OCI media types are used; Docker's would change every digest.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from builder.encoding.canonical_json import encode_canonical
from builder.normalize.tree import Kind, Member, file_member

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class ImageConfig:
    """What an image says about itself: `name` is its reference in the index, `created` seconds since 1970."""

    name: str
    entrypoint: tuple[str, ...]
    created: int


@dataclass(frozen=True)
class Image:
    """An image layout: `digest` (`sha256:` and 64 hex digits) is that of the manifest, `members` are sorted."""

    digest: str
    members: tuple[Member, ...]


def encode_image(config: ImageConfig, *, layer: Iterable[bytes], layer_sha256: str, layer_size: int) -> Image:
    """The image of one uncompressed layer, whose digest and size the caller has computed."""
    config_blob = encode_canonical(_config(config, layer_sha256))
    manifest = encode_canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, _sha256(config_blob), len(config_blob)),
            "layers": [_descriptor(LAYER_TYPE, layer_sha256, layer_size)],
        }
    )
    index = encode_canonical(_index(config.name, _sha256(manifest), len(manifest)))
    blobs = (
        file_member(_blob_path(_sha256(config_blob)), config_blob),
        file_member(_blob_path(_sha256(manifest)), manifest),
        Member(_blob_path(layer_sha256), Kind.FILE, 0o644, size=layer_size, content=layer),
    )
    layout = file_member("oci-layout", encode_canonical({"imageLayoutVersion": "1.0.0"}))
    members = (*sorted(blobs, key=lambda blob: blob.path), file_member("index.json", index), layout)
    return Image(f"sha256:{_sha256(manifest)}", members)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _config(config: ImageConfig, layer_sha256: str) -> dict[str, Any]:
    created = datetime.fromtimestamp(config.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {"Entrypoint": list(config.entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_sha256}"]},
        "history": [{"created": created, "created_by": "tdx-builder"}],
    }


def _index(name: str, manifest_sha256: str, manifest_size: int) -> dict[str, Any]:
    manifest = _descriptor(MANIFEST_TYPE, manifest_sha256, manifest_size)
    annotations = {"org.opencontainers.image.ref.name": name}
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [{**manifest, "annotations": annotations}]}


def _descriptor(media_type: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size}


def _blob_path(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"
