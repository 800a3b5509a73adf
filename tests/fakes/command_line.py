"""A run of the command line with --json, as tests see it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """One run with --json: its exit status, its document, and what it said on stderr."""

    status: int
    document: dict[str, Any]
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        assert "error" not in self.document, self.document
        return dict(self.document["result"])

    @property
    def message(self) -> str:
        return str(self.document["error"]["message"])

    @property
    def hint(self) -> str:
        return str(self.document["error"]["hint"])


Run = Callable[..., Ran]
