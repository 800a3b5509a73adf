"""Paths inside a built tree: relative, parts joined with `/`, under a merged `/usr`."""

from builder.errors import DocumentError
from builder.normalize.deb import merged_usr_path

MAX_LINKS = 40  # as in Linux, path_resolution(7)
TOP = ""


def path_bytes(path: str) -> bytes:
    """The bytes of a path: archives hold bytes, and names that are not UTF-8 pass through unchanged."""
    return path.encode("utf-8", "surrogateescape")


def parent(path: str) -> str:
    """The directory of `path`: `usr/bin` for `usr/bin/sh`, the top for `usr`."""
    return path.rpartition("/")[0]


def link_path(path: str, target: str, *, what: str) -> str:
    """The path that a symbolic link at `path` names, inside the same tree; not followed any further.

    DocumentError, naming the tree `what`, if the target leads above its top.
    """
    parts = [] if target.startswith("/") else [part for part in parent(path).split("/") if part]
    for part in target.split("/"):
        if part == "..":
            if not parts:
                raise DocumentError(f"{what}: link {path} -> {target} leads outside of the tree")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return merged_usr_path("/".join(parts))
