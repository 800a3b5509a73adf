"""The scripts of recipes/guest's agent, run as they are: RTMR[3] gets what is predicted for the app, or the app stays
down."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from builder.backends.process import CompletedRun, run
from builder.measure.dstack.app import AppPrediction, predict_app
from builder.measure.dstack.log import parse_dstack_event_log
from builder.measure.dstack.runtime import RuntimeInputs, RuntimeRules
from builder.model.event import PredictedEvent
from builder.normalize.compose import encode_app_compose
from builder.normalize.oci import ImageConfig, encode_image
from tests.fakes.silent_register import SilentRegister

RECIPE = Path(__file__).parents[3] / "recipes" / "guest"
SCRIPTS = RECIPE / "files/guest_os/usr/lib/tdx-builder"
DIGEST = f"sha256:{'ab' * 32}"
# which of dstack's events the agent emits: those that every guest of it does
RULES = RuntimeRules(storage_fs=False, gpu_policy=False, gpu_attestation=False, init_scripts=False, kms_identity=False)
FAILED = tuple(range(1, 128))


def start(script: str, *arguments: str | Path, path: str = os.defpath) -> CompletedRun:
    """A script to its end, whatever its status, with nothing of the test's environment."""
    command = ("/bin/sh", SCRIPTS / script, *arguments)
    return run(tuple(map(str, command)), environment={"PATH": path}, accept=(0, *FAILED))


def prediction(compose: bytes) -> AppPrediction:
    return predict_app(compose, RuntimeInputs(), rules=RULES)


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    """The description of the recipe's own app, as the build would make it."""
    path = tmp_path / "app-compose.json"
    path.write_bytes(encode_app_compose((RECIPE / "files/compose.yaml").read_bytes(), name="guest", digest=DIGEST))
    return path


@pytest.fixture
def register(tmp_path: Path) -> SilentRegister:
    return SilentRegister(tmp_path / "rtmr3:sha384")


def test_the_register_gets_what_is_predicted_for_the_app(
    tmp_path: Path, compose: Path, register: SilentRegister
) -> None:
    completed = start("measure-app", register.path, tmp_path / "log", compose)
    assert completed.status == 0, completed.stderr
    predicted = prediction(compose.read_bytes())
    assert register.writes() == [bytes.fromhex(e.digest) for e in predicted.events if isinstance(e, PredictedEvent)]
    assert register.value() == predicted.rtmr3


def test_another_description_gives_another_register(tmp_path: Path, compose: Path, register: SilentRegister) -> None:
    before = prediction(compose.read_bytes()).rtmr3
    compose.write_bytes(compose.read_bytes().replace(b"the guest", b"the ghost"))
    assert start("measure-app", register.path, tmp_path / "log", compose).status == 0
    assert register.value() == prediction(compose.read_bytes()).rtmr3 != before


def test_the_log_is_dstacks_and_replays_to_the_register(
    tmp_path: Path, compose: Path, register: SilentRegister
) -> None:
    start("measure-app", register.path, tmp_path / "log", compose)
    lines = (tmp_path / "log").read_text(encoding="ascii").splitlines()
    events = parse_dstack_event_log(f"[{','.join(lines)}]".encode())
    assert [event.name for event in events] == [event.name for event in prediction(compose.read_bytes()).events]
    assert [bytes.fromhex(event.digest) for event in events] == register.writes()
    assert events[2].data == hashlib.sha256(compose.read_bytes()).digest()


@pytest.mark.parametrize("register", ["/dev/full", "gone/rtmr3:sha384"])
def test_a_register_that_cannot_be_extended_stops_at_its_first_event(
    tmp_path: Path, compose: Path, register: str
) -> None:
    completed = start("measure-app", tmp_path / register, tmp_path / "log", compose)
    assert completed.status != 0
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_a_description_that_is_not_there_extends_nothing(tmp_path: Path, register: SilentRegister) -> None:
    assert start("measure-app", register.path, tmp_path / "log", tmp_path / "gone").status != 0
    assert register.writes() == []


@pytest.mark.parametrize("payload", ["xy", "abc", "AB CD", "ab\n"])
def test_a_payload_that_is_not_hex_extends_nothing(tmp_path: Path, payload: str, register: SilentRegister) -> None:
    assert start("extend-rtmr3", register.path, tmp_path / "log", "event", payload).status != 0
    assert register.writes() == []


@pytest.mark.parametrize("missing", ["basenc", "sha384sum", "tr", "dd", "stat"])
def test_a_missing_program_is_never_an_event(tmp_path: Path, missing: str, register: SilentRegister) -> None:
    """A pipe whose first program cannot be started still ends well."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"basenc", "sha384sum", "tr", "dd", "stat", "rm"} - {missing}:
        (programs / name).symlink_to(f"/usr/bin/{name}")
    assert start("extend-rtmr3", register.path, tmp_path / "log", "event", "abcd", path=str(programs)).status != 0
    assert register.writes() == []


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """The image layout as it lies in the guest's root."""
    layer = b"layer"
    image = encode_image(
        ImageConfig("guest:1", ("/app",), 0),
        layer=(layer,),
        layer_sha256=hashlib.sha256(layer).hexdigest(),
        layer_size=len(layer),
    )
    for each in image.members:
        place = tmp_path / "layout" / each.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(each.read())
    (tmp_path / "pin").write_text(image.digest)
    return tmp_path / "layout"


def blobs(layout: Path) -> dict[str, Path]:
    """The manifest, config and layer of a layout."""
    pinned = (layout.parent / "pin").read_text()
    manifest = layout / "blobs" / pinned.replace(":", "/")
    document = json.loads(manifest.read_bytes())
    config, layer = (document["config"]["digest"], document["layers"][0]["digest"])
    return {
        "manifest": manifest,
        "config": layout / "blobs" / config.replace(":", "/"),
        "layer": layout / "blobs" / layer.replace(":", "/"),
    }


def verified(layout: Path) -> CompletedRun:
    return start("verify-app", layout, (layout.parent / "pin").read_text())


def test_an_image_with_the_pinned_digest_is_accepted(layout: Path) -> None:
    completed = verified(layout)
    assert completed.status == 0
    assert completed.stdout.decode() == f"sha256:{blobs(layout)['config'].name}\n"


@pytest.mark.parametrize("blob", ["manifest", "config", "layer"])
def test_one_changed_byte_of_the_image_is_refused_by_name(layout: Path, blob: str) -> None:
    path = blobs(layout)[blob]
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    completed = verified(layout)
    assert (completed.status, completed.stdout) == (1, b"")
    assert completed.stderr.decode().startswith(f"app refused: its {blob} does not have digest ")


@pytest.mark.parametrize("blob", ["manifest", "config", "layer"])
def test_a_missing_blob_is_refused(layout: Path, blob: str) -> None:
    blobs(layout)[blob].unlink()
    completed = verified(layout)
    assert (completed.status, completed.stdout) == (1, b"")


def test_an_image_with_another_digest_is_refused(layout: Path) -> None:
    (layout.parent / "pin").write_text(DIGEST)
    completed = verified(layout)
    assert (completed.status, completed.stdout) == (1, b"")
    assert completed.stderr.decode().endswith(f"pinned is '{DIGEST}'\n")
