"""`build` and `release`."""

from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.leg_runs import LEGS, LegOptions, build_legs, leg_options, leg_run_options
from builder.cli.output import Result, Table, emit
from builder.cli.progress import progress_display
from builder.cli.registers import caveat_lines, registers_document, registers_table, unpredicted_lines
from builder.cli.session import Places, Session, open_session
from builder.cli.wiring import flavour_option, json_option, mirror_options, recipe_argument, store_option
from builder.compare.render import comparison_lines
from builder.errors import BuilderError, ExitStatus
from builder.model.build_info import AxisComparison
from builder.model.comparison import Comparison, comparison_document
from builder.pipeline.legs import Leg, compare, compare_variations

if TYPE_CHECKING:
    from builder.backends.step_store import StepStore
    from builder.model.reference_values import ReferenceValues
    from builder.model.rehearsal import Rehearsal
    from builder.pipeline.rehearse import Stage
    from builder.pipeline.release import Rehearse, ReleaseOrder


@click.command()
@recipe_argument
@click.option("--leg", type=click.Choice(LEGS), help="Build this leg only, for comparing with one built elsewhere.")
@click.option("--out", type=click.Path(path_type=Path), help="Build directory.  [default: out/IMAGE/VERSION[-FLAVOUR]]")
@click.option(
    "--cold", is_flag=True, help="Build anew even if nothing changed, without the step cache, with roots unpacked anew."
)
@click.option(
    "--no-cache",
    is_flag=True,
    help="Do not use the step cache: every leg runs all its steps, or is there already and did.",
)
@leg_run_options
@flavour_option
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@store_option
@mirror_options
@json_option
def build(
    recipe: Path,
    leg: str | None,
    out: Path | None,
    store: Path,
    mirrors: tuple[str, ...],
    snapshot: str | None,
    flavour: str,
    *,
    cold: bool,
    no_cache: bool,
    offline: bool,
    as_json: bool,
    **runs: Any,
) -> int:
    """Build RECIPE in both legs, side by side, and compare them; or in one leg.

    A step whose inputs are the same as in an earlier build is not run again: its outputs come from the step cache,
    STORE/steps, which is cut down to 20 GiB when a build begins and may be removed. A release never uses it.
    """
    legs = (leg,) if leg else LEGS
    options = leg_options(**runs, legs=legs)
    places = Places(recipe, out, store, mirrors, snapshot, offline=offline, cold=cold, flavour=flavour)
    with progress_display() as progress, open_session(places, progress) as session, ExitStack() as stack:
        steps = None if cold or no_cache else stack.enter_context(open_step_cache(places.store))
        built = build_legs(session, legs, options, reuse=not cold, steps=steps)
        if len(built) == 1:
            return emit(_one_leg(built[0]), as_json=as_json)
        return emit(_two_legs(session, *_both(built)), as_json=as_json)


@click.command()
@recipe_argument
@click.option("--key", "key_path", type=click.Path(path_type=Path), required=True, help="Private key to sign with.")
@click.option("--out", type=click.Path(path_type=Path), help="Build directory.  [default: out/IMAGE/VERSION[-FLAVOUR]]")
@click.option(
    "--manifests",
    type=click.Path(path_type=Path),
    default=Path("manifests"),
    show_default=True,
    help="Where to publish, as IMAGE/VERSION/manifest.json.",
)
@click.option("--leg-a", type=click.Path(path_type=Path), help="Take leg a from this directory instead of building it.")
@click.option("--leg-b", type=click.Path(path_type=Path), help="Take leg b from this directory instead of building it.")
@leg_run_options
@flavour_option
@click.option("--no-rehearsal", is_flag=True, help="Do not boot it under emulation; the manifest says so.")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@store_option
@mirror_options
@json_option
def release(
    recipe: Path,
    key_path: Path,
    out: Path | None,
    manifests: Path,
    leg_a: Path | None,
    leg_b: Path | None,
    store: Path,
    mirrors: tuple[str, ...],
    snapshot: str | None,
    flavour: str,
    *,
    no_rehearsal: bool,
    offline: bool,
    as_json: bool,
    **runs: Any,
) -> int:
    """Build RECIPE twice, compare, measure, rehearse, sign and publish its manifest.

    Always builds anew, without the step cache and with roots unpacked anew, unless both legs are given.
    """
    from builder.backends.signers import load_signer
    from builder.pipeline.release import ReleaseOrder, require_unpublished

    if (leg_a is None) != (leg_b is None):
        raise click.UsageError("--leg-a and --leg-b go together")
    signer = load_signer(key_path)
    options = leg_options(**runs, legs=() if leg_a else LEGS)
    places = Places(recipe, out, store, mirrors, snapshot, offline=offline, cold=True, flavour=flavour)
    with progress_display() as progress, open_session(places, progress) as session:
        order = ReleaseOrder(session.recipe, session.out, manifests, signer)
        require_unpublished(order)
        stage = None if no_rehearsal else _stage(session)
        legs = _legs(session, options, given=(leg_a, leg_b))
        return emit(_publish(session, order, legs, stage), as_json=as_json)


def _legs(session: Session, options: LegOptions, *, given: tuple[Path | None, Path | None]) -> tuple[Leg, Leg]:
    """The legs of a release: those that are given, or built now without anything of an earlier build."""
    a, b = given
    if a and b:
        return session.leg_from(a), session.leg_from(b)
    return _both(build_legs(session, LEGS, options, reuse=False, steps=None))


