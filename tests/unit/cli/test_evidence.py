"""`eventlog` and `quote` from their arguments to their one document, beyond what every verb has to do."""

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from builder.backends.signers import KeyKind, write_new_key
from builder.cli.main import run
from builder.encoding.canonical_json import encode_canonical
from builder.encoding.schema import load_schema
from builder.measure import BootFiles, Measurer, Prediction, ReferenceValues, VmmSpec, launch_profiles
from builder.measure.evidence.quote import QE_VENDOR_INTEL
from builder.measure.rtmr import replay
from builder.model.event import EV_EFI_ACTION, EV_SEPARATOR, PredictedEvent, UnpredictedEvent
from builder.model.reference_values import AcpiDigests, reference_values_document
from tests.fakes.boot_files import Firmware, bzimage, log_header, log_record
from tests.fakes.event_logs import ccel_of
from tests.fakes.small_release import FILES as RELEASE_FILES
from tests.fakes.small_release import SmallRelease, publish_small, small_values

GIB = 1 << 30
FILES = BootFiles(Firmware().encode(), bzimage(), b"initrd", "console=ttyS0")
VMM = VmmSpec("qemu", "10.0.2", "q35,smm=off,pic=off", "host", ("serial",))
ACPI = AcpiDigests("1" * 96, "2" * 96, "3" * 96)
DIGEST = hashlib.sha384(bytes(4)).digest()
HEADER = log_header([(0xC, 48)])


def record(index: int, event_type: int, data: bytes, measured: bytes | None = None) -> bytes:
    return log_record(index, event_type, [(0xC, hashlib.sha384(measured or data).digest())], data)


OLD_BOOT = HEADER + record(1, EV_SEPARATOR, bytes(4)) * 2 + record(2, EV_EFI_ACTION, b"Calling")


@dataclass(frozen=True)
class Ran:
    status: int
    document: dict[str, Any]

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
    def ran(*arguments: object) -> Ran:
        status = run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        document = json.loads(captured.out)
        jsonschema.validate(document, load_schema("result-v1"))
        assert document["status"] == status
        assert "Traceback" not in captured.err
        return Ran(status, document)

    return ran


def values_of(*shapes: tuple[int, int], files: BootFiles = FILES) -> ReferenceValues:
    profiles = launch_profiles(files, vmm=VMM, edk2="202502", shapes=shapes)
    return Measurer(files).reference_values((profile, ACPI) for profile in profiles)


VALUES = values_of((1, GIB), (2, 2 * GIB), (2, 4 * GIB))
BASE = VALUES.predictions[1]


def log_of(prediction: Prediction) -> bytes:
    return ccel_of(event for event in prediction.events if isinstance(event, PredictedEvent))


def quote_of(prediction: Prediction, **registers: str) -> bytes:
    replayed = replay(event for event in prediction.events if isinstance(event, PredictedEvent))
    values = {"mrtd": prediction.registers.mrtd, **replayed, **registers}
    header = struct.pack("<HHIHH16s20s", 4, 2, 0x81, 1, 2, QE_VENDOR_INTEL, bytes(20))
    rtmrs = bytes.fromhex("".join(values[f"rtmr{index}"] for index in range(4)))
    return header + bytes(136) + bytes.fromhex(values["mrtd"]) + bytes(144) + rtmrs + bytes(64) + b"\1\0\0\0\0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What was predicted, a log and a quote of a TD that is as predicted."""
    (tmp_path / "values.json").write_bytes(encode_canonical(reference_values_document(VALUES)))
    (tmp_path / "log").write_bytes(log_of(BASE))
    (tmp_path / "quote").write_bytes(quote_of(BASE))
    return tmp_path


def diff(tdx: Run, folder: Path, *options: object) -> Ran:
    return tdx("eventlog", "diff", folder / "log", "--against", folder / "values.json", *options)


def outcomes(ran: Ran) -> dict[str, str]:
    return {name: register["outcome"] for name, register in ran.result["registers"].items()}


# show


def show(tdx: Run, folder: Path, log: bytes, *options: object) -> Ran:
    (folder / "log").write_bytes(log)
    return tdx("eventlog", "show", folder / "log", *options)


