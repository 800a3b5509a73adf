"""dstack's app-compose.json (`quotes.md` 5.2, 6)."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.measure.dstack.compose import AppCompose, parse_app_compose
from builder.measure.dstack.identities import KeyProviderKind

EMPTY_POLICY = hashlib.sha256(b"{}").hexdigest()


def parsed(**members: Any) -> AppCompose:
    return parse_app_compose(json.dumps({"manifest_version": 2, "name": "app", **members}).encode())


def test_the_digest_is_that_of_the_bytes() -> None:
    for data in (b"{}", b"{ }", b'{"a":1}\n'):
        assert parse_app_compose(data).digest == hashlib.sha256(data).hexdigest()


def test_an_app_that_says_nothing_has_dstacks_defaults() -> None:
    compose = parsed()
    assert compose.key_provider is KeyProviderKind.NONE
    assert (compose.key_provider_id, compose.init_scripts, compose.has_instance_id) == (b"", (), True)
    assert (compose.storage_fs, compose.event_log_version, compose.gpu_policy) == (None, 1, EMPTY_POLICY)


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"key_provider": "kms"}, KeyProviderKind.KMS),
        ({"key_provider": "tpm"}, KeyProviderKind.TPM),
        ({"kms_enabled": True}, KeyProviderKind.KMS),
        ({"local_key_provider_enabled": True}, KeyProviderKind.LOCAL),
        ({"kms_enabled": True, "local_key_provider_enabled": True}, KeyProviderKind.KMS),
        ({"key_provider": "none", "kms_enabled": True}, KeyProviderKind.NONE),
        ({"key_provider": None, "kms_enabled": True}, KeyProviderKind.KMS),
    ],
    ids=str,
)
def test_the_key_provider_is_the_stated_one_or_what_older_members_mean(
    members: dict[str, Any], kind: KeyProviderKind
) -> None:
    assert parsed(**members).key_provider is kind


@pytest.mark.parametrize("scripts", ["echo", ["echo"]])
def test_one_script_and_a_list_of_one_are_the_same(scripts: object) -> None:
    assert parsed(init_script=scripts).init_scripts == (hashlib.sha256(b"echo").hexdigest(),)


def test_scripts_are_measured_in_order() -> None:
    digests = [hashlib.sha256(script).hexdigest() for script in (b"one", "zwölf".encode())]
    assert list(parsed(init_script=["one", "zwölf"]).init_scripts) == digests
    assert list(parsed(init_script=["zwölf", "one"]).init_scripts) == digests[::-1]
    assert parsed(init_script=[]).init_scripts == parsed(init_script=None).init_scripts == ()


def test_a_gpu_policy_is_measured_in_its_canonical_form() -> None:
    policy = parsed(requirements={"gpu_policy": {"rego": "package policy", "attest_gpu": True}}).gpu_policy
    assert policy == hashlib.sha256(b'{"attest_gpu":true,"rego":"package policy"}').hexdigest()
    assert parsed(requirements={}).gpu_policy == parsed(requirements={"gpu_policy": {}}).gpu_policy == EMPTY_POLICY


def test_a_stated_default_is_another_policy_than_none() -> None:
    assert parsed(requirements={"gpu_policy": {"attest_gpu": True}}).gpu_policy != EMPTY_POLICY


def test_the_other_members_are_read() -> None:
    compose = parsed(no_instance_id=True, storage_fs="EXT4", event_log_version=2, key_provider_id="00ff")
    assert (compose.has_instance_id, compose.storage_fs) == (False, "ext4")
    assert (compose.event_log_version, compose.key_provider_id) == (2, b"\0\xff")


@pytest.mark.parametrize(
    "members",
    [
        {"key_provider": "sgx"},
        {"key_provider": 2},
        {"kms_enabled": 1},
        {"kms_enabled": None},
        {"local_key_provider_enabled": "yes"},
        {"key_provider_id": "0"},
        {"key_provider_id": "0x00"},
        {"key_provider_id": "AB"},
        {"key_provider_id": "00" * 70000},
        {"init_script": 7},
        {"init_script": [7]},
        {"init_script": {}},
        {"init_script": ["x"] * 1025},
        {"no_instance_id": "true"},
        {"storage_fs": "btrfs"},
        {"storage_fs": 7},
        {"event_log_version": 0},
        {"event_log_version": 3},
        {"event_log_version": True},
        {"event_log_version": "2"},
        {"requirements": []},
        {"requirements": {"gpu_policy": None}},
        {"requirements": {"gpu_policy": "{}"}},
    ],
    ids=lambda members: str(members)[:60],
)
def test_members_of_another_type_or_value_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=r"app-compose\.json"):
        parsed(**members)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"kms_enabled":true,"kms_enabled":false}', b"\xff", b"\xef\xbb\xbf{}"]
)
def test_what_is_no_strict_object_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_app_compose(data)


def test_a_description_beyond_all_measure_is_refused() -> None:
    with pytest.raises(DocumentError, match="wanted at most"):
        parse_app_compose(b" " * ((16 << 20) + 1))


@given(st.binary(max_size=100))
def test_hostile_bytes_are_refused_or_an_object(data: bytes) -> None:
    try:
        compose = parse_app_compose(data)
    except DocumentError:
        return
    assert compose.digest == hashlib.sha256(data).hexdigest()
    assert isinstance(json.loads(data), dict)
