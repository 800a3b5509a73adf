"""What a benchmark found: rows of numbers and the aims they are held against, as text or as one JSON document."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class BenchmarkError(Exception):
    """A benchmark could not be run, or what it ran did not do what is to be measured. A missed aim is not one."""


@dataclass(frozen=True)
class Row:
    """One thing measured. `values` maps a heading, which states the unit, to a number."""

    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Aim:
    """A number that should stay below a limit, in the unit that `what` states."""

    what: str
    found: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.found < self.limit


@dataclass(frozen=True)
class Report:
    """What one benchmark found."""

    rows: Sequence[Row]
    aims: Sequence[Aim] = ()


def report_document(report: Report) -> dict[str, Any]:
    """A report as plain values, for JSON."""
    return {
        "rows": [asdict(row) for row in report.rows],
        "aims": [{**asdict(aim), "met": aim.met} for aim in report.aims],
    }


def report_lines(report: Report) -> list[str]:
    """A report as a table with a line for every aim."""
    headings = list(dict.fromkeys(heading for row in report.rows for heading in row.values))
    table = [("", *headings), *((row.name, *_cells(row, headings)) for row in report.rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(headings) + 1)]
    return [*(_line(line, widths) for line in table), *map(_aim_line, report.aims)]


def _cells(row: Row, headings: Sequence[str]) -> tuple[str, ...]:
    return tuple(_number(row.values[heading]) if heading in row.values else "" for heading in headings)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join(["", cells[0].ljust(widths[0]), *numbers]).rstrip()


def _aim_line(aim: Aim) -> str:
    return f"  aim {'met' if aim.met else 'MISSED'}: {aim.what}: {_number(aim.found)}, wanted below {aim.limit:g}"


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
