"""Draws the figure of a record for a slide: rows with intervals, or lines with bands, each as SVG. Imports no jax."""

import math
from collections.abc import Callable, Sequence

from cnnlab.ablation.report.cards import canvas, means, numbers
from cnnlab.ablation.report.cards.canvas import HEIGHT, LARGE, NORMAL, SMALL, WIDTH, Box, Canvas, Theme
from cnnlab.ablation.report.cards.record import Record
from cnnlab.ablation.report.cards.series import COSTS, Line, Row, lines_of, margin_of, rows_of, seeds_drawn, short
from cnnlab.ablation.report.svg import Axis
from cnnlab.metric import Metric

MARGIN = 32
"""Pixels that stay free at the edges."""
FEW_ROWS = 10
"""Rows whose names have the size of text; those of more are smaller and have more room."""
DECADES = 2.0
"""Decades from which on the numbers of rows are drawn on a logarithmic axis."""


def draw(record: Record, theme: Theme, *, title: str, subtitle: str = "") -> str:
    """Returns the figure of a record as the content of an SVG file; empty where it has no number.

    Args:
        record: the record.
        theme: light or dark.
        title: the claim in a sentence.
        subtitle: what this test shows of it, such as its verdict.
    """
    lines, names = lines_of(record)
    rows, left_out = ([], 0) if lines else rows_of(record)
    if not lines and not rows:
        return ""
    picture = Canvas(theme, title)
    top = _head(picture, title, subtitle)
    mean = "Geometric mean" if lines and record.card.figure.log_y else "Mean"
    fewest, most = seeds_drawn(record, rows)
    band = "range" if lines and most < means.FEWEST else "95 % interval"
    note = f"{mean} and {band} over {most if fewest == most else f'{fewest} to {most}'} seeds." if most > 1 else ""
    note += f" {left_out} more arms are in the table." if left_out else ""
    lost = [
        arm.name for arm in record.arms if arm.diverged and not (record.drawn in arm.numbers and arm.numbers[record.drawn].n)
    ]
    note += f" No number: {', '.join(lost)} (diverged)." if lost and rows else ""
    if lines:
        _draw_lines(picture, record, lines, names, top)
    else:
        _draw_rows(picture, record, rows, top)
    picture.text(MARGIN, HEIGHT - 14, note.strip(), size=SMALL, color=theme.soft)
    picture.text(WIDTH - MARGIN, HEIGHT - 14, record.name, size=SMALL, anchor="end", color=theme.soft)
    return picture.svg()


def _head(picture: Canvas, title: str, subtitle: str) -> float:
    """Writes title and subtitle; returns the height below them."""
    width = WIDTH - 2 * MARGIN
    size, lines = canvas.fitted(title, width, ((LARGE, 2), (21, 2), (19, 3)), bold=True)
    y = 22.0
    for line in lines:
        y += size * 0.85
        picture.text(MARGIN, y, line, size=size, bold=True)
        y += size * 0.35
    for line in canvas.fitted(subtitle, width, ((NORMAL, 2),))[1]:
        y += NORMAL
        picture.text(MARGIN, y, line, size=NORMAL, color=picture.theme.soft)
        y += 5
    return y


def tick(value: float, factor: float = 1.0) -> str:
    """Returns a number beside an axis: `0.5`, `50,000`, `1e−12`."""
    value *= factor
    if value and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}".replace("-", "−").replace("e+", "e").replace("e−0", "e−")
    if abs(value) >= 1e4:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def _axis(values: Sequence[float], *, log: bool, space: float = 0.06) -> Axis:
    """Returns an axis that holds all values; on a logarithmic one those above 0."""
    kept = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    return Axis.around(kept, log=log and bool(kept), space=space)


