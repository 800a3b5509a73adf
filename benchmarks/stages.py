"""The stages of a cold release, each called by itself in one process through the library."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from benchmarks.measure import measure_call
from benchmarks.report import BenchmarkError, Report, Row
from benchmarks.usage import Usage, sum_usage
from benchmarks.workplace import Setting, Workplace, workplace
from builder.backends.signers import load_public_key, load_signer, write_new_key
from builder.cli.leg_runs import LEGS, LegOptions, build_legs
from builder.cli.progress import QUIET
from builder.cli.rehearse import stage_of
from builder.cli.session import TOOLS, VMM, Places, Session, open_session
from builder.errors import ExitStatus, worst_status
from builder.model.check import statuses
from builder.model.reference_values import ReferenceValues
from builder.pipeline.legs import ARTIFACTS, Leg, compare, compare_variations
from builder.pipeline.measure import read_boot_files, recomputed_values
from builder.pipeline.rehearse import rehearse_leg
from builder.pipeline.release import PublishedRelease, ReleaseOrder, release, show_artifacts
from builder.pipeline.verify import verify_manifest
from builder.verify.public_key import KeyKind

T = TypeVar("T")


def run(setting: Setting) -> Report:
    """Run each stage once, in the order of a release."""
    with workplace(setting) as place, ExitStack() as stack:
        stages = _Stages()
        places = Places(setting.recipe, place.path / "out", place.store, (), None, offline=True, cold=True)
        session = stages.measure("fetch, nothing missing", lambda: stack.enter_context(open_session(places, QUIET)))
        legs = _build(stages, session)
        _publish(stages, session, legs, place)
        return stages.report()


class _Stages:
    """What each stage cost, in order."""

    def __init__(self) -> None:
        self._usages: dict[str, Usage] = {}

    def measure(self, name: str, work: Callable[[], T]) -> T:
        result, self._usages[name] = measure_call(work)
        return result

    def split(self, whole: str, part: str, rest: str) -> None:
        """`part` was measured once more by itself: what `whole` cost beyond it is `rest`."""
        a, b = self._usages.pop(whole), self._usages.pop(part)
        self._usages[rest] = Usage(a.wall - b.wall, a.own_cpu - b.own_cpu, a.child_cpu - b.child_cpu)
        self._usages[part] = b

    def report(self) -> Report:
        total = sum_usage(list(self._usages.values()))
        return Report([_row(name, usage, total) for name, usage in (*self._usages.items(), ("all stages", total))])


def _row(name: str, usage: Usage, total: Usage) -> Row:
    return Row(
        name,
        {
            "wall s": usage.wall,
            "CPU s": usage.cpu,
            "of it own s": usage.own_cpu,
            "% of wall": 100 * usage.wall / total.wall,
        },
    )


def _build(stages: _Stages, session: Session) -> tuple[Leg, Leg]:
    options = LegOptions(jobs=None, engines=dict.fromkeys(LEGS, "bubblewrap"))
    stages.measure("unpack root of the tools", lambda: session.root(TOOLS))
    a, b = stages.measure("legs a and b", lambda: build_legs(session, LEGS, options, reuse=False, steps=None))
    stages.measure("compare", lambda: _compare(session, a, b))
    return a, b


def _compare(session: Session, a: Leg, b: Leg) -> None:
    compare(a, b, session.explain)
    compare_variations(a, b, session.recipe.recipe.required_axes)


def _publish(stages: _Stages, session: Session, legs: tuple[Leg, Leg], place: Workplace) -> None:
    stages.measure("unpack root of the VMM", lambda: session.root(VMM))
    values = stages.measure("measure all", lambda: session.measure(legs[0]))
    stages.measure("measure", lambda: _measure_again(session, legs[0], values))
    stages.split("measure all", "measure", "ACPI tables")
    stage = stage_of(session, until=session.recipe.recipe.ready_text)
    stages.measure("rehearse", lambda: rehearse_leg(legs[0], values, stage, session.progress))
    key = write_new_key(place.path / "key", KeyKind.ED25519)
    order = ReleaseOrder(session.recipe, session.out, place.path / "manifests", load_signer(key.private))
    published = stages.measure("sign and publish", lambda: _release(order, legs, values, session))
    artifacts = show_artifacts(order, legs[0])
    stages.measure("verify", lambda: _verify(published.path, key.public, artifacts))


def _measure_again(session: Session, leg: Leg, values: ReferenceValues) -> ReferenceValues:
    names = {artifact.component: artifact.output for artifact in session.plan.artifacts}
    return recomputed_values(read_boot_files(leg.directory / ARTIFACTS, names), values)


def _release(order: ReleaseOrder, legs: tuple[Leg, Leg], values: ReferenceValues, session: Session) -> PublishedRelease:
    return release(order, legs, lambda _: values, session.explain, rehearse=None)


def _verify(manifest: Path, public: Path, artifacts: Path) -> None:
    found = verify_manifest(manifest, [load_public_key(public)], artifacts)
    status = worst_status(statuses(found.checks))
    if status is not ExitStatus.OK:
        raise BenchmarkError(f"{manifest}: was not verified, but ended with {status.name}")
