"""What the figure of a record shows: a row for each arm, or lines over a knob or over the points of a measurement. No jax."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.study import Figure
from cnnlab.ablation.report.cards.means import curve_point
from cnnlab.ablation.report.cards.record import Arm, Numbers, Record

MOST_ROWS = 14
"""Most arms that have a row of the figure; the table of the card has them all."""

COSTS = {"macs": "multiply-accumulates", "parameters": "parameters"}
"""{what an arm costs, by which lines may go: its words}."""

MOST_LINES = 12
"""Most lines of a figure; where there are more, as in a search, each arm is a point."""

Point = tuple[float, float, float, float]
"""(x, mean, low, high)."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A line with its band, or a cloud of points."""

    label: str
    points: tuple[Point, ...]
    is_joined: bool = True
    """Whether a line joins the points."""


@dataclasses.dataclass(frozen=True)
class Row:
    """An arm, or a case, with its number."""

    label: str
    numbers: Numbers
    expected: tuple[tuple[str, float], ...] = ()
    """(identity, at_least or at_most; the number) of the exact statements about it."""


def lines_of(record: Record) -> tuple[list[Line], list[str]]:
    """Returns (lines, names of the levels on the axis where these are no numbers); ([], []) where the figure has rows."""
    figure = record.card.figure
    if not figure.x:
        return [], []
    if record.verb == "measure":
        return [Line(label, points) for label, points in record.curves.items() if points], []
    if figure.x in COSTS:
        return _over_costs(record), []
    arms = [arm for arm in record.arms if not arm.control and figure.x in arm.knobs]
    levels = list(dict.fromkeys(arm.knobs[figure.x] for arm in arms))
    places = _places(levels)
    found: dict[str, list[Point]] = {}
    for arm in arms:
        if point := _point_of(record, arm):
            found.setdefault(_line_name(arm, arms, figure), []).append((places[arm.knobs[figure.x]], *point))
    names = [] if all(leading_number(level) is not None for level in levels) else levels
    if len(found) > MOST_LINES:
        return _clouds(record, arms, places), names
    return [Line(label, tuple(sorted(points))) for label, points in found.items()], names


def _over_costs(record: Record) -> list[Line]:
    """Returns a line over what arms cost for each level of the knob `lines`."""
    figure, found = record.card.figure, dict[str, list[Point]]()
    for arm in record.arms:
        cost, point = getattr(arm, figure.x), _point_of(record, arm)
        if cost is not None and point and not arm.control:
            found.setdefault(arm.knobs.get(figure.lines, ""), []).append((float(cost), *point))
    return [Line(label, tuple(sorted(points))) for label, points in found.items()]


def _point_of(record: Record, arm: Arm) -> tuple[float, float, float] | None:
    """Returns (mean, low, high) of an arm's numbers; None where it has none."""
    numbers = arm.numbers.get(record.drawn)
    values, log = list(numbers.values.values()) if numbers else [], record.card.figure.log_y
    return curve_point(values, log=log, bounds=record.metrics[record.drawn].bounds) if values else None


def _clouds(record: Record, arms: Sequence[Arm], places: Mapping[str, float]) -> list[Line]:
    """Returns a cloud of points for each first word of the arms' names: the figure of a search, whose arms lie on no line."""
    found: dict[str, list[Point]] = {}
    for arm in arms:
        mean = arm.numbers[record.drawn].mean if record.drawn in arm.numbers else None
        if mean is not None:
            place = places[arm.knobs[record.card.figure.x]]
            found.setdefault(arm.name.partition(" ")[0], []).append((place, mean, mean, mean))
    return [Line(f"{word}{'s' * (len(all_) > 1)}", tuple(sorted(all_)), is_joined=False) for word, all_ in found.items()]


def _line_name(arm: Arm, arms: Sequence[Arm], figure: Figure) -> str:
    """Returns the name of the line that an arm lies on: the level of `lines`, and those of other knobs that vary too."""
    varied = [knob for knob in arm.knobs if knob != figure.x and len({one.knobs.get(knob) for one in arms}) > 1]
    shown = [arm.knobs[knob] if knob == figure.lines else f"{short(knob)}={arm.knobs[knob]}" for knob in varied]
    return ", ".join(shown)


