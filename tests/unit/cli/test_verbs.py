"""Every verb that needs no engine, from its arguments to its one document: what it finds, and what it refuses."""

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from builder.backends.atomic_file import write_atomically
from builder.cli.main import run
from builder.encoding.schema import load_schema
from builder.measure import AcpiBlobs, Measurer, blobs_for, launch_profiles, parse_reference_values
from builder.measure.quote import QE_VENDOR_INTEL
from builder.model.event import EV_SEPARATOR
from builder.pipeline.inputs import load_recipe
from builder.pipeline.lock import lock_recipe
from tests.fakes.boot_files import acpi_tables, log_header, log_record
from tests.fakes.fixed_resolver import FixedResolver, package
from tests.fakes.recipe_directory import PACKAGES, make_recipe_directory
from tests.fakes.small_release import FILES, VMM, SmallRelease, publish_small

GARBAGE = [b"", b"\0" * 5000, b"\xff" * 5000, b"{", b"[]\n", b'{"schema": 1}', b"a: b\n" * 40_000]


@dataclass(frozen=True)
class Ran:
    """One run with --json: its exit status, its document, and what it said on stderr."""

    status: int
    document: dict[str, Any]
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        assert "error" not in self.document, self.document
        return dict(self.document["result"])

    @property
    def message(self) -> str:
        return str(self.document["error"]["message"])


Run = Callable[..., Ran]


@pytest.fixture
def tdx(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line. stdout must be one document of the published schema, and a traceback is never shown."""

    def ran(*arguments: object) -> Ran:
        status = run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        document = json.loads(captured.out)
        jsonschema.validate(document, load_schema("result-v1"))
        assert document["status"] == status
        assert "Traceback" not in captured.err
        return Ran(status, document, captured.err)

    return ran


# measure, of plain files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Firmware, kernel, initrd and the ACPI blobs of two vCPUs, as files."""
    (tmp_path / "OVMF.fd").write_bytes(FILES.firmware)
    (tmp_path / "vmlinuz").write_bytes(FILES.kernel)
    (tmp_path / "initrd.img").write_bytes(FILES.initrd or b"")
    write_acpi(tmp_path / "acpi", blobs_for(acpi_tables(2)))
    return tmp_path


def write_acpi(directory: Path, blobs: AcpiBlobs) -> None:
    directory.mkdir(exist_ok=True)
    for name, blob in (("table-loader", blobs.loader), ("rsdp", blobs.rsdp), ("tables", blobs.tables)):
        (directory / name).write_bytes(blob)


def plain(files: Path, **changes: str | None) -> list[str]:
    """The options of `measure` for plain files; a change replaces an option, None leaves it out."""
    options: dict[str, str | None] = {
        "firmware": str(files / "OVMF.fd"),
        "kernel": str(files / "vmlinuz"),
        "initrd": str(files / "initrd.img"),
        "cmdline": FILES.command_line,
        "vcpus": "2",
        "memory": "2G",
        "qemu": "10.0.2",
        "edk2": "202502",
        "machine": VMM.machine,
        "acpi": str(files / "acpi"),
        **changes,
    }
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]


def test_measure_gives_what_the_library_gives(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *plain(files))
    assert ran.status == 0
    vmm = replace(VMM, cpu="Skylake-Server,phys-bits=46")
    (profile,) = launch_profiles(FILES, vmm=vmm, edk2="202502", shapes=[(2, 2 << 30)])
    expected = Measurer(FILES).reference_values([(profile, blobs_for(acpi_tables(2)))])
    assert parse_reference_values(ran.result["reference_values"], what="result") == expected
    registers = ran.result["profiles"]["2cpu-2G"]
    assert registers["rtmr0"] == expected.predictions[0].registers.rtmr0
    assert ran.result["mrtd"]["single_pass"] == registers["mrtd"]


