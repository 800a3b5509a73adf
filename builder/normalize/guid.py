"""GUIDs that are derived and not drawn: the same names always give the same one (ND-E04, ND-E06)."""

import uuid

# of this project; drawn once, and never changed: it is in every image
_NAMESPACE = uuid.UUID("a9c7a3f2-6f0f-5d0b-9d4e-2b1c7f3e8d61")


def derived_guid(*names: str) -> uuid.UUID:
    """The version 5 UUID (RFC 9562, 5.5) of `names`, which may be digests, in this order."""
    return uuid.uuid5(_NAMESPACE, "\n".join(names))
