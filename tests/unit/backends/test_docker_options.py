"""The container of a step: what the daemon is asked for, and what it is never asked for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.backends.docker.options import (
    VOLUMES,
    LegContainer,
    carrier_container,
    pasteable,
    root_container,
    step_container,
)
from builder.backends.docker.seccomp import seccomp_profile
from builder.backends.leg_environment import PreparedPlaces
from builder.model.variation import VARIATION_A, VARIATION_B, Variation

BOTH = pytest.mark.parametrize("variation", [VARIATION_A, VARIATION_B], ids=["a", "b"])


@pytest.fixture
def leg(tmp_path: Path) -> LegContainer:
    for name in ("build", "srv", "var/tmp", "tmp", "root", "run"):
        (tmp_path / name).mkdir(parents=True)
    places = PreparedPlaces("/mnt/locales", "/mnt/bytecode")
    volumes = {purpose: f"volume-{purpose}" for purpose in VOLUMES}
    return LegContainer("sha256:1", tmp_path, places, volumes, {"label": "x"}, None, None)


def body_of(leg: LegContainer, variation: Variation) -> dict[str, Any]:
    return step_container(leg, variation, ("tool", "--option"), {"SOURCE_DATE_EPOCH": "1"})


@BOTH
def test_nothing_of_the_machine_is_given_to_a_step(leg: LegContainer, variation: Variation) -> None:
    """All that would open a container, by the names of docker's API."""
    for body in (body_of(leg, variation), root_container(leg_of_build(leg), ("x",), {}), carrier_container(leg)):
        host = body["HostConfig"]
        assert host["NetworkMode"] == "none"
        assert not host.get("Privileged")
        given = ("Binds", "Devices", "DeviceRequests", "VolumesFrom", "PidMode", "UTSMode", "UsernsMode", "Links")
        assert [name for name in given if host.get(name)] == []
        assert {mount["Type"] for mount in host["Mounts"]} == {"volume"}
        assert all(mount["VolumeOptions"] == {"NoCopy": True} for mount in host["Mounts"])


def leg_of_build(leg: LegContainer) -> LegContainer:
    return replace(leg, volumes={"build": "volume-build"})


@BOTH
def test_a_step_has_no_rights(leg: LegContainer, variation: Variation) -> None:
    host = body_of(leg, variation)["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert "CapAdd" not in host
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert host["IpcMode"] == host["CgroupnsMode"] == "private"
    assert host["PidsLimit"] > 0
    assert host["Init"] is True
    assert "/proc/sys" in host["ReadonlyPaths"]


@BOTH
def test_inputs_and_programs_are_mounted_read_only(leg: LegContainer, variation: Variation) -> None:
    mounts = {mount["Target"]: mount["ReadOnly"] for mount in body_of(leg, variation)["HostConfig"]["Mounts"]}
    build = variation.build_path
    assert mounts == {
        build: False,
        f"{build}/in": True,
        f"{build}/inside": True,
        variation.tmpdir: False,
        "/sys": True,
    }


def test_a_variation_becomes_options(leg: LegContainer) -> None:
    body = body_of(replace(leg, cpu=3), VARIATION_B)
    assert body["User"] == "1234:4321"
    assert (body["Hostname"], body["Domainname"]) == ("beta.example.invalid", "example.invalid")
    assert body["WorkingDir"] == VARIATION_B.build_path
    assert body["HostConfig"]["CpusetCpus"] == "3"
    assert body["Entrypoint"] == ["/bin/sh", "-c", 'umask 0077 && exec "$@" 2>&1', "sh"]
    wrapper = "/usr/bin/setarch x86_64 --uname-2.6 --addr-no-randomize /usr/bin/taskset --cpu-list 3"
    assert body["Cmd"] == [*wrapper.split(), "tool", "--option"]
    for variable in ("TZ=GMT-14", "LC_ALL=de_DE.UTF-8", "FAKETIME=+400d", "NO_FAKE_STAT=1", "LOCPATH=/mnt/locales"):
        assert variable in body["Env"]


def test_a_leg_without_variations_has_no_wrapper_and_all_cpus(leg: LegContainer) -> None:
    body = body_of(leg, VARIATION_A)
    assert body["Cmd"] == ["tool", "--option"]
    assert body["HostConfig"]["CpusetCpus"] == ""
    assert body["Domainname"] == ""


def test_the_variable_that_docker_sets_by_itself_is_taken_away(leg: LegContainer) -> None:
    """A variable without a value is removed (`determinism.md` 4.3 no. 15)."""
    assert "HOSTNAME" in body_of(leg, VARIATION_A)["Env"]
    asked = step_container(leg, VARIATION_A, ("x",), {"HOSTNAME": "asked"})["Env"]
    assert "HOSTNAME=asked" in asked
    assert "HOSTNAME" not in asked


def test_a_limit_of_memory_is_one_of_swap_as_well(leg: LegContainer) -> None:
    host = body_of(replace(leg, memory=1 << 20), VARIATION_A)["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 1 << 20


def refused(profile: str) -> set[str]:
    rules = json.loads(profile)["syscalls"]
    assert {rule["action"] for rule in rules} == {"SCMP_ACT_ERRNO"}
    return {name for rule in rules if not rule["args"] for name in rule["names"]}


def test_the_profile_refuses_what_reaches_out_and_allows_personality() -> None:
    profile = seccomp_profile(user_namespaces=False)
    names = refused(profile)
    assert {"mount", "ptrace", "keyctl", "bpf", "init_module", "unshare", "setns", "clone3", "io_uring_setup"} <= names
    assert "personality" not in names
    assert "clone" not in names, "nothing could be started"
    flags = {rule["args"][0]["value"] for rule in json.loads(profile)["syscalls"] if rule["names"] == ["clone"]}
    assert 0x10000000 in flags, "CLONE_NEWUSER"
    assert json.loads(profile)["architectures"] == ["SCMP_ARCH_X86_64"], "32-bit calls would pass unseen"


def test_only_namespaces_are_opened_for_steps_that_ask_for_them(leg: LegContainer) -> None:
    names = refused(seccomp_profile(user_namespaces=True))
    assert {"ptrace", "keyctl", "bpf", "init_module", "io_uring_setup"} <= names
    assert not names & {"unshare", "mount", "clone", "clone3"}
    host = body_of(leg, replace(VARIATION_A, user_namespaces=True))["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["SETFCAP"])
    host = body_of(leg, replace(VARIATION_B, user_namespaces=True))["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], [])


def test_the_command_to_paste_is_as_closed_as_the_container(leg: LegContainer) -> None:
    command = pasteable(body_of(leg, VARIATION_B), "unix:///run/x.sock")
    for word in ("docker --host unix:///run/x.sock run", "--network=none", "--read-only", "--cap-drop=ALL"):
        assert word in command
    assert "--user=1234:4321" in command
    assert "tool --option" in command