def test_measure_shows_events_and_caveats_to_people(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    assert run(["measure", *plain(files), "--events"]) == 0
    output = capsys.readouterr().out
    assert "Events of 2cpu-2G" in output
    assert "LOADED_IMAGE::LoadOptions" in output
    assert "caveat: " in output


@pytest.mark.parametrize("option", ["kernel", "cmdline", "qemu", "edk2", "vcpus", "memory", "firmware"])
def test_measure_guesses_no_option(tdx: Run, files: Path, option: str) -> None:
    ran = tdx("measure", *plain(files, **{option: None}))
    assert ran.status == 2
    assert f"--{option}" in ran.message


def test_measure_without_tables_predicts_nothing(tdx: Run, files: Path) -> None:
    ran = tdx("measure", *plain(files, acpi=None))
    assert ran.status == 2
    assert "ACPI" in ran.message


@pytest.mark.parametrize(
    "arguments", [["--kernel", "k"], ["--device", "serial"], ["--acpi", "d"], ["--machine", "q35"]]
)
def test_no_option_of_plain_files_is_ignored_beside_a_recipe(tdx: Run, tmp_path: Path, arguments: list[str]) -> None:
    ran = tdx("measure", locked_recipe(tmp_path), *arguments)
    assert ran.status == 2
    assert "plain files need --firmware" in ran.message


def test_artefacts_of_a_recipe_do_not_mix_with_plain_files(tdx: Run, files: Path) -> None:
    assert tdx("measure", *plain(files), "--artifacts", files).status == 2
    assert tdx("measure").status == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vcpus": "3"}, "MADT lists 2 processors"),
        ({"vcpus": "0"}, "vCPU count 0"),
        ({"memory": "2"}, "memory size"),
        ({"memory": "8M"}, "memory"),
        ({"qemu": "10"}, "version '10'"),
        ({"edk2": "edk2-stable202502"}, "edk2-stable202502"),
        ({"edk2": "202505"}, "SMBIOS"),
        ({"cmdline": "quiet\n"}, "command line"),
    ],
)
def test_measure_refuses_what_no_rule_covers(tdx: Run, files: Path, changes: dict[str, str], named: str) -> None:
    ran = tdx("measure", *plain(files, **changes))
    assert ran.status == 2
    assert named in ran.message


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, FILES.firmware[:-1], FILES.firmware[: len(FILES.firmware) // 2]])
def test_measure_refuses_what_is_no_firmware(tdx: Run, files: Path, data: bytes) -> None:
    (files / "OVMF.fd").write_bytes(data)
    ran = tdx("measure", *plain(files))
    assert ran.status == 2
    assert "firmware" in ran.message


@pytest.mark.parametrize("data", [b"", b"MZ", b"\xff" * 5000, FILES.kernel[:4000], FILES.kernel[:-1]])
def test_measure_refuses_what_is_no_kernel(tdx: Run, files: Path, data: bytes) -> None:
    (files / "vmlinuz").write_bytes(data)
    ran = tdx("measure", *plain(files))
    assert ran.status == 2
    assert ran.message.startswith(("kernel: ", "EFI image: "))


@pytest.mark.parametrize("name", ["OVMF.fd", "vmlinuz", "initrd.img", "acpi/tables"])
def test_measure_names_a_file_that_is_not_there(tdx: Run, files: Path, name: str) -> None:
    (files / name).unlink()
    ran = tdx("measure", *plain(files))
    assert ran.status == 2
    assert name in ran.message


@pytest.mark.parametrize("name", ["table-loader", "rsdp", "tables"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 4096, bytes(131072)], ids=len)
def test_measure_refuses_what_are_no_tables(tdx: Run, files: Path, name: str, data: bytes) -> None:
    (files / "acpi" / name).write_bytes(data)
    assert tdx("measure", *plain(files)).status == 2


def test_measure_refuses_the_tables_of_a_machine_with_a_tpm(tdx: Run, files: Path) -> None:
    """They come with one event more, which nobody would have predicted."""
    blobs = blobs_for(acpi_tables(2))
    log = blobs.loader[128:256].replace(b"etc/acpi/tables", b"etc/tpm/log\0\0\0\0")
    write_acpi(files / "acpi", replace(blobs, loader=blobs.loader[:128] + log + blobs.loader[128:-128]))
    ran = tdx("measure", *plain(files))
    assert ran.status == 2
    assert "etc/tpm/log" in ran.message


def test_tables_of_one_machine_do_not_stand_for_two(tdx: Run, files: Path) -> None:
    assert tdx("measure", *plain(files), "--memory", "4G").status == 2
    assert tdx("measure", *plain(files), "--vcpus", "4").status == 2


# lock and fetch


def locked_recipe(path: Path) -> Path:
    directory = make_recipe_directory(path / "recipe")
    resolver = FixedResolver({name: package(name) for name in PACKAGES})
    lock_recipe(directory, load_recipe(directory), resolver=resolver, write=write_atomically)
    return directory


def test_a_fresh_lock_holds_without_the_archive_being_asked(tdx: Run, tmp_path: Path) -> None:
    ran = tdx("lock", locked_recipe(tmp_path), "--check", "--offline")
    assert ran.status == 0
    assert ran.result == {"packages": len(PACKAGES), "archive": "not asked"}


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


def test_a_directory_in_place_of_a_file_is_status_2(tdx: Run, files: Path, published: SmallRelease, key: Path) -> None:
    for arguments in (
        ["eventlog", "show", files],
        ["quote", "show", files],
        ["verify", files, "--key", key],
        ["measure", *plain(files, kernel=str(files))],
    ):
        ran = tdx(*arguments)
        assert ran.status == 2
        assert str(files) in ran.message
