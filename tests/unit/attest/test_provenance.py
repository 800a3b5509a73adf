import base64
import json
from dataclasses import replace

import pytest

from builder.attest.provenance import BUILD_TYPE, leg_provenance, package_url, rfc3339
from builder.attest.statement import encode_statement, statement
from builder.errors import DocumentError
from builder.model.build_info import BuildInfo, Probe
from builder.model.digest import sha256_hex
from builder.model.leg import LegRecord
from builder.model.lock import Lock, LockedFile, LockedPackage, LockedSource, encode_lock
from builder.model.plan import Artifact

BASH = LockedPackage(
    name="bash",
    version="5.2.15-2+b7",
    architecture="amd64",
    archive="debian",
    suite="bookworm",
    path="pool/main/b/bash/bash_5.2.15-2+b7_amd64.deb",
    size=1,
    sha256="1" * 64,
    snapshot="20260101T000000Z",
)
LOCK = Lock(
    image="quickstart",
    version="0.1.0",
    recipe_sha256="2" * 64,
    source_date_epoch=1767225600,
    archives={"debian": {"bookworm": "20260101T000000Z"}},
    packages={BASH.key: BASH},
    requests={"roots.tools": ("bash",)},
    groups={"roots.tools": (BASH.key,)},
    sources={"files/init": LockedSource("files/init", executable=True, size=1, sha256="3" * 64)},
)
INFO = BuildInfo(
    leg="a",
    engine="bubblewrap",
    engine_version="0.8.0",
    probes=(Probe({"umask": "0022"}, {"cpu": "x"}), Probe({"umask": "0022"}, {"cpu": "x"})),
    not_varied={},
    started=1767225600,
    finished=1767225661,
)
RECORD = LegRecord(
    recipe_sha256="2" * 64,
    lock_sha256=sha256_hex(encode_lock(LOCK)),
    plan_sha256="4" * 64,
    build_info=INFO,
    artifacts=(Artifact("kernel", "vmlinuz", 1, "5" * 64),),
)


def test_every_input_is_a_dependency_by_digest() -> None:
    definition = leg_provenance(RECORD, LOCK)["buildDefinition"]
    assert definition["resolvedDependencies"] == [
        {"name": "recipe.yaml", "digest": {"sha256": LOCK.recipe_sha256}},
        {"name": "lock.json", "digest": {"sha256": RECORD.lock_sha256}},
        {
            "name": "bash",
            "uri": "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=bookworm",
            "digest": {"sha256": BASH.sha256},
        },
        {"name": "files/init", "digest": {"sha256": "3" * 64}},
    ]


def tarball(component: str) -> LockedPackage:
    path = f"pool/main/l/linux/linux_6.18.orig{component}.tar.xz"
    return replace(BASH, name="linux", version="6.18-1~bpo13+1", architecture="source", path=path, suite="trixie")


def test_source_is_a_dependency_by_each_of_its_tarballs() -> None:
    tarballs = {each.key: each for each in (tarball(""), tarball("-firmware"))}
    files = {"kernel": LockedFile("kernel", "https://example.org/vmlinuz", 1, "6" * 64)}
    lock = replace(LOCK, packages=tarballs, groups={"sources.kernel": tuple(tarballs)}, files=files)
    record = replace(RECORD, lock_sha256=sha256_hex(encode_lock(lock)))

    uri = "pkg:deb/debian/linux@6.18-1~bpo13%2B1?arch=source&distro=trixie"
    assert leg_provenance(record, lock)["buildDefinition"]["resolvedDependencies"][2:5] == [
        {"name": "linux_6.18.orig.tar.xz", "uri": uri, "digest": {"sha256": "1" * 64}},
        {"name": "linux_6.18.orig-firmware.tar.xz", "uri": uri, "digest": {"sha256": "1" * 64}},
        {"name": "kernel", "uri": "https://example.org/vmlinuz", "digest": {"sha256": "6" * 64}},
    ]


def test_packages_of_another_flavour_are_no_dependencies() -> None:
    packages = {each.key: each for each in (replace(BASH, name=name) for name in ("bash", "systemd", "sshd", "gdb"))}
    bash, systemd, sshd, gdb = packages
    groups = {
        "roots.tools": (bash,),
        "components.guest_os": (bash, systemd),
        "flavours.dev": (bash, sshd),
        "flavours.debug": (bash, gdb),
    }
    lock = replace(LOCK, packages=packages, groups=groups)
    record = replace(RECORD, lock_sha256=sha256_hex(encode_lock(lock)))

    def names(flavour: str) -> list[str]:
        definition = leg_provenance(record, lock, flavour=flavour)["buildDefinition"]
        assert definition["externalParameters"]["flavour"] == flavour
        return [item["name"] for item in definition["resolvedDependencies"] if "uri" in item]

    assert names("prod") == ["bash", "systemd"]
    assert names("dev") == ["bash", "sshd"]
    assert names("debug") == ["bash", "gdb"]


