"""What the components have in common: inputs of a step, and calling a program of `builder/inside`."""

from dataclasses import dataclass
from typing import Any

from builder.encoding.canonical_json import encode_readable
from builder.errors import DocumentError
from builder.model.lock import Lock, LockedPackage
from builder.model.plan import ArtifactSource, PackageInput, SourceInput, Step, StepInput, TextInput

PARAMETERS = "in/parameters.json"


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
    name: str, program: str, *, parameters: dict[str, Any], inputs: tuple[StepInput, ...], outputs: tuple[str, ...]
) -> Step:
    """A step that runs `inside/<program>.py` with `parameters` as JSON."""
    text = encode_readable(parameters).decode("utf-8")
    return Step(
        name=name,
        argv=("python3", f"inside/{program}.py", PARAMETERS),
        inputs=(*inputs, TextInput(text, PARAMETERS)),
        outputs=outputs,
    )


def group_packages(lock: Lock, group: str, directory: str = "packages") -> StepFiles:
    """Every package of a group: what the recipe asks for and all that it depends on."""
    return _package_files(lock.group(group), directory)


def requested_packages(lock: Lock, group: str, directory: str = "packages") -> StepFiles:
    """Only the packages that the recipe itself names, without what they depend on."""
    names = {_package_name(request) for request in lock.requests[group]}
    packages = tuple(package for package in lock.group(group) if package.name in names)
    missing = names - {package.name for package in packages}
    if missing:
        raise DocumentError(f"lock: {group} has no {', '.join(sorted(missing))}", hint="run `tdx-builder lock` again")
    return _package_files(packages, directory)


def own_files(lock: Lock, tree: str) -> StepFiles:
    """The recipe's own files below the directory `tree`, by their path below it."""
    inputs: list[StepInput] = []
    described: list[Any] = []
    for source in sorted(lock.sources.values(), key=lambda source: source.path):
        if source.path.startswith(f"{tree}/"):
            path = source.path.removeprefix(f"{tree}/")
            target = f"in/files/{path}"
            inputs.append(SourceInput(source.path, source.sha256, source.executable, target))
            described.append({"path": path, "input": target, "executable": source.executable})
    if not inputs:
        raise DocumentError(f"lock: no file of the recipe lies in {tree}", hint="files and lock must fit the recipe")
    return StepFiles(tuple(inputs), described)


def _package_files(packages: tuple[LockedPackage, ...], directory: str) -> StepFiles:
    inputs = tuple(
        PackageInput(package.sha256, package.size, f"in/{directory}/{package.name}_{package.architecture}.deb")
        for package in sorted(packages, key=lambda package: package.key)
    )
    return StepFiles(inputs, [item.target for item in inputs])


def _package_name(request: str) -> str:
    """The name in `name`, `name=version` or `name/suite`."""
    return request.partition("=")[0].partition("/")[0]
