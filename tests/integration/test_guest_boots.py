"""The root of recipes/guest, made of the real packages, before it boots: what is in it, and that its programs run.

The boot itself is part of `release`, which `nox -s guest` runs: it takes a firmware and a kernel compiled from source
and minutes of emulation, so it is not repeated here.
"""

import os
import stat
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.local_store import LocalStore
from builder.backends.mirrors import find_locations, host_proxies
from builder.backends.process import CompletedRun, run
from builder.components.plan import plan_build
from builder.measure.dstack.app import predict_app
from builder.measure.dstack.runtime import RuntimeInputs, RuntimeRules
from builder.model.lock import Lock, parse_lock
from builder.model.plan import OutputInput, PackageInput, SourceInput, Step, StepInput, TextInput
from builder.model.recipe import parse_recipe
from builder.pipeline.fetch import fetch_inputs
from tests.fakes.leg_directory import LegDirectory
from tests.fakes.silent_progress import SilentProgress
from tests.fakes.silent_register import SilentRegister
from tests.integration.made_once import made_once

pytestmark = pytest.mark.slow

RECIPE = Path(__file__).parents[2] / "recipes/guest"
LIBRARY = "usr/lib/tdx-builder"
RULES = RuntimeRules(storage_fs=False, gpu_policy=False, gpu_attestation=False, init_scripts=False, kms_identity=False)
# what may change its user: systemd starts these two for mounts
SETUID = {"usr/bin/mount", "usr/bin/umount"}


@dataclass(frozen=True)
class Guest:
    """A root as it is unpacked, and as the archive has it."""

    path: Path
    members: dict[str, tarfile.TarInfo]

    def run(self, *command: str, **options: str) -> CompletedRun:
        """A program of the root, which it cannot change, with a directory of its own at /run."""
        mounts = [
            "--ro-bind",
            str(self.path),
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/var",
        ]
        shared = ["--bind", options.get("shared", "/var/empty"), "/run"] if "shared" in options else ["--tmpfs", "/run"]
        line = ["bwrap", "--unshare-all", "--die-with-parent", *mounts, *shared, "--", *command]
        return run(line, environment={"PATH": "/usr/bin:/usr/sbin", "HOME": "/root"}, timeout=120.0)


def bytes_of(item: StepInput, store: LocalStore, made: dict[str, bytes]) -> bytes:
    if isinstance(item, PackageInput):
        path = store.path(item.sha256)
        assert path is not None
        return path.read_bytes()
    if isinstance(item, SourceInput):
        return (RECIPE / item.path).read_bytes()
    if isinstance(item, OutputInput):
        return made[item.name]
    assert isinstance(item, TextInput)
    return item.text.encode()


def run_step(step: Step, directory: Path, store: LocalStore, made: dict[str, bytes]) -> None:
    """One step as a leg runs it, with the Python of this test; its outputs go to `made`."""
    leg = LegDirectory(directory)
    for item in step.inputs:
        leg.put(item.target, bytes_of(item, store, made))
    completed = leg.start(Path(step.argv[1]).stem, *step.argv[2:])
    assert completed.status == 0, completed.stderr.decode()
    made |= {name: leg.output(name) for name in step.outputs}


def fetched(lock: Lock, flavour_group: str, store: Path) -> LocalStore:
    """A store with the packages of app and guest OS: not the toolchain."""
    groups = (lock.group("components.app_image"), lock.group(flavour_group))
    packages = {package.key: package for group in groups for package in group}
    opened = LocalStore(store)
    fetch_inputs(
        replace(lock, packages=packages, files={}),
        store=opened,
        fetcher=HttpFetcher(HttpSettings(proxies=host_proxies())),
        locations=find_locations((), None, environment=os.environ),
        progress=SilentProgress(),
    )
    return opened


def make_guest(directory: Path, flavour: str, store: Path) -> None:
    recipe = parse_recipe((RECIPE / "recipe.yaml").read_bytes(), what="recipe.yaml", flavour=flavour)
    lock = parse_lock((RECIPE / "lock.json").read_bytes(), what="lock.json")
    opened = fetched(lock, recipe.guest_os_group, store)
    steps = {step.name: step for step in plan_build(recipe, lock).steps}
    made: dict[str, bytes] = {}
    for name in ("app_image", "root_tree"):
        run_step(steps[name], directory / name, opened, made)
    (directory / "root.tar").write_bytes(made["root.tar"])
    (directory / "root").mkdir()
    run(["tar", "--extract", "--file", str(directory / "root.tar"), "--directory", str(directory / "root")])


