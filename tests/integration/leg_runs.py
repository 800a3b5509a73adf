"""Running commands in real legs, for the tests of the sandboxes."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from builder.model.build_info import Probe
from builder.model.variation import Variation
from builder.ports import Sandbox, Workspace

ENVIRONMENT = {"SOURCE_DATE_EPOCH": "1700000000"}


@contextmanager
def workspace_of(engine: Sandbox, root: Path, scratch: Path, variation: Variation) -> Iterator[Workspace]:
    """A workspace, and the check that it leaves nothing."""
    try:
        with engine.open(root, variation, scratch) as workspace:
            yield workspace
    finally:
        assert not scratch.exists(), "a leg left its directory behind"


def shell(workspace: Workspace, script: str, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    """What a shell script prints in the leg, standard error included."""
    output = bytearray()
    workspace.run(("sh", "-c", script), environment, output.extend)
    return output.decode()


def probe(workspace: Workspace, environment: Mapping[str, str] = ENVIRONMENT) -> Probe:
    output = bytearray()
    workspace.run(("python3", "inside/probe.py", str(int(time.time()))), environment, output.extend)
    document = json.loads(output)
    return Probe(document["axes"], document["facts"])
