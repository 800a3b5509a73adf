"""Running mkosi: what it is given, and what becomes of the tree it leaves. mkosi here is a script that only obeys."""

import io
import json
import tarfile
from typing import Any

import pytest

from tests.fakes.deb_files import member
from tests.fakes.leg_directory import LegDirectory

SUMMARY = {"Images": [{"Distribution": "debian", "Release": "trixie"}]}
# installs what the one package has, as an ordinary user would, and leaves traces
SCRIPT = """\
#!/bin/sh
set -eu
echo "$@" >>{log}
case $* in
    *summary) cat {summary}; exit ;;
esac
mkdir -p output/tree/usr/sbin output/tree/var/log output/tree/etc
echo checked >output/tree/usr/sbin/chkpwd
chmod 2755 output/tree/usr/sbin/chkpwd
echo noise >output/tree/var/log/install.log
echo made >output/tree/etc/made
ln -s usr/sbin output/tree/sbin
{more}
"""


@pytest.fixture
def parameters(leg: LegDirectory) -> dict[str, Any]:
    helper = member("./sbin/chkpwd", b"checked\n", mode=0o2755)
    helper[0].gid = 42
    return {
        "packages": [leg.put_package("libpam", helper)],
        "files": [
            {"path": "mkosi.conf", "input": leg.put("in/files/mkosi.conf", b"[Content]\n"), "executable": False},
            {"path": "mkosi.extra/etc/x", "input": leg.put("in/files/mkosi.extra/etc/x", b"x"), "executable": True},
        ],
        "source_date_epoch": 1767225600,
    }


def put_mkosi(leg: LegDirectory, *, summary: Any = SUMMARY, more: str = "") -> dict[str, str]:
    leg.put("bin/summary.json", json.dumps(summary).encode())
    text = SCRIPT.format(log=leg.path / "log", summary=leg.path / "bin/summary.json", more=more)
    leg.put("bin/mkosi", text.encode())
    (leg.path / "bin/mkosi").chmod(0o755)
    return {"PATH": f"{leg.path / 'bin'}:/usr/bin:/bin"}


def test_the_tree_has_the_owners_of_the_packages_and_no_traces(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    completed = leg.run("mkosi", parameters, umask=0o077, **put_mkosi(leg))  # type: ignore[arg-type]
    assert completed.status == 0, completed.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(leg.output("mkosi.tar"))) as tar:
        found = {each.name: (each.mode, each.uid, each.gid, each.mtime) for each in tar}
    time = 1767225600
    assert found.pop("usr/sbin/chkpwd") == (0o2755, 0, 42, time)
    assert found.pop("etc/made") == (0o644, 0, 0, time)  # whatever the umask of the leg is
    assert found.pop("sbin") == (0o777, 0, 0, time)
    assert found == dict.fromkeys((".", "etc", "usr", "usr/sbin", "var", "var/log"), (0o755, 0, 0, time))


def test_mkosi_is_told_to_use_the_locked_packages_alone(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    assert leg.run("mkosi", parameters, **put_mkosi(leg)).status == 0  # type: ignore[arg-type]
    summary, build = (leg.path / "log").read_text().splitlines()
    assert summary.endswith(" --json summary")
    assert build.endswith(" build")
    for option in (
        "--format=directory",
        "--with-network=no",
        "--incremental=no",
        f"--local-mirror=file://{leg.path}/repository",
        "--source-date-epoch=1767225600",
    ):
        assert option in build.split()
    release = leg.path / "repository/dists/trixie"
    assert "Codename: trixie" in (release / "Release").read_text()
    index = (release / "main/binary-amd64/Packages").read_text()
    assert "Filename: pool/libpam_amd64.deb" in index
    assert (leg.path / "repository/pool/libpam_amd64.deb").is_file()
    assert (leg.path / "configuration/mkosi.extra/etc/x").stat().st_mode & 0o777 == 0o755


def refused(leg: LegDirectory, parameters: dict[str, Any], environment: dict[str, str]) -> str:
    completed = leg.run("mkosi", parameters, **environment)  # type: ignore[arg-type]
    assert completed.status == 1
    assert not list((leg.path / "out").iterdir())
    return completed.stderr.decode().splitlines()[-1]


def test_a_mkosi_that_fails_makes_no_tree(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    message = refused(leg, parameters, put_mkosi(leg, more="exit 7"))
    assert message.startswith("mkosi: mkosi --directory=")
    assert message.endswith("ended with exit status 7")


def test_a_pipe_in_the_tree_is_refused_by_name(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    message = refused(leg, parameters, put_mkosi(leg, more="mkfifo output/tree/etc/pipe"))
    assert message.startswith("mkosi: mkosi: /etc/pipe is no file, directory or symbolic link")


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({}, "no image with a Distribution and a Release"),
        ({"Images": []}, "no image with a Distribution and a Release"),
        ({"Images": [{"Distribution": "fedora", "Release": "42"}]}, "'fedora' '42', wanted a release of 'debian'"),
        ({"Images": [{"Distribution": "debian", "Release": "../.."}]}, "'debian' '../..', wanted a release"),
    ],
)
def test_a_configuration_of_something_else_is_refused(
    leg: LegDirectory, parameters: dict[str, Any], summary: Any, message: str
) -> None:
    assert message in refused(leg, parameters, put_mkosi(leg, summary=summary))


def test_a_root_without_mkosi_is_named(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    assert "mkosi" in refused(leg, parameters, {"PATH": "/usr/bin:/bin"})
