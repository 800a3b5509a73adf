"""The app of a dstack guest on the command line: its description, and what only the running guest decides.

Names are those of the events in the guest's own log, so that one can be compared with the other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import click

from builder.measure.dstack.app import AppPrediction, TdConfiguration, predict_app
from builder.measure.dstack.runtime import RuntimeInputs, RuntimeRules
from builder.pipeline.files import read_document

EVENT_RULES: Mapping[str, str] = {
    "storage-fs": "storage_fs",
    "gpu-policy-hash": "gpu_policy",
    "gpu-attestation": "gpu_attestation",
    "init-script-hash": "init_scripts",
    "mr-kms": "kms_identity",
}
NO_EVENTS = "none"
RUNTIME_VALUES: Mapping[str, str] = {
    "app-id": "app_id",
    "instance-id": "instance_id",
    "os-image-hash": "os_image_hash",
    "key-provider-id": "key_provider_id",
    "mr-kms": "kms_identity",
    "gpu-attestation": "gpu_attestation",
}
CONFIGURATION = tuple(each.name for each in fields(TdConfiguration))

_EVENT_OF = {"key-provider-id": "key-provider"}
_ALWAYS = ("app-id", "key-provider")  # what identities need of the app, whatever events the guest emits
_HEX = re.compile(r"[0-9a-fA-F]*")
_REGISTER_SIZE = 48


@dataclass(frozen=True)
class AppOptions:
    """What the options say: the description's file, names of events, and NAME=HEX pairs in order."""

    compose: Path | None
    runtime_events: str | None
    runtime_values: Sequence[str]
    app_events: Sequence[str]


@dataclass(frozen=True)
class MeasuredApp:
    """The prediction, and what the VMM configured the TD with."""

    prediction: AppPrediction
    configuration: TdConfiguration


def measure_app(options: AppOptions, command_line: str) -> MeasuredApp | None:
    """What the app adds under a kernel with this command line; None without a description.

    UsageError for options that mean nothing without another one, DocumentError for what the description contradicts.
    """
    if options.compose is None:
        _refuse_lost(options)
        return None
    rules = _rules(options.runtime_events)
    values = _pairs(options.runtime_values)
    inputs = _inputs(values, _events(options.app_events, rules), command_line)
    prediction = predict_app(read_document(options.compose), inputs, rules=rules)
    _check_used(values, prediction, rules)
    return MeasuredApp(prediction, _configuration(values))


def _refuse_lost(options: AppOptions) -> None:
    lost = {
        "--runtime-events": options.runtime_events is not None,
        "--runtime": bool(options.runtime_values),
        "--app-event": bool(options.app_events),
    }
    if any(lost.values()):
        raise click.UsageError(f"{', '.join(name for name, is_lost in lost.items() if is_lost)} needs --app-compose")


def _rules(text: str | None) -> RuntimeRules | None:
    """`storage-fs,mr-kms` or `none`; None if nothing is said."""
    if text is None:
        return None
    names = [] if text == NO_EVENTS else text.split(",")
    wrong = [name for name in names if name not in EVENT_RULES]
    if wrong or len(set(names)) != len(names):
        raise click.UsageError(
            f"--runtime-events {text}: wanted `{NO_EVENTS}`, or some of {', '.join(EVENT_RULES)}, each once"
        )
    return RuntimeRules(**{field: name in names for name, field in EVENT_RULES.items()})


def _pairs(texts: Sequence[str]) -> dict[str, bytes]:
    pairs: dict[str, bytes] = {}
    for text in texts:
        name, value = _pair("--runtime", text)
        if name not in (*RUNTIME_VALUES, *CONFIGURATION):
            raise click.UsageError(f"--runtime {name}: wanted one of {', '.join((*RUNTIME_VALUES, *CONFIGURATION))}")
        if name in pairs:
            raise click.UsageError(f"--runtime {name}: stated twice")
        pairs[name] = value
    return pairs


def _pair(option: str, text: str) -> tuple[str, bytes]:
    name, separator, value = text.partition("=")
    if not separator or len(value) % 2 or not _HEX.fullmatch(value):
        raise click.UsageError(f"{option} {text[:120]}: wanted NAME=HEX, two digits for each byte")
    return name, bytes.fromhex(value)


def _events(texts: Sequence[str], rules: RuntimeRules | None) -> tuple[tuple[str, bytes], ...]:
    if texts and rules is None:
        raise click.UsageError("--app-event needs --runtime-events: its place in rtmr3 depends on the events before it")
    return tuple(_pair("--app-event", text) for text in texts)


def _inputs(
    values: Mapping[str, bytes], application: tuple[tuple[str, bytes], ...], command_line: str
) -> RuntimeInputs:
    stated = {field: values[name] for name, field in RUNTIME_VALUES.items() if name in values}
    return RuntimeInputs(**stated, command_line=command_line, application=application)


def _configuration(values: Mapping[str, bytes]) -> TdConfiguration:
    stated = {name: values[name] for name in CONFIGURATION if name in values}
    wrong = [name for name, value in stated.items() if len(value) != _REGISTER_SIZE]
    if wrong:
        raise click.UsageError(f"--runtime {wrong[0]}: {len(stated[wrong[0]])} bytes, wanted {_REGISTER_SIZE}")
    return TdConfiguration(**{name: value.hex() for name, value in stated.items()})


def _check_used(values: Mapping[str, bytes], prediction: AppPrediction, rules: RuntimeRules | None) -> None:
    """UsageError for a value that nothing depends on: whoever states it expects another guest."""
    emitted = {*_ALWAYS, *(event.name for event in prediction.events)}
    unused = [name for name in values if name in RUNTIME_VALUES and _EVENT_OF.get(name, name) not in emitted]
    if unused and rules is None:
        raise click.UsageError(f"--runtime {unused[0]} needs --runtime-events, which says what the guest emits")
    if unused:
        raise click.UsageError(
            f"--runtime {unused[0]}: this app's guest emits no such event; see --runtime-events, and the key_provider "
            "of its app-compose.json"
        )
