"""Explain what differs between two sets of artefact files: opens the files, and hands them to the comparing core."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from builder.compare.causes.evidence import NO_EVIDENCE, Evidence, KnownValue
from builder.compare.explain import explain
from builder.compare.formats.squashfs import MemberReader, verity_root
from builder.compare.source import ByteSource, Extent, whole
from builder.model.comparison import ArtifactComparison, CauseName, Comparison
from builder.pipeline.file_source import FileSource, open_source

_CHUNK = 1 << 20

# squashfs image, and a directory to make and fill -> the image's pseudo file, there during the block
SquashfsLister = Callable[[Path, Path], AbstractContextManager[Path]]


@dataclass(frozen=True)
class ExplainTools:
    """What explaining needs besides the files: a directory for temporary files, and where there is one, a lister."""

    scratch: Path
    squashfs_lister: SquashfsLister | None = None


def explain_comparison(
    comparison: Comparison,
    sides: tuple[Mapping[str, Path], Mapping[str, Path]],
    tools: ExplainTools,
    *,
    evidence: Evidence = NO_EVIDENCE,
) -> Comparison:
    """`comparison` with the differences of every artefact that both sides have, given the files by artefact name.

    Equal artefacts are not read. Without a lister, differences inside a root file system have no member names, and the
    notes say so.
    """
    evidence = replace(evidence, values=(*_derived_values(comparison, sides), *evidence.values))
    explained = (
        _explained(artifact, (sides[0][artifact.name], sides[1][artifact.name]), tools, evidence)
        if not artifact.identical and artifact.a and artifact.b
        else artifact
        for artifact in comparison.artifacts
    )
    return Comparison(tuple(explained))


def _explained(
    artifact: ArtifactComparison, paths: tuple[Path, Path], tools: ExplainTools, evidence: Evidence
) -> ArtifactComparison:
    with open_source(paths[0]) as a, open_source(paths[1]) as b, _reader(tools) as reader:
        return explain(artifact, (a, b), evidence=evidence, squashfs_members=reader)


def _derived_values(
    comparison: Comparison, sides: tuple[Mapping[str, Path], Mapping[str, Path]]
) -> Iterator[KnownValue]:
    """Digests of artefacts that differ: a document that names one differs only because the artefact does."""
    for artifact in comparison.differing:
        if artifact.a is None or artifact.b is None:
            continue
        what = f"SHA-256 of {artifact.name}"
        yield KnownValue(CauseName.CONSEQUENCE, what, artifact.a.sha256.encode(), artifact.b.sha256.encode())
        with open_source(sides[0][artifact.name]) as a, open_source(sides[1][artifact.name]) as b:
            left, right = verity_root(whole(a)), verity_root(whole(b))
        if left and right:
            yield KnownValue(CauseName.CONSEQUENCE, f"dm-verity root hash of {artifact.name}", left, right)


@contextmanager
def _reader(tools: ExplainTools) -> Iterator[MemberReader | None]:
    """A reader of squashfs members whose files live until the end of the block; None without a lister."""
    if tools.squashfs_lister is None:
        yield None
        return
    with ExitStack() as stack:
        yield _Reader(stack, tools.squashfs_lister, tools.scratch)


class _Reader:
    """Gives the pseudo file of a squashfs image wherever it lies: as an artefact, or inside one."""

    def __init__(self, stack: ExitStack, lister: SquashfsLister, scratch: Path) -> None:
        self._stack = stack
        self._lister = lister
        self._scratch = scratch
        self._count = 0

    def __call__(self, image: Extent) -> ByteSource:
        self._count += 1
        directory = self._scratch / f"squashfs-{self._count}"
        path = self._stack.enter_context(self._lister(self._file(image), directory))
        return self._stack.enter_context(open_source(path))

    def _file(self, image: Extent) -> Path:
        """The artefact's own file, or a copy of the part of it that is the image."""
        if isinstance(image.source, FileSource) and (image.start, image.size) == (0, image.source.size):
            return image.source.path
        path = self._scratch / f"squashfs-{self._count}.img"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._stack.callback(path.unlink, missing_ok=True)
        with path.open("wb") as file:
            for offset in range(0, image.size, _CHUNK):
                file.write(image.read(offset, _CHUNK))
        return path
