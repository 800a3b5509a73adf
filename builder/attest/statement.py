"""in-toto Statement v1: which files a predicate is about (`formats.md` 3). Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.encoding.canonical_json import encode_canonical
from builder.errors import DocumentError
from builder.model.digest import checked_sha256
from builder.model.plan import Artifact

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


def statement(subjects: Sequence[Artifact], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """A Statement over `subjects`, each by its name and SHA-256, sorted by name.

    DocumentError for no subject, two of the same name, or a digest that is none. The predicate is not looked at.
    """
    names = [artifact.name for artifact in subjects]
    if not names or len(set(names)) != len(names):
        raise DocumentError(f"a statement needs subjects with different names, found {', '.join(names) or 'none'}")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_subject(artifact) for artifact in sorted(subjects, key=lambda artifact: artifact.name)],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def encode_statement(document: Mapping[str, Any]) -> bytes:
    """The payload of an envelope: canonical JSON, so that the same statement is always the same bytes."""
    return encode_canonical(dict(document))


def _subject(artifact: Artifact) -> dict[str, Any]:
    digest = checked_sha256(artifact.sha256, what=f"subject {artifact.name}")
    return {"name": artifact.name, "digest": {"sha256": digest}}
