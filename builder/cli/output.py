"""Rendering: one result or one error, as text for people or as one JSON document."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from builder.cli.streams import LostOutputError, delivered, note, shown
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
    """Print the result to stdout; gives the exit status: MISSING for a good result that could not be printed."""
    status = worst_status(result.statuses)
    try:
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
    except LostOutputError as error:
        note(f"tdx-builder: error: {error}")
        return int(worst_status([*result.statuses, ExitStatus.MISSING]))
    return int(status)


def emit_error(error: BuilderError, *, as_json: bool) -> int:
    """Print the error to stderr, and with `--json` also as the one document on stdout; gives its exit status."""
    note(f"tdx-builder: error: {error.message}")
    if error.hint:
        note(f"tdx-builder: hint: {error.hint}")
    if as_json:
        with suppress(LostOutputError):  # the error was told already, as well as it could be
            _write_json(
                {
                    "schema": RESULT_SCHEMA,
                    "status": int(error.status),
                    "statuses": [int(error.status)],
                    "error": {"kind": type(error).__name__.lstrip("_"), "message": error.message, "hint": error.hint},
                }
            )
    return int(error.status)


def _encodable(value: Any) -> Any:
    """`value` with the bytes that are not UTF-8 of file names as escapes, so that every result is a JSON document."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(name): _encodable(member) for name, member in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def _write_json(document: dict[str, Any]) -> None:
    data = encode_readable(_encodable(document))
    with delivered(sys.stdout):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def _write_blocks(blocks: Sequence[str | Table]) -> None:
    blocks = [shown(block) if isinstance(block, str) else _shown_table(block) for block in blocks]
    with delivered(sys.stdout):
        if sys.stdout.isatty():
            _write_rich(blocks)
        else:
            for block in blocks:
                print(block if isinstance(block, str) else _plain(block))  # noqa: T201
        sys.stdout.flush()


def _shown_table(table: Table) -> Table:
    """The table with cells of one line each: a name with a newline cannot forge a row."""
    rows = tuple(tuple(shown(cell, keep="") for cell in row) for row in table.rows)
    return Table(table.headings, rows, shown(table.caption, keep=""))


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
