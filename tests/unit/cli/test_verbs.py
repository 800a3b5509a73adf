"""Every verb that needs no engine, from its arguments to its one document: what it finds, and what it refuses."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from builder.cli.main import run
from builder.measure.evidence.quote import QE_VENDOR_INTEL
from builder.model.event import EV_SEPARATOR
from tests.fakes.boot_files import log_header, log_record
from tests.fakes.command_line import Run
from tests.fakes.recipe_directory import PACKAGES, locked_recipe
from tests.fakes.small_release import SmallRelease, publish_small
from tests.fakes.source_recipe import lock_source_recipe, make_source_recipe

GARBAGE = [b"", b"\0" * 5000, b"\xff" * 5000, b"{", b"[]\n", b'{"schema": 1}', b"a: b\n" * 40_000]


# lock and fetch


def test_a_fresh_lock_holds_without_the_archive_being_asked(tdx: Run, tmp_path: Path) -> None:
    ran = tdx("lock", locked_recipe(tmp_path), "--check", "--offline")
    assert ran.status == 0
    assert ran.result == {"packages": len(PACKAGES), "tarballs": 0, "prebuilt": 0, "archive": "not asked"}


def test_what_is_no_package_is_counted_apart(tdx: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_source_recipe(tmp_path / "recipe")
    lock_source_recipe(directory)
    ran = tdx("lock", directory, "--check", "--offline")
    assert ran.result == {"packages": 7, "tarballs": 2, "prebuilt": 1, "archive": "not asked"}
    assert run(["lock", str(directory), "--check", "--offline"]) == 0
    assert "7 packages, 2 tarballs, 1 prebuilt; " in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["measure", "rehearse"])
def test_an_unknown_flavour_is_named_with_those_there_are(tdx: Run, tmp_path: Path, verb: str) -> None:
    directory = make_source_recipe(tmp_path / "recipe")
    lock_source_recipe(directory)
    ran = tdx(verb, directory, "--flavour", "debug", "--offline", "--store", tmp_path / "store")
    assert (ran.status, ran.message) == (2, f"{directory / 'recipe.yaml'}: no flavour 'debug'")
    assert "prod, dev" in ran.hint


def edit_recipe(directory: Path) -> None:
    path = directory / "recipe.yaml"
    path.write_text(path.read_text().replace("version: 1.2.3", "version: 1.2.4"))


def edit_lock(directory: Path) -> None:
    path = directory / "lock.json"
    path.write_text(path.read_text().replace("ovmf_1.0", "ovmf_1.1"))


STALE: dict[str, Callable[[Path], object]] = {
    "recipe": edit_recipe,
    "lock": edit_lock,
    "no lock": lambda directory: (directory / "lock.json").unlink(),
    "file": lambda directory: (directory / "files/app/config").write_text("answer = 43\n"),
    "mode": lambda directory: (directory / "files/app/config").chmod(0o755),
    "new file": lambda directory: (directory / "files/app/new").touch(),
    "no file": lambda directory: (directory / "files/initrd/init").unlink(),
    "link": lambda directory: (directory / "files/app/link").symlink_to("config"),
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_a_lock_of_something_else_is_refused_by_every_verb(
    tdx: Run, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    directory = locked_recipe(tmp_path)
    change(directory)
    for arguments in (("lock", "--check", "--offline"), ("fetch", "--offline", "--store", tmp_path / "store")):
        verb, *options = arguments
        ran = tdx(verb, directory, *options)
        assert ran.status == 2
        assert ran.stderr.startswith("tdx-builder: error: ")


@pytest.mark.parametrize("name", ["recipe.yaml", "lock.json"])
@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_recipe_or_lock_is_named_and_refused(tdx: Run, tmp_path: Path, name: str, data: bytes) -> None:
    directory = locked_recipe(tmp_path)
    (directory / name).write_bytes(data)
    ran = tdx("lock", directory, "--check", "--offline")
    assert ran.status == 2
    assert str(directory / name) in ran.message


@pytest.mark.parametrize("name", ["recipe.yaml", "lock.json"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_recipe_or_lock_is_refused(tdx: Run, tmp_path: Path, name: str, share: float) -> None:
    path = locked_recipe(tmp_path) / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    ran = tdx("lock", path.parent, "--check", "--offline")
    assert ran.status == 2
    assert str(path.parent) in ran.message


def test_an_empty_store_offline_is_status_4_and_names_every_package(tdx: Run, tmp_path: Path) -> None:
    ran = tdx("fetch", locked_recipe(tmp_path), "--offline", "--store", tmp_path / "store")
    assert ran.status == 4
    assert all(f"{name}=" in ran.message for name in PACKAGES)


def test_a_directory_work_that_no_build_made_is_never_removed(tdx: Run, tmp_path: Path) -> None:
    """`--out .` in somebody's own directory."""
    mine = tmp_path / "out/work/mine"
    mine.parent.mkdir(parents=True)
    mine.touch()
    build = ("build", locked_recipe(tmp_path), "--leg", "a", "--engine-a", "bubblewrap", "--offline")
    ran = tdx(*build, "--out", tmp_path / "out", "--store", tmp_path / "store")
    assert (ran.status, mine.exists()) == (2, True)
    assert "no build made it" in ran.message
    (tmp_path / "out/.lock").touch()  # now it is what a build that was killed left
    ran = tdx(*build, "--out", tmp_path / "out", "--store", tmp_path / "store")
    assert (ran.status, mine.exists()) == (4, False)


