"""What an app adds to a dstack guest: RTMR[3], and identities over all registers (`quotes.md` 5, 6)."""

from dataclasses import asdict, replace

import pytest

from builder.errors import DocumentError
from builder.measure.dstack.app import AppPrediction, Identities, TdConfiguration, identities_of, predict_app
from builder.measure.dstack.identities import KeyProviderKind, app_id, compose_hash, mr_config_id_v1
from builder.measure.dstack.runtime import RuntimeInputs, RuntimeRules, key_provider_payload
from builder.model.reference_values import Registers
from tests.unit.measure.test_identities import BODY, COMPOSE, PROVIDER

RULES = RuntimeRules(storage_fs=True, gpu_policy=False, gpu_attestation=False, init_scripts=False, kms_identity=False)
PLAIN, KMS = b'{"key_provider":"none"}', b'{"key_provider":"kms"}'
KNOWN = AppPrediction(COMPOSE, COMPOSE[:40], PROVIDER, (), BODY.rtmr3)
V1 = TdConfiguration(mrconfigid=mr_config_id_v1(COMPOSE))


def test_identities_of_predicted_registers_are_those_of_a_published_verdict() -> None:
    assert identities_of(BODY.registers, KNOWN, V1) == Identities(
        mr_system="145010fa227e6c2537ad957c64e4a8486fcbfd8265ddfb359168b59afcff1d05",
        mr_aggregated="52f6d7ccbee1bfa870709e8ff489e016e2e5c25a157b7e22ef1ea68fce763694",
        reasons=(),
    )


@pytest.mark.parametrize("name", ["mrowner", "mrownerconfig", "mrconfigid"])
def test_the_configuration_of_the_td_is_part_of_the_aggregate(name: str) -> None:
    other = identities_of(BODY.registers, KNOWN, replace(V1, **{name: "77" * 48}))
    assert other.mr_aggregated != identities_of(BODY.registers, KNOWN, V1).mr_aggregated


@pytest.mark.parametrize("name", ["rtmr0", "rtmr1", "rtmr2"])
def test_no_identity_is_made_of_a_register_that_is_not_predicted(name: str) -> None:
    registers = Registers(**{**asdict(BODY.registers), name: None})
    found = identities_of(registers, KNOWN, V1)
    assert found == Identities(None, None, (f"mr_system, mr_aggregated: {name} is not predicted",))


def test_every_input_that_is_not_known_is_named() -> None:
    found = identities_of(BODY.registers, predict_app(KMS, RuntimeInputs(), rules=RULES), TdConfiguration())
    assert found == Identities(
        None,
        None,
        (
            "mr_system: which key provider answers is not known",
            "mr_aggregated: rtmr3 is not predicted",
            "mr_aggregated: mrconfigid is not known",
        ),
    )


def test_an_app_without_known_software_has_hash_and_id_and_no_rtmr3() -> None:
    found = predict_app(PLAIN, RuntimeInputs(), rules=None)
    assert (found.compose_hash, found.app_id) == (compose_hash(PLAIN), app_id(PLAIN))
    assert found.key_provider == key_provider_payload(KeyProviderKind.NONE, b"")
    assert (found.events, found.rtmr3) == ((), None)
    assert "software" in found.reasons[0]


def test_an_assigned_id_replaces_the_derived_one() -> None:
    assert predict_app(PLAIN, RuntimeInputs(app_id=b"a" * 20), rules=None).app_id == "61" * 20
    with pytest.raises(DocumentError, match="app-id: 3 bytes"):
        predict_app(PLAIN, RuntimeInputs(app_id=b"abc"), rules=None)


def test_rtmr3_is_predicted_once_everything_is_known() -> None:
    unknown = predict_app(PLAIN, RuntimeInputs(), rules=RULES)
    assert unknown.rtmr3 is None
    assert [reason.split()[0] for reason in unknown.reasons] == ["instance-id"]
    known = predict_app(PLAIN, RuntimeInputs(instance_id=b"i" * 20), rules=RULES)
    assert known.rtmr3 is not None
    assert known.reasons == ()


def test_a_provider_that_the_description_contradicts_is_refused_without_known_software_too() -> None:
    with pytest.raises(DocumentError, match="key-provider: id"):
        predict_app(PLAIN, RuntimeInputs(key_provider_id=b"k"), rules=None)