def short(knob: str) -> str:
    """Returns the last part of a knob's path, with spaces."""
    return knob.rpartition(".")[2].replace("_", " ")


def leading_number(level: str) -> float | None:
    """Returns the number that a level begins with, as of `5 epochs`; None for a word."""
    found = re.match(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?=$|\s)", level.replace(",", ""), flags=re.IGNORECASE)
    return float(found[0]) if found else None


def _places(levels: Sequence[str]) -> Mapping[str, float]:
    """Returns {level: its place on the axis}: its number, or its order where not all are numbers."""
    numbers = [leading_number(level) for level in levels]
    if all(one is not None for one in numbers):
        return {level: float(one or 0.0) for level, one in zip(levels, numbers, strict=True)}
    return {level: float(place) for place, level in enumerate(levels)}


def rows_of(record: Record) -> tuple[list[Row], int]:
    """Returns (a row for each arm that the figure shows, number of arms that it leaves out).

    Where there are too many, those that a part of the test names come first.
    """
    arms = [arm for arm in record.arms if record.drawn in arm.numbers and arm.numbers[record.drawn].mean is not None]
    named = {str(value) for part in record.parts for value in _texts(part)} | {arm.name for arm in record.arms[:1]}
    kept = arms
    if len(arms) > MOST_ROWS:
        wanted = sorted(arms, key=lambda arm: arm.name not in named)[:MOST_ROWS]
        kept = [arm for arm in arms if arm in wanted]
    return [Row(_label(record, arm), arm.numbers[record.drawn], _expected(record, arm)) for arm in kept], len(arms) - len(kept)


def _texts(part: Mapping[str, Any]) -> list[Any]:
    """Returns the arguments of a part, those in lists too."""
    return [one for value in part.values() for one in (value if isinstance(value, list | tuple) else [value])]


def _label(record: Record, arm: Arm) -> str:
    """Returns the arm's name; that of the baseline names what varies."""
    is_baseline = arm is record.arms[0] and record.baseline
    return f"{arm.name}: {record.baseline}" if is_baseline and arm.name != record.baseline else arm.name


def _expected(record: Record, arm: Arm) -> tuple[tuple[str, float], ...]:
    """Returns what the exact parts of the test state about an arm in the metric of the figure."""
    found = []
    for part in record.parts:
        kind, value = part.get("test"), part.get("expected", part.get("bound"))
        about = part.get("arm") == arm.name and part.get("metric", record.metric) == record.drawn
        if about and kind in ("identity", "at_least", "at_most") and isinstance(value, int | float):
            found.append((str(kind), float(value)))
    return tuple(found)


def margin_of(record: Record) -> tuple[float, float] | None:
    """Returns the band of differences to the baseline that do not matter to the test, in units of the metric; None for none.

    That of a part which denies one direction alone lies on that side of the baseline. Parts with other bands have none in
    common, so that none is drawn.
    """
    baseline, found = record.arms[0].name if record.arms else "", set()
    for part in record.parts:
        margin = part.get("margin")
        on_plain = part.get("scale", "plain") == "plain" and part.get("metric", record.metric) == record.drawn
        if isinstance(margin, int | float) and on_plain and part.get("against", "baseline") in ("baseline", baseline, ""):
            upwards = (part.get("expected") == "not better") == record.metrics[record.drawn].higher_is_better
            is_one_sided = part.get("test") == "bounded"
            found.add((-margin if not is_one_sided or not upwards else 0.0, margin if not is_one_sided or upwards else 0.0))
    band = found.pop() if len(found) == 1 else None
    return band if band and all(map(math.isfinite, band)) else None


def seeds_drawn(record: Record, rows: Sequence[Row]) -> tuple[int, int]:
    """Returns the fewest and the most numbers of a mean that the figure draws, in `rows` or on lines.

    The lines of a measurement are over all seeds that have a point there.
    """
    arms = [arm.numbers[record.drawn].n for arm in record.arms if not arm.control and record.drawn in arm.numbers]
    counts = [row.numbers.n for row in rows] or (arms if record.verb == "ablate" else []) or [len(record.seeds)]
    counts = [count for count in counts if count] or [len(record.seeds)]
    return min(counts), max(counts)
