"""Draws an overview: the tables of studies and runs for a terminal, what went wrong, and how to go on. Imports no jax."""

import collections
import math
import time
from collections.abc import Sequence

from cnnlab.ablation.report.formatting import NOTHING, format_number, seconds
from cnnlab.metric import Metric, name_of
from cnnlab.overview.rows import ABSENT, MAY_GO_ON, STATES, Overview, RunRow, StudyRow, varied_knobs
from cnnlab.terminal import Column, Terminal, clean, columns, table
from cnnlab.text import counted

MOST_LINES = 5
"""Runs named below the tables at most: those that went wrong, those whose curves show something, and those that go on."""
WENT_WRONG = ("failed", "diverged")


def overview_lines(overview: Overview, terminal: Terminal, *, everything: bool = False, now: float | None = None) -> list[str]:
    """Returns the lines of an overview, none wider than the terminal (but for one word that is, such as a path).

    Args:
        overview: what is shown.
        terminal: where it is shown.
        everything: whether the runs of studies are shown below them.
        now: the time from which ages count; None: this moment.
    """
    now = time.time() if now is None else now
    lines = terminal.wrap(headline(overview), following="  ")
    if overview.studies and not (len(overview.studies) == 1 and everything and not overview.loose):
        lines += ["", *_studies(overview.studies, terminal, now)]
    for study in overview.studies if everything else ():
        lines += ["", terminal.paint(terminal.shorten(clean(study.name), terminal.width), "title")]
        lines += _runs(study.runs, terminal, now, heading="arm, seed")
    if overview.loose:
        lines += ["", *_runs(overview.loose, terminal, now)]
    return lines + _went_wrong(overview, terminal) + _curves(overview, terminal) + _how_to_go_on(overview, terminal)


def headline(overview: Overview) -> str:
    """Returns `runs: 2 studies, 14 runs (1 running, 2 failed, 11 finished)`."""
    runs = overview.runs
    if not runs and not overview.studies:
        return f"{overview.place}: no runs"
    counts = collections.Counter(row.state for row in runs)
    states = ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    studies = f"{counted(len(overview.studies), 'study', 'studies')}, " if overview.studies else ""
    return f"{overview.place}: {studies}{counted(len(runs), 'run')}{f' ({states})' if states else ''}"


def _studies(studies: Sequence[StudyRow], terminal: Terminal, now: float) -> list[str]:
    """Returns the table of studies, one row each."""
    counts = [study.counts for study in studies]

    def numbers(*states: str) -> list[str]:
        found = [sum(one[state] for state in states) for one in counts]
        return [f"{number:,}" if number else NOTHING if any(found) else "" for number in found]

    return table(
        terminal,
        [
            Column("study", [clean(study.name) for study in studies], least=18),
            Column("state", [study.state for study in studies], purposes=[study.state for study in studies]),
            Column("finished", [f"{one['finished']:,}/{one.total():,}" for one in counts], is_right=True),
            Column("running", numbers("running"), is_right=True, rank=3),
            Column("failed", numbers("failed", "diverged", "damaged", "stale"), is_right=True, rank=2),
            Column("pruned", numbers("pruned"), is_right=True, rank=4),
            Column("age", [age(study.changed, now) for study in studies], is_right=True, rank=1),
            Column("verdict", [study.verdict for study in studies], rank=5),
        ],
    )


def _runs(rows: Sequence[RunRow], terminal: Terminal, now: float, heading: str = "run") -> list[str]:
    """Returns the table of runs, one row each."""
    metric, cells = metric_cells(rows)
    return table(
        terminal,
        [
            Column(heading, [clean(row.name) for row in rows], least=20),
            Column("state", [row.state for row in rows], purposes=[row.state for row in rows]),
            Column("step", [steps_cell(row) for row in rows], is_right=True, rank=2),
            Column(metric, cells, is_right=True),
            Column("age", [age(row.changed, now) for row in rows], is_right=True, rank=1),
            Column("took", ["" if row.seconds is None else seconds(row.seconds) for row in rows], True, rank=3),
            Column("knobs", knob_cells(rows), least=16, rank=4, shortens_at_end=True),
        ],
    )


def steps_cell(row: RunRow) -> str:
    """Returns `450/9,765`, or the number of steps of a finished run."""
    if row.state == "finished" or row.steps is None:
        return f"{row.step:,}"
    return f"{row.step:,}/{row.steps:,}"