def test_data_that_was_changed_is_status_7_and_said_in_words(
    tdx: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = OLD_BOOT + record(2, EV_EFI_ACTION, b"Calling EFI Explanation", b"Calling EFI Application")
    ran = show(tdx, tmp_path, log)
    assert ran.status == 7
    assert [event["data_covered"] for event in ran.result["events"]] == [True, True, True, False]
    assert run(["eventlog", "show", str(tmp_path / "log")]) == 7
    out = capsys.readouterr().out
    assert "event 3 (EV_EFI_ACTION of rtmr1): its data was changed after it was measured" in out


def test_events_are_shown_in_words_and_with_what_covers_them(tdx: Run, tmp_path: Path) -> None:
    ran = show(tdx, tmp_path, OLD_BOOT + record(3, 0xD, b"/vmlinuz\0", b"bytes of a file"))
    assert ran.status == 0
    assert [(event["text"], event["data_covered"]) for event in ran.result["events"][2:]] == [
        ("Calling", True),
        ("/vmlinuz", None),
    ]


@pytest.mark.parametrize(("edk2", "status", "wrong"), [("202408", 0, 0), ("202502", 7, 2), (None, 0, 0)])
def test_separators_are_judged_by_the_release_that_is_stated(
    tdx: Run, tmp_path: Path, edk2: str | None, status: int, wrong: int
) -> None:
    ran = show(tdx, tmp_path, OLD_BOOT, *(["--edk2", edk2] if edk2 else []))
    assert ran.status == status
    assert sum(finding["wrong"] for finding in ran.result["structure"]) == wrong
    assert len(ran.result["structure"]) == (0 if edk2 == "202408" else max(wrong, 1))


def test_a_release_that_is_none_and_a_tpm_log_with_a_release_are_usage_errors(tdx: Run, tmp_path: Path) -> None:
    assert show(tdx, tmp_path, OLD_BOOT, "--edk2", "latest").status == 2
    tpm = log_header([(0xC, 48)], index=0) + record(1, EV_SEPARATOR, bytes(4))
    assert show(tdx, tmp_path, tpm, "--format", "tpm", "--edk2", "202502").status == 2
    assert show(tdx, tmp_path, tpm, "--format", "tpm").result["structure"] == []


def ccel_table(size: int) -> bytes:
    data = bytearray(struct.pack("<4sIBB26sBBHQQ", b"CCEL", 56, 1, 0, b"INTEL ".ljust(26), 2, 0, 0, size, 0x1000))
    data[9] = -sum(data) & 0xFF
    return bytes(data)


def test_the_log_is_checked_against_its_acpi_table(tdx: Run, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(ccel_table(0x10000))
    ran = show(tdx, tmp_path, OLD_BOOT, "--table", tmp_path / "table")
    assert ran.status == 0
    assert "log area of 0x10000 bytes at 0x1000" in ran.result["notes"][0]
    (tmp_path / "table").write_bytes(ccel_table(100))
    ran = show(tdx, tmp_path, OLD_BOOT, "--table", tmp_path / "table")
    assert ran.status == 2
    assert "names an area of 100" in ran.message
    (tmp_path / "table").write_bytes(OLD_BOOT)
    assert show(tdx, tmp_path, OLD_BOOT, "--table", tmp_path / "table").status == 2


def test_bytes_behind_the_log_are_noted(tdx: Run, tmp_path: Path) -> None:
    ran = show(tdx, tmp_path, OLD_BOOT + b"\xff" * 8 + b"hidden")
    assert ran.status == 0
    assert "not read as events" in ran.result["notes"][0]


def test_events_of_a_short_dstack_log_are_not_called_changed(tdx: Run, tmp_path: Path) -> None:
    entry = {"imr": 0, "event_type": EV_SEPARATOR, "digest": DIGEST.hex(), "event": "", "event_payload": ""}
    runtime = {"imr": 3, "event_type": 0x08000001, "digest": "", "event": "app-id", "event_payload": "aa"}
    log = json.dumps([entry, runtime]).encode()
    for data in (log, json.dumps({"event_log": log.decode(), "quote": ""}).encode()):
        ran = show(tdx, tmp_path, data)
        assert ran.status == 0
        assert [event["data_covered"] for event in ran.result["events"]] == [None, True]


def test_the_log_of_a_tpm_is_not_taken_for_a_tds_and_the_option_is_named(tdx: Run, tmp_path: Path) -> None:
    tpm = log_header([(4, 20), (0xC, 48)], index=0) + log_record(7, 4, [(4, bytes(20)), (0xC, DIGEST)], bytes(4))
    ran = show(tdx, tmp_path, tpm)
    assert ran.status == 2
    assert "--format tpm" in ran.document["error"]["hint"]
    assert show(tdx, tmp_path, tpm, "--format", "tpm").status == 0
    assert "--format" not in show(tdx, tmp_path, tpm, "--format", "ccel").document["error"]["hint"]
    assert "--format" not in show(tdx, tmp_path, OLD_BOOT[:-1]).document["error"]["hint"]


# quote show


@pytest.mark.parametrize("form", ["binary", "hex", "base64", "hex in JSON"])
def test_a_quote_is_read_in_every_form(tdx: Run, tmp_path: Path, form: str) -> None:
    data = quote_of(BASE) + bytes(3)
    texts = {
        "binary": data,
        "hex": data.hex().encode(),
        "base64": base64.b64encode(data),
        "hex in JSON": json.dumps({"quote": data.hex()}).encode(),
    }
    (tmp_path / "quote").write_bytes(texts[form])
    ran = tdx("quote", "show", tmp_path / "quote")
    assert ran.status == 0
    assert (ran.result["form"], ran.result["trailing"]) == (form, 3)
    assert ran.result["rtmr1"] == BASE.registers.rtmr1


def test_a_debug_td_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(quote_of(BASE))
    data[48 + 120] = 1
    (tmp_path / "quote").write_bytes(data)
    assert run(["quote", "show", str(tmp_path / "quote")]) == 0
    out = capsys.readouterr().out
    assert "TDATTRIBUTES: DEBUG" in out
    assert "its registers prove nothing" in out


# diff


@pytest.mark.parametrize("options", [[], ["--profile", "2cpu-2G"]], ids=["any profile", "its profile"])
def test_a_td_as_predicted_is_equal(tdx: Run, folder: Path, options: list[str]) -> None:
    for quoted in ([], ["--quote", folder / "quote"]):
        ran = diff(tdx, folder, *options, *quoted)
        assert ran.status == 0
        assert set(outcomes(ran).values()) == {"equal"}
        assert ran.result["profile"] == "2cpu-2G"
        assert ran.result["profile_chosen"] == ("stated" if options else "fits")


def test_another_profile_than_the_stated_one_is_status_6_and_says_so_in_words(
    tdx: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = diff(tdx, folder, "--profile", "2cpu-4G")
    assert ran.status == 6
    assert outcomes(ran) == {"rtmr0": "differs", "rtmr1": "equal", "rtmr2": "equal"}
    rtmr0 = ran.result["registers"]["rtmr0"]
    assert rtmr0["first_difference"]["position"] == 0
    assert rtmr0["meaning"][0].startswith("memory is 2 GiB, predicted for 4 GiB")
    arguments = ["eventlog", "diff", folder / "log", "--against", folder / "values.json", "--profile", "2cpu-4G"]
    assert run([*map(str, arguments)]) == 6
    out = capsys.readouterr().out
    assert "rtmr0: this fits: memory is 2 GiB, predicted for 4 GiB (as in the published profile '2cpu-2G')" in out
    assert "no quote: MRTD was not compared, and the outcome is as good as the log" in out
    assert "rtmr3: not compared; the log replays to " in out


def test_the_nearest_profile_is_told_where_none_fits(tdx: Run, folder: Path) -> None:
    other = values_of((2, 2 * GIB), files=replace(FILES, command_line="console=ttyS1")).predictions[0]
    (folder / "log").write_bytes(log_of(other))
    ran = diff(tdx, folder, "--cmdline", "console=ttyS1")
    assert ran.status == 6
    assert (ran.result["profile"], ran.result["profile_chosen"]) == ("2cpu-2G", "nearest")
    assert "'console=ttyS1 initrd=initrd'" in ran.result["registers"]["rtmr2"]["meaning"][0]
    assert diff(tdx, folder).result["registers"]["rtmr2"]["meaning"] == []


def test_files_at_hand_are_tried(tdx: Run, folder: Path) -> None:
    files = replace(FILES, kernel=bzimage(release=b"6.13.0 (a@b)"), initrd=b"another")
    (folder / "log").write_bytes(log_of(values_of((2, 2 * GIB), files=files).predictions[0]))
    for name, data in (("kernel", files.kernel), ("initrd", b"another"), ("firmware", files.firmware)):
        (folder / name).write_bytes(data)
    options = [word for name in ("kernel", "initrd", "firmware") for word in (f"--{name}", folder / name)]
    ran = diff(tdx, folder, *options, "--initrd", folder / "kernel")
    assert ran.status == 6
    assert "measured as it is (raw)" in ran.result["registers"]["rtmr1"]["meaning"][0]
    assert ran.result["registers"]["rtmr2"]["meaning"][0].startswith("the initrd is the one with SHA-256")


def test_a_log_that_is_not_the_quotes_is_status_8_even_if_the_quote_is_as_predicted(tdx: Run, folder: Path) -> None:
    other = values_of((2, 2 * GIB), files=replace(FILES, initrd=b"another")).predictions[0]
    (folder / "log").write_bytes(log_of(other))
    ran = diff(tdx, folder, "--quote", folder / "quote")
    assert ran.status == 8
    assert outcomes(ran) == {"mrtd": "equal", "rtmr0": "equal", "rtmr1": "equal", "rtmr2": "not proven"}
    assert not ran.result["registers"]["rtmr2"]["is_evidence"]


def test_a_quote_that_differs_is_status_6_whatever_the_log_says(tdx: Run, folder: Path) -> None:
    (folder / "quote").write_bytes(quote_of(BASE, rtmr1="ee" * 48))
    ran = diff(tdx, folder, "--quote", folder / "quote")
    assert ran.status == 6
    assert outcomes(ran)["rtmr1"] == "differs"
    assert ran.document["statuses"] == [0, 6]


def test_the_other_page_order_is_named_for_mrtd(tdx: Run, folder: Path) -> None:
    other = next(value for value in VALUES.mrtd.values() if value != BASE.registers.mrtd)
    (folder / "quote").write_bytes(quote_of(BASE, mrtd=other))
    ran = diff(tdx, folder, "--quote", folder / "quote")
    assert ran.status == 6
    assert "page order" in ran.result["registers"]["mrtd"]["meaning"][0]


def test_a_register_that_could_not_be_predicted_is_status_8(tdx: Run, folder: Path) -> None:
    events = tuple(
        UnpredictedEvent(event.register, event.event_type, event.name, "no rule derives it")
        if event.name == "etc/acpi/tables"
        else event
        for event in BASE.events
    )
    opened = replace(BASE, events=events, registers=replace(BASE.registers, rtmr0=None))
    document = reference_values_document(ReferenceValues(VALUES.mrtd, (opened,)))
    (folder / "values.json").write_bytes(encode_canonical(document))
    for quoted in ([], ["--quote", folder / "quote"]):
        ran = diff(tdx, folder, *quoted)
        assert ran.status == 8
        assert outcomes(ran)["rtmr0"] == "not proven"
        assert "no rule derives it" in ran.result["registers"]["rtmr0"]["detail"]


def test_the_output_of_measure_is_taken(tdx: Run, folder: Path) -> None:
    result = {"schema": "tdx-builder/result/v1", "verb": "measure", "status": 0, "statuses": [0]}
    document = {**result, "result": {"reference_values": reference_values_document(VALUES)}}
    (folder / "values.json").write_text(json.dumps(document))
    ran = diff(tdx, folder)
    assert ran.status == 0
    assert ran.result["against"] == "the output of `measure`"


def edited() -> bytes:
    document = reference_values_document(VALUES)
    document["events"][0]["digest"] = "ee" * 48
    return encode_canonical(document)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b"null", b'{"verb":"measure","result":{}}', b'{"profiles":[]}', edited()],
    ids=["empty", "cut", "array", "object", "null", "no values", "no profiles", "edited"],
)
def test_documents_that_predict_nothing_are_status_2(tdx: Run, folder: Path, data: bytes) -> None:
    (folder / "values.json").write_bytes(data)
    ran = diff(tdx, folder)
    assert ran.status == 2
    assert str(folder / "values.json") in ran.message


def test_a_profile_that_nobody_published_is_status_2_and_names_those_there_are(tdx: Run, folder: Path) -> None:
    ran = diff(tdx, folder, "--profile", "3cpu-3G")
    assert ran.status == 2
    assert "no profile '3cpu-3G'" in ran.message
    assert "2cpu-2G" in ran.document["error"]["hint"]


@pytest.mark.parametrize("name", ["log", "quote"])
def test_evidence_that_is_none_is_status_2_and_named(tdx: Run, folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\0" * 700)
    ran = diff(tdx, folder, "--quote", folder / "quote")
    assert ran.status == 2
    assert str(folder / name) in ran.message


def test_changed_data_is_noted_and_never_what_is_compared(tdx: Run, folder: Path) -> None:
    """The made-up log shows names in place of data, so that data which a digest would cover is wrong everywhere."""
    ran = diff(tdx, folder)
    assert ran.status == 0
    assert any(note.startswith("data changed after it was measured, in records 2, 3,") for note in ran.result["notes"])


def test_a_debug_td_is_never_equal(tdx: Run, folder: Path) -> None:
    data = bytearray(quote_of(BASE))
    data[48 + 120] = 1
    (folder / "quote").write_bytes(data)
    ran = diff(tdx, folder, "--quote", folder / "quote")
    assert set(outcomes(ran).values()) == {"equal"}
    assert ran.status == 8
    assert "this TD runs in debug mode: its registers prove nothing" in ran.result["notes"]


# diff against a manifest


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallRelease, Path]:
    directory = tmp_path_factory.mktemp("release")
    return publish_small(directory), directory / "release-test-key.pub"


@pytest.fixture
def of_release(published: tuple[SmallRelease, Path], tmp_path: Path) -> Path:
    """The log of a TD as the release predicts it."""
    (tmp_path / "log").write_bytes(log_of(small_values().predictions[1]))
    return tmp_path / "log"


def test_a_manifest_is_believed_with_a_key_and_called_unchecked_without(
    tdx: Run, published: tuple[SmallRelease, Path], of_release: Path
) -> None:
    release, key = published
    unchecked = tdx("eventlog", "diff", of_release, "--against", release.manifest)
    checked = tdx("eventlog", "diff", of_release, "--against", release.manifest, "--key", key)
    assert (unchecked.status, checked.status) == (0, 0)
    assert unchecked.result["against"] == "a manifest, whose signature was not checked"
    assert checked.result["against"] == f"signed by key {release.key.key_id}"


def test_a_manifest_of_another_key_is_status_7(
    tdx: Run, published: tuple[SmallRelease, Path], of_release: Path, tmp_path: Path
) -> None:
    other = write_new_key(tmp_path / "other-key", KeyKind.ED25519)
    ran = tdx("eventlog", "diff", of_release, "--against", published[0].manifest, "--key", other.public)
    assert ran.status == 7


def test_with_a_key_only_a_manifest_will_do(tdx: Run, published: tuple[SmallRelease, Path], folder: Path) -> None:
    assert diff(tdx, folder, "--key", published[1]).status == 2


def test_the_command_line_of_the_manifest_is_tried(
    tdx: Run, published: tuple[SmallRelease, Path], of_release: Path
) -> None:
    prediction = small_values().predictions[1]
    options = (RELEASE_FILES.command_line + "\0").encode("utf-16-le")
    events = [
        replace(event, digest=hashlib.sha384(options).hexdigest())
        if isinstance(event, PredictedEvent) and event.name == "LOADED_IMAGE::LoadOptions"
        else event
        for event in prediction.events
    ]
    of_release.write_bytes(log_of(replace(prediction, events=tuple(events))))
    ran = tdx("eventlog", "diff", of_release, "--against", published[0].manifest)
    assert ran.status == 6
    assert "(without initrd=initrd)" in ran.result["registers"]["rtmr2"]["meaning"][0]
