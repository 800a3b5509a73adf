"""dstack's identities: what its contracts and key services allow or refuse by (`quotes.md` 6).

All of them are computed from values that somebody else must have verified: registers from a verified quote, events
from a log that replays to it. Digests are lower-case hex. MRCONFIGID V1 agrees with a real quote, mr_system and
mr_aggregated with a verdict that dstack publishes; the other rules were read in dstack's source.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from builder.errors import DocumentError
from builder.measure.rtmr import replay
from builder.model.digest import sha256_hex
from builder.model.event import DSTACK_RUNTIME_EVENT, MeasuredEvent

APP_ID_SIZE = 20
BOOT_MR_DONE = "boot-mr-done"

_REGISTER_SIZE = 48
_NO_KEY_PROVIDER = bytes(32)
_V3_DOMAIN = b"dstack-mr-config-v3:\0"
_HEX = re.compile(r"[0-9a-f]*")


class KeyProviderKind(IntEnum):
    """Where the disk key comes from, with its number in MRCONFIGID V2."""

    NONE = 0
    LOCAL = 1
    KMS = 2
    TPM = 3


class BootedTd(Protocol):
    """The registers that are decided before user space runs, each 96 hex digits: of a quote, or predicted ones."""

    @property
    def mrtd(self) -> str:
        """MRTD."""

    @property
    def rtmr0(self) -> str:
        """RTMR[0]."""

    @property
    def rtmr1(self) -> str:
        """RTMR[1]."""

    @property
    def rtmr2(self) -> str:
        """RTMR[2]."""


class RunningTd(BootedTd, Protocol):
    """Those, the register of user space, and what the TD was configured with."""

    @property
    def rtmr3(self) -> str:
        """RTMR[3]."""

    @property
    def mrconfigid(self) -> str:
        """MRCONFIGID."""

    @property
    def mrowner(self) -> str:
        """MROWNER."""

    @property
    def mrownerconfig(self) -> str:
        """MROWNERCONFIG."""


@dataclass(frozen=True)
class MrConfigId:
    """MRCONFIGID in parts. `version` 0 is a register that was left zero; then `digest` is empty."""

    version: int
    digest: str


def compose_hash(app_compose: bytes) -> str:
    """SHA-256 of the bytes of app-compose.json as delivered; a normalised form of it has another."""
    return sha256_hex(app_compose)


def app_id(app_compose: bytes) -> str:
    """The id of an app that was assigned none, 40 hex digits; an assigned one, a contract's address, is not derived."""
    return compose_hash(app_compose)[: 2 * APP_ID_SIZE]


def instance_id(seed: bytes, app: str, *, platform_binding: bytes = b"") -> str:
    """40 hex digits. The seed is random, without a key provider even at every boot; only clouds have a binding."""
    return hashlib.sha256(seed + _bytes_of(app, APP_ID_SIZE, what="app id") + platform_binding).hexdigest()[:40]


def os_image_hash(checksum_file: bytes) -> str:
    """SHA-256 of `sha256sum.txt`. Whether its lines are well formed and true is for `image` to say."""
    return sha256_hex(checksum_file)


def device_id(ppid: bytes) -> str:
    """SHA-256 of the platform's PPID, which the PCK certificate holds."""
    if len(ppid) != 16:
        raise DocumentError(f"PPID of {len(ppid)} bytes, wanted 16")
    return sha256_hex(ppid)


def mr_key_provider(payload: bytes | None) -> str:
    """Of the payload of the event `key-provider`; None and an empty one stand for 32 zero bytes."""
    return sha256_hex(payload) if payload else _NO_KEY_PROVIDER.hex()


def mr_system(body: BootedTd, key_provider: bytes | None) -> str:
    """SHA-256 over MRTD, RTMR[0..2] and `mr_key_provider`; `key_provider` is the event's payload.

    DocumentError for registers or a body that are not hex of their size.
    """
    parts = _registers((body.mrtd, body.rtmr0, body.rtmr1, body.rtmr2))
    return sha256_hex(parts + bytes.fromhex(mr_key_provider(key_provider)))


def mr_aggregated(body: RunningTd, *, rtmr3: str | None = None) -> str:
    """SHA-256 over MRTD, all RTMRs, and MRCONFIGID, MROWNER and MROWNERCONFIG if any of those is not zero.

    The boot-time variant takes `boot_time_rtmr3` for `rtmr3`; without it, the register of the body.
    """
    parts = _registers((body.mrtd, body.rtmr0, body.rtmr1, body.rtmr2, rtmr3 or body.rtmr3))
    owner = _registers((body.mrconfigid, body.mrowner, body.mrownerconfig))
    return sha256_hex(parts + (owner if any(owner) else b""))


def boot_time_rtmr3(events: Iterable[MeasuredEvent]) -> str:
    """RTMR[3] after the event `boot-mr-done`, before keys are asked for.

    DocumentError if there is not exactly one: dstack replays a log without it to its end, which is another value.
    """
    runtime = [event for event in events if event.event_type == DSTACK_RUNTIME_EVENT and event.register == "rtmr3"]
    ends = [index for index, event in enumerate(runtime) if event.name == BOOT_MR_DONE]
    if len(ends) != 1:
        raise DocumentError(f"RTMR[3]: {len(ends)} events {BOOT_MR_DONE!r}, wanted exactly one")
    return replay(runtime[: ends[0] + 1])["rtmr3"]


def mr_config_id_v1(compose: str) -> str:
    """MRCONFIGID of version 1, from the compose hash."""
    return _mr_config_id(1, _bytes_of(compose, 32, what="compose hash"))


def mr_config_id_v2(compose: str, app: str, *, kind: KeyProviderKind, provider_id: bytes) -> str:
    """MRCONFIGID of version 2. dstack's guests still check it; its VMM does not write it any more."""
    from Crypto.Hash import keccak  # a large library, for a value that hardly anybody asks for

    parts = (_bytes_of(compose, 32, what="compose hash"), _bytes_of(app, APP_ID_SIZE, what="app id"), bytes([kind]))
    return _mr_config_id(2, keccak.new(digest_bits=256, data=b"".join((*parts, provider_id))).digest())


def mr_config_id_v3(document: bytes) -> str:
    """MRCONFIGID of version 3, from the exact bytes of the configuration document."""
    return _mr_config_id(3, hashlib.sha256(_V3_DOMAIN + document).digest())


def parse_mr_config_id(text: str) -> MrConfigId:
    """The version and digest in a MRCONFIGID; DocumentError for a version nobody knows and bytes after the digest."""
    value = _bytes_of(text, _REGISTER_SIZE, what="MRCONFIGID")
    version, digest, rest = value[0], value[1:33], value[33:]
    if not any(value):
        return MrConfigId(0, "")
    if version not in (1, 2, 3) or any(rest):
        raise DocumentError(
            f"MRCONFIGID {text}: wanted a first byte of 1, 2 or 3, a 32-byte digest and zeros",
            hint="this TD was not configured by dstack, or by a newer version of it",
        )
    return MrConfigId(version, digest.hex())


def _mr_config_id(version: int, digest: bytes) -> str:
    return (bytes([version]) + digest).ljust(_REGISTER_SIZE, b"\0").hex()


def _registers(values: Sequence[str]) -> bytes:
    return b"".join(_bytes_of(value, _REGISTER_SIZE, what="register") for value in values)


def _bytes_of(text: str, size: int, *, what: str) -> bytes:
    if not _HEX.fullmatch(text) or len(text) != 2 * size:
        raise DocumentError(f"{what}: {text[:128]!r} is not {size} bytes in lower-case hex")
    return bytes.fromhex(text)
