"""Draws the charts of a report: paired differences, learning curves, cost against quality.

Each function returns HTML, empty where there is nothing to show.
"""

import math
from collections.abc import Mapping, Sequence

from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Interval
from cnnlab.ablation.plan.study import Arm, RunResult, Study, find_declaration
from cnnlab.ablation.report import formatting, svg
from cnnlab.ablation.report.html import escape, section
from cnnlab.ablation.report.provenance import describe_baseline
from cnnlab.metric import Metric, name_of

LABELLED = 15
"""Most arms that are numbered in a scatter chart; more would cover each other."""

CURVES_HEIGHT = 320
"""Height of the chart of learning curves in pixels."""

OVERLAID = svg.SERIES
"""Most arms whose curves share one chart; where there are more, each has a tile of its own."""


def verdict_key(kinds: Sequence[str]) -> str:
    """Returns the legend of the shapes that are drawn."""
    items = "".join(
        f"<li>{svg.badge(kind)}{kind}</li>" for kind in ("baseline", "better", "worse", "differs", "undecided") if kind in kinds
    )
    return f'<ul class="key">{items}</ul>'


def forest(study: Study, analysis: Analysis) -> str:
    """Draws the paired differences from the baseline with their intervals, a line for every arm."""
    scale = formatting.scale_of(analysis)
    arms, controls = formatting.arms_and_controls(study, analysis)
    found = [(row, row.contrast) for row in arms if row.contrast is not None and formatting.finite(row.contrast.difference)]
    if not found:
        return ""
    limits = svg.strip_limits([(contrast.difference, contrast.interval) for _, contrast in found])
    lines = []
    for row, contrast in found:
        interval = scale.difference_interval(contrast.interval) if contrast.interval else ""
        figures = f"{scale.difference(contrast.difference)} {interval}".strip()
        title = f"{row.arm}: {figures}, {contrast.verdict}"
        picture = svg.strip(contrast.difference, contrast.interval, contrast.verdict, limits=limits, title=title)
        lines.append(
            f'<div class="label">{escape(row.arm)}</div><div>{picture}</div><div class="figures">{escape(figures)}</div>'
        )
    lines.append(
        f'<div class="plain"></div><div>{svg.strip_axis(limits, scale.difference_tick)}</div><div class="plain"></div>'
    )
    unit = f" in {scale.difference_unit}" if scale.difference_unit else ""
    note = f"Arm minus baseline{unit}, with 95 % intervals (Student’s t over paired seeds). "
    note += f"The vertical line is the {escape(describe_baseline(study))}."
    if analysis.higher_is_better is not None:
        note += f" Arms to its {'right' if analysis.higher_is_better else 'left'} are better."
    note += (
        " An arrow marks an interval that extends beyond the chart."
        if any(_leaves(c.interval, c.difference, limits) for _, c in found)
        else ""
    )
    note += " Negative controls are not shown." if controls else ""
    key = verdict_key([contrast.verdict for _, contrast in found])
    return section("Difference from the baseline", f'<div class="forest">{"".join(lines)}</div>{key}', note)


def _leaves(interval: Interval | None, difference: float, limits: tuple[float, float]) -> bool:
    low, high = (interval.low, interval.high) if interval else (difference, difference)
    return low < limits[0] or high > limits[1]


def arm_curves(study: Study, outcomes: Sequence[RunResult], metric: str) -> tuple[dict[str, svg.Curve], str, str]:
    """Returns ({arm: its mean curve}, name of the metric that is drawn, clock); {} where no run has two points.

    The metric is the compared one on the validation split, or train/loss where that was evaluated less than twice. The curves
    are means over the runs that are done; over all runs for an arm that has none.
    """
    cells = formatting.by_arm(outcomes)
    records = [record for outcome in outcomes for record in outcome.curve]
    names = (f"validation/{metric.rsplit('/', 1)[-1]}", "train/loss")
    name = next((name for name in names if _points(records, name) > 1), None)
    if name is None:
        return {}, names[0], "step"
    recorded = [record for record in records if record.get(name) is not None]
    clock = "epoch" if recorded and all(record.get("epoch") is not None for record in recorded) else "step"
    curves = {}
    for arm in study.arms:
        done = [outcome.curve for outcome in cells.get(arm.name, []) if outcome.state == "DONE"]
        curve = svg.mean_curve(done or [outcome.curve for outcome in cells.get(arm.name, [])], name, clock)
        if curve is not None:
            curves[arm.name] = curve
    return curves, name, clock


