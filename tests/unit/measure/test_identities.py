"""dstack's identities (`quotes.md` 6), with values that dstack publishes."""

import hashlib
from dataclasses import replace

import pytest
from Crypto.Hash import keccak

from builder.errors import DocumentError
from builder.measure.dstack.identities import (
    KeyProviderKind,
    app_id,
    boot_time_rtmr3,
    compose_hash,
    device_id,
    instance_id,
    mr_aggregated,
    mr_config_id_v1,
    mr_config_id_v2,
    mr_config_id_v3,
    mr_key_provider,
    mr_system,
    os_image_hash,
    parse_mr_config_id,
)
from builder.measure.evidence.quote import TdReportBody
from builder.measure.rtmr import replay
from builder.model.event import DSTACK_RUNTIME_EVENT, PredictedEvent

ZERO = "00" * 48
COMPOSE = "e631a04a5d068c0e5ffd8ca60d6574ac99a18bdaf0417d129d0c4ac52244d40f"
PROVIDER = (
    b'{"name":"kms","id":"3059301306072a8648ce3d020106082a8648ce3d030107034200'
    b"0419b2457dd9b8aa6446d980f136fff7812ecd6c77740eeb0e28b10d56c0c00028a5b6e59dcea307d583bd1f70769e9c116df2bc"
    b'fb1758a95d8613e7de1c8482c0"}'
)
# The verdict in dstack's verifier/README.md (Dstack-TEE/dstack at 312dc605, Apache-2.0); MRCONFIGID is not in it, but
# is V1 of its compose hash, as the aggregate shows
BODY = TdReportBody(
    tee_tcb_svn="00" * 16,
    mrseam=ZERO,
    mrsignerseam=ZERO,
    seam_attributes="00" * 8,
    td_attributes="00" * 8,
    xfam="00" * 8,
    mrtd="f06dfda6dce1cf904d4e2bab1dc370634cf95cefa2ceb2de2eee127c9382698090d7a4a13e14c536ec6c9c3c8fa87077",
    mrconfigid=mr_config_id_v1(COMPOSE),
    mrowner=ZERO,
    mrownerconfig=ZERO,
    rtmr0="68102e7b524af310f7b7d426ce75481e36c40f5d513a9009c046e9d37e31551f0134d954b496a3357fd61d03f07ffe96",
    rtmr1="a7b523278d4f914ee8df0ec80cd1c3d498cbf1152b0c5eaf65bad9425072874a3fcf891e8b01713d3d9937e3e0d26c15",
    rtmr2="dbf4924c07f5066f3dc6859844184344306aa3263817153dcaee85af97d23e0c0b96efe0731d8865a8747e51b9e351ac",
    rtmr3="5e7d8d84317343d28d73031d0be3c75f25facb1b20c9835a44582b8b0115de1acfe2d19350437dbd63846bcc5d7bf328",
    report_data="00" * 64,
)


def runtime_event(name: str, digest: str = "11" * 48) -> PredictedEvent:
    return PredictedEvent("rtmr3", DSTACK_RUNTIME_EVENT, name, digest, "test")


def test_mr_system_is_that_of_a_published_verdict() -> None:
    assert mr_system(BODY, PROVIDER) == "145010fa227e6c2537ad957c64e4a8486fcbfd8265ddfb359168b59afcff1d05"


def test_mr_aggregated_is_that_of_a_published_verdict() -> None:
    assert mr_aggregated(BODY) == "52f6d7ccbee1bfa870709e8ff489e016e2e5c25a157b7e22ef1ea68fce763694"


def test_mr_system_depends_on_the_key_provider_and_no_provider_is_zeros() -> None:
    parts = b"".join(bytes.fromhex(value) for value in (BODY.mrtd, BODY.rtmr0, BODY.rtmr1, BODY.rtmr2))
    assert mr_system(BODY, None) == mr_system(BODY, b"") == hashlib.sha256(parts + bytes(32)).hexdigest()
    assert mr_system(BODY, None) != mr_system(BODY, PROVIDER)
    assert mr_key_provider(PROVIDER) == hashlib.sha256(PROVIDER).hexdigest()


@pytest.mark.parametrize(
    "field", ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig"]
)
def test_mr_aggregated_depends_on_every_register(field: str) -> None:
    assert mr_aggregated(replace(BODY, **{field: "77" * 48})) != mr_aggregated(BODY)


