"""dstack's app-compose.json: the members on which events of RTMR[3] depend (`quotes.md` 5.2, 6)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.encoding.canonical_json import encode_canonical, parse_json
from builder.errors import DocumentError
from builder.measure.dstack.identities import KeyProviderKind, compose_hash
from builder.model.digest import sha256_hex

_WHAT = "app-compose.json"
_MAX_SIZE = 4 << 20  # dstack took up to 256 KiB, later 50 MiB; a large one is text, not values
_MOST_VALUES = 100_000
_MAX_INIT_SCRIPTS = 1024
_MAX_PROVIDER_ID = 1 << 16
_HEX = re.compile(r"[0-9a-f]*")
_KINDS: Mapping[str, KeyProviderKind] = {kind.name.lower(): kind for kind in KeyProviderKind}


@dataclass(frozen=True)
class AppCompose:
    """What the guest measures of an app's description.

    `digest` is the compose hash, `init_scripts` the SHA-256 of each script in order, `gpu_policy` that of the policy's
    canonical JSON, all in hex. `key_provider_id` is empty if the app accepts any provider of its kind.
    """

    digest: str
    key_provider: KeyProviderKind
    key_provider_id: bytes
    init_scripts: tuple[str, ...]
    has_instance_id: bool
    storage_fs: str | None
    event_log_version: int
    gpu_policy: str


def parse_app_compose(data: bytes) -> AppCompose:
    """Parse the bytes as delivered to the guest.

    DocumentError for what is no JSON of the strict kind (`parse_json`), and for members of a wrong type or value.
    Members that no event depends on are ignored: the compose hash covers them all.
    """
    if len(data) > _MAX_SIZE:
        raise DocumentError(f"{_WHAT}: {len(data)} bytes, wanted at most {_MAX_SIZE}")
    document = parse_json(data, what=_WHAT, most_values=_MOST_VALUES)
    if not isinstance(document, dict):
        raise DocumentError(f"{_WHAT}: not an object")
    storage = _optional(document, "storage_fs", str)
    version = document.get("event_log_version", 1)
    if version not in (1, 2) or isinstance(version, bool):
        raise DocumentError(f"{_WHAT}: event_log_version is {_shown(version)}, wanted 1 or 2")
    return AppCompose(
        digest=compose_hash(data),
        key_provider=_key_provider(document),
        key_provider_id=_key_provider_id(document),
        init_scripts=_init_scripts(document),
        has_instance_id=not _flag(document, "no_instance_id"),
        storage_fs=None if storage is None else storage_fs(storage, what=_WHAT),
        event_log_version=int(version),
        gpu_policy=_gpu_policy(document),
    )


def storage_fs(text: str, *, what: str) -> str:
    """`zfs` or `ext4`, as the guest spells it after reading it in any case; DocumentError for another."""
    if text.lower() not in ("zfs", "ext4"):
        raise DocumentError(f"{what}: file system {text[:40]!r}, wanted zfs or ext4")
    return text.lower()


def _key_provider(document: dict[str, Any]) -> KeyProviderKind:
    """`key_provider`, or what the two older members mean without it."""
    stated = _optional(document, "key_provider", str)
    if stated is not None and stated not in _KINDS:
        raise DocumentError(f"{_WHAT}: key_provider is {_shown(stated)}, wanted one of {', '.join(_KINDS)}")
    if stated is not None:
        return _KINDS[stated]
    if _flag(document, "kms_enabled"):
        return KeyProviderKind.KMS
    return KeyProviderKind.LOCAL if _flag(document, "local_key_provider_enabled") else KeyProviderKind.NONE


def _key_provider_id(document: dict[str, Any]) -> bytes:
    text = _optional(document, "key_provider_id", str) or ""
    if len(text) % 2 or not _HEX.fullmatch(text) or len(text) > 2 * _MAX_PROVIDER_ID:
        raise DocumentError(f"{_WHAT}: key_provider_id is {_shown(text)}, wanted lower-case hex")
    return bytes.fromhex(text)


def _init_scripts(document: dict[str, Any]) -> tuple[str, ...]:
    """One script, or several in order, or none."""
    value = document.get("init_script")
    scripts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(scripts, list) or not all(isinstance(script, str) for script in scripts):
        raise DocumentError(f"{_WHAT}: init_script is {_shown(value)}, wanted text or an array of texts")
    if len(scripts) > _MAX_INIT_SCRIPTS:
        raise DocumentError(f"{_WHAT}: {len(scripts)} init scripts, wanted at most {_MAX_INIT_SCRIPTS}")
    return tuple(sha256_hex(script.encode("utf-8")) for script in scripts)


def _gpu_policy(document: dict[str, Any]) -> str:
    """An absent policy is the empty one; one that states a default is another document, and has another digest."""
    requirements = _optional(document, "requirements", dict) or {}
    policy = requirements.get("gpu_policy", {})
    if not isinstance(policy, dict):
        raise DocumentError(f"{_WHAT}: requirements.gpu_policy is {_shown(policy)}, wanted an object")
    return sha256_hex(encode_canonical(policy))


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise DocumentError(f"{_WHAT}: {name} is {_shown(value)}, wanted true or false")
    return value


def _optional(document: dict[str, Any], name: str, wanted: type) -> Any:
    value = document.get(name)
    if value is not None and type(value) is not wanted:
        raise DocumentError(f"{_WHAT}: {name} is {_shown(value)}, wanted {wanted.__name__}")
    return value


def _shown(value: Any) -> str:
    return repr(value)[:80]
