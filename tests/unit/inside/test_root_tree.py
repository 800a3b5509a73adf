"""The guest's root: the union of its packages, with no owner, licence or disagreement lost on the way."""

import io
import tarfile
from typing import Any

import pytest

from tests.fakes.deb_files import member, tar_archive
from tests.fakes.leg_directory import LegDirectory

EPOCH = 1767225600
DIGEST = b"sha256:" + b"0" * 64 + b"\n"


def owned(uid: int, gid: int, tar_member: tuple[tarfile.TarInfo, bytes]) -> tuple[tarfile.TarInfo, bytes]:
    tar_member[0].uid, tar_member[0].gid = uid, gid
    return tar_member


BASE_FILES = (
    member("./", kind=tarfile.DIRTYPE, mode=0o755),
    member("./lib/", kind=tarfile.DIRTYPE, mode=0o755),
    owned(0, 8, member("./var/mail/", kind=tarfile.DIRTYPE, mode=0o2775)),
    owned(1, 2, member("./bin/su", b"su", mode=0o4755)),
    member("./bin/su2", kind=tarfile.LNKTYPE, target="./bin/su"),
    member("./usr/share/doc/base-files/", kind=tarfile.DIRTYPE, mode=0o755),
    member("./usr/share/doc/base-files/copyright", b"licence"),
    member("./usr/share/doc/base-files/NEWS", b"news"),
    member("./usr/share/doc/other", kind=tarfile.SYMTYPE, target="base-files"),
)
BASE_PASSWD = (
    member("./usr/share/base-passwd/passwd.master", b"root:*:0:0\n"),
    member("./usr/share/base-passwd/group.master", b"root:*:0:\n"),
)


@pytest.fixture
def parameters(leg: LegDirectory) -> dict[str, Any]:
    layout = tar_archive(
        [member("blobs/", kind=tarfile.DIRTYPE), member("blobs/sha256/ab", b"x"), member("index.json", b"{}")]
    )
    return {
        "packages": [leg.put_package("base-files", *BASE_FILES), leg.put_package("base-passwd", *BASE_PASSWD)],
        "exclude": ["usr/share/doc"],
        "files": [{"path": "sbin/init", "input": leg.put("in/files/sbin/init", b"#!"), "executable": True}],
        "app_image": leg.put("in/app.oci.tar", layout),
        "app_digest": leg.put("in/app.digest", DIGEST),
        "source_date_epoch": EPOCH,
    }


def root_of(leg: LegDirectory) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(leg.output("root.tar"))) as tar:
        return {info.name: (info, file.read() if (file := tar.extractfile(info)) else b"") for info in tar}


@pytest.fixture
def root(leg: LegDirectory, parameters: dict[str, Any]) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    leg.make("root_tree", parameters)
    return root_of(leg)


Root = dict[str, tuple[tarfile.TarInfo, bytes]]


def test_owners_and_modes_are_those_of_the_packages(root: Root) -> None:
    mail, su, second = (root[name][0] for name in ("var/mail", "usr/bin/su", "usr/bin/su2"))
    assert (mail.mode, mail.uid, mail.gid) == (0o2775, 0, 8)
    assert (su.mode, su.uid, su.gid) == (second.mode, second.uid, second.gid) == (0o4755, 1, 2)
    assert root["usr/bin/su2"][1] == b"su"


def test_every_time_is_source_date_epoch_and_members_are_sorted(root: Root) -> None:
    assert {info.mtime for info, _ in root.values()} == {EPOCH}
    assert list(root) == sorted(root)


def test_usr_is_merged(root: Root) -> None:
    assert {name: root[name][0].linkname for name in ("bin", "sbin", "lib")} == {
        "bin": "usr/bin",
        "sbin": "usr/sbin",
        "lib": "usr/lib",
    }


def test_excluded_directories_lose_everything_but_licences(root: Root) -> None:
    assert root["usr/share/doc/base-files/copyright"][1] == b"licence"
    assert root["usr/share/doc/other"][0].linkname == "base-files"
    assert "usr/share/doc/base-files/NEWS" not in root


def test_accounts_are_the_masters_of_base_passwd(root: Root) -> None:
    assert (root["etc/passwd"][1], root["etc/group"][1]) == (b"root:*:0:0\n", b"root:*:0:\n")


def test_accounts_are_made_even_if_their_masters_are_excluded(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("root_tree", {**parameters, "exclude": ["usr/share/base-passwd"]})
    root = root_of(leg)
    assert root["etc/passwd"][1] == b"root:*:0:0\n"
    assert "usr/share/base-passwd/passwd.master" not in root


def test_scanners_find_every_package(root: Root) -> None:
    records = {name: data for name, (_, data) in root.items() if name.startswith("var/lib/dpkg/status.d/")}
    assert records == {
        "var/lib/dpkg/status.d/base-files": b"Package: base-files\nVersion: 1\n",
        "var/lib/dpkg/status.d/base-passwd": b"Package: base-passwd\nVersion: 1\n",
    }


def test_the_app_and_its_digest_are_in_the_verified_root(root: Root) -> None:
    assert root["usr/lib/tdx-builder/app.digest"][1] == DIGEST
    assert root["usr/lib/tdx-builder/app/blobs/sha256/ab"][1] == b"x"
    assert root["usr/lib/tdx-builder/app/index.json"][1] == b"{}"


def test_the_machine_id_is_empty_and_mount_points_are_there(root: Root) -> None:
    assert root["etc/machine-id"][1] == b""
    assert {"dev", "proc", "run", "sys"} < set(root)


def test_a_file_of_the_recipe_wins_over_a_package(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    files = [*parameters["files"], {"path": "bin/su", "input": leg.put("in/files/su", b"ours"), "executable": False}]
    leg.make("root_tree", {**parameters, "files": files})
    info, data = root_of(leg)["usr/bin/su"]
    assert (data, info.mode, info.uid) == (b"ours", 0o644, 0)


def test_packages_that_ship_different_files_are_refused_by_name(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    other = leg.put_package("other", member("./usr/bin/su", b"evil", mode=0o4755))
    message = leg.refusal("root_tree", {**parameters, "packages": [*parameters["packages"], other]})
    assert message.startswith("/usr/bin/su: base-files_amd64.deb and other_amd64.deb differ on it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exclude": ["usr/share/dco"]}, "exclude: no package has usr/share/dco"),
        ({"files": []}, "guest OS: no file sbin/init"),
        ({"app_digest": "in/gone"}, "in/gone: No such file"),
        ({"app_image": "in/app.digest"}, "app image: "),
    ],
)
def test_a_root_that_would_not_be_what_was_asked_for_is_refused(
    leg: LegDirectory, parameters: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    assert leg.refusal("root_tree", {**parameters, **change}).startswith(message)


def test_a_hard_link_to_nothing_is_refused(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    package = leg.put_package("other", member("./usr/bin/x", kind=tarfile.LNKTYPE, target="./usr/bin/gone"))
    message = leg.refusal("root_tree", {**parameters, "packages": [package]})
    assert message == "other_amd64.deb: usr/bin/x is a hard link to usr/bin/gone, which is no file before it"
