"""RTMR[3] of dstack guests (`quotes.md` 5)."""

from dataclasses import replace
from typing import Any

import pytest

from builder.errors import DocumentError
from builder.measure.dstack.compose import AppCompose, parse_app_compose
from builder.measure.dstack.identities import KeyProviderKind
from builder.measure.dstack.log import runtime_event_digest
from builder.measure.dstack.runtime import (
    RuntimeInputs,
    RuntimeRules,
    key_provider_payload,
    predicted_rtmr3,
    predicted_runtime_events,
)
from builder.model.event import DSTACK_RUNTIME_EVENT, PredictedEvent, UnpredictedEvent

NEWEST = RuntimeRules(storage_fs=True, gpu_policy=True, gpu_attestation=False, init_scripts=True, kms_identity=False)
OLDEST = RuntimeRules(storage_fs=False, gpu_policy=False, gpu_attestation=False, init_scripts=False, kms_identity=False)
PLAIN = parse_app_compose(b'{"name":"app"}')
KMS = replace(PLAIN, key_provider=KeyProviderKind.KMS)
INSTANCE = RuntimeInputs(instance_id=b"i" * 20)
EVERYTHING = RuntimeInputs(
    instance_id=b"i" * 20,
    os_image_hash=b"o" * 32,
    key_provider_id=b"key",
    kms_identity=b"m" * 32,
    gpu_attestation=b"{}",
)


def events(
    compose: AppCompose = PLAIN, inputs: RuntimeInputs = INSTANCE, *, rules: RuntimeRules = NEWEST
) -> tuple[PredictedEvent | UnpredictedEvent, ...]:
    return predicted_runtime_events(compose, inputs, rules=rules)


def names(*args: Any, **kwargs: Any) -> list[str]:
    return [event.name for event in events(*args, **kwargs)]


def unpredicted(*args: Any, **kwargs: Any) -> list[str]:
    return [event.name for event in events(*args, **kwargs) if isinstance(event, UnpredictedEvent)]


def digest_of(name: str, *args: Any, **kwargs: Any) -> str:
    (found,) = [event for event in events(*args, **kwargs) if event.name == name]
    assert isinstance(found, PredictedEvent)
    return found.digest


def stated(name: str, payload: bytes) -> str:
    return runtime_event_digest(name, payload).hex()


def test_a_kms_guest_with_everything_emits_in_this_order() -> None:
    rules = RuntimeRules(storage_fs=True, gpu_policy=True, gpu_attestation=True, init_scripts=True, kms_identity=True)
    compose = replace(KMS, init_scripts=("11" * 32, "22" * 32))
    assert names(compose, replace(EVERYTHING, application=(("mine", b"x"),)), rules=rules) == [
        "system-preparing",
        "app-id",
        "compose-hash",
        "init-script-hash",
        "init-script-hash",
        "gpu-policy-hash",
        "gpu-attestation",
        "instance-id",
        "boot-mr-done",
        "mr-kms",
        "os-image-hash",
        "key-provider",
        "storage-fs",
        "system-ready",
        "mine",
    ]


def test_an_old_guest_without_key_service_emits_seven_events() -> None:
    assert names(replace(PLAIN, init_scripts=("11" * 32,)), rules=OLDEST) == [
        "system-preparing",
        "app-id",
        "compose-hash",
        "instance-id",
        "boot-mr-done",
        "key-provider",
        "system-ready",
    ]


def test_every_event_is_of_rtmr3_and_dstacks_type() -> None:
    assert {(event.register, event.event_type) for event in events(KMS)} == {("rtmr3", DSTACK_RUNTIME_EVENT)}


@pytest.mark.parametrize(
    ("given", "unknown"),
    [
        (EVERYTHING, []),
        (replace(EVERYTHING, instance_id=None), ["instance-id"]),
        (replace(EVERYTHING, os_image_hash=None), ["os-image-hash"]),
        (replace(EVERYTHING, key_provider_id=None), ["key-provider"]),
        (replace(EVERYTHING, kms_identity=None), ["mr-kms"]),
        (replace(EVERYTHING, gpu_attestation=None), ["gpu-attestation"]),
    ],
)
def test_what_is_only_known_at_run_time_is_not_guessed(given: RuntimeInputs, unknown: list[str]) -> None:
    rules = replace(NEWEST, gpu_attestation=True, kms_identity=True)
    assert unpredicted(KMS, given, rules=rules) == unknown
    assert (predicted_rtmr3(events(KMS, given, rules=rules)) is None) == bool(unknown)


