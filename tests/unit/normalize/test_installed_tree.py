"""What an installation leaves behind is taken out, and nothing else is."""

import pytest

from builder.errors import DocumentError
from builder.normalize.apt_repository import index_entry, release_file
from builder.normalize.installed_tree import without_traces
from builder.normalize.tree import Tree, directory_member, file_member
from tests.fakes.deb_files import DEBIAN_BINARY, ar_archive, member, tar_archive


def kept(*paths: str) -> list[str]:
    tree = Tree()
    for path in paths:
        tree.add(file_member(path, b"x"), origin="test")
    return [member.path for member in without_traces(tree) if member.size]


@pytest.mark.parametrize(
    "path",
    [
        "etc/shadow-",
        "etc/.pwd.lock",
        "etc/ssh/ssh_host_ed25519_key",
        "var/cache/ldconfig/aux-cache",
        "var/lib/dpkg/status-old",
        "var/log/alternatives.log",
        "var/log/apt/history.log",
        "var/lib/apt/lists/x_Packages",
        "run/lock/x",
        "tmp/x",
    ],
)
def test_traces_are_taken_out(path: str) -> None:
    assert kept(path, "etc/passwd") == ["etc/passwd"]


@pytest.mark.parametrize(
    "path", ["etc/shadow", "var/lib/dpkg/status", "usr/share/log/x", "etc/machine-id", "opt/run/x", "etc-/x", "runs/x"]
)
def test_everything_else_stays(path: str) -> None:
    assert kept(path) == [path]


def test_a_directory_is_never_removed_by_its_name() -> None:
    tree = Tree()
    tree.add(directory_member("etc/odd-"), origin="test")
    tree.add(directory_member("var/log"), origin="test")
    assert [member.path for member in without_traces(tree)] == ["etc", "etc/odd-", "var", "var/log"]


def deb(control: bytes) -> bytes:
    parts = [("control.tar", tar_archive([member("./control", control)])), ("data.tar", tar_archive([]))]
    return ar_archive([DEBIAN_BINARY, *parts])


def test_the_index_says_what_the_package_says_and_where_it_is() -> None:
    package = deb(b"Package: a\nEssential: yes\nDescription: b\n more\n")
    lines = index_entry(package, "pool/a.deb").decode().splitlines()
    assert lines[:4] == ["Package: a", "Essential: yes", "Description: b", " more"]
    assert lines[4:6] == ["Filename: pool/a.deb", f"Size: {len(package)}"]
    assert lines[6].startswith("SHA256: ")


@pytest.mark.parametrize(
    "control",
    [b"Package: a\nSHA256: 0\n", b"Package: a\nfileName: b\n", b"Package: a\n\nPackage: b\n", b"Package: a\nSize: 1"],
)
def test_a_package_that_says_where_it_is_or_is_two_is_refused(control: bytes) -> None:
    with pytest.raises(DocumentError, match="not one paragraph"):
        index_entry(deb(control), "pool/a.deb")


def test_the_release_file_names_the_one_index() -> None:
    text = release_file("trixie", index_sha256="0" * 64, index_size=5)
    assert "\nCodename: trixie\n" in text
    assert f" {'0' * 64} 5 main/binary-amd64/Packages\n" in text
