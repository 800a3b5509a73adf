"""The build plan: the steps that turn locked inputs into artefacts, the same for both legs. Pure values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageInput:
    """A locked package, orig tarball or prebuilt file, placed in the step's directory at `target` (relative)."""

    sha256: str
    size: int
    target: str


@dataclass(frozen=True)
class SourceInput:
    """A file of the recipe, locked by digest, placed at `target` (relative) with mode 0755 if executable, else 0644."""

    path: str
    sha256: str
    executable: bool
    target: str


@dataclass(frozen=True)
class OutputInput:
    """The output `name` of an earlier step, placed at `target` (relative)."""

    step: str
    name: str
    target: str


@dataclass(frozen=True)
class TextInput:
    """Text that the plan itself holds (lists, parameters), placed at `target` (relative)."""

    text: str
    target: str


StepInput = PackageInput | SourceInput | OutputInput | TextInput


@dataclass(frozen=True)
class Step:
    """One command in the pinned root `root`, run in a fresh build directory.

    The command sees its inputs below `in/`, the programs of `builder/inside` below `inside/`, and writes each of
    `outputs` to `out/<name>`; a missing or unnamed output is a failure. Paths in `argv` are relative to the build
    directory, so that they do not depend on the leg.

    `unvaried` are axes along which the legs do not differ in this step, because what it runs cannot stand it, each with
    the reason; the record of a leg with such a step says that the axis was not varied. `user_namespaces` as in
    Variation.
    """

    name: str
    argv: tuple[str, ...]
    inputs: tuple[StepInput, ...]
    outputs: tuple[str, ...]
    root: str = "tools"
    unvaried: tuple[tuple[str, str], ...] = ()
    user_namespaces: bool = False


@dataclass(frozen=True)
class ArtifactSource:
    """An artefact of the release: the output `output` of step `step`, published under the same name."""

    component: str
    step: str
    output: str


@dataclass(frozen=True)
class BuildPlan:
    """Steps in an order that respects their inputs, and the outputs that are published."""

    image: str
    version: str
    source_date_epoch: int
    steps: tuple[Step, ...]
    artifacts: tuple[ArtifactSource, ...]


@dataclass(frozen=True)
class Artifact:
    """A built file: the component it belongs to, its name in the release, size and SHA-256."""

    component: str
    name: str
    size: int
    sha256: str
