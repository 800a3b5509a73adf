"""What a release engineer and a stranger do with the real quickstart: publish, verify, reproduce, interrupt, tamper."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.attest.dsse import decode_envelope
from builder.backends.local_store import LocalStore
from builder.cli.main import run
from builder.model.lock import Lock
from tests.integration.conftest import RECIPE, RealRelease

pytestmark = [pytest.mark.slow, pytest.mark.network]

ROOT = RECIPE.parents[1]
PUBLISHED = ROOT / "manifests/quickstart/0.1.0/manifest.json"
PUBLISHED_KEY = ROOT / "manifests/quickstart-test-key.pub"


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    status = run([*map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "builder", *map(str, arguments)]


def published_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.name == "manifest.json" and ".partial" not in str(path)]


def test_the_release_is_the_one_that_is_published(
    capsys: pytest.CaptureFixture[str], real_release: RealRelease
) -> None:
    status, document = run_json(capsys, "diff", PUBLISHED, real_release.manifest)
    assert (status, document["result"]["identical"]) == (0, True)  # type: ignore[index]


def test_the_published_manifest_holds_for_the_artefacts_made_here(
    capsys: pytest.CaptureFixture[str], real_release: RealRelease
) -> None:
    arguments = ("--key", PUBLISHED_KEY, "--artifacts", real_release.artifacts)
    status, document = run_json(capsys, "verify", PUBLISHED, *arguments)
    assert status == 0, document
    outcomes = {check["name"]: check["outcome"] for check in document["result"]["checks"]}  # type: ignore[index]
    assert outcomes == dict.fromkeys(("signature", "statement", "path", "artefacts", "registers"), "ok")


def test_the_wrong_key_is_a_negative_verdict(capsys: pytest.CaptureFixture[str], real_release: RealRelease) -> None:
    status, _ = run_json(capsys, "verify", PUBLISHED, "--key", real_release.public_key)
    assert status == 7


def test_a_build_with_nothing_to_do_builds_nothing(
    capsys: pytest.CaptureFixture[str], real_release: RealRelease, store: Path
) -> None:
    records = [real_release.out / "legs" / leg / "leg.json" for leg in "ab"]
    before = [record.stat().st_mtime_ns for record in records]
    status, _ = run_json(capsys, "build", RECIPE, "--out", real_release.out, "--store", store, "--offline")
    assert status == 0
    assert [record.stat().st_mtime_ns for record in records] == before


def test_measure_takes_the_last_build_of_this_very_plan_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    real_release: RealRelease,
    store: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # the build directory is below it
    out = tmp_path / "out/quickstart/0.1.0"
    (out / "artifacts").mkdir(parents=True)
    (out / "artifacts/vmlinuz").write_text("of an older release")
    arguments = ("measure", RECIPE, "--store", store, "--offline")
    assert run_json(capsys, *arguments)[0] == 2
    shutil.copytree(real_release.out / "legs/a", out / "legs/a")
    status, document = run_json(capsys, *arguments)
    assert status == 0
    published = json.loads(decode_envelope(PUBLISHED.read_bytes(), what="manifest").payload)
    values = published["predicate"]["release"]["reference_values"]
    assert document["result"]["reference_values"] == values  # type: ignore[index]
    alter_member(out / "legs/a", b"tdxb.roothash", record_it=False)
    assert run_json(capsys, *arguments)[0] == 2


def test_legs_from_two_places_make_a_release(
    capsys: pytest.CaptureFixture[str], real_release: RealRelease, store: Path, tmp_path: Path
) -> None:
    arguments = release_arguments(real_release, tmp_path, store)
    legs = ("--leg-a", real_release.out / "legs/a", "--leg-b", real_release.out / "legs/b")
    status, document = run_json(capsys, "release", RECIPE, *arguments, *legs)
    assert status == 0, document
    (manifest,) = published_below(tmp_path)
    assert run(["diff", str(PUBLISHED), str(manifest)]) == 0


def test_a_leg_that_differs_is_explained_and_nothing_is_published(
    capsys: pytest.CaptureFixture[str], real_release: RealRelease, store: Path, tmp_path: Path
) -> None:
    leg = tmp_path / "leg-b"
    shutil.copytree(real_release.out / "legs/b", leg)
    position = alter_member(leg, b"tdxb.roothash")
    arguments = release_arguments(real_release, tmp_path, store)
    legs = ("--leg-a", real_release.out / "legs/a", "--leg-b", leg)
    status, document = run_json(capsys, "release", RECIPE, *arguments, *legs)
    assert status == 1
    artifacts = document["result"]["comparison"]["artifacts"]  # type: ignore[index]
    (initrd,) = [artifact for artifact in artifacts if not artifact["identical"]]
    assert initrd["name"] == "initrd.img"
    (difference,) = initrd["differences"]
    assert difference["path"] == ["initrd.img", "init"]
    assert (difference["kind"], difference["artifact_offset"]) == ("content", position)
    assert difference["register"] == "rtmr2"
    assert published_below(tmp_path) == []
    assert (leg / "artifacts/initrd.img").is_file()


def test_an_altered_leg_is_not_taken(
    capsys: pytest.CaptureFixture[str], real_release: RealRelease, store: Path, tmp_path: Path
) -> None:
    leg = tmp_path / "leg-b"
    shutil.copytree(real_release.out / "legs/b", leg)
    alter_member(leg, b"tdxb.roothash", record_it=False)
    arguments = release_arguments(real_release, tmp_path, store)
    legs = ("--leg-a", real_release.out / "legs/a", "--leg-b", leg)
    status, document = run_json(capsys, "release", RECIPE, *arguments, *legs)
    assert status == 1
    assert "initrd.img" in document["error"]["message"]  # type: ignore[index]
    assert published_below(tmp_path) == []


def test_a_release_is_rebuilt_from_an_exported_archive_without_a_network(
    capsys: pytest.CaptureFixture[str], real_release: RealRelease, store: Path, tmp_path: Path
) -> None:
    archive, elsewhere = tmp_path / "inputs.tar", tmp_path / "elsewhere"
    assert run_json(capsys, "export-inputs", RECIPE, archive, "--store", store)[0] == 0
    restored = elsewhere / "recipe"
    own_store = ("--store", elsewhere / "store")
    assert run_json(capsys, "fetch", restored, "--from", archive, *own_store)[0] == 0
    out = elsewhere / "out"
    build = command("build", restored, *own_store, "--out", out, "--offline", "--leg", "b", "--cold")
    without_network = ["unshare", "--map-root-user", "--net", *build]
    done = subprocess.run(without_network, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for artifact in real_release.artifacts.iterdir():
        assert (out / "legs/b/artifacts" / artifact.name).read_bytes() == artifact.read_bytes()


def test_a_poisoned_step_cache_changes_no_release_and_a_leg_that_used_it_is_refused(
    capsys: pytest.CaptureFixture[str],
    real_release: RealRelease,
    locked_inputs: LocalStore,
    quickstart_lock: Lock,
    tmp_path: Path,
) -> None:
    own = LocalStore(tmp_path / "store")
    for package in quickstart_lock.packages.values():
        path = locked_inputs.path(package.sha256)
        assert path is not None
        own.add_file(path)
    build = ("build", RECIPE, "--store", tmp_path / "store", "--offline", "--leg", "a")
    assert run_json(capsys, *build, "--out", tmp_path / "first")[0] == 0
    poison_steps(tmp_path / "store/steps", "vmlinuz", tmp_path)
    assert run_json(capsys, *build, "--out", tmp_path / "second")[0] == 0
    assert (tmp_path / "second/legs/a/artifacts/vmlinuz").read_bytes() == b"another kernel"

    arguments = release_arguments(real_release, tmp_path, tmp_path / "store")
    legs = ("--leg-a", tmp_path / "second/legs/a", "--leg-b", real_release.out / "legs/b")
    status, document = run_json(capsys, "release", RECIPE, *arguments, *legs)
    assert status == 8
    assert "step cache" in document["error"]["message"]  # type: ignore[index]
    assert published_below(tmp_path) == []

    assert run_json(capsys, "release", RECIPE, *arguments, "--no-rehearsal")[0] == 0
    for artifact in real_release.artifacts.iterdir():
        assert (tmp_path / "out/artifacts" / artifact.name).read_bytes() == artifact.read_bytes()


def poison_steps(steps: Path, output: str, path: Path) -> None:
    """Make the entry that has `output` say that it is other bytes, which are there, whole."""
    (path / "other").write_bytes(b"another kernel")
    sha256, size = LocalStore(steps / "store").add_file(path / "other")
    found = [entry for entry in (steps / "entries").iterdir() if output in json.loads(entry.read_bytes())["outputs"]]
    assert found
    for entry in found:
        document = json.loads(entry.read_bytes())
        document["outputs"][output] = {"sha256": sha256, "size": size}
        entry.write_text(json.dumps(document))


def test_a_package_whose_bytes_changed_is_not_used(
    capsys: pytest.CaptureFixture[str], locked_inputs: LocalStore, quickstart_lock: Lock, tmp_path: Path
) -> None:
    changed = LocalStore(tmp_path / "store")
    for package in quickstart_lock.packages.values():
        path = locked_inputs.path(package.sha256)
        assert path is not None
        changed.add_file(path)
    victim = quickstart_lock.group("components.firmware")[-1]
    path = changed.path(victim.sha256)
    assert path is not None
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"X")
    status, document = run_json(
        capsys, "build", RECIPE, "--store", tmp_path / "store", "--out", tmp_path / "out", "--offline"
    )
    assert status == 4
    assert victim.key in document["error"]["message"]  # type: ignore[index]


def test_kill_at_any_moment_publishes_nothing_half_and_the_next_run_succeeds(
    real_release: RealRelease, store: Path, tmp_path: Path
) -> None:
    arguments = release_arguments(real_release, tmp_path, store)
    for seconds in (1.0, 4.0, 9.0):
        process = subprocess.Popen(
            command("release", RECIPE, *arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()
        assert published_below(tmp_path) == []
    assert run(["release", str(RECIPE), *map(str, arguments)]) == 0
    (manifest,) = published_below(tmp_path)
    assert run(["diff", str(PUBLISHED), str(manifest)]) == 0


def test_an_interruption_ends_everything_and_leaves_no_work_behind(
    real_release: RealRelease, store: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command("release", RECIPE, *release_arguments(real_release, tmp_path, store)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path / "out/legs/a/work")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert not (tmp_path / "out/work").exists()
    assert published_below(tmp_path) == []
    assert str(tmp_path) not in subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount the small file system that gets full")
def test_a_full_disk_is_said_and_nothing_is_published(real_release: RealRelease, store: Path, tmp_path: Path) -> None:
    small = tmp_path / "out"
    small.mkdir()
    words = command("release", RECIPE, *release_arguments(real_release, tmp_path, store))
    script = f'mount -t tmpfs -o size=60m none {small} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert published_below(tmp_path) == []


def release_arguments(real_release: RealRelease, path: Path, store: Path) -> tuple[str | Path, ...]:
    places = ("--out", path / "out", "--manifests", path / "manifests", "--store", store, "--offline")
    return ("--key", real_release.out / "release-test-key", *places)


def alter_member(leg: Path, text: bytes, *, record_it: bool = True) -> int:
    """Flip a bit of the initrd where `text` stands first, as if the leg had built it so; gives the position."""
    path = leg / "artifacts/initrd.img"
    data = bytearray(path.read_bytes())
    position = data.index(text)
    data[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    if record_it:
        import hashlib

        record = json.loads((leg / "leg.json").read_bytes())
        (entry,) = [artifact for artifact in record["artifacts"] if artifact["name"] == "initrd.img"]
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        (leg / "leg.json").write_text(json.dumps(record))
    return position


def wait_for(path: Path) -> None:
    """Wait until a path is there; a minute is more than it can take."""
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")
