"""A published manifest and its artefacts verify; a flipped byte anywhere, or a missing file, is a negative verdict."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.attest.dsse import decode_envelope, encode_envelope, sign_payload
from builder.attest.statement import encode_statement
from builder.backends.signers import KeyKind, load_public_key, write_new_key
from builder.errors import DocumentError, ExitStatus, worst_status
from builder.model.check import Outcome, statuses
from builder.pipeline.verify import Verification, verify_manifest
from tests.fakes.small_release import SmallRelease, publish_small

NEGATIVE = {ExitStatus.NOT_VERIFIED, ExitStatus.BYTES_DIFFER, ExitStatus.REGISTER_DIFFERS}
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> SmallRelease:
    return publish_small(tmp_path_factory.mktemp("release"))


def verdict(verification: Verification) -> ExitStatus:
    return worst_status(statuses(verification.checks))


def verify_copy(published: SmallRelease, data: bytes, path: Path) -> Verification:
    """Verify other bytes in place of the manifest."""
    manifest = path / "manifest.json"
    manifest.write_bytes(data)
    return verify_manifest(manifest, [published.key], published.artifacts)


def test_manifest_and_artefacts_verify(published: SmallRelease) -> None:
    verification = verify_manifest(published.manifest, [published.key], published.artifacts)
    assert [(check.name, check.outcome) for check in verification.checks] == [
        (name, Outcome.OK) for name in ("signature", "statement", "path", "artefacts", "registers")
    ]
    assert verdict(verification) is ExitStatus.OK


def test_an_ecdsa_signature_verifies_too(tmp_path: Path) -> None:
    published = publish_small(tmp_path, KeyKind.ECDSA_P256)
    assert verdict(verify_manifest(published.manifest, [published.key], published.artifacts)) is ExitStatus.OK


def test_the_manifest_alone_says_what_was_not_asked_for(published: SmallRelease) -> None:
    verification = verify_manifest(published.manifest, [published.key], None)
    assert verdict(verification) is ExitStatus.OK
    assert [check.outcome for check in verification.checks[-2:]] == [Outcome.NOT_ASKED, Outcome.NOT_ASKED]


def test_one_flipped_byte_anywhere_in_the_manifest_is_refused(published: SmallRelease, tmp_path: Path) -> None:
    data = published.manifest.read_bytes()
    # every byte of the ends, where the structure is, and a sample of the payload between
    positions = [*range(40), *range(40, len(data) - 420, 397), *range(len(data) - 420, len(data))]
    for position in positions:
        altered = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        verification = verify_copy(published, altered, tmp_path)
        assert verdict(verification) in NEGATIVE, f"byte {position}"
        assert verification.checks[-1].detail


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff", b"{" * 100_000, b"[]", b'{"payload": 1}'])
def test_garbage_is_not_verified(published: SmallRelease, tmp_path: Path, data: bytes) -> None:
    assert verdict(verify_copy(published, data, tmp_path)) is ExitStatus.NOT_VERIFIED


def test_a_truncated_or_longer_manifest_is_not_verified(published: SmallRelease, tmp_path: Path) -> None:
    data = published.manifest.read_bytes()
    for altered in (data[:-1], data[: len(data) // 2], data + b" ", data + b"\n", data + data):
        assert verdict(verify_copy(published, altered, tmp_path)) is ExitStatus.NOT_VERIFIED


def test_another_key_does_not_verify(published: SmallRelease, tmp_path: Path) -> None:
    other = load_public_key(write_new_key(tmp_path / "other-test-key", KeyKind.ED25519).public)
    verification = verify_manifest(published.manifest, [other], published.artifacts)
    assert verdict(verification) is ExitStatus.NOT_VERIFIED
    assert verification.release is None


def test_a_missing_manifest_is_an_error_and_no_verdict(published: SmallRelease, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        verify_manifest(tmp_path / "absent.json", [published.key], None)


def test_one_flipped_byte_in_any_artefact_is_found(published: SmallRelease, tmp_path: Path) -> None:
    for name in ("OVMF.fd", "vmlinuz", "initrd.img", "cmdline"):
        copy = tmp_path / name
        shutil.copytree(published.artifacts, copy)
        path = copy / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
        verification = verify_manifest(published.manifest, [published.key], copy)
        assert verdict(verification) is ExitStatus.BYTES_DIFFER
        assert name in verification.checks[3].detail


def test_a_missing_linked_or_unlisted_artefact_is_no_pass(published: SmallRelease, tmp_path: Path) -> None:
    def removed(copy: Path) -> None:
        (copy / "cmdline").unlink()

    def linked(copy: Path) -> None:
        (copy / "cmdline").unlink()
        (copy / "cmdline").symlink_to(published.artifacts / "cmdline")

    def added(copy: Path) -> None:
        (copy / "extra").touch()

    def emptied(copy: Path) -> None:
        for path in copy.iterdir():
            path.unlink()

    for number, change in enumerate((removed, linked, added, emptied)):
        copy = tmp_path / str(number)
        shutil.copytree(published.artifacts, copy)
        change(copy)
        assert verdict(verify_manifest(published.manifest, [published.key], copy)) is ExitStatus.BYTES_DIFFER


def test_artefacts_in_no_directory_are_an_error_and_no_verdict(published: SmallRelease, tmp_path: Path) -> None:
    for place in (tmp_path / "absent", published.manifest):
        with pytest.raises(DocumentError, match="no directory"):
            verify_manifest(published.manifest, [published.key], place)


def resigned(published: SmallRelease, edit: Edit) -> bytes:
    """The manifest with an edited statement, signed with the right key: what a careless publisher could make."""
    document = json.loads(decode_envelope(published.manifest.read_bytes(), what="manifest").payload)
    edit(document)
    return encode_envelope(sign_payload(encode_statement(document), [published.signer]))


def values_of(document: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = document["predicate"]["release"]["reference_values"]
    return values


def edit_register(document: dict[str, Any]) -> None:
    values_of(document)["profiles"][0]["registers"]["rtmr1"] = "0" * 96


def edit_event(document: dict[str, Any]) -> None:
    values_of(document)["events"][0]["digest"] = "0" * 96


def edit_mrtd(document: dict[str, Any]) -> None:
    values_of(document)["mrtd"]["single_pass"] = "0" * 96


@pytest.mark.parametrize("edit", [edit_register, edit_event, edit_mrtd])
def test_registers_that_do_not_follow_from_their_events_are_refused(
    published: SmallRelease, tmp_path: Path, edit: Edit
) -> None:
    verification = verify_copy(published, resigned(published, edit), tmp_path)
    assert verdict(verification) is ExitStatus.REGISTER_DIFFERS


def edit_subject(document: dict[str, Any]) -> None:
    document["subject"][0]["digest"]["sha256"] = "0" * 64


def drop_subject(document: dict[str, Any]) -> None:
    del document["subject"][0]


def drop_profiles(document: dict[str, Any]) -> None:
    values_of(document)["profiles"] = []


def unknown_field(document: dict[str, Any]) -> None:
    document["predicate"]["release"]["extra"] = 1


def other_predicate(document: dict[str, Any]) -> None:
    document["predicateType"] = "https://slsa.dev/provenance/v1"


def equal_legs(document: dict[str, Any]) -> None:
    for axis in document["predicate"]["run"]["comparison"]["axes"]:
        axis["verdict"] = "equal"


def no_axes_required(document: dict[str, Any]) -> None:
    document["predicate"]["run"]["comparison"]["required_axes"] = []


def one_leg(document: dict[str, Any]) -> None:
    del document["predicate"]["run"]["legs"]["b"]


def not_identical(document: dict[str, Any]) -> None:
    document["predicate"]["run"]["comparison"]["identical"] = False


def one_leg_twice(document: dict[str, Any]) -> None:
    legs = document["predicate"]["run"]["legs"]
    legs["b"] = legs["a"]


def other_legs(document: dict[str, Any]) -> None:
    legs = document["predicate"]["run"]["legs"]
    document["predicate"]["run"]["legs"] = {"c": legs["a"], "d": legs["b"]}


def legs_without_provenance(document: dict[str, Any]) -> None:
    nothing: dict[str, Any] = {"buildDefinition": {}, "runDetails": {}}
    document["predicate"]["run"]["legs"] = {"a": nothing, "b": nothing}


def invented_axis(document: dict[str, Any]) -> None:
    comparison = document["predicate"]["run"]["comparison"]
    comparison["required_axes"] = ["mood"]
    comparison["axes"] = [{"axis": "mood", "code": "", "a": "good", "b": "bad", "verdict": "varied", "reason": ""}]


def required_axis_that_was_not_varied(document: dict[str, Any]) -> None:
    document["predicate"]["run"]["comparison"]["required_axes"] = ["fileordering"]
    document["predicate"]["run"]["comparison"]["axes"] = document["predicate"]["run"]["comparison"]["axes"][:1]


def axes_with_other_values(document: dict[str, Any]) -> None:
    for axis in document["predicate"]["run"]["comparison"]["axes"]:
        axis["b"] = axis["a"]


def other_recipe(document: dict[str, Any]) -> None:
    document["predicate"]["release"]["recipe"]["sha256"] = "0" * 64


def other_plan(document: dict[str, Any]) -> None:
    document["predicate"]["run"]["plan"]["sha256"] = "0" * 64


def other_size(document: dict[str, Any]) -> None:
    document["predicate"]["release"]["artifacts"][0]["size"] += 1


def no_firmware(document: dict[str, Any]) -> None:
    document["predicate"]["release"]["artifacts"][0]["component"] = "guest_os"


def no_flavour(document: dict[str, Any]) -> None:
    del document["predicate"]["release"]["flavour"]


def flavour_that_the_version_does_not_tell(document: dict[str, Any]) -> None:
    document["predicate"]["release"]["flavour"] = "dev"
    for leg in document["predicate"]["run"]["legs"].values():
        leg["buildDefinition"]["externalParameters"]["flavour"] = "dev"


def version_of_another_flavour(document: dict[str, Any]) -> None:
    flavour_that_the_version_does_not_tell(document)
    document["predicate"]["release"]["version"] = "1.2.3-debug"


def flavour_that_the_legs_were_not_built_in(document: dict[str, Any]) -> None:
    document["predicate"]["release"].update(flavour="dev", version="1.2.3-dev")


def flavour_that_is_no_name(document: dict[str, Any]) -> None:
    document["predicate"]["release"].update(flavour="../dev", version="1.2.3-../dev")


def two_kernels(document: dict[str, Any]) -> None:
    for artifact in document["predicate"]["release"]["artifacts"]:
        artifact["component"] = "kernel"


@pytest.mark.parametrize(
    "edit",
    [
        edit_subject,
        drop_subject,
        drop_profiles,
        unknown_field,
        other_predicate,
        equal_legs,
        no_axes_required,
        one_leg,
        not_identical,
        one_leg_twice,
        other_legs,
        legs_without_provenance,
        invented_axis,
        required_axis_that_was_not_varied,
        axes_with_other_values,
        other_recipe,
        other_plan,
        other_size,
        no_firmware,
        no_flavour,
        flavour_that_the_version_does_not_tell,
        version_of_another_flavour,
        flavour_that_the_legs_were_not_built_in,
        flavour_that_is_no_name,
        two_kernels,
    ],
)
def test_a_signed_statement_that_contradicts_itself_is_refused(
    published: SmallRelease, tmp_path: Path, edit: Edit
) -> None:
    verification = verify_copy(published, resigned(published, edit), tmp_path)
    assert verdict(verification) is ExitStatus.NOT_VERIFIED
    assert verification.checks[-1].name == "statement"


def edit_memory(document: dict[str, Any]) -> None:
    values_of(document)["profiles"][0]["launch"]["memory"] = 4 << 30


def edit_command_line(document: dict[str, Any]) -> None:
    document["predicate"]["release"]["command_line"] = "console=ttyS1"


def drop_caveats(document: dict[str, Any]) -> None:
    for profile in values_of(document)["profiles"]:
        profile["caveats"] = []


@pytest.mark.parametrize("edit", [edit_memory, edit_command_line, drop_caveats])
def test_a_signed_claim_that_the_artefacts_do_not_bear_out_is_refused(
    published: SmallRelease, tmp_path: Path, edit: Edit
) -> None:
    verification = verify_copy(published, resigned(published, edit), tmp_path)
    assert verdict(verification) is ExitStatus.REGISTER_DIFFERS
    assert verification.checks[-1].name == "registers"


def dev_release(document: dict[str, Any]) -> None:
    flavour_that_the_version_does_not_tell(document)
    document["predicate"]["release"]["version"] = "1.2.3-dev"


def test_a_flavour_is_verified_at_its_own_place_alone_and_said_aloud(published: SmallRelease, tmp_path: Path) -> None:
    for version, wanted in (("1.2.3-dev", ExitStatus.OK), ("1.2.3", ExitStatus.NOT_VERIFIED)):
        place = tmp_path / "manifests/sample" / version
        place.mkdir(parents=True)
        (place / "manifest.json").write_bytes(resigned(published, dev_release))
        verification = verify_manifest(place / "manifest.json", [published.key], published.artifacts)
        assert verdict(verification) is wanted
        assert "sample 1.2.3-dev, flavour dev, not for production: " in verification.checks[1].detail


def test_a_manifest_at_the_place_of_another_version_is_refused(published: SmallRelease, tmp_path: Path) -> None:
    place = tmp_path / "manifests/sample/9.9.9"
    place.mkdir(parents=True)
    shutil.copy(published.manifest, place)
    verification = verify_manifest(place / "manifest.json", [published.key], None)
    assert verdict(verification) is ExitStatus.NOT_VERIFIED
    assert "sample/9.9.9" in verification.checks[-3].detail
