"""The lock file: one form, and an edit is named by its section or its entry."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.encoding.canonical_json import encode_canonical, encode_readable
from builder.encoding.schema import load_schema
from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.lock import (
    Lock,
    LockedPackage,
    LockedSource,
    checked_source_path,
    encode_lock,
    parse_lock,
)
from builder.model.lock_differences import package_differences, same_inputs

SECTIONS = ("recipe", "requests", "archives", "packages", "groups", "sources")


def locked(name: str, version: str = "1.0", **fields: Any) -> LockedPackage:
    package = LockedPackage(
        name=name,
        version=version,
        architecture="amd64",
        archive="debian",
        suite="bookworm",
        path=f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
        size=100,
        sha256=sha256_hex(f"{name} {version}".encode()),
        snapshot="20250520T143011Z",
    )
    return replace(package, **fields)


def lock_of(*packages: LockedPackage, **fields: Any) -> Lock:
    lock = Lock(
        image="sample",
        version="1.2.3",
        recipe_sha256="a" * 64,
        source_date_epoch=1700000000,
        archives={"debian": {"bookworm": "20250520T143011Z", "bookworm-backports": "20250521T020202Z"}},
        packages={package.key: package for package in packages},
        requests={"roots.tools": tuple(package.name for package in packages)},
        groups={"roots.tools": tuple(sorted(package.key for package in packages))},
        sources={"files/init": LockedSource("files/init", executable=True, size=3, sha256="b" * 64)},
    )
    return replace(lock, **fields)


LOCK = lock_of(locked("kmod"), locked("libc6", "2.36-9+deb12u10"))
DATA = encode_lock(LOCK)


def resealed(document: dict[str, Any]) -> bytes:
    """The document with fitting section digests, as a careful forger writes it."""
    document["digests"] = {name: sha256_hex(encode_canonical(document[name])) for name in SECTIONS}
    return encode_readable(document)


def test_lock_is_read_back() -> None:
    assert parse_lock(DATA, what="lock.json") == LOCK


def test_packages_of_a_group_are_sorted_by_name() -> None:
    assert [package.name for package in LOCK.group("roots.tools")] == ["kmod", "libc6"]
    assert LOCK.total_size == 200


@pytest.mark.parametrize("section", SECTIONS)
def test_edited_section_is_named(section: str) -> None:
    document = json.loads(DATA)
    edited = {"recipe": ("version", "9.9.9"), "sources": ("files/other", document["sources"]["files/init"])}
    name, value = edited.get(section, ("roots.other", []))
    if section == "archives":
        document["archives"]["debian"]["sid"] = "20250520T143011Z"
    elif section == "packages":
        document["packages"]["kmod=1.0:amd64"]["sha256"] = "c" * 64
    else:
        document[section][name] = value
    with pytest.raises(DocumentError, match=f"section '{section}' was edited: its SHA-256 is") as caught:
        parse_lock(encode_readable(document), what="lock.json")

    assert "tdx-builder lock" in str(caught.value.hint)


def package_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["packages"]["kmod=1.0:amd64"]  # type: ignore[no-any-return]


FORGERIES: dict[str, tuple[Any, str]] = {
    "package under another name": (
        lambda document: package_of(document).update(version="2.0"),
        "entry 'kmod=1.0:amd64' describes 'kmod=2.0:amd64'",
    ),
    "group with a package that is not there": (
        lambda document: document["groups"]["roots.tools"].append("zstd=1:amd64"),
        "'zstd=1:amd64' is not among the packages",
    ),
    "package that was asked for taken out of its group": (
        lambda document: document["groups"]["roots.tools"].remove("kmod=1.0:amd64"),
        "asks for kmod, and holds nothing of this name",
    ),
    "another version than was asked for": (
        lambda document: document["requests"].update({"roots.tools": ["kmod=1.0-1", "libc6"]}),
        "asks for kmod=1.0-1, and holds 1.0",
    ),
    "group nobody asked for": (
        lambda document: document["groups"].update({"roots.other": []}),
        "groups and requests name different groups",
    ),
    "two versions of one package in a group": (
        lambda document: (
            document["packages"].update({"kmod=2.0:amd64": {**package_of(document), "version": "2.0"}}),
            document["groups"]["roots.tools"].append("kmod=2.0:amd64"),
        ),
        "two versions of one package",
    ),
    "suite that no archive has": (lambda document: package_of(document).update(suite="sid"), "seen in debian sid"),
    "time at which the suite was not seen": (
        lambda document: package_of(document).update(snapshot="20200101T000000Z"),
        "at 20200101T000000Z",
    ),
    "order of a group": (
        lambda document: document["groups"]["roots.tools"].reverse(),
        "not in the form that `tdx-builder lock` writes",
    ),
}


@pytest.mark.parametrize(("change", "message"), FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_lock_with_fitting_digests_is_refused(change: Any, message: str) -> None:
    document = json.loads(DATA)
    change(document)
    with pytest.raises(DocumentError, match=message):
        parse_lock(resealed(document), what="lock.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../evil"),
        ("name", "Kmod"),
        ("version", "1.0\n"),
        ("version", "1.0/2"),
        ("architecture", "i386"),
        ("archive", "debian/.."),
        ("suite", "-x"),
        ("path", "/etc/passwd.deb"),
        ("path", "pool/../../x.deb"),
        ("path", "pool//x.deb"),
        ("path", "pool/./x.deb"),
        ("path", "pool/x.rpm"),
        ("path", "pool/x.deb\n"),
        ("path", "pool/x y.deb"),
        ("path", "pool/x.deb?a=1"),
        ("size", 0),
        ("size", -1),
        ("size", "100"),
        ("size", True),
        ("size", 1 << 33),
        ("sha256", "A" * 64),
        ("sha256", "a" * 63),
        ("snapshot", "2025-05-20"),
        ("snapshot", "20250520T143011Z/../.."),
        ("more", 1),
    ],
)
def test_field_of_a_package_that_does_not_fit_is_refused_with_its_path(field: str, value: object) -> None:
    document = json.loads(DATA)
    package_of(document)[field] = value
    with pytest.raises(DocumentError, match=r"\$\.packages\.kmod=1\.0:amd64"):
        parse_lock(resealed(document), what="lock.json")


@pytest.mark.parametrize("field", list(LockedPackage.__dataclass_fields__))
def test_field_of_a_package_that_is_missing_is_named(field: str) -> None:
    document = json.loads(DATA)
    del package_of(document)[field]
    with pytest.raises(DocumentError, match=f"missing field '{field}'"):
        parse_lock(resealed(document), what="lock.json")


@pytest.mark.parametrize(
    "path", ["/abs", "../up", "a/../b", "a//b", "a/", "a/./b", "", ".", "a b", "a\n", "ä", "x" * 301]
)
def test_source_outside_of_the_recipe_is_refused(path: str) -> None:
    document = json.loads(DATA)
    document["sources"][path] = document["sources"]["files/init"]
    with pytest.raises(DocumentError):
        parse_lock(resealed(document), what="lock.json")
    if len(path) <= 300:
        with pytest.raises(DocumentError, match="its name cannot be locked"):
            checked_source_path(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        DATA[:-1],
        DATA + b"\n",
        DATA.replace(b"\n", b"\r\n"),
        DATA.replace(b" ", b"  ", 1),
        encode_canonical(json.loads(DATA)),
        DATA.replace(b"tdx-builder/lock/v1", b"tdx-builder/lock/v2"),
        DATA.replace(b'"size": 100', b'"size": 100.0', 1),
        DATA.replace(b'{\n "archives"', b'{\n "archives": {}, "archives"'),
    ],
)
def test_lock_in_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"lock\.json: "):
        parse_lock(data, what="lock.json")


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, mask: int) -> None:
    changed = bytearray(DATA)
    changed[position] ^= mask
    with pytest.raises(DocumentError):
        parse_lock(bytes(changed), what="lock.json")


@given(st.integers(0, len(DATA) - 1))
def test_truncated_lock_is_refused(length: int) -> None:
    with pytest.raises(DocumentError):
        parse_lock(DATA[:length], what="lock.json")


def test_order_in_which_a_lock_was_made_does_not_show() -> None:
    reordered = replace(
        LOCK,
        packages=dict(reversed(LOCK.packages.items())),
        groups={"roots.tools": LOCK.groups["roots.tools"][::-1]},
        archives={"debian": dict(reversed(LOCK.archives["debian"].items()))},
    )

    assert encode_lock(reordered) == DATA


def test_locks_that_differ_in_dates_and_suites_pin_the_same_inputs() -> None:
    later = {"debian": dict.fromkeys(LOCK.archives["debian"], "20260101T000000Z")}
    packages = {
        key: replace(package, suite="bookworm-backports", snapshot="20260101T000000Z")
        for key, package in LOCK.packages.items()
    }

    assert same_inputs(LOCK, replace(LOCK, archives=later, packages=packages))
    assert package_differences(LOCK, replace(LOCK, archives=later, packages=packages)) == []


@pytest.mark.parametrize(
    "other",
    [
        lock_of(locked("kmod"), locked("libc6", "2.36-9+deb12u11")),
        lock_of(locked("kmod", sha256="d" * 64), locked("libc6", "2.36-9+deb12u10")),
        lock_of(locked("kmod", path="pool/k.deb"), locked("libc6", "2.36-9+deb12u10")),
        lock_of(locked("kmod")),
        replace(LOCK, recipe_sha256="e" * 64),
        replace(LOCK, source_date_epoch=1),
        replace(LOCK, sources={}),
        replace(LOCK, requests={"roots.tools": ("kmod",)}),
        replace(LOCK, archives={"debian": {"bookworm": "20250520T143011Z"}}),
    ],
)
def test_any_other_difference_is_another_lock(other: Lock) -> None:
    assert not same_inputs(LOCK, other)


@pytest.mark.parametrize("request_", ["kmod", "kmod=1.0", "kmod/bookworm-backports"])
def test_a_group_has_what_it_asks_for_in_every_way_of_asking(request_: str) -> None:
    lock = replace(LOCK, requests={"roots.tools": (request_, "libc6")})
    assert parse_lock(encode_lock(lock), what="lock.json") == lock


def test_source_path_pattern_is_that_of_the_schema() -> None:
    assert checked_source_path("files/a+b@c_d-e.f/.hidden") == "files/a+b@c_d-e.f/.hidden"
    assert load_schema("lock-v1")["properties"]["sources"]["propertyNames"]["maxLength"] == 300
