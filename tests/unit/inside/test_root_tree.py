"""The guest's root: the union of its packages, with no owner, licence or disagreement lost on the way."""

import io
import tarfile
from typing import Any

import pytest

from builder.normalize.compose import encode_app_compose
from tests.fakes.deb_files import member, tar_archive
from tests.fakes.elf_files import program_file
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
        "installed": [],
        "exclude": ["usr/share/doc"],
        "links": [],
        "files": [{"path": "sbin/init", "input": leg.put("in/files/sbin/init", b"#!"), "executable": True}],
        "app_image": leg.put("in/app.oci.tar", layout),
        "app_digest": leg.put("in/app.digest", DIGEST),
        "app_compose": [],
        "source_date_epoch": EPOCH,
    }


def root_of(leg: LegDirectory) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(leg.output("root.tar"))) as tar:
        return {info.name: (info, _content(tar, info)) for info in tar}


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info) if info.isfile() else None
    return file.read() if file else b""


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


def with_link(parameters: dict[str, Any], path: str, target: str) -> dict[str, Any]:
    return {**parameters, "links": [{"path": path, "target": target}]}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("bin/other", "/usr/bin/su"),
        ("usr/bin/other", "su"),
        ("usr/bin/other", "/bin/su2"),
        ("etc/systemd/system/a.wants/init", "/sbin/init"),
        ("etc/mail", "../var/mail"),
        ("etc/resolv.conf", "/run/resolv.conf"),
        ("etc/mtab", "../proc/self/mounts"),
    ],
)
def test_links_are_what_maintainer_scripts_would_make(
    leg: LegDirectory, parameters: dict[str, Any], path: str, target: str
) -> None:
    leg.make("root_tree", with_link(parameters, path, target))
    info, _ = root_of(leg)[f"usr/{path}" if path.startswith("bin/") else path]
    assert (info.type, info.linkname, info.mode, info.uid) == (tarfile.SYMTYPE, target, 0o777, 0)


@pytest.mark.parametrize(
    ("path", "target", "message"),
    [
        ("bin/su", "su2", "links: /usr/bin/su is there already"),
        ("sbin/init", "su", "links: /usr/sbin/init is there already"),
        ("usr/bin", "su", "links: /usr/bin is there already"),
        ("etc/machine-id", "/run/machine-id", "links: /etc/machine-id is there already"),
        ("usr/lib/tdx-builder/app.digest", "/run/x", "links: /usr/lib/tdx-builder/app.digest is there already"),
        ("etc/x", "gone", "links: etc/x leads to /etc/gone, which is not in the root"),
        ("etc/x", "/runner/y", "links: etc/x leads to /runner/y, which is not in the root"),
        ("etc/x", "../../run/y", "links: link etc/x -> ../../run/y leads outside of the tree"),
        ("usr/bin/su/x", "/run/y", "/usr/bin/su/x of the links of the recipe lies below /usr/bin/su"),
    ],
)
def test_a_link_never_hides_anything_and_never_leads_nowhere(
    leg: LegDirectory, parameters: dict[str, Any], path: str, target: str, message: str
) -> None:
    assert leg.refusal("root_tree", with_link(parameters, path, target)).startswith(message)


def test_one_link_cannot_be_made_twice(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    links = [{"path": "bin/x", "target": "su"}, {"path": "usr/bin/x", "target": "su2"}]
    assert leg.refusal("root_tree", {**parameters, "links": links}).startswith("links: /usr/bin/x is there already")


def test_a_program_without_its_library_is_refused(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    program = leg.put_package("tool", member("./usr/bin/tool", program_file("libtool.so.1"), mode=0o755))
    library = leg.put_package("library", member("./lib/x86_64-linux-gnu/libtool.so.1", program_file(loader=None)))
    packages = [*parameters["packages"], program]
    message = leg.refusal("root_tree", {**parameters, "packages": packages})
    assert message.startswith("guest OS: usr/bin/tool loads libtool.so.1: no package has it (1 in all)")
    leg.make("root_tree", {**parameters, "packages": [*packages, library]})
    assert "usr/bin/tool" in root_of(leg)


COMPOSE = b"""\
services:
  web:
    image: sample@{app_digest}
    network_mode: none
    read_only: true
    cap_drop: [ALL]
    command: [--greet, a b]
"""


def test_the_services_of_the_app_are_in_the_verified_root(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    description = encode_app_compose(COMPOSE, name="sample", digest=DIGEST.decode().strip())
    leg.make("root_tree", {**parameters, "app_compose": [leg.put("in/app-compose.json", description)]})
    root = root_of(leg)
    directory = "usr/lib/tdx-builder"
    services = {name: data for name, (_, data) in root.items() if name.startswith(f"{directory}/services/web/")}
    assert root[f"{directory}/app-compose.json"][1] == description
    assert set(services) == {
        f"{directory}/services/web/{name}" for name in ("options", "command", "restart", "expose", "health")
    }
    assert services[f"{directory}/services/web/command"] == b"--greet\na b\n"


def test_a_description_of_another_app_is_refused(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    description = encode_app_compose(COMPOSE, name="sample", digest=f"sha256:{'1' * 64}")
    path = leg.put("in/app-compose.json", description)
    message = leg.refusal("root_tree", {**parameters, "app_compose": [path]})
    assert message.startswith("compose file: services.web.image is 'sample@sha256:1111")
