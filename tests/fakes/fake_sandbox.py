"""A sandbox without isolation: steps are Python functions that run on real files in a directory of the test."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import BuildFailedError
from builder.model.variation import AXES, Variation
from builder.ports import LogSink, Workspace

StepFunction = Callable[[Path, Variation], None]
NOT_VARIED = {"fileordering": "this engine has one file system"}


def honest_axes(variation: Variation) -> dict[str, str]:
    """What the probe of a leg reads if every variation of it took effect."""
    axes = {axis: f"{axis} of leg {variation.name}" for axis in AXES}
    axes["time"] = f"+{variation.time_offset_days}d"
    return {**axes, "fileordering": "the same"}


@dataclass
class FakeSandbox:
    """Runs `steps[argv[0]]` for each step, and answers the probe with `axes(variation)`."""

    steps: Mapping[str, StepFunction]
    axes: Callable[[Variation], dict[str, str]] = honest_axes
    engine: str = "fake"
    engine_version: str = "fake 1"
    probe_output: bytes | None = None
    cancelled: bool = False
    runs: list[tuple[str, str]] = field(default_factory=list)

    def cancel(self) -> None:
        self.cancelled = True

    def not_varied(self, variation: Variation) -> Mapping[str, str]:  # noqa: ARG002 - the port's signature
        return NOT_VARIED

    @contextmanager
    def open(self, root: Path, variation: Variation, scratch: Path) -> Iterator[Workspace]:
        assert root.is_dir(), "a step ran without its pinned root"
        scratch.mkdir(parents=True)
        (scratch / "out").mkdir()
        try:
            yield _FakeWorkspace(self, variation, scratch)
        finally:
            shutil.rmtree(scratch)


@dataclass
class _FakeWorkspace:
    sandbox: FakeSandbox
    variation: Variation
    directory: Path

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        path = self.directory / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(0o755 if executable else 0o644)

    def run(self, argv: Sequence[str], environment: Mapping[str, str], log: LogSink) -> None:
        assert environment["SOURCE_DATE_EPOCH"].isdigit()
        if "probe.py" in " ".join(argv):
            honest = json.dumps({"axes": self.sandbox.axes(self.variation), "facts": {"kernel": "fake"}}).encode()
            log(honest if self.sandbox.probe_output is None else self.sandbox.probe_output)
            return
        self.sandbox.runs.append((self.variation.name, argv[0]))
        log(f"{argv[0]} runs in leg {self.variation.name}\n".encode())
        self.sandbox.steps[argv[0]](self.directory, self.variation)

    def get(self, name: str) -> Path:
        path = self.directory / "out" / name
        if not path.is_file():
            raise BuildFailedError(f"output {name} is missing")
        return path