@pytest.mark.parametrize("data", [b"", b"\0" * 20480, b"not a tar", b"\xff" * 1024])
def test_what_is_no_input_archive_is_refused(tdx: Run, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "inputs.tar").write_bytes(data)
    target = tmp_path / "made"
    ran = tdx("fetch", target, "--from", tmp_path / "inputs.tar", "--store", tmp_path / "store")
    assert ran.status == 2
    assert not target.exists()


# verify and diff


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> SmallRelease:
    return publish_small(tmp_path_factory.mktemp("release"))


@pytest.fixture
def key(published: SmallRelease) -> Path:
    return published.manifest.parents[3] / "release-test-key.pub"


def test_a_release_verifies_with_its_artefacts(tdx: Run, published: SmallRelease, key: Path) -> None:
    ran = tdx("verify", published.manifest, "--key", key, "--artifacts", published.artifacts)
    assert ran.status == 0
    assert ran.result["verdict"] == "verified"
    assert [check["outcome"] for check in ran.result["checks"]] == ["ok"] * 5
    assert sorted(ran.result["registers"]["profiles"]) == ["1cpu-1G", "2cpu-2G"]
    assert ran.result["owed"], "what is not checked is said"


def test_verify_tells_people_the_verdict_and_what_is_left(
    capsys: pytest.CaptureFixture[str], published: SmallRelease, key: Path
) -> None:
    assert run(["verify", str(published.manifest), "--key", str(key), "--registers"]) == 0
    output = capsys.readouterr().out
    assert output.endswith(": verified; its artefacts were not asked for\n")
    assert "still yours to check: " in output