def _points(records: Sequence[Mapping[str, float | None]], name: str) -> int:
    """Returns the number of steps at which a metric was recorded."""
    return len({record.get("step") for record in records if record.get(name) is not None})


def learning_curves(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Draws the mean ± standard deviation over seeds of every arm: overlaid, or as tiles where there are many."""
    curves, name, clock = arm_curves(study, outcomes, analysis.metric)
    controls = {arm.name for arm in study.arms if arm.control}
    curves = {arm: curve for arm, curve in curves.items() if arm not in controls}
    if not curves:
        return ""
    declared = find_declaration(study, outcomes, name) or Metric(name_of(name))
    means = [float(value) for curve in curves.values() for value in curve.mean]
    log = declared.log_scale and min(means) > 0 and max(means) > 10 * min(means)
    across, down, cut = svg.curve_axes(list(curves.values()), log=log)
    title = ", ".join(filter(None, (name, declared.shown_unit)))

    def show(value: float) -> str:
        return formatting.format_number(value, ".4g", declared.factor)

    note = f"{escape(title)}: the line is the mean over seeds, the band ± one standard deviation."
    note += " Logarithmic scale." if log else " Early values outside this range are not shown." if cut else ""
    note += " Negative controls are not shown." if controls else ""
    if len(curves) > OVERLAID:
        first, last = (min(curve.at[0] for curve in curves.values()), max(curve.at[-1] for curve in curves.values()))
        ends = f"{formatting.format_number(first)} to {formatting.format_number(last)}"
        note += f" Every tile shows {clock} {ends} and values from {show(down.low)} to {show(down.high)}."
        note += f" The dashed line is {escape(study.baseline.name)}."
        return section("Learning curves", _tiles(curves, study.baseline.name, across, down, show), note)
    note += " Numbers are those of the table of arms; below are the values at the end."
    body = svg.stretched(
        "".join(svg.drawn(curve, across, down, f"s{i}") for i, curve in reversed(list(enumerate(curves.values()))))
    )
    order = [row.arm for row in formatting.arms_and_controls(study, analysis)[0]]
    numbers = [order.index(arm) + 1 for arm in curves]
    picture = svg.frame(
        across,
        down,
        body + svg.numbered_ends(list(curves.values()), numbers, down, CURVES_HEIGHT),
        height=CURVES_HEIGHT,
        labels=(clock, title),
        format_across=formatting.format_number,
        format_down=show,
        title=f"Learning curves: {title}",
    )
    items = "".join(
        f'<li><svg width="22" height="10" aria-hidden="true"><path class="curve s{i} thick" d="M2 5H20"/></svg>'
        f"{number} {escape(arm)} <b>{escape(_last(curve, declared, analysis))}</b></li>"
        for i, (number, (arm, curve)) in enumerate(zip(numbers, curves.items(), strict=True))
    )
    return section("Learning curves", f'{picture}<ul class="key">{items}</ul>', note)


def _last(curve: svg.Curve, metric: Metric, analysis: Analysis) -> str:
    """Returns the last value of a curve; a share has the decimals of the table."""
    last = float(curve.mean[-1])
    if metric.is_share:
        return formatting.Scale(metric, formatting.scale_of(analysis).decimals).value(last)
    return formatting.format_number(last)


def _tiles(
    curves: dict[str, svg.Curve], baseline: str, across: svg.Axis, down: svg.Axis, format_value: formatting.Formatter
) -> str:
    """Draws a small chart for every arm, all on one scale, with the baseline in each."""
    behind = svg.drawn(curves[baseline], across, down, "dashed", band=False) if baseline in curves else ""
    tiles = []
    for arm, curve in curves.items():
        line = svg.drawn(curve, across, down, "accent")
        picture = f'<svg width="100%" height="72" role="img" aria-label="{escape(arm)}">{svg.stretched(behind + line)}</svg>'
        last = format_value(float(curve.mean[-1]))
        tiles.append(f'<div class="tile">{picture}<span>{escape(arm)}</span> <span class="soft">{escape(last)}</span></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def costs(study: Study, analysis: Analysis) -> str:
    """Draws the cost of the arms against their quality: seconds of steps, parameters, MACs, each where they differ."""
    scale = formatting.scale_of(analysis)
    networks = {arm.name: arm for arm in study.arms}
    arms = [
        (i + 1, row) for i, row in enumerate(formatting.arms_and_controls(study, analysis)[0]) if formatting.finite(row.mean)
    ]
    pictures, drawn = [], set()
    for title in ("seconds of training", "parameters", "MACs"):
        points = [(i, row, cost) for i, row in arms if (cost := _cost(title, row, networks.get(row.arm))) is not None]
        if len(points) < 2 or len({cost for *_, cost in points}) < 2:
            continue
        drawn |= {i for i, *_ in points}
        pictures.append(_scatter(points, study, scale, title=title, quality=formatting.metric_heading(analysis, scale)))
    if not pictures:
        return ""
    kinds = [formatting.verdict(row, study) for i, row in arms if i in drawn]
    items = "".join(f"<li><b>{i}</b>{escape(row.arm)}</li>" for i, row in arms if i in drawn)
    few = len(drawn) <= LABELLED
    key = verdict_key(kinds) + (f'<ul class="key">{items}</ul>' if few else "")
    note = (
        "One mark for every arm, with the 95 % interval of its mean; seconds are those of training steps, without compilation; "
    )
    note += "numbers refer to the list below and to the table of arms." if few else "point at a mark to see the arm’s name."
    return section("Quality against cost", f'<div class="charts">{"".join(pictures)}</div>{key}', note)


def _cost(title: str, row: ArmSummary, arm: Arm | None) -> float | None:
    """Returns the cost of an arm if it is known and positive, else None."""
    known = {
        "seconds of training": row.seconds,
        "parameters": arm.parameters if arm else None,
        "MACs": arm.macs if arm else None,
    }
    cost = known[title]
    return float(cost) if cost is not None and math.isfinite(cost) and cost > 0 else None


def _scatter(
    points: Sequence[tuple[int, ArmSummary, float]],
    study: Study,
    scale: formatting.Scale,
    *,
    title: str,
    quality: str,
) -> str:
    values = [cost for *_, cost in points]
    log = max(values) > 10 * min(values)
    across = svg.Axis.around(values, log=log, space=0.08)
    means = [row.mean or 0.0 for _, row, _ in points]
    down, height = svg.Axis.around(means, space=0.12), 240
    whiskers, marks, labels = "", "", ""
    placed: list[tuple[float, float]] = []
    for i, row, cost in points:
        x, y = across.share(cost), height * (1 - down.share(row.mean or 0.0))
        kind = formatting.verdict(row, study)
        if row.interval is not None:
            ends = [min(max(height * (1 - down.share(end)), 0), height) for end in (row.interval.low, row.interval.high)]
            whiskers += f'<line class="whisker thin {kind}" x1="{x:.2%}" x2="{x:.2%}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>'
        marks += svg.mark(
            kind, x, y, f"{row.arm}: {scale.spread(row.mean, row.sd)}, {formatting.tick(cost)} {title.split()[0]}"
        )
        up = y - 8
        while any(abs(x - other) < 0.06 and abs(up - above) < 12 for other, above in placed) and up > 4:
            up -= 12
        placed.append((x, up))
        labels += "" if len(points) > LABELLED else f'<svg x="{x:.2%}" y="{up:.1f}" class="place"><text x="7">{i}</text></svg>'
    names = (f"{title}{' (logarithmic)' if log else ''}", quality)

    return svg.frame(
        across,
        down,
        whiskers + marks + labels,
        height=height,
        labels=names,
        format_across=formatting.tick,
        format_down=scale.tick,
        title=f"{quality} against {title}",
    )
