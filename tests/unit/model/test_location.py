"""Addresses of a locked package: mirrors first, then the snapshot archive of its day and of the next."""

from dataclasses import replace

import pytest

from builder.errors import DocumentError, MissingError
from builder.model.location import Locations, without_credentials
from builder.model.lock import LockedPackage

PACKAGE = LockedPackage(
    name="g++",
    version="4:12.2.0-3",
    architecture="amd64",
    archive="debian",
    suite="bookworm",
    path="pool/main/g/gcc-defaults/g++_12.2.0-3~deb_amd64.deb",
    size=1,
    sha256="0" * 64,
    snapshot="20241231T143011Z",
)


def test_addresses_are_formed_from_the_pin() -> None:
    locations = Locations(
        {"debian": ("http://one.example/debian", "http://two.example/d"), "other": ("http://three.example/o",)},
        "http://snapshot.example",
    )
    path = "pool/main/g/gcc-defaults/g%2B%2B_12.2.0-3~deb_amd64.deb"

    assert locations.urls(PACKAGE) == (
        f"http://one.example/debian/{path}",
        f"http://two.example/d/{path}",
        f"http://snapshot.example/archive/debian/20241231T143011Z/{path}",
        f"http://snapshot.example/archive/debian/20250101T143011Z/{path}",
    )


@pytest.mark.parametrize("snapshot", ["99999999T999999Z", "20250230T000000Z", "99991231T235959Z"])
def test_snapshot_that_is_no_time_is_refused(snapshot: str) -> None:
    with pytest.raises(DocumentError, match=snapshot):
        Locations(snapshot="http://snapshot.example").urls(replace(PACKAGE, snapshot=snapshot))


def test_mirror_of_another_archive_is_never_asked() -> None:
    assert Locations({"debian-security": ("http://security.example",)}).urls(PACKAGE) == ()


def test_hint_is_about_the_snapshot_archive_only_where_none_is_known() -> None:
    assert "--snapshot URL" in Locations().hint
    assert "--snapshot" not in Locations(snapshot="http://snapshot.example").hint


def test_first_mirror_of_an_archive_is_given() -> None:
    assert Locations({"debian": ("http://one.example", "http://two.example")}).mirror("debian") == "http://one.example"


@pytest.mark.parametrize(("archive", "option"), [("debian", "--mirror URL"), ("other", "--mirror other=URL")])
def test_archive_without_a_mirror_is_missing_with_the_option_to_name_one(archive: str, option: str) -> None:
    with pytest.raises(MissingError, match=f"'{archive}' is known on this host; a note") as caught:
        Locations(notes=("a note",)).mirror(archive)

    assert option in str(caught.value.hint)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@mirror.example/debian", "http://mirror.example/debian"),
        ("https://token@mirror.example:8080/", "https://mirror.example:8080/"),
        ("http://user:s@cret@mirror.example/a@b", "http://mirror.example/a@b"),
        ("http://mirror.example/a@b", "http://mirror.example/a@b"),
        ("nonsense", "nonsense"),
    ],
)
def test_credentials_are_never_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