def _draw_rows(picture: Canvas, record: Record, rows: Sequence[Row], top: float) -> None:
    """Draws a row for each arm: its name, its mean with the interval, and the numbers."""
    theme, metric = picture.theme, record.metrics[record.drawn]
    values = [end for row in rows for end in (row.numbers.mean or 0.0, *(row.numbers.interval or ()))]
    values += [value for row in rows for _, value in row.expected]
    means = [row.numbers.mean for row in rows if row.numbers.mean]
    log = bool(means) and min(values) >= 0 and max(means) > 10**DECADES * min(means)
    log = log or (record.card.figure.log_y and min(values) >= 0)
    reference = rows[0].numbers.mean if record.verb == "ablate" and len(rows) > 1 else None
    band = margin_of(record) if reference is not None and not log else None
    values += [reference + end for end in band] if band and reference is not None else []
    texts = [numbers.with_interval(row.numbers, metric) for row in rows]
    size = NORMAL if len(rows) <= FEW_ROWS else SMALL - 3
    most = (0.34 if len(rows) <= FEW_ROWS else 0.38) * WIDTH
    left = min(max(canvas.width_of(row.label, size) for row in rows), most) + MARGIN + 18
    right = WIDTH - MARGIN - max(canvas.width_of(text, SMALL) for text in texts) - 16
    box = Box(left, top + 18, right, HEIGHT - 88)
    if log and min(values) <= 0:  # 0 has a place of its own, left of the logarithmic axis
        picture.line((box.left + 12, box.top), (box.left + 12, box.bottom), color=theme.grid)
        picture.text(box.left + 12, box.bottom + 22, "0", size=SMALL, anchor="middle", color=theme.soft)
        box = Box(box.left + 48, box.top, box.right, box.bottom)
    axis = _axis(values, log=log)
    if band and reference is not None:
        ends = [box.across(axis, reference + end) for end in band]
        picture.area([(ends[0], box.top), (ends[1], box.top), (ends[1], box.bottom), (ends[0], box.bottom)], color=theme.band)
    _grid_across(picture, box, axis, lambda value: tick(value, metric.factor))
    if reference is not None and (reference > 0 or not log):
        x = box.across(axis, reference)
        picture.line((x, box.top), (x, box.bottom), color=theme.soft, width=1.5, dash="5 4")
    step = (box.bottom - box.top) / len(rows)
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        _draw_row(
            picture,
            row,
            text,
            box,
            axis,
            box.top + step * (i + 0.5),
            theme.series[6 if reference is not None and not i else 0],
            size,
            step,
            left,
        )
    sense = {True: " (higher is better)", False: " (lower is better)", None: ""}[metric.higher_is_better]
    label = f"{record.card.figure.y or numbers.metric_label(record.drawn, metric)}{sense}"
    kinds = {kind for row in rows for kind, _ in row.expected}
    signs = [
        *(["dashed: the baseline"] if reference is not None else []),
        *(["diamond: the stated number"] if "identity" in kinds else []),
        *(["bracket: the stated bound"] if kinds - {"identity"} else []),
        *(["shaded: within the margin of the baseline"] if band else []),
    ]
    _write_below(picture, label, "; ".join(signs), (box.left + box.right) / 2)


def _write_below(picture: Canvas, label: str, signs: str, middle: float) -> None:
    """Writes what the axis shows and what the signs mean, in one line if it fits, around `middle` as far as there is room."""
    whole = f"{label}; {signs}" if signs else label
    lines = [whole] if canvas.width_of(whole, SMALL) <= WIDTH - 2 * MARGIN else [label, signs]
    top = HEIGHT - 44 if len(lines) == 1 else HEIGHT - 50
    for number, line in enumerate(lines):
        free = canvas.width_of(line, SMALL) / 2 + MARGIN
        picture.text(max(min(middle, WIDTH - free), free), top + 16 * number, line, size=SMALL, anchor="middle")


def _draw_row(
    picture: Canvas, row: Row, text: str, box: Box, axis: Axis, y: float, color: str, size: float, step: float, left: float
) -> None:
    """Draws one arm at the height y; its name ends at `left`, where what is 0 has its place on a logarithmic axis."""

    def place(value: float) -> float:
        return left + 12 if axis.log and value <= 0 else box.across(axis, value)

    names = canvas.wrapped(row.label, left - MARGIN - 14, size, most=2 if step >= 2.2 * size else 1)
    for i, name in enumerate(names):
        picture.text(left - 14, y + 5 + (i - (len(names) - 1) / 2) * (size + 2), name, size=size, anchor="end")
    mean = row.numbers.mean or 0.0
    if row.numbers.interval:
        picture.line((place(row.numbers.interval[0]), y), (place(row.numbers.interval[1]), y), color=color, width=3)
    for kind, value in row.expected:
        x, toward = place(value), {"at_least": 1, "at_most": -1}.get(kind, 0)
        if toward:  # a bracket that opens to the side on which the number must lie
            picture.line((x + 6 * toward, y - 12), (x, y - 12), (x, y + 12), (x + 6 * toward, y + 12), width=2)
        else:
            picture.mark(x, y, 3, color=picture.theme.soft, hollow=True, size=9)
    picture.mark(place(mean), y, 0, color=color)
    picture.text(WIDTH - MARGIN, y + 5, text, size=SMALL, anchor="end", color=picture.theme.ink)


def _grid_across(picture: Canvas, box: Box, axis: Axis, show: Callable[[float], str], at: Sequence[float] = ()) -> None:
    """Draws vertical grid lines with their numbers below the plot."""
    taken = -math.inf
    for value in at or canvas.ticks(axis, max(2, int((box.right - box.left) / 90))):
        x, text = box.across(axis, value), show(value)
        picture.line((x, box.top), (x, box.bottom), color=picture.theme.grid)
        if x - canvas.width_of(text, SMALL) / 2 > taken:
            picture.text(x, box.bottom + 22, text, size=SMALL, anchor="middle", color=picture.theme.soft)
            taken = x + canvas.width_of(text, SMALL) / 2 + 8
    picture.line((box.left, box.bottom), (box.right, box.bottom), color=picture.theme.soft)