def open_step_cache(store: Path) -> "AbstractContextManager[StepStore]":
    """The step cache of development builds, below the store of the inputs."""
    from builder.backends.step_store import open_step_store

    return open_step_store(store / "steps")


def _both(legs: list[Leg]) -> tuple[Leg, Leg]:
    a, b = legs
    return a, b


def _one_leg(leg: Leg) -> Result:
    info = leg.record.build_info
    lines: list[str | Table] = [
        f"build: leg {info.leg} by {info.engine} {info.engine_version}; one leg alone proves nothing",
        *_cached_lines(leg),
        _artifacts(leg),
    ]
    return Result("build", legs_document(leg), lines)


def _two_legs(session: Session, a: Leg, b: Leg) -> Result:
    comparison = compare(a, b, session.explain)
    if not comparison.identical:
        return _differing("build", comparison, a, b)
    axes = compare_variations(a, b, session.recipe.recipe.required_axes)
    return Result(
        "build",
        {**legs_document(a, b), "axes": _verdicts(axes), "comparison": comparison_document(comparison)},
        [
            _axes(axes),
            _artifacts(a),
            *_cached_lines(a, b),
            f"build: both legs are identical: {a.directory}, {b.directory}",
        ],
    )


def legs_document(*legs: Leg) -> dict[str, Any]:
    """What `--json` says of legs: who built them, which of their steps did not run now, and the artefacts, which are
    those of the first: the same in both, or there is only one."""
    infos = [leg.record.build_info for leg in legs]
    return {
        "legs": [info.leg for info in infos],
        "engines": {info.leg: {"name": info.engine, "version": info.engine_version} for info in infos},
        "cached_steps": {leg.record.build_info.leg: list(leg.record.cached_steps) for leg in legs},
        "artifacts": [asdict(artifact) for artifact in legs[0].record.artifacts],
    }


def _verdicts(axes: tuple[AxisComparison, ...]) -> dict[str, str]:
    return {axis.axis: str(axis.verdict) for axis in axes}


def _cached_lines(*legs: Leg) -> list[str]:
    return [
        f"build: leg {leg.record.build_info.leg} took {len(leg.record.cached_steps)} steps from the step cache"
        for leg in legs
        if leg.record.cached_steps
    ]


def _stage(session: Session) -> "Stage":
    """What to rehearse with; an emulator that is absent is told now, and not after the legs were built."""
    from builder.cli.rehearse import stage_of

    stage = stage_of(session, until=session.recipe.recipe.ready_text)
    stage.emulator.programs()
    return stage


def _rehearse_with(stage: "Stage", session: Session) -> "Rehearse":
    from builder.cli.rehearse import note_serial
    from builder.pipeline.rehearse import rehearse_leg

    def rehearse(leg: Leg, values: "ReferenceValues") -> "Rehearsal":
        try:
            return rehearse_leg(leg, values, stage, session.progress)
        except BuilderError:
            note_serial(stage.directory)
            raise

    return rehearse


def _publish(session: Session, order: "ReleaseOrder", legs: tuple[Leg, Leg], stage: "Stage | None") -> Result:
    from builder.pipeline.release import LegsDifferError, show_artifacts
    from builder.pipeline.release import release as publish

    rehearse = None if stage is None else _rehearse_with(stage, session)
    try:
        published = publish(order, legs, session.measure, session.explain, rehearse=rehearse)
    except LegsDifferError as error:
        return _differing("release", error.comparison, *legs)
    shown = show_artifacts(order, legs[0])
    lines: list[str | Table] = [
        _axes(published.axes),
        _artifacts(legs[0]),
        registers_table(published.values),
        *unpredicted_lines(published.values),
        *caveat_lines(published.values),
        *_rehearsal_lines(published.rehearsal),
        f"release: {published.digest}",
        f"artefacts: {shown}",
        f"manifest:  {published.path}",
    ]
    document = {
        "manifest": str(published.path),
        "release_digest": published.digest,
        **legs_document(*legs),
        "axes": _verdicts(published.axes),
        "registers": registers_document(published.values),
        "rehearsed": published.rehearsal is not None,
    }
    return Result("release", document, lines)


def _rehearsal_lines(rehearsal: "Rehearsal | None") -> list[str]:
    from builder.cli.rehearse import summary_lines

    return ["rehearsal: none, and the manifest says so"] if rehearsal is None else summary_lines(rehearsal)


def _differing(verb: str, comparison: Comparison, a: Leg, b: Leg) -> Result:
    lines = [
        *comparison_lines(comparison),
        f"{verb}: the legs differ; nothing was published. Both sides: {a.directory}, {b.directory}",
    ]
    return Result(verb, {"comparison": comparison_document(comparison)}, lines, [ExitStatus.BYTES_DIFFER])


def _axes(axes: tuple[AxisComparison, ...]) -> Table:
    rows = tuple((axis.axis, _short(axis.a), _short(axis.b), str(axis.verdict).replace("_", " ")) for axis in axes)
    return Table(("axis", "leg a saw", "leg b saw", "verdict"), rows, caption="How the legs differed, seen from inside")


def _short(text: str, width: int = 44) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _artifacts(leg: Leg) -> Table:
    rows = tuple((artifact.name, str(artifact.size), artifact.sha256) for artifact in leg.record.artifacts)
    return Table(("artefact", "bytes", "SHA-256"), rows, caption="Artefacts")
