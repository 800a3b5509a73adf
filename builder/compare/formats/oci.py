"""OCI image layouts in a tar archive: blobs are named by digest, so they are paired by their role instead.

Roles follow the image specification: `index.json` names manifests, a manifest names its config and layers. The digests
and sizes of blobs become tokens: a document that differs in them alone differs as a consequence.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from builder.compare.formats.tar import TAR
from builder.compare.source import Extent
from builder.compare.tree import Format, Member, Tree

_MAX_DOCUMENT = 4 << 20
_BLOBS = b"blobs/"


def _matches(extent: Extent) -> bool:
    return TAR.matches(extent)


def _parse(extent: Extent) -> Tree:
    tree = TAR.parse(extent)
    by_name = {member.name.removeprefix(b"./"): member for member in tree.members}
    if not {b"oci-layout", b"index.json"} <= by_name.keys():
        return tree
    roles = dict(_roles(by_name))
    members = [member._replace(name=roles.get(member.name.removeprefix(b"./"), member.name)) for member in tree.members]
    blobs = [member for name, member in by_name.items() if name.startswith(_BLOBS) and member.data.size]
    return replace(tree, members=tuple(sorted(members, key=_place)), tokens=frozenset(_tokens(blobs)))


def _roles(by_name: dict[bytes, Member]) -> Iterator[tuple[bytes, bytes]]:
    """Blob name -> role, for every blob that the index reaches."""
    for index, manifest in enumerate(_list(_document(by_name.get(b"index.json")), "manifests")):
        role = f"manifests[{index}]"
        name = _blob_name(manifest)
        yield name, role.encode()
        document = _document(by_name.get(name))
        yield _blob_name(document.get("config")), f"{role}.config".encode()
        for number, layer in enumerate(_list(document, "layers")):
            yield _blob_name(layer), f"{role}.layers[{number}]".encode()


def _document(member: Member | None) -> dict[str, Any]:
    """The JSON object in a member; empty if it is none, since then there are no roles to give."""
    if member is None or member.data.size > _MAX_DOCUMENT:
        return {}
    try:
        document = json.loads(member.data.read(0, member.data.size).decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


def _blob_name(descriptor: Any) -> bytes:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    return _BLOBS + str(digest).replace(":", "/", 1).encode("utf-8", "replace")


def _tokens(blobs: list[Member]) -> Iterator[bytes]:
    for blob in blobs:
        yield blob.name[blob.name.index(_BLOBS) + len(_BLOBS) :].replace(b"/", b":", 1)
        yield str(blob.data.size).encode()


def _place(member: Member) -> tuple[bool, int, bytes]:
    """Layers first, documents that hold their digests after them, the index last: causes before consequences."""
    order = 0 if b".layers[" in member.name else 1 if member.name.endswith(b".config") else 2
    return member.name.endswith(b"index.json"), order, member.name


OCI_ARCHIVE = Format("tar", _matches, _parse)
