"""From findings to differences as people read them: place, kind, excerpts, likely cause, register."""

from dataclasses import replace

from builder.compare.causes.evidence import NO_EVIDENCE, Evidence
from builder.compare.causes.rules import cause_of_field, cause_of_name, cause_of_order, cause_of_run
from builder.compare.formats.registry import formats_with
from builder.compare.formats.squashfs import MemberReader
from builder.compare.registers import measured
from builder.compare.search import (
    MAX_FINDINGS,
    FieldFinding,
    Finding,
    OneSidedFinding,
    OrderFinding,
    Place,
    RunFinding,
    Search,
)
from builder.compare.source import ByteSource, Extent, printable, whole
from builder.compare.tree import Field, Member, Value
from builder.model.comparison import (
    ArtifactComparison,
    Cause,
    CauseName,
    Confidence,
    Difference,
    DifferenceKind,
)

_EXCERPT = 16
_FIELD = 12  # bytes of the longest number in a header
_MAX_VALUE = 200
_CHANGED = "no byte differs now, although the digests do: the files changed after they were hashed"


def explain(
    artifact: ArtifactComparison,
    sides: tuple[ByteSource, ByteSource],
    *,
    evidence: Evidence = NO_EVIDENCE,
    squashfs_members: MemberReader | None = None,
) -> ArtifactComparison:
    """`artifact` with its differences filled in, from the bytes of side a and side b.

    Reads in pieces: memory does not grow with the artefacts, only with the number of members (at most MAX_MEMBERS) and
    with compressed members (at most MAX_UNPACKED bytes a side). That the bytes are those of the digests is not checked.
    """
    search = Search(formats_with(squashfs_members))
    place = Place((printable(artifact.name.encode()),))
    differences: list[Difference] = []
    omitted = 0
    for finding in search.differences(whole(sides[0]), whole(sides[1]), place):
        if len(differences) < MAX_FINDINGS:
            differences.append(_difference(finding, artifact.component, evidence))
        else:
            omitted += 1
    notes = search.notes if differences else [*search.notes, _CHANGED]
    return replace(artifact, differences=tuple(differences), omitted=omitted + search.unlisted, notes=tuple(notes))


def _difference(finding: Finding, component: str, evidence: Evidence) -> Difference:
    match finding:
        case RunFinding():
            return _of_run(finding, component, evidence)
        case FieldFinding():
            return _of_field(finding, component, evidence)
        case OneSidedFinding():
            return _of_one_sided(finding, component, evidence)
        case OrderFinding():
            return _of_order(finding, component, evidence)


def _of_run(finding: RunFinding, component: str, evidence: Evidence) -> Difference:
    a, b, offset = finding.a, finding.b, finding.run.offset
    return Difference(
        path=finding.place.path,
        kind=_kind(finding),
        offset=offset,
        artifact_offset=a.artifact_offset(offset),
        a_excerpt=a.read(offset, _EXCERPT).hex(),
        b_excerpt=b.read(offset, _EXCERPT).hex(),
        cause=_consequence(finding) or _explained(finding, evidence),
        measured=measured(component, finding.place.path),
    )


def _kind(finding: RunFinding) -> DifferenceKind:
    if finding.place.trailing:
        return DifferenceKind.TRAILING
    ends = finding.run.offset == min(finding.a.size, finding.b.size)
    return DifferenceKind.SIZE if ends else DifferenceKind.CONTENT


def _consequence(finding: RunFinding) -> Cause | None:
    """Bytes that are computed from others that differ: a hash tree, a build id, the digest of a blob."""
    if finding.place.derived:
        return Cause(CauseName.CONSEQUENCE, Confidence.HIGH, "computed from members that differ")
    a, b = (side.read(0, _MAX_VALUE).strip(b'"') for side in (finding.a, finding.b))
    if a in finding.place.tokens[0] and b in finding.place.tokens[1]:
        return Cause(CauseName.CONSEQUENCE, Confidence.HIGH, "digest or size of a blob of its own side")
    return None


def _explained(finding: RunFinding, evidence: Evidence) -> Cause:
    cause = cause_of_run(finding.a, finding.b, finding.run, evidence)
    return replace(cause, evidence=cause.evidence or finding.place.hidden)


def _of_field(finding: FieldFinding, component: str, evidence: Evidence) -> Difference:
    field, path = finding.field, finding.place.path
    return Difference(
        path=path,
        kind=field.kind,
        offset=None,
        artifact_offset=_field_offset(finding),
        a_excerpt=_shown(field, finding.a),
        b_excerpt=_shown(field, finding.b),
        cause=cause_of_field(field, finding.a, finding.b, evidence),
        measured=measured(component, path, field.name),
        field=field.name,
    )


def _field_offset(finding: FieldFinding) -> int | None:
    """Where the field stands in side a, if its bytes differ there: a value may also come from an extension header."""
    places = [
        (container, member.header + finding.field.offset)
        for container, member in zip(finding.containers, finding.pair, strict=True)
        if member.header is not None and finding.field.offset is not None
    ]
    if len(places) < 2 or len({container.read(offset, _FIELD) for container, offset in places}) < 2:
        return None
    return places[0][0].artifact_offset(places[0][1])


def _shown(field: Field, value: Value) -> str:
    if isinstance(value, bytes):
        return printable(value[:_MAX_VALUE])
    return f"{value:04o}" if field.octal else str(value)


def _of_one_sided(finding: OneSidedFinding, component: str, evidence: Evidence) -> Difference:
    excerpt = finding.member.data.read(0, _EXCERPT).hex()
    return Difference(
        path=finding.place.path,
        kind=DifferenceKind.ONLY_IN_A if finding.in_a else DifferenceKind.ONLY_IN_B,
        offset=None,
        artifact_offset=_member_offset(finding.container, finding.member),
        a_excerpt=excerpt if finding.in_a else "",
        b_excerpt="" if finding.in_a else excerpt,
        cause=cause_of_name(finding.member.name, finding.others, evidence, in_a=finding.in_a),
        measured=measured(component, finding.place.path),
    )


def _of_order(finding: OrderFinding, component: str, evidence: Evidence) -> Difference:
    return Difference(
        path=finding.place.path,
        kind=DifferenceKind.ORDER,
        offset=finding.first.a.header,
        artifact_offset=_member_offset(finding.containers[0], finding.first.a),
        a_excerpt=printable(finding.first.a.name[:_MAX_VALUE]),
        b_excerpt=printable(finding.first.b.name[:_MAX_VALUE]),
        cause=cause_of_order(*finding.names, evidence),
        measured=measured(component, finding.place.path),
    )


def _member_offset(container: Extent, member: Member) -> int | None:
    return member.data.artifact_offset(0) if member.header is None else container.artifact_offset(member.header)