def test_the_reason_names_the_event() -> None:
    (event,) = [each for each in events(PLAIN, RuntimeInputs()) if isinstance(each, UnpredictedEvent)]
    assert event.reason.startswith("instance-id comes from a random seed")


def test_an_app_without_an_assigned_id_has_that_of_its_description() -> None:
    digest = bytes.fromhex(PLAIN.digest)
    assert digest_of("app-id") == stated("app-id", digest[:20])
    assert digest_of("compose-hash") == stated("compose-hash", digest)
    assigned = replace(INSTANCE, app_id=b"a" * 20)
    assert digest_of("app-id", PLAIN, assigned) == stated("app-id", b"a" * 20)


def test_a_switched_off_instance_id_is_an_empty_payload() -> None:
    anonymous = replace(PLAIN, has_instance_id=False)
    assert digest_of("instance-id", anonymous, RuntimeInputs()) == stated("instance-id", b"")
    with pytest.raises(DocumentError, match="switches it off"):
        events(anonymous, INSTANCE)


def test_version_2_changes_every_digest() -> None:
    first, second = events(), events(replace(PLAIN, event_log_version=2))
    assert [event.name for event in first] == [event.name for event in second]
    assert not {event.digest for event in first if isinstance(event, PredictedEvent)} & {
        event.digest for event in second if isinstance(event, PredictedEvent)
    }


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (KeyProviderKind.NONE, b'{"name":"none","id":""}'),
        (KeyProviderKind.TPM, b'{"name":"tpm","id":""}'),
    ],
)
def test_without_a_provider_the_id_is_empty(kind: KeyProviderKind, text: bytes) -> None:
    compose = replace(PLAIN, key_provider=kind)
    assert key_provider_payload(kind, b"") == text
    assert digest_of("key-provider", compose) == stated("key-provider", text)
    with pytest.raises(DocumentError, match="key-provider"):
        events(compose, replace(INSTANCE, key_provider_id=b"k"))


def test_a_local_provider_is_named_with_its_measurement() -> None:
    compose = replace(PLAIN, key_provider=KeyProviderKind.LOCAL)
    text = b'{"name":"local-sgx","id":"6d72"}'
    assert digest_of("key-provider", compose, replace(INSTANCE, key_provider_id=b"mr")) == stated("key-provider", text)


def test_a_pinned_provider_is_known_and_no_other_is_believed() -> None:
    pinned = replace(KMS, key_provider_id=b"key")
    assert "key-provider" not in unpredicted(pinned, INSTANCE)
    assert digest_of("key-provider", pinned, INSTANCE) == digest_of("key-provider", KMS, EVERYTHING)
    with pytest.raises(DocumentError, match="wants '6b6579'"):
        events(pinned, replace(INSTANCE, key_provider_id=b"other"))


@pytest.mark.parametrize(
    ("storage", "line", "payload"),
    [
        (None, "", b"zfs"),
        (None, "quiet dstack.storage_fs=ext4", b"ext4"),
        (None, "dstack.storage_fs=ext4 dstack.storage_fs=ZFS", b"zfs"),
        ("zfs", "dstack.storage_fs=ext4", b"zfs"),
        ("ext4", "", b"ext4"),
    ],
)
def test_the_apps_file_system_wins_over_the_command_line(storage: str | None, line: str, payload: bytes) -> None:
    compose = replace(PLAIN, storage_fs=storage)
    assert digest_of("storage-fs", compose, replace(INSTANCE, command_line=line)) == stated("storage-fs", payload)


def test_an_unknown_file_system_stops_the_guest() -> None:
    with pytest.raises(DocumentError, match="btrfs"):
        events(PLAIN, replace(INSTANCE, command_line="dstack.storage_fs=btrfs"))