def test_without_configuration_and_owner_they_are_left_out() -> None:
    plain = replace(BODY, mrconfigid=ZERO)
    parts = b"".join(bytes.fromhex(getattr(plain, name)) for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"))
    assert mr_aggregated(plain) == hashlib.sha256(parts).hexdigest()


def test_the_boot_time_variant_ends_with_boot_mr_done() -> None:
    before = [runtime_event("app-id", "22" * 48), runtime_event("boot-mr-done")]
    assert boot_time_rtmr3([*before, runtime_event("system-ready")]) == replay(before)["rtmr3"]
    assert mr_aggregated(BODY, rtmr3=boot_time_rtmr3(before)) != mr_aggregated(BODY)


@pytest.mark.parametrize("names", [[], ["app-id"], ["boot-mr-done", "boot-mr-done"]], ids=str)
def test_a_log_without_exactly_one_boot_mr_done_has_no_boot_time_register(names: list[str]) -> None:
    with pytest.raises(DocumentError, match="wanted exactly one"):
        boot_time_rtmr3([runtime_event(name) for name in names])


def test_an_event_of_another_register_is_no_boot_mr_done() -> None:
    other = PredictedEvent("rtmr2", DSTACK_RUNTIME_EVENT, "boot-mr-done", "11" * 48, "test")
    with pytest.raises(DocumentError, match="0 events"):
        boot_time_rtmr3([other])


def test_the_app_id_is_the_beginning_of_the_compose_hash() -> None:
    assert compose_hash(b"{}") == hashlib.sha256(b"{}").hexdigest()
    assert app_id(b"{}") == compose_hash(b"{}")[:40]
    assert compose_hash(b"{ }") != compose_hash(b"{}")


def test_an_instance_id_needs_seed_and_app() -> None:
    app = "e631a04a5d068c0e5ffd8ca60d6574ac99a18bda"
    plain = instance_id(b"s" * 20, app)
    assert plain == hashlib.sha256(b"s" * 20 + bytes.fromhex(app)).hexdigest()[:40]
    assert instance_id(b"s" * 20, app, platform_binding=b"p") != plain
    with pytest.raises(DocumentError, match="app id"):
        instance_id(b"s" * 20, app + "00")


def test_a_device_id_is_that_of_sixteen_bytes() -> None:
    assert device_id(bytes(16)) == hashlib.sha256(bytes(16)).hexdigest()
    with pytest.raises(DocumentError, match="PPID of 0 bytes"):
        device_id(b"")


def test_the_os_image_hash_is_that_of_the_checksum_file() -> None:
    assert os_image_hash(b"x\n") == hashlib.sha256(b"x\n").hexdigest()


def test_config_id_v2_is_keccak_over_all_four_parts() -> None:
    compose, app = "22" * 32, "11" * 20
    data = b"\x22" * 32 + b"\x11" * 20 + b"\2" + b"key"
    expected = keccak.new(digest_bits=256, data=data).hexdigest()
    assert expected != hashlib.sha3_256(data).hexdigest()
    kms = mr_config_id_v2(compose, app, kind=KeyProviderKind.KMS, provider_id=b"key")
    assert kms == "02" + expected + "00" * 15
    assert mr_config_id_v2(compose, app, kind=KeyProviderKind.TPM, provider_id=b"key") != kms


def test_config_id_v3_hashes_the_bytes_of_the_document() -> None:
    document = b'{"compose_hash":"22"}'
    digest = hashlib.sha256(b"dstack-mr-config-v3:\0" + document).hexdigest()
    assert mr_config_id_v3(document) == "03" + digest + "00" * 15
    assert mr_config_id_v3(document + b" ") != mr_config_id_v3(document)


@pytest.mark.parametrize("made", [mr_config_id_v1(COMPOSE), mr_config_id_v3(b"{}")])
def test_a_config_id_is_read_back(made: str) -> None:
    parsed = parse_mr_config_id(made)
    assert f"{parsed.version:02x}{parsed.digest}" + "00" * 15 == made


def test_a_zero_config_id_has_no_digest() -> None:
    assert (parse_mr_config_id(ZERO).version, parse_mr_config_id(ZERO).digest) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        "04" + "11" * 32 + "00" * 15,
        "00" + "11" * 32 + "00" * 15,
        "01" + "11" * 47,
        "01",
        "",
        "0x" + "11" * 47,
        "GG" * 48,
    ],
)
def test_what_dstack_never_configures_is_no_config_id(text: str) -> None:
    with pytest.raises(DocumentError):
        parse_mr_config_id(text)


@pytest.mark.parametrize("digest", ["", "22", "22" * 31 + "2", "AB" * 32, "22" * 33])
def test_a_config_id_is_made_of_nothing_but_a_digest(digest: str) -> None:
    with pytest.raises(DocumentError, match="compose hash"):
        mr_config_id_v1(digest)