def test_the_build_is_described_by_what_went_in_and_what_the_leg_saw() -> None:
    definition = leg_provenance(RECORD, LOCK)["buildDefinition"]
    assert definition["buildType"] == BUILD_TYPE
    assert set(definition["externalParameters"]) == {"recipe", "lock", "variation", "flavour"}
    assert definition["externalParameters"]["variation"] == "a"
    assert definition["internalParameters"] == {
        "engine": {"name": "bubblewrap", "version": "0.8.0"},
        "plan": {"sha256": "4" * 64},
        "axes": {"umask": "0022"},
    }
    assert not definition["externalParameters"].keys() & definition["internalParameters"].keys()


def test_the_run_names_its_builder_and_its_times() -> None:
    details = leg_provenance(RECORD, LOCK)["runDetails"]
    assert details["builder"] == {"id": "https://tdx-builder.github.io/builders/bubblewrap/v1"}
    assert details["metadata"]["startedOn"] == "2026-01-01T00:00:00Z"
    assert details["metadata"]["finishedOn"] == "2026-01-01T00:01:01Z"


def test_two_engines_are_two_builders() -> None:
    other = replace(RECORD, build_info=replace(INFO, engine="docker"))
    assert leg_provenance(other, LOCK)["runDetails"]["builder"] != leg_provenance(RECORD, LOCK)["runDetails"]["builder"]


def test_another_run_has_another_invocation_id_and_the_same_definition() -> None:
    later = leg_provenance(replace(RECORD, build_info=replace(INFO, started=1, finished=2)), LOCK)
    first = leg_provenance(RECORD, LOCK)
    assert later["runDetails"]["metadata"]["invocationId"] != first["runDetails"]["metadata"]["invocationId"]
    assert later["buildDefinition"] == first["buildDefinition"]


def test_the_build_info_is_a_byproduct_with_its_digest() -> None:
    (byproduct,) = leg_provenance(RECORD, LOCK)["runDetails"]["byproducts"]
    content = base64.b64decode(byproduct["content"])
    assert json.loads(content)["probes"][0]["facts"] == {"cpu": "x"}
    assert byproduct["digest"] == {"sha256": sha256_hex(content)}


def test_the_predicate_can_be_signed_and_is_always_the_same_bytes() -> None:
    documents = [statement(RECORD.artifacts, "t", leg_provenance(RECORD, LOCK)) for _ in range(2)]
    assert encode_statement(documents[0]) == encode_statement(documents[1])


@pytest.mark.parametrize(
    ("record", "part"),
    [(replace(RECORD, lock_sha256="0" * 64), "lock"), (replace(RECORD, recipe_sha256="0" * 64), "recipe")],
)
def test_a_leg_of_other_inputs_gets_no_provenance(record: LegRecord, part: str) -> None:
    with pytest.raises(DocumentError, match=f"leg a was built from a {part} with SHA-256 0000"):
        leg_provenance(record, LOCK)


def test_a_leg_that_left_no_probe_gets_no_provenance() -> None:
    with pytest.raises(DocumentError, match="no probe"):
        leg_provenance(replace(RECORD, build_info=replace(INFO, probes=())), LOCK)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (951782400, "2000-02-29T00:00:00Z"), (253402300799, "9999-12-31T23:59:59Z")],
)
def test_times_are_written_in_utc(seconds: int, text: str) -> None:
    assert rfc3339(seconds) == text


@pytest.mark.parametrize("seconds", [-1, 253402300800, 2**63])
def test_times_that_cannot_be_written_are_refused(seconds: int) -> None:
    with pytest.raises(DocumentError, match="not in the years"):
        rfc3339(seconds)


@pytest.mark.parametrize(
    ("version", "written"),
    [
        ("1:10.0.2+ds-2~bpo12+1", "1:10.0.2%2Bds-2~bpo12%2B1"),
        ("1.0", "1.0"),
        ("1?arch=evil#x@y/z", "1%3Farch%3Devil%23x%40y%2Fz"),
    ],
)
def test_versions_cannot_leave_their_place_in_a_package_url(version: str, written: str) -> None:
    url = package_url(replace(BASH, version=version))
    assert url == f"pkg:deb/debian/bash@{written}?arch=amd64&distro=bookworm"