def _grid_down(picture: Canvas, box: Box, axis: Axis, show: Callable[[float], str]) -> None:
    """Draws horizontal grid lines with their numbers at the left."""
    for value in canvas.ticks(axis, 6):
        y = box.down(axis, value)
        picture.line((box.left, y), (box.right, y), color=picture.theme.grid)
        picture.text(box.left - 8, y + 5, show(value), size=SMALL, anchor="end", color=picture.theme.soft)


def _draw_lines(picture: Canvas, record: Record, lines: Sequence[Line], names: Sequence[str], top: float) -> None:
    """Draws lines with their bands, each with its label at its right end."""
    theme, figure, measured = picture.theme, record.card.figure, record.verb == "measure"
    metric = Metric("") if measured else record.metrics[record.drawn]
    points = [point for line in lines for point in line.points]
    log_x, log_y = figure.log_x and min(p[0] for p in points) > 0, figure.log_y
    across = _axis([point[0] for point in points], log=log_x, space=0.02)
    down = _axis([end for point in points for end in point[1:]], log=log_y)

    def show(value: float) -> str:
        return tick(value, metric.factor)

    label_width = min(max(canvas.width_of(line.label, SMALL, bold=True) for line in lines), 0.3 * WIDTH)
    tick_width = max(canvas.width_of(show(value), SMALL) for value in canvas.ticks(down, 6))
    box = Box(MARGIN + tick_width + 14, top + 40, WIDTH - MARGIN - label_width - 20, HEIGHT - 88)
    _grid_down(picture, box, down, show)
    levels = sorted({point[0] for point in points})
    at = (
        levels if len(levels) <= 8 and figure.x not in COSTS else canvas.ticks(across, max(2, int((box.right - box.left) / 90)))
    )
    if all(level.is_integer() for level in levels):  # no half layers
        at = [value for value in at if float(value).is_integer()]
    _grid_across(picture, box, across, lambda value: names[round(value)] if names else tick(value), at)
    above = figure.y if measured or figure.y else numbers.metric_label(record.drawn, metric)
    below = f"{figure.x if measured else COSTS.get(figure.x) or short(figure.x)}{', logarithmic' if log_x else ''}"
    picture.text(MARGIN, box.top - 16, f"{above}{', logarithmic' if log_y else ''}", size=SMALL)
    picture.text((box.left + box.right) / 2, HEIGHT - 44, below, size=SMALL, anchor="middle")
    ends = []
    for i, line in reversed(list(enumerate(lines))):
        ends.append((_draw_line(picture, line, i, box, across, down), i))
    _label_ends(picture, lines, sorted(ends), box, theme)


def _draw_line(picture: Canvas, line: Line, order: int, box: Box, across: Axis, down: Axis) -> float:
    """Draws one line with its band and marks; returns the height at which it ends."""
    color = picture.theme.series[order % len(picture.theme.series)]

    def path(column: int) -> list[tuple[float, float]]:
        kept = [point for point in line.points if math.isfinite(point[column])]
        floor = down.low if down.log else -math.inf
        return [(box.across(across, point[0]), box.down(down, max(point[column], floor))) for point in kept]

    mean, low, high = path(1), path(2), path(3)
    if not line.is_joined:
        for x, y in mean:
            picture.mark(x, y, order, color=color, hollow=True, size=3.5)
        return box.top + 12 + 24 * order
    if low != high:
        picture.area([*high, *reversed(low)], color=color, opacity=0.2)
    picture.line(*mean, color=color, width=3, dash=canvas.DASHES[order % len(canvas.DASHES)])
    if len(mean) <= 12:
        for x, y in mean:
            picture.mark(x, y, order, color=color, size=5)
    return mean[-1][1] if mean else box.bottom


def _label_ends(picture: Canvas, lines: Sequence[Line], ends: Sequence[tuple[float, int]], box: Box, theme: Theme) -> None:
    """Writes each line's label beside its end, moved apart where they would cover each other."""
    height = SMALL + 5
    texts = [canvas.wrapped(lines[i].label, WIDTH - MARGIN - box.right - 10, SMALL, most=2, bold=True) for _, i in ends]
    places: list[float] = []
    for (y, _), text in zip(ends, texts, strict=True):
        first = y - (len(text) - 1) * height / 2
        below = places[-1] + len(texts[len(places) - 1]) * height if places else -math.inf
        places.append(max(first, below))
    # What was pushed below the plot moves up again, and what lies above it with it.
    limit = box.bottom + 6
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit - (len(texts[i]) - 1) * height)
        limit = places[i] - height
    for (y, i), text, place in zip(ends, texts, places, strict=True):
        if not lines[i].label:
            continue
        color = theme.series[i % len(theme.series)]
        middle = place + (len(text) - 1) * height / 2
        if lines[i].is_joined:
            picture.line((box.right + 3, y), (box.right + 15, middle), color=color, width=1.5)
        else:
            picture.mark(box.right + 10, middle, i, color=color, hollow=True, size=4)
        for row, name in enumerate(text):
            picture.text(box.right + 20, place + row * height + 5, name, size=SMALL, color=color, bold=True)
