"""`verify` and `diff`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.cli.output import Result, Table, emit
from builder.cli.registers import caveat_lines, registers_document, registers_table, unpredicted_lines
from builder.cli.wiring import json_option, store_option
from builder.errors import ExitStatus
from builder.model.check import statuses
from builder.model.reference_values import ReferenceValues

if TYPE_CHECKING:
    from builder.pipeline.explain import SquashfsLister

_VERDICTS = {ExitStatus.OK: "verified", ExitStatus.NOT_PROVEN: "NOT PROVEN"}


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Public key that may have signed it. May be given several times; one has to match.",
)
@click.option("--artifacts", type=click.Path(path_type=Path), help="Directory of the files that the manifest is about.")
@click.option("--registers", is_flag=True, help="Show the registers of every profile.")
@json_option
def verify(
    manifest: Path, key_paths: tuple[Path, ...], artifacts: Path | None, *, registers: bool, as_json: bool
) -> int:
    """Check MANIFEST's signature and content; with --artifacts also the files, and recompute their registers."""
    from builder.backends.esp import MtoolsPartition
    from builder.backends.signers import load_public_key
    from builder.errors import worst_status
    from builder.pipeline.verify import owed, verify_manifest

    keys = [load_public_key(path) for path in key_paths]
    found = verify_manifest(manifest, keys, artifacts, open_esp=MtoolsPartition)
    status = worst_status(statuses(found.checks))
    rows = tuple(
        (str(number), check.name, str(check.outcome), check.detail) for number, check in enumerate(found.checks, 1)
    )
    blocks: list[str | Table] = [Table(("", "step", "outcome", "what was found"), rows)]
    document: dict[str, Any] = {
        "verdict": _VERDICTS.get(status, "not verified").lower(),
        "checks": [
            {"name": check.name, "outcome": str(check.outcome), "detail": check.detail, "status": int(check.status)}
            for check in found.checks
        ],
        "owed": [],
    }
    if found.release is not None:
        document |= {
            "release_digest": found.release.digest,
            "registers": registers_document(found.release.values),
            "owed": list(owed(found.release)),
        }
        blocks += _registers(found.release.values, shown=registers)
        blocks += [f"still yours to check: {text}" for text in owed(found.release)]
    asked = "" if artifacts else "; its artefacts were not asked for"
    blocks.append(f"verify: {manifest}: {_VERDICTS.get(status, 'NOT VERIFIED')}{asked}")
    return emit(Result("verify", document, blocks, statuses(found.checks)), as_json=as_json)


def _registers(values: ReferenceValues, *, shown: bool) -> list[str | Table]:
    """The registers with their caveats, or the caveats' names alone."""
    if shown:
        return [registers_table(values), *unpredicted_lines(values), *caveat_lines(values)]
    names = sorted({name for prediction in values.predictions for name in prediction.profile.caveats})
    return [f"caveats: {', '.join(names)} (explained by --registers)"] if names else []


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--recipe", type=click.Path(path_type=Path), help="Recipe whose pinned tools read squashfs members.")
@store_option
@json_option
def diff(a: Path, b: Path, recipe: Path | None, store: Path, *, as_json: bool) -> int:
    """Compare A and B: two manifests (.json), two files, two directories of artefacts, or the directories of two legs.

    Manifests are compared by what they say; their signatures are not checked here (see `verify`).
    """
    if a.suffix == b.suffix == ".json" and a.is_file() and b.is_file():
        return emit(_manifests(a, b), as_json=as_json)
    return emit(_files(a, b, recipe, store), as_json=as_json)


def _manifests(a: Path, b: Path) -> Result:
    from builder.pipeline.manifest_diff import diff_manifests

    found = diff_manifests(a, b)
    document = {
        "identical": found.identical,
        "release_digests": list(found.digests),
        "artifacts": list(found.artifacts),
        "registers": list(found.registers),
        "other": list(found.other),
    }
    if found.identical:
        lines = [
            f"diff: the same release: {found.digests[0]}",
            f"  {found.artifact_count} artefacts and the registers of {found.profile_count} profiles are identical",
        ]
        return Result("diff", document, lines)
    lines = [f"  {text}" for text in (*found.artifacts, *found.registers, *found.other)]
    return Result("diff", document, ["diff: not the same release", *lines], found.statuses)


def _files(a: Path, b: Path, recipe: Path | None, store: Path) -> Result:
    import tempfile

    from builder.compare.render import comparison_lines
    from builder.model.comparison import comparison_document
    from builder.pipeline.diff import diff_paths
    from builder.pipeline.explain import ExplainTools

    with tempfile.TemporaryDirectory(prefix="tdx-builder-diff-") as scratch:
        lister = _squashfs_lister(recipe, store, Path(scratch)) if recipe else None
        comparison = diff_paths(a, b, ExplainTools(Path(scratch) / "explain", lister))
    status = ExitStatus.OK if comparison.identical else ExitStatus.BYTES_DIFFER
    return Result("diff", comparison_document(comparison), list(comparison_lines(comparison)), [status])


def _squashfs_lister(recipe: Path, store: Path, scratch: Path) -> "SquashfsLister":
    """The lister that runs the unsquashfs of a recipe's pinned tools."""
    from builder.backends.bubblewrap import Bubblewrap
    from builder.backends.deb_root import unpack_root
    from builder.backends.member_reader import SquashfsMembers
    from builder.cli.progress import QUIET
    from builder.cli.session import TOOLS
    from builder.cli.wiring import open_store
    from builder.pipeline.inputs import BuildInputs, load_locked_recipe

    inputs = BuildInputs(load_locked_recipe(recipe), open_store(store), scratch / "texts")
    unpack_root(inputs.debs(TOOLS), scratch / "tools", QUIET)
    return SquashfsMembers(Bubblewrap(), scratch / "tools")
