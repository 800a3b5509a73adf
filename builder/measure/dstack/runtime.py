"""RTMR[3] of a dstack guest: the events its user space emits, from the app's description (`quotes.md` 5).

Some payloads are decided at run time: a random seed, what a key service replies. They are predicted if whoever asks
states them, and are unpredictable events otherwise. Proven by the RTMR[3] of two real quotes and of one published
verdict; version 2 of the digest was read in dstack's source, not seen in a quote.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from builder.errors import DocumentError
from builder.measure.dstack.compose import AppCompose, storage_fs
from builder.measure.dstack.identities import APP_ID_SIZE, BOOT_MR_DONE, KeyProviderKind
from builder.measure.dstack.log import runtime_event_digest
from builder.measure.rtmr import replay
from builder.model.event import DSTACK_RUNTIME_EVENT, ExpectedEvent, PredictedEvent, UnpredictedEvent

_REGISTER = "rtmr3"
_COMPOSE = "app-compose.json"
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,256}")
_STORAGE_OPTION = "dstack.storage_fs="
_DEFAULT_STORAGE = "zfs"
_PROVIDER_NAMES = {
    KeyProviderKind.NONE: "none",
    KeyProviderKind.LOCAL: "local-sgx",
    KeyProviderKind.KMS: "kms",
    KeyProviderKind.TPM: "tpm",
}
_NAMELESS = (KeyProviderKind.NONE, KeyProviderKind.TPM)  # their event states no id


@dataclass(frozen=True)
class RuntimeRules:
    """Which events a guest emits: a property of its software, which its version number does not decide.

    `storage_fs` since September 2025 (0.5.5); `gpu_policy`, without a GPU too, since July 2026, and `gpu_attestation`
    with one; `init_scripts` since August 2026. `kms_identity` is the event `mr-kms`, until August 2026 and only where
    the key service attests itself.
    """

    storage_fs: bool
    gpu_policy: bool
    gpu_attestation: bool
    init_scripts: bool
    kms_identity: bool


@dataclass(frozen=True)
class RuntimeInputs:
    """What the app's description does not decide; None is unknown.

    `app_id` None: the app was assigned none, and has the one of its compose hash. `os_image_hash` is what the key
    service replied, which need not be the image's (`quotes.md` 6). `command_line` is the kernel's. `application` are
    the events that the app itself emits, names and payloads in order.
    """

    app_id: bytes | None = None
    instance_id: bytes | None = None
    os_image_hash: bytes | None = None
    key_provider_id: bytes | None = None
    kms_identity: bytes | None = None
    gpu_attestation: bytes | None = None
    command_line: str = ""
    application: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class _Step:
    """One event: its payload, and where that comes from or why it is not known."""

    name: str
    payload: bytes | None
    source: str


def predicted_runtime_events(
    compose: AppCompose, inputs: RuntimeInputs, *, rules: RuntimeRules
) -> tuple[ExpectedEvent, ...]:
    """The events of RTMR[3] in order, from `system-preparing` to those of the app.

    DocumentError for payloads of a wrong size, a stated one that the app's description contradicts, and a file system
    on the command line that dstack does not know.
    """
    steps = (*_launch_steps(compose, inputs, rules), *_key_steps(compose, inputs, rules))
    return tuple(_event(step, version=compose.event_log_version) for step in (*steps, *_application_steps(inputs)))


def predicted_rtmr3(events: Iterable[ExpectedEvent]) -> str | None:
    """The register after these events; None if one of them could not be predicted.

    DocumentError if there are none, or one of another register.
    """
    expected = tuple(events)
    if not expected or any(event.register != _REGISTER for event in expected):
        raise DocumentError("RTMR[3]: wanted its predicted events, and no others")
    predicted = [event for event in expected if isinstance(event, PredictedEvent)]
    return replay(predicted)[_REGISTER] if len(predicted) == len(expected) else None


def key_provider_payload(kind: KeyProviderKind, provider_id: bytes) -> bytes:
    """The payload of `key-provider`: JSON in the guest's own order of members. Without a provider the id is empty."""
    return f'{{"name":"{_PROVIDER_NAMES[kind]}","id":"{provider_id.hex()}"}}'.encode("ascii")


def known_key_provider(compose: AppCompose, inputs: RuntimeInputs) -> bytes | None:
    """The payload of `key-provider`, on which `mr_system` depends too; None if nobody said which provider answered.

    DocumentError for a stated provider that the app's description does not name.
    """
    kind, stated = compose.key_provider, inputs.key_provider_id
    wanted = b"" if kind in _NAMELESS else compose.key_provider_id or None
    if wanted is not None and stated is not None and stated != wanted:
        raise DocumentError(
            f"key-provider: id {stated.hex()[:80]!r} is stated, {_COMPOSE} wants {wanted.hex()[:80]!r}",
            hint="the guest does not start with a provider that its app does not name",
        )
    provider = wanted if stated is None else stated
    return None if provider is None else key_provider_payload(kind, provider)