def number(value: float | None, metric: Metric) -> str:
    """Returns a value of a metric: shares in percent with two decimals, others with four digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return format_number(value, ".2f" if metric.is_share else ".4g", metric.factor)


def metric_cells(rows: Sequence[RunRow]) -> tuple[str, list[str]]:
    """Returns (heading, a cell for each run) of the metrics that stand for runs.

    The heading names what the runs have in common, the cells what they do not: split, metric and unit.
    """
    shown = {row.metric for row in rows if row.metric}
    names = {name_of(metric) for metric in shown}
    units = {row.shown_metric.shown_unit for row in rows if row.metric}
    one_name = len(names) == 1 and len(units) == 1
    label = next(iter(names)).replace("_", " ") if one_name else ""
    head = ", ".join(filter(None, [label, next(iter(units))])) if one_name else "metric"
    head = f"{next(iter(shown)).rpartition('/')[0]} {head}" if one_name and len(shown) == 1 else head
    cells, ends = [], []
    for row in rows:
        value, metric = number(row.value, row.shown_metric), row.shown_metric
        split = row.metric.rpartition("/")[0]
        if not row.metric:
            value, end = "", ""
        elif one_name:
            end = "" if len(shown) == 1 else split
        else:
            end = " ".join(filter(None, [metric.shown_unit, split, metric.label]))
        cells.append(value)
        ends.append(end)
    width = max(map(columns, ends), default=0)
    return head, [f"{cell} {end.ljust(width)}" if width and cell else cell for cell, end in zip(cells, ends, strict=True)]


def knob_cells(rows: Sequence[RunRow]) -> list[str]:
    """Returns for each run the knobs in which it differs from the others of its experiment, `lr=0.1, norm=none`."""
    by_experiment: dict[str, list[str]] = {}
    for experiment in {row.experiment for row in rows}:
        by_experiment[experiment] = varied_knobs([row for row in rows if row.experiment == experiment])
    return [
        ", ".join(
            f"{path.rpartition('.')[2]}={knob_text(row.knobs[path])}"
            for path in by_experiment[row.experiment]
            if path in row.knobs
        )
        for row in rows
    ]


def knob_text(value: object) -> str:
    """Returns a knob's recorded value as on the command line; a dash for one that a run does not have."""
    if value is ABSENT:
        return NOTHING
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list):
        return clean(",".join(map(str, value)) or "none")
    return f"{value:g}" if isinstance(value, float) else clean(str(value))


def age(changed: float | None, now: float) -> str:
    """Returns how long ago something changed: `12 s`, `3 min`, `5 h` or `9 d`."""
    if changed is None:
        return ""
    passed = max(now - changed, 0.0)
    for size, unit in ((2 * 86_400, "d"), (3_600, "h"), (60, "min")):
        if passed >= size:
            return f"{int(passed // (86_400 if unit == 'd' else size))} {unit}"
    return f"{int(passed)} s"


def _went_wrong(overview: Overview, terminal: Terminal) -> list[str]:
    """Returns why runs failed or diverged, each in a line, and every damage in a sentence."""
    rows = [row for row in overview.runs if row.state in WENT_WRONG and row.message]
    lines = []
    for row in rows[:MOST_LINES]:
        reason = clean(row.message.strip().partition("\n")[0])
        text = terminal.shorten(f"{row.state} {clean(_named(row))}: {reason}", terminal.width - 2, at_end=True)
        lines.append(f"  {terminal.paint(row.state, row.state)}{text.removeprefix(row.state)}")
    lines += [f"  and {len(rows) - MOST_LINES} more"] if len(rows) > MOST_LINES else []
    for problem in overview.problems:
        lines += terminal.wrap(f"! {problem}", first="  ", following="    ")
    return ["", *lines] if lines else []


def _curves(overview: Overview, terminal: Terminal) -> list[str]:
    """Returns what the curves of finished runs outside of studies show, a line for each run that they say something of."""
    rows = [row for row in overview.loose if row.curves]
    lines = []
    for row in rows[:MOST_LINES]:
        more = f" (and {len(row.curves) - 1} more in its result.json)" if len(row.curves) > 1 else ""
        lines += terminal.wrap(f"{clean(row.name)}: {clean(row.curves[0])}{more}", first="  ", following="    ")
    lines += [f"  and {len(rows) - MOST_LINES} more"] if len(rows) > MOST_LINES else []
    return ["", "what curves show", *lines] if lines else []


def _named(row: RunRow) -> str:
    """Returns the name of a run, with its study where it has one."""
    return f"{row.studies[0]}: {row.name}" if row.studies else row.name


def _how_to_go_on(overview: Overview, terminal: Terminal) -> list[str]:
    """Returns the commands that continue what is neither running nor finished: one for a study, one for each other run."""
    commands = [study.command for study in overview.studies if study.command and study.state == "unfinished"]
    commands += [row.command for row in overview.loose if row.command and row.state in MAY_GO_ON]
    if not commands:
        return []
    lines = [line for command in commands[:MOST_LINES] for line in terminal.command(command)]
    more = len(commands) - MOST_LINES
    rest = terminal.wrap(f"and {more} more; --format=csv has every command", first="  ", following="  ") if more > 0 else []
    return ["", "to go on", *lines, *rest]
