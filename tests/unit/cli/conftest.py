"""Running the command line."""

import json

import jsonschema
import pytest

from builder.cli.main import run
from builder.encoding.schema import load_schema
from tests.fakes.command_line import Ran, Run


@pytest.fixture
def tdx(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line. stdout must be one document of the published schema, and a traceback is never shown."""

    def ran(*arguments: object) -> Ran:
        status = run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        document = json.loads(captured.out)
        jsonschema.validate(document, load_schema("result-v1"))
        assert document["status"] == status
        assert "Traceback" not in captured.err
        return Ran(status, document, captured.err)

    return ran