@pytest.mark.parametrize(
    "given",
    [
        {"app_id": b"a" * 19},
        {"app_id": b""},
        {"instance_id": b"i" * 21},
        {"instance_id": b""},
        {"os_image_hash": b"o" * 31},
    ],
    ids=str,
)
def test_payloads_of_another_size_are_refused(given: dict[str, bytes]) -> None:
    with pytest.raises(DocumentError, match="bytes, wanted"):
        events(KMS, replace(INSTANCE, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "\n", "a\0b", "x" * 257, "\ud800"], ids=repr)
def test_events_of_the_app_have_printable_names(name: str) -> None:
    with pytest.raises(DocumentError, match="an event of the app"):
        events(PLAIN, replace(INSTANCE, application=((name, b""),)))


def test_an_event_of_the_app_changes_the_register() -> None:
    more = replace(INSTANCE, application=(("mine", b"x"),))
    registers = {predicted_rtmr3(events()), predicted_rtmr3(events(PLAIN, more))}
    assert len(registers) == 2
    assert None not in registers


def test_a_register_of_no_events_or_of_others_is_refused() -> None:
    with pytest.raises(DocumentError, match="its predicted events"):
        predicted_rtmr3(())
    with pytest.raises(DocumentError, match="its predicted events"):
        predicted_rtmr3([*events(), PredictedEvent("rtmr2", 6, "x", "00" * 48, "test")])


# Two real guests, of Dstack-TEE/dstack at 312dc605 (Apache-2.0): verifier/README.md and fixtures/quote-report.json
def test_rtmr3_of_a_published_verdict() -> None:
    compose = replace(KMS, digest="e631a04a5d068c0e5ffd8ca60d6574ac99a18bdaf0417d129d0c4ac52244d40f")
    key = "3059301306072a8648ce3d020106082a8648ce3d030107034200"
    key += (
        "0419b2457dd9b8aa6446d980f136fff7812ecd6c77740eeb0e28b10d56c0c00028a5b6e59dcea307d583bd1f70769e9c116df2bcfb1758"
    )
    key += "a95d8613e7de1c8482c0"
    inputs = RuntimeInputs(
        instance_id=bytes.fromhex("712eab2f507b963e11144ae67218177e93ac2a24"),
        os_image_hash=bytes.fromhex("b6420818b356b198bdd70f076079aa0299a20279b87ab33ada7b2770ef432a5a"),
        key_provider_id=bytes.fromhex(key),
    )
    assert predicted_rtmr3(events(compose, inputs, rules=OLDEST)) == (
        "5e7d8d84317343d28d73031d0be3c75f25facb1b20c9835a44582b8b0115de1acfe2d19350437dbd63846bcc5d7bf328"
    )
    assert predicted_rtmr3(events(compose, inputs, rules=replace(OLDEST, storage_fs=True))) != (
        predicted_rtmr3(events(compose, inputs, rules=OLDEST))
    )


def test_rtmr3_of_a_real_quote_with_an_event_of_the_app() -> None:
    compose = replace(
        PLAIN,
        digest="3763bc34552cf3a27ff71ad5f7a90471562a1a2df552dfc1998cba2d60da27e7",
        key_provider=KeyProviderKind.LOCAL,
    )
    hotkey = "35443333507467666b475951734d4c434d724b426a56454d54455371525944466666543672396a4264614833654c7434"
    inputs = RuntimeInputs(
        instance_id=bytes.fromhex("c3714eb66990eace777b4e664c16e09375dec4c9"),
        key_provider_id=bytes.fromhex("1b7a49378403249b6986a907844cab0921eca32dd47e657f3c10311ccaeccf8b"),
        application=(("LIUM_MINER_HOTKEY", bytes.fromhex(hotkey)),),
    )
    assert predicted_rtmr3(events(compose, inputs, rules=OLDEST)) == (
        "0f787c3877f3e95095d5a4d13dd0fe0233803b30120d8469866719dc28f519ce021fe1e53459121e7a5a4443147185a8"
    )
