"""The files of recipes/guest: nobody can log in to `prod`, and `dev` differs in nothing else."""

import re
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "recipes" / "guest" / "files"
UNITS = FILES / "guest_os/etc/systemd/system"
SCRIPTS = sorted((FILES / "guest_os/usr/lib/tdx-builder").iterdir())
STARTED = [*SCRIPTS, FILES / "initrd/init", FILES / "app_image/usr/bin/serve"]


def files_below(name: str) -> dict[str, Path]:
    return {str(path.relative_to(FILES / name)): path for path in (FILES / name).rglob("*") if path.is_file()}


def accounts(name: str) -> list[list[str]]:
    return [line.split(":") for line in (FILES / name / "etc/passwd").read_text().splitlines()]


def test_no_account_of_prod_has_a_password_or_a_shell() -> None:
    assert accounts("guest_os")
    for account in accounts("guest_os"):
        assert account[1] == "!*", f"{account[0]} is not locked"
        assert account[6] == "/usr/bin/false"


def test_no_account_of_dev_has_a_password_either() -> None:
    assert {account[1] for account in accounts("dev")} == {"*", "!*"}
    assert not (FILES / "dev/etc/shadow").exists()


def test_no_unit_of_prod_gives_a_shell_or_reads_from_the_console() -> None:
    units = sorted(path for path in UNITS.rglob("*") if path.is_file())
    assert units
    for unit in units:
        text = unit.read_text()
        assert not re.search(r"getty|sulogin|sshd|StandardInput|TTYPath|debug", text), unit.name
        assert not re.search(r"^Exec\w+=.*\bsh\b", text, re.MULTILINE), unit.name


def test_dev_differs_in_login_and_nothing_else() -> None:
    assert set(files_below("dev")) == {
        "etc/passwd",
        "etc/ssh/authorized_keys",
        "etc/ssh/sshd_config",
        "etc/systemd/system/console-shell.service",
        "etc/systemd/system/multi-user.target.d/dev.conf",
        "etc/systemd/system/sshd.service",
    }
    assert set(files_below("dev")) & set(files_below("guest_os")) == {"etc/passwd"}


def test_dev_lets_in_nobody_whose_key_is_not_in_it() -> None:
    keys = (FILES / "dev/etc/ssh/authorized_keys").read_text().splitlines()
    assert all(line.startswith("#") for line in keys), "a key is in the tree"
    assert "PasswordAuthentication no" in (FILES / "dev/etc/ssh/sshd_config").read_text()


@pytest.mark.parametrize("path", STARTED, ids=lambda path: path.name)
def test_what_the_guest_starts_is_executable(path: Path) -> None:
    assert path.stat().st_mode & 0o100
    assert path.read_text().startswith("#!/bin/")


@pytest.mark.parametrize("path", [*SCRIPTS, FILES / "initrd/init"], ids=lambda path: path.name)
def test_a_script_that_cannot_go_on_never_goes_on(path: Path) -> None:
    assert "\nset -eu\n" in path.read_text()


@pytest.mark.parametrize("unit", ["tdx-builder-agent.service", "nftables.service"])
def test_without_its_firewall_or_its_app_the_machine_ends(unit: str) -> None:
    assert "\nFailureAction=poweroff\n" in (UNITS / unit).read_text()


def test_nothing_comes_in_unless_it_is_exposed() -> None:
    text = (FILES / "guest_os/etc/nftables.conf").read_text()
    assert "hook input priority filter; policy drop;" in text
    assert "elements" not in text


def test_no_file_names_a_server_of_anybodys() -> None:
    for path in FILES.rglob("*"):
        if path.is_file() and "firmware" not in path.parts and "kernel" not in path.parts:
            for line in path.read_text().splitlines():
                assert not re.match(r"\s*(server|pool|peer)\s", line), path.name
                assert "://" not in line.partition("#")[0].replace("http://127.0.0.1", ""), path.name
