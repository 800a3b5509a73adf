"""`diff`: compare two files, two directories of artefacts, or the directories of two legs, and explain what differs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.compare.artifacts import compare_legs
from builder.compare.causes.evidence import NO_EVIDENCE, Evidence, KnownLeg, evidence_of_legs
from builder.compare.source import printable
from builder.errors import DocumentError
from builder.model.comparison import Comparison
from builder.model.leg import LEG_RECORD, LegRecord, parse_leg_record
from builder.model.plan import Artifact
from builder.model.variation import VARIATIONS
from builder.pipeline.explain import ExplainTools, explain_comparison
from builder.pipeline.files import hash_file, read_document
from builder.pipeline.legs import ARTIFACTS

# names under which our components publish, and the usual ones elsewhere
_COMPONENTS: Mapping[str, str] = {
    "OVMF.fd": "firmware",
    "ovmf.fd": "firmware",
    "vmlinuz": "kernel",
    "bzImage": "kernel",
    "initrd.img": "initrd",
    "cmdline": "guest_os",
    "rootfs.img": "guest_os",
    "app.oci.tar": "app_image",
}
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class _Side:
    """One side: its files by artefact name, and the record of the leg that made them where there is one."""

    files: Mapping[str, Path]
    record: LegRecord | None = None


def diff_paths(a: Path, b: Path, tools: ExplainTools) -> Comparison:
    """Compare the files or directories `a` and `b` byte by byte. DocumentError unless both are of one kind.

    In a directory every regular file below it counts, by its relative path. The directory of a leg (with a leg.json)
    stands for its artefacts, and two of them let causes be named from what the legs saw. The files are hashed here; the
    digests in a leg.json are not looked at.
    """
    sides = _sides(a, b)
    records = sides[0].record, sides[1].record
    evidence = evidence_of(records[0], records[1]) if records[0] and records[1] else NO_EVIDENCE
    comparison = compare_legs(_artifacts(sides[0]), _artifacts(sides[1]))
    return explain_comparison(comparison, (sides[0].files, sides[1].files), tools, evidence=evidence)


def evidence_of(a: LegRecord, b: LegRecord) -> Evidence:
    """What the records of two legs tell about causes; nothing if one is of a variation that is not known here."""
    infos = a.build_info, b.build_info
    if any(info.leg not in VARIATIONS for info in infos):
        return NO_EVIDENCE
    left, right = (KnownLeg(VARIATIONS[info.leg], info) for info in infos)
    return evidence_of_legs(left, right)


def _sides(a: Path, b: Path) -> tuple[_Side, _Side]:
    if a.is_file() and b.is_file():
        return _Side({a.name: a}), _Side({a.name: b})
    if a.is_dir() and b.is_dir():
        return _directory(a), _directory(b)
    raise DocumentError(
        f"{a} and {b}: {_kind(a)} and {_kind(b)}", hint="compare two files, or two directories, that are there"
    )


def _kind(path: Path) -> str:
    return "a directory" if path.is_dir() else "a file" if path.is_file() else "neither a file nor a directory"


def _directory(path: Path) -> _Side:
    record_path = path / LEG_RECORD
    if not record_path.is_file():
        return _Side(_files(path))
    return _Side(_files(path / ARTIFACTS), parse_leg_record(read_document(record_path), what=str(record_path)))


def _files(directory: Path) -> dict[str, Path]:
    """Regular files by relative path. DocumentError for anything that is neither that nor a directory, that cannot be
    listed, or whose name cannot be told from another's: nothing is left out of the comparison in silence."""
    files: dict[str, Path] = {}
    for place, directories, names in os.walk(directory, onerror=_refuse):
        for path in (Path(place, name) for name in (*directories, *names)):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise DocumentError(f"{path}: neither a regular file nor a directory, so it cannot be compared")
        for path in (Path(place, name) for name in names):
            name = printable(os.fsencode(path.relative_to(directory).as_posix()))
            if name in files:
                raise DocumentError(f"{path}: its name shows as {name}, and so does another one's")
            files[name] = path
    return files


def _refuse(error: OSError) -> None:
    raise DocumentError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def _artifacts(side: _Side) -> dict[str, Artifact]:
    return {name: _artifact(name, path, side.record) for name, path in side.files.items()}


def _artifact(name: str, path: Path, record: LegRecord | None) -> Artifact:
    known = record.artifact(name) if record else None
    try:
        sha256, size = hash_file(path)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from error
    return Artifact(known.component if known else _COMPONENTS.get(path.name, _UNKNOWN), name, size, sha256)
