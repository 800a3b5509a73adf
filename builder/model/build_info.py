"""BuildInfo: what a leg really saw, read from inside by `builder/inside/probe.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Probe:
    """One reading from inside a leg: an observed value per axis, and facts that no axis varies."""

    axes: Mapping[str, str]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class BuildInfo:
    """The record of one leg: its engine, the readings before and after every step, and what the engine cannot vary.

    `workers` are the machines of a cluster that ran its steps, by name; none where the orchestrator ran them all.
    `not_varied` maps an axis to the reason why this engine leaves it alone. `started` and `finished` are seconds since
    1970 by the orchestrator's clock; they and `facts` are volatile and never compared.
    """

    leg: str
    engine: str
    engine_version: str
    probes: tuple[Probe, ...]
    not_varied: Mapping[str, str]
    started: int
    finished: int
    workers: tuple[str, ...] = ()


class AxisVerdict(StrEnum):
    """Whether two legs differed along one axis."""

    VARIED = "varied"
    EQUAL = "equal"
    NOT_VARIED = "not_varied"
    UNSTABLE = "unstable"


@dataclass(frozen=True)
class AxisComparison:
    """One axis of two legs: what each saw, and the verdict; `reason` says why an axis was not varied or is unstable."""

    axis: str
    code: str
    a: str
    b: str
    verdict: AxisVerdict
    reason: str = ""


def build_info_document(info: BuildInfo) -> dict[str, Any]:
    """BuildInfo as plain values, for JSON."""
    return {
        "leg": info.leg,
        "engine": info.engine,
        "engine_version": info.engine_version,
        "probes": [{"axes": dict(probe.axes), "facts": dict(probe.facts)} for probe in info.probes],
        "not_varied": dict(info.not_varied),
        "started": info.started,
        "finished": info.finished,
        "workers": list(info.workers),
    }


def parse_build_info(document: dict[str, Any]) -> BuildInfo:
    """The reverse of `build_info_document`, for a document that already fits the schema `leg-v1`."""
    probes = tuple(Probe(dict(probe["axes"]), dict(probe["facts"])) for probe in document["probes"])
    return BuildInfo(
        leg=document["leg"],
        engine=document["engine"],
        engine_version=document["engine_version"],
        probes=probes,
        not_varied=dict(document["not_varied"]),
        started=document["started"],
        finished=document["finished"],
        workers=tuple(document["workers"]),
    )