def open_guest(factory: pytest.TempPathFactory, flavour: str, store: Path) -> Guest:
    made = made_once(factory, f"guest-{flavour}", lambda path: make_guest(path, flavour, store))
    with tarfile.open(made / "root.tar") as tar:
        return Guest(made / "root", {member.name: member for member in tar})


@pytest.fixture(scope="module")
def prod(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return open_guest(tmp_path_factory, "prod", store)


@pytest.fixture(scope="module")
def dev(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return open_guest(tmp_path_factory, "dev", store)


def test_there_is_no_way_to_log_in(prod: Guest) -> None:
    names = {Path(name).name for name in prod.members if name.startswith("usr/")}
    for program in ("agetty", "getty", "login", "su", "sudo", "sulogin", "sshd", "systemd-sulogin-shell", "passwd"):
        assert program not in names, program
    for unit in ("debug-shell.service", "rescue.service", "getty@.service", "serial-getty@.service"):
        assert unit not in names, unit
    assert "etc/shadow" not in prod.members


def test_only_mount_may_change_its_user(prod: Guest) -> None:
    changing = {name for name, member in prod.members.items() if member.mode & (stat.S_ISUID | stat.S_ISGID)}
    assert {name for name in changing if prod.members[name].isfile()} == SETUID


def test_what_starts_is_what_the_recipe_links(prod: Guest) -> None:
    """No generator adds a unit, and no package enables one."""
    started = {name for name in prod.members if ".wants/" in name and not name.startswith("usr/lib/systemd/system/")}
    assert started == {name for name in started if name.startswith("etc/systemd/system/")}
    assert not [name for name in prod.members if "-generators/" in name]
    assert {Path(name).name for name in started} == {
        "chronyd.service",
        "network.service",
        "nftables.service",
        "systemd-journald.service",
        "systemd-sysctl.service",
        "systemd-tmpfiles-setup.service",
        "tdx-builder-agent.service",
        "tmp.mount",
    }


def test_what_nothing_in_the_root_uses_is_not_in_it(prod: Guest) -> None:
    names = set(prod.members)
    assert not names & {"usr/bin/perl", "usr/bin/gpg", "usr/bin/dpkg", "usr/bin/apt-get", "usr/lib/udev"}
    assert not [name for name in names if name.startswith(("usr/share/man/", "usr/share/locale/"))]
    assert sum(member.size for member in prod.members.values()) < 110 << 20


@pytest.mark.parametrize(
    "command",
    [
        ("podman", "--version"),
        ("crun", "--version"),
        ("conmon", "--version"),
        ("nft", "--version"),
        ("chronyd", "--version"),
        ("systemctl", "--version"),
        ("journalctl", "--version"),
        ("sh", "-c", "echo | sed s/^/x/ | grep x; ip addr"),
    ],
)
def test_programs_find_their_libraries(prod: Guest, command: tuple[str, ...]) -> None:
    assert prod.run(*command).stdout


def test_the_agents_scripts_run_on_what_is_in_the_root(prod: Guest, tmp_path: Path) -> None:
    register = SilentRegister(tmp_path / "register")
    shared = str(tmp_path)
    pinned = (prod.path / LIBRARY / "app.digest").read_text().strip()
    assert prod.run(f"/{LIBRARY}/verify-app", f"/{LIBRARY}/app", pinned, shared=shared).stdout.startswith(b"sha256:")
    description = f"{LIBRARY}/app-compose.json"
    prod.run(f"/{LIBRARY}/measure-app", "/run/register", "/run/log", f"/{description}", shared=shared)
    compose = (prod.path / description).read_bytes()
    assert register.value() == predict_app(compose, RuntimeInputs(), rules=RULES).rtmr3


def test_dev_has_a_shell_and_everything_of_prod(prod: Guest, dev: Guest) -> None:
    assert set(prod.members) <= set(dev.members)
    assert {"usr/sbin/sshd", "usr/bin/strace", "etc/systemd/system/console-shell.service"} <= set(dev.members)
    dev.run("sshd", "-V")


def test_no_file_of_prod_but_accounts_is_another_in_dev(prod: Guest, dev: Guest) -> None:
    changed = {name for name in prod.members if content(prod, name) != content(dev, name)}
    assert changed == {"etc/passwd"}


def content(guest: Guest, name: str) -> tuple[str, int, bytes]:
    member = guest.members[name]
    data = (guest.path / name).read_bytes() if member.isfile() else b""
    return member.linkname, member.mode, data
