"""Tables of measurements: how they are kept in a record, and how they look in a terminal and on the page."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measure import Measured, ratio

Value = float | str


@dataclasses.dataclass
class Line:
    """The measurements of one thing, by round, in the unit of its table."""

    name: str
    wall: list[float]
    cpu: list[float] = dataclasses.field(default_factory=list)
    """Time of all threads; none where the line is no time."""
    more: dict[str, Value] = dataclasses.field(default_factory=dict)
    """Further columns by their heads."""


@dataclasses.dataclass
class Table:
    """What one case measured."""

    part: str
    case: str
    title: str
    unit: str
    lines: list[Line]
    over: tuple[str, ...] = ()
    """Lines to which all are compared."""
    remarks: list[str] = dataclasses.field(default_factory=list)
    busy: float = 0.0
    """Cores that other programs used meanwhile: the median over all measurements."""

    def line(self, name: str) -> Line | None:
        """Returns the line of a name, or None."""
        return next((line for line in self.lines if line.name == name), None)


def of_record(content: Mapping[str, Any]) -> Table:
    """Returns a table as `dataclasses.asdict` and JSON keep it."""
    lines = [Line(**line) for line in content["lines"]]
    return Table(**{**content, "lines": lines, "over": tuple(content["over"])})


UNITS = {"ms": 1e3, "s": 1.0, "µs": 1e6}


def lines_of(found: Mapping[str, Measured], unit: str, more: Mapping[str, Mapping[str, Value]] | None = None) -> dict[str, Any]:
    """Returns the lines, the load and the remarks of a Table on what was measured; what failed is a remark."""
    factor = UNITS[unit]
    lines, remarks = [], []
    for name, measured in found.items():
        if measured.failed:
            remarks.append(f"{name} left out: {measured.failed}")
            continue
        times = [[factor * second for second in seconds] for seconds in (measured.wall, measured.cpu)]
        lines.append(Line(name, *times, dict((more or {}).get(name, {}))))
    busy = [cores for measured in found.values() for cores in measured.busy]
    return {"lines": lines, "remarks": remarks, "busy": statistics.median(busy) if busy else 0.0}


def cells(table: Table) -> list[list[str]]:
    """Returns the cells of a table as text, row by row; the first row are the heads."""
    with_cpu = any(line.cpu for line in table.lines)
    columns = list(dict.fromkeys(head for line in table.lines for head in line.more))
    bases = [base for name in table.over if (base := table.line(name)) is not None]
    heads = [f"median {table.unit}", "least – most", *(["CPU time"] if with_cpu else []), *columns]
    found = [["", *heads, *(f"/ {base.name}" for base in bases)]]
    for line in table.lines:
        row = [line.name, number(statistics.median(line.wall)), f"{number(min(line.wall))} – {number(max(line.wall))}"]
        if with_cpu:
            row.append(number(statistics.median(line.cpu)) if line.cpu else "")
        row += [number(line.more.get(head, "")) for head in columns]
        found.append([*row, *(_compared(line, base) for base in bases)])
    return found


def _compared(line: Line, base: Line) -> str:
    """Returns the ratio of wall time, and of CPU time where both have it."""
    if line is base:
        return "1"
    cpu = f" ({ratio(line.cpu, base.cpu):.2f})" if line.cpu and base.cpu else ""
    return f"{ratio(line.wall, base.wall):.2f}{cpu}"


def number(value: Value) -> str:
    """Returns a number with three significant digits, thousands separated; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 or value == int(value) else f"{value:.3g}"


def as_text(table: Table) -> str:
    """Returns a table for a terminal."""
    rows = cells(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([table.title, *(f"  {line}".rstrip() for line in lines), *(f"  {said}" for said in remarks_of(table))])


def as_markdown(table: Table) -> list[str]:
    """Returns the lines of a table for the page."""
    rows = [[escaped(cell) for cell in row] for row in cells(table)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return [*lines, *(f"\n{escaped(said)}" for said in remarks_of(table))]


def remarks_of(table: Table) -> list[str]:
    """Returns the remarks, with one on other programs where they used more than a tenth of a core."""
    busy = [f"Other programs used {table.busy:.1f} cores meanwhile."] if table.busy > 0.1 else []
    return [*table.remarks, *busy]


def escaped(text: str) -> str:
    """Returns a text that may stand in a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns (median, least, most)."""
    return statistics.median(values), min(values), max(values)