def stated_app_id(compose: AppCompose, inputs: RuntimeInputs) -> bytes:
    """The app's id: the one it was assigned, or the beginning of its compose hash. DocumentError for a wrong size."""
    return _sized("app-id", inputs.app_id, APP_ID_SIZE) or bytes.fromhex(compose.digest)[:APP_ID_SIZE]


def _launch_steps(compose: AppCompose, inputs: RuntimeInputs, rules: RuntimeRules) -> Iterator[_Step]:
    """Up to `boot-mr-done`: what the guest knows before it asks for keys."""
    digest = bytes.fromhex(compose.digest)
    yield _Step("system-preparing", b"", "dstack")
    yield _Step("app-id", stated_app_id(compose, inputs), _app_source(inputs))
    yield _Step("compose-hash", digest, _COMPOSE)
    if rules.init_scripts:
        yield from (_Step("init-script-hash", bytes.fromhex(script), _COMPOSE) for script in compose.init_scripts)
    if rules.gpu_policy:
        yield _Step("gpu-policy-hash", bytes.fromhex(compose.gpu_policy), _COMPOSE)
    if rules.gpu_attestation:
        yield _unless_known("gpu-attestation", inputs.gpu_attestation, "holds a nonce and what the GPUs' vendor signed")
    yield _instance_step(compose, inputs)
    yield _Step(BOOT_MR_DONE, b"", "dstack")


def _key_steps(compose: AppCompose, inputs: RuntimeInputs, rules: RuntimeRules) -> Iterator[_Step]:
    if compose.key_provider is KeyProviderKind.KMS:
        if rules.kms_identity:
            yield _unless_known("mr-kms", inputs.kms_identity, "is the identity of the key service that answered")
        payload = _sized("os-image-hash", inputs.os_image_hash, 32)
        yield _unless_known("os-image-hash", payload, "is what the key service replied")
    yield _provider_step(compose, inputs)
    if rules.storage_fs:
        yield _Step("storage-fs", _storage(compose, inputs.command_line), f"{_COMPOSE}, command_line")
    yield _Step("system-ready", b"", "dstack")


def _application_steps(inputs: RuntimeInputs) -> Iterator[_Step]:
    for name, payload in inputs.application:
        if not _NAME.fullmatch(name):
            raise DocumentError(f"RTMR[3]: an event of the app is called {name[:80]!r}, wanted printable text")
        yield _Step(name, payload, "application")


def _instance_step(compose: AppCompose, inputs: RuntimeInputs) -> _Step:
    if not compose.has_instance_id:
        if inputs.instance_id:
            raise DocumentError(f"instance-id: {inputs.instance_id.hex()} is stated, but {_COMPOSE} switches it off")
        return _Step("instance-id", b"", _COMPOSE)
    payload = _sized("instance-id", inputs.instance_id, APP_ID_SIZE)
    return _unless_known("instance-id", payload, "comes from a random seed of the disk, or of this very boot")


def _provider_step(compose: AppCompose, inputs: RuntimeInputs) -> _Step:
    payload = known_key_provider(compose, inputs)
    if payload is None:
        return _Step("key-provider", None, f"names the {_PROVIDER_NAMES[compose.key_provider]} that answered")
    return _Step("key-provider", payload, f"{_COMPOSE}, key_provider_id")


def _storage(compose: AppCompose, command_line: str) -> bytes:
    """The app's choice wins over the last one on the command line."""
    options = [word.removeprefix(_STORAGE_OPTION) for word in command_line.split() if word.startswith(_STORAGE_OPTION)]
    on_command_line = [storage_fs(option, what="command line") for option in options]
    return (compose.storage_fs or [_DEFAULT_STORAGE, *on_command_line][-1]).encode("ascii")


def _app_source(inputs: RuntimeInputs) -> str:
    return _COMPOSE if inputs.app_id is None else "app_id"


def _sized(name: str, payload: bytes | None, size: int) -> bytes | None:
    if payload is not None and len(payload) != size:
        raise DocumentError(f"{name}: {len(payload)} bytes, wanted {size}")
    return payload


def _unless_known(name: str, payload: bytes | None, reason: str) -> _Step:
    return _Step(name, payload, reason if payload is None else name.replace("-", "_"))


def _event(step: _Step, *, version: int) -> ExpectedEvent:
    if step.payload is None:
        return UnpredictedEvent(_REGISTER, DSTACK_RUNTIME_EVENT, step.name, f"{step.name} {step.source}")
    digest = runtime_event_digest(step.name, step.payload, version=version).hex()
    return PredictedEvent(_REGISTER, DSTACK_RUNTIME_EVENT, step.name, digest, step.source)