def test_a_changed_artefact_is_status_1(tdx: Run, published: SmallRelease, key: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(published.artifacts, tmp_path / "artifacts")
    (copy / "initrd.img").chmod(0o644)
    (copy / "initrd.img").write_bytes(b"another")
    ran = tdx("verify", published.manifest, "--key", key, "--artifacts", copy)
    assert ran.status == 1
    assert ran.result["verdict"] == "not verified"
    assert ran.document["statuses"] == [0, 1, 8]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_manifest_is_not_verified(
    tdx: Run, published: SmallRelease, key: Path, tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(data)
    ran = tdx("verify", path, "--key", key)
    assert ran.status == 7
    assert ran.result["verdict"] == "not verified"
    assert str(path) in ran.result["checks"][0]["detail"]
    ran = tdx("diff", path, published.manifest)
    assert ran.status == 2
    assert str(path) in ran.message


def test_a_truncated_manifest_is_not_verified(tdx: Run, published: SmallRelease, key: Path, tmp_path: Path) -> None:
    data = published.manifest.read_bytes()
    for size in (1, len(data) // 2, len(data) - 1):
        (tmp_path / "manifest.json").write_bytes(data[:size])
        assert tdx("verify", tmp_path / "manifest.json", "--key", key).status == 7


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"-----BEGIN PUBLIC KEY-----\n", b"k" * 20_000])
def test_what_is_no_key_is_status_2_and_no_verdict(
    tdx: Run, published: SmallRelease, tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "bad.pub").write_bytes(data)
    ran = tdx("verify", published.manifest, "--key", tmp_path / "bad.pub")
    assert ran.status == 2
    assert "bad.pub" in ran.message


def test_keys_in_the_wrong_place_are_status_2_and_missing_ones_5(tdx: Run, published: SmallRelease, key: Path) -> None:
    assert tdx("verify", published.manifest, "--key", key.with_suffix("")).status == 2, "a private key"
    assert tdx("verify", published.manifest, "--key", key.with_name("absent.pub")).status == 5
    assert tdx("key", "show", key.with_suffix("")).status == 2


def test_a_release_is_the_same_as_itself(tdx: Run, published: SmallRelease) -> None:
    ran = tdx("diff", published.manifest, published.manifest)
    assert ran.status == 0
    assert ran.result["identical"] is True
    assert len(set(ran.result["release_digests"])) == 1


def test_files_and_directories_differ_with_status_1(tdx: Run, published: SmallRelease, tmp_path: Path) -> None:
    copy = shutil.copytree(published.artifacts, tmp_path / "artifacts")
    assert tdx("diff", published.artifacts, copy).status == 0
    (copy / "cmdline").chmod(0o644)
    (copy / "cmdline").write_text("another")
    for name in (".", "cmdline"):
        ran = tdx("diff", published.artifacts / name, copy / name)
        assert ran.status == 1
        (differing,) = (entry for entry in ran.result["artifacts"] if not entry["identical"])
        assert differing["name"] == "cmdline"
        assert differing["differences"], "where it differs is said"


def test_nothing_is_not_equal_to_nothing(tdx: Run, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    ran = tdx("diff", tmp_path / "a", tmp_path / "b")
    assert ran.status == 1
    assert ran.result["identical"] is False


@pytest.mark.parametrize(("a", "b"), [("here", "absent"), ("absent", "here"), ("here", ".")])
def test_what_cannot_be_compared_is_status_2(tdx: Run, tmp_path: Path, a: str, b: str) -> None:
    (tmp_path / "here").touch()
    ran = tdx("diff", tmp_path / a, tmp_path / b)
    assert ran.status == 2
    assert str(tmp_path / a) in ran.message


# eventlog and quote

DIGEST = hashlib.sha384(bytes(4)).digest()
CCEL = log_header([(0xC, 48)]) + log_record(1, EV_SEPARATOR, [(0xC, DIGEST)], bytes(4))
TPM = log_header([(4, 20), (0xC, 48)], index=0) + log_record(7, EV_SEPARATOR, [(4, bytes(20)), (0xC, DIGEST)], bytes(4))
DSTACK = json.dumps(
    [{"imr": 0, "event_type": 4, "digest": DIGEST.hex(), "event": "", "event_payload": "00000000"}]
).encode()
ZERO = "00" * 48
EXTENDED = hashlib.sha384(bytes(48) + DIGEST).hexdigest()


@pytest.mark.parametrize(
    ("log", "options"),
    [(CCEL, []), (CCEL, ["--format", "ccel"]), (TPM, ["--format", "tpm"]), (DSTACK, [])],
    ids=["ccel", "ccel by name", "tpm", "dstack"],
)
def test_each_kind_of_log_is_shown_and_replayed(tdx: Run, tmp_path: Path, log: bytes, options: Sequence[str]) -> None:
    (tmp_path / "log").write_bytes(log)
    ran = tdx("eventlog", "replay", tmp_path / "log", *options)
    assert ran.status == 0
    assert ran.result == {"rtmr0": EXTENDED, "rtmr1": ZERO, "rtmr2": ZERO, "rtmr3": ZERO}
    (event,) = tdx("eventlog", "show", tmp_path / "log", *options).result["events"]
    assert (event["register"], event["digest"], event["data"]) == ("rtmr0", DIGEST.hex(), "00000000")


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 999, CCEL[:-1], CCEL[:20], b"[", b"[]", DSTACK[:-1], CCEL[: len(CCEL) // 2], TPM]
)
@pytest.mark.parametrize("verb", ["show", "replay"])
def test_what_is_no_log_is_named_and_refused(tdx: Run, tmp_path: Path, verb: str, data: bytes) -> None:
    (tmp_path / "log").write_bytes(data)
    ran = tdx("eventlog", verb, tmp_path / "log")
    assert ran.status == 2
    assert str(tmp_path / "log") in ran.message


def made_quote() -> bytes:
    header = struct.pack("<HHIHH16s20s", 4, 2, 0x81, 1, 2, QE_VENDOR_INTEL, bytes(20))
    return header + bytes(range(256)) * 2 + bytes(72) + struct.pack("<I", 4) + bytes(4)


def test_a_quote_is_shown_and_nothing_in_it_is_called_verified(
    tdx: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = made_quote()
    (tmp_path / "quote").write_bytes(data)
    ran = tdx("quote", "show", tmp_path / "quote")
    assert ran.status == 0
    assert ran.result["mrtd"] == data[48 + 136 : 48 + 184].hex()
    assert run(["quote", "show", str(tmp_path / "quote")]) == 0
    assert capsys.readouterr().out.startswith("version 4; signature not checked\n")


@pytest.mark.parametrize("data", [b"", b"\0" * 700, made_quote()[:-1], made_quote()[:631], b"{}"])
def test_what_is_no_quote_is_named_and_refused(tdx: Run, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "quote").write_bytes(data)
    ran = tdx("quote", "show", tmp_path / "quote")
    assert ran.status == 2
    assert str(tmp_path / "quote") in ran.message


def test_a_directory_in_place_of_a_file_is_status_2(tdx: Run, tmp_path: Path, key: Path) -> None:
    for arguments in (
        ["eventlog", "show", tmp_path],
        ["quote", "show", tmp_path],
        ["verify", tmp_path, "--key", key],
    ):
        ran = tdx(*arguments)
        assert ran.status == 2
        assert str(tmp_path) in ran.message
