"""What the components have in common: inputs of a step, and calling a program of `builder/inside`."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.encoding.canonical_json import encode_readable
from builder.errors import DocumentError
from builder.model.components import Prebuilt
from builder.model.lock import Lock, LockedPackage, LockedSource
from builder.model.plan import ArtifactSource, PackageInput, SourceInput, Step, StepInput, TextInput

PARAMETERS = "in/parameters.json"

_HINT = "files and lock must fit the recipe"


@dataclass(frozen=True)
class ComponentPlan:
    """The steps of one component, and which of their outputs are published."""

    steps: tuple[Step, ...]
    artifacts: tuple[ArtifactSource, ...]


@dataclass(frozen=True)
class StepFiles:
    """Some inputs of a step, and what its parameters say about them: paths, or objects that hold a path."""

    inputs: tuple[StepInput, ...]
    described: list[Any]


def program_step(
    name: str,
    program: str,
    *,
    parameters: dict[str, Any],
    inputs: tuple[StepInput, ...],
    outputs: tuple[str, ...],
    root: str = "tools",
) -> Step:
    """A step that runs `inside/<program>.py` with `parameters` as JSON, in the pinned root `root`."""
    text = encode_readable(parameters).decode("utf-8")
    return Step(
        name=name,
        argv=("python3", f"inside/{program}.py", PARAMETERS),
        inputs=(*inputs, TextInput(text, PARAMETERS)),
        outputs=outputs,
        root=root,
    )


def group_packages(lock: Lock, group: str, directory: str = "packages") -> StepFiles:
    """Every package of a group: what the recipe asks for and all that it depends on."""
    return _package_files(lock.group(group), directory)


def packages_except(lock: Lock, group: str, without: Iterable[str]) -> StepFiles:
    """Every package of a group but those named `without`, unless the recipe itself asks for them.

    DocumentError for a name that is not in the group.
    """
    names = set(without)
    unknown = names - {package.name for package in lock.group(group)}
    if unknown:
        raise DocumentError(f"lock: {group} has no {', '.join(sorted(unknown))} to do without", hint="take it out")
    names -= {_package_name(request) for request in lock.requests[group]}
    return _package_files(tuple(package for package in lock.group(group) if package.name not in names), "packages")


def requested_packages(lock: Lock, group: str, directory: str = "packages") -> StepFiles:
    """Only the packages that the recipe itself names, without what they depend on."""
    names = {_package_name(request) for request in lock.requests[group]}
    packages = tuple(package for package in lock.group(group) if package.name in names)
    missing = names - {package.name for package in packages}
    if missing:
        raise DocumentError(f"lock: {group} has no {', '.join(sorted(missing))}", hint="run `tdx-builder lock` again")
    return _package_files(packages, directory)


def source_files(lock: Lock, group: str) -> StepFiles:
    """The orig tarballs of a source, the main one first, as `in/sources/<file name>`.

    Each is described by its component (empty for the main tarball) and its input.
    """
    tarballs = sorted(lock.group(group), key=lambda package: package.component)
    inputs = tuple(PackageInput(each.sha256, each.size, f"in/sources/{each.file_name}") for each in tarballs)
    described = [
        {"component": each.component, "input": item.target} for each, item in zip(tarballs, inputs, strict=True)
    ]
    return StepFiles(inputs, described)


def prebuilt_input(lock: Lock, name: str, prebuilt: Prebuilt, *, target: str) -> StepInput:
    """The prebuilt file of component `name`, placed at `target`. DocumentError if the lock pins other bytes."""
    locked = lock.files.get(name) if prebuilt.path is None else lock.sources.get(prebuilt.path)
    if locked is None or locked.sha256 != prebuilt.sha256:
        found = "nothing" if locked is None else f"SHA-256 {locked.sha256}"
        raise DocumentError(f"lock: has {found} for the prebuilt {name}, the recipe says {prebuilt.sha256}", hint=_HINT)
    if isinstance(locked, LockedSource):
        return SourceInput(locked.path, locked.sha256, False, target)
    return PackageInput(locked.sha256, locked.size, target)


def own_file(lock: Lock, path: str) -> SourceInput:
    """A file that the recipe names by itself, placed at `in/own/<path>`."""
    source = lock.sources.get(path)
    if source is None:
        raise DocumentError(f"lock: no file {path} of the recipe", hint=_HINT)
    return SourceInput(source.path, source.sha256, source.executable, f"in/own/{path}")


def own_files(lock: Lock, tree: str) -> StepFiles:
    """The recipe's own files below the directory `tree`, by their path below it."""
    return layered_files(lock, (tree,))


def layered_files(lock: Lock, trees: Sequence[str]) -> StepFiles:
    """The recipe's own files below several directories, by their path below them: a later tree's take the place of an
    earlier one's. DocumentError for a tree without files, and for a file where another tree has a directory."""
    found: dict[str, LockedSource] = {}
    for tree in trees:
        sources = [source for source in lock.sources.values() if source.path.startswith(f"{tree}/")]
        if not sources:
            raise DocumentError(f"lock: no file of the recipe lies in {tree}", hint=_HINT)
        found |= {source.path.removeprefix(f"{tree}/"): source for source in sources}
    _check_places(found)
    inputs = []
    described = []
    for path, source in sorted(found.items()):
        target = f"in/files/{path}"
        inputs.append(SourceInput(source.path, source.sha256, source.executable, target))
        described.append({"path": path, "input": target, "executable": source.executable})
    return StepFiles(tuple(inputs), described)


def _check_places(found: Mapping[str, LockedSource]) -> None:
    for path, source in found.items():
        for directory in itertools.accumulate(path.split("/")[:-1], "{}/{}".format):
            if directory in found:
                raise DocumentError(f"{found[directory].path} is a file, and {source.path} needs a directory there")


def _package_files(packages: tuple[LockedPackage, ...], directory: str) -> StepFiles:
    inputs = tuple(
        PackageInput(package.sha256, package.size, f"in/{directory}/{package.name}_{package.architecture}.deb")
        for package in sorted(packages, key=lambda package: package.key)
    )
    return StepFiles(inputs, [item.target for item in inputs])


def _package_name(request: str) -> str:
    """The name in `name`, `name=version` or `name/suite`."""
    return request.partition("=")[0].partition("/")[0]
