"""Rendering: one result or one error, as text for people or as one JSON document."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.encoding.canonical_json import encode_readable
from builder.errors import BuilderError, ExitStatus, worst_status

RESULT_SCHEMA = "tdx-builder/result/v1"


@dataclass(frozen=True)
class Table:
    """Rows of text under headings. `caption` stands above."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Result:
    """What a verb found out: a document for `--json`, blocks of text for people, and every status that applies."""

    verb: str
    document: dict[str, Any]
    blocks: Sequence[str | Table]
    statuses: list[ExitStatus] = field(default_factory=lambda: [ExitStatus.OK])


def emit(result: Result, *, as_json: bool) -> int:
    """Print the result to stdout; gives the exit status."""
    status = worst_status(result.statuses)
    if as_json:
        _write_json(
            {
                "schema": RESULT_SCHEMA,
                "verb": result.verb,
                "status": int(status),
                "statuses": sorted({int(each) for each in result.statuses}),
                "result": result.document,
            }
        )
    else:
        _write_blocks(result.blocks)
    return int(status)


def emit_error(error: BuilderError, *, as_json: bool) -> int:
    """Print the error to stderr, and with `--json` also as the one document on stdout; gives its exit status."""
    print(f"tdx-builder: error: {error.message}", file=sys.stderr)  # noqa: T201
    if error.hint:
        print(f"tdx-builder: hint: {error.hint}", file=sys.stderr)  # noqa: T201
    if as_json:
        _write_json(
            {
                "schema": RESULT_SCHEMA,
                "status": int(error.status),
                "statuses": [int(error.status)],
                "error": {"kind": type(error).__name__.lstrip("_"), "message": error.message, "hint": error.hint},
            }
        )
    return int(error.status)


def note(text: str) -> None:
    """One line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _write_json(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(encode_readable(document))
    sys.stdout.flush()


def _write_blocks(blocks: Sequence[str | Table]) -> None:
    if sys.stdout.isatty():
        _write_rich(blocks)
    else:
        for block in blocks:
            print(block if isinstance(block, str) else _plain(block))  # noqa: T201
        sys.stdout.flush()


def _plain(table: Table) -> str:
    rows = [table.headings, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([table.caption, *lines] if table.caption else lines)


_MARKS = {"ok": "green", "failed": "bold red", "differs": "bold red", "varied": "green", "not asked": "dim"}


def _write_rich(blocks: Sequence[str | Table]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    for block in blocks:
        if isinstance(block, str):
            console.print(Text(block))
            continue
        table = RichTable(*block.headings, title=block.caption or None, title_justify="left", box=None, pad_edge=False)
        for row in block.rows:
            table.add_row(*(Text(cell, style=_MARKS.get(cell, "")) for cell in row))
        console.print(table)
