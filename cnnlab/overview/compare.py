"""Compares runs: what differs between them beside their numbers, and why these may not be comparable. Imports no jax."""

import dataclasses
import json
import math
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import home
from cnnlab.ablation.analyse.comparable import what_differs
from cnnlab.ablation.report.formatting import NOTHING, format_number, seconds
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from cnnlab.overview.find import folders_below
from cnnlab.overview.rows import ABSENT, RunRow, read_row, varied_knobs
from cnnlab.overview.show import knob_text, number
from cnnlab.runs import identity, run_files
from cnnlab.terminal import GAP, Column, Terminal, clean, columns, table

LETTERS = string.ascii_uppercase
"""Names of the runs in a table."""
WIDEST_CELL = 24
"""Columns of a value at most; a longer one is shortened."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a comparison: a name and a value for each run."""

    name: str
    values: tuple[str, ...]
    differences: tuple[str, ...] = ()
    """The difference of each run but the first from the first; empty where there is none."""
    purposes: tuple[str, ...] = ()
    """better, worse or empty for each of these."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is shown of runs that are compared with the first of them."""

    rows: tuple[RunRow, ...]
    settings: tuple[Line, ...]
    """Knobs and conditions that differ."""
    numbers: tuple[Line, ...]
    remarks: tuple[str, ...]
    """Why they may not be comparable, each in a sentence."""


def compare(folders: Sequence[pathlib.Path]) -> Comparison:
    """Returns the comparison of runs; raises UsageError for folders that are no runs, or fewer than two."""
    if not 2 <= len(folders) <= len(LETTERS):
        raise UsageError(
            f"runs compare takes 2 to {len(LETTERS)} runs, got {len(folders)}.\n"
            f"Give their folders: {home.COMMAND} runs compare runs/A/seed_0 runs/B/seed_0"
        )
    places = [_only_run(folder) for folder in folders]
    contents = [run_files.read_run(place) for place in places]
    rows = tuple(read_row(place, str(place))[0] for place in places)
    damaged = [f"{damage.path} is damaged: {damage.reason}." for place in places for damage in run_files.damages(place)]
    return Comparison(rows, tuple(_settings(rows, contents)), tuple(_numbers(rows)), tuple(damaged + _remarks(rows, contents)))


def _only_run(folder: pathlib.Path) -> pathlib.Path:
    """Returns the run in a folder, or the only one below it."""
    if folder.is_dir() and not (folder / run_files.RUN).exists() and not (folder / run_files.STUDY).exists():
        below, _ = folders_below(folder, [])
        if len(below) == 1:
            return below[0]
        if below:
            raise UsageError(
                f"{folder} holds {len(below)} runs, such as {below[0]}.\nGive one of them, or compare all of them with "
                f"statistics: {home.COMMAND} report {folder} OTHER_FOLDER"
            )
    return folder


def _settings(rows: Sequence[RunRow], contents: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Returns a line for everything that differs apart from the numbers."""
    found: dict[str, list[str]] = {"experiment": [row.experiment for row in rows]}
    found |= {knob: [knob_text(row.knobs.get(knob, ABSENT)) for row in rows] for knob in varied_knobs(rows)}
    latest = [identity.latest_conditions(content) for content in contents]
    found |= {
        "seed": [str(row.seed) for row in rows],
        "precision": [row.precision for row in rows],
        "steps": [f"{content.get('steps', NOTHING)}" for content in contents],
        "data": [_data(content) for content in contents],
        "code": [identity.code_summary(content) or str(content.get("commit"))[:12] for content in contents],
        "initial weights": [_weights(content) for content in contents],
        "devices": [identity.counted_devices(one.get("devices")) for one in latest],
        "strategy": [str(one.get("strategy")) for one in latest],
    }
    versions = [content.get("versions") or {} for content in latest]
    names = dict.fromkeys(name for known in versions for name in known)
    found |= {name: [str(known.get(name, NOTHING)) for known in versions] for name in names}
    return [Line(name, tuple(values)) for name, values in found.items() if len(set(values)) > 1]


def _data(content: Mapping[str, Any]) -> str:
    data = content.get("data") or {}
    return f"{data.get('name', 'unknown')} {str(data.get('fingerprint', ''))[:8]}"


def _weights(content: Mapping[str, Any]) -> str:
    return ", ".join(sorted(str(value)[:8] for value in (content.get("weights") or {}).values())) or "none"


def _numbers(rows: Sequence[RunRow]) -> list[Line]:
    """Returns a line for every metric of a measured split that any run has, and for the time."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    measured = [name for name in names if not name.startswith("train/")] or names
    found = []
    for name in sorted(measured, key=lambda one: (not one.startswith("test/"), names.index(one))):
        split, _, metric_name = name.rpartition("/")
        metric = next((row.declared[metric_name] for row in rows if metric_name in row.declared), Metric(metric_name))
        values = [row.metrics.get(name) for row in rows]
        label = f"{split} {metric.label}{f', {metric.shown_unit}' if metric.shown_unit else ''}"
        gaps = [_difference(value, values[0], metric) for value in values[1:]]
        found.append(
            Line(
                label,
                tuple(number(value, metric) for value in values),
                tuple(gap[0] for gap in gaps),
                tuple(gap[1] for gap in gaps),
            )
        )
    if any(row.seconds is not None for row in rows):
        found.append(Line("time", tuple(seconds(row.seconds) for row in rows)))
    return found


def _difference(value: float | None, first: float | None, metric: Metric) -> tuple[str, str]:
    """Returns (the difference from the first run as text, better, worse or nothing)."""
    if value is None or first is None or not math.isfinite(value - first):
        return "", ""
    gap = value - first
    text = format_number(gap, "+.2f" if metric.is_share else "+.4g", metric.factor)
    if metric.higher_is_better is None or gap == 0:
        return text, ""
    return text, "better" if (gap > 0) == metric.higher_is_better else "worse"


def _remarks(rows: Sequence[RunRow], contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns why a difference of the numbers may have another reason than the knobs."""
    remarks = [
        f"{LETTERS[i]} is {row.state} at step {row.step:,}: its numbers are those of that step."
        for i, row in enumerate(rows)
        if row.state != "finished"
    ]
    if len({row.metric.rpartition("/")[2] for row in rows if row.metric}) > 1 and not _shared_metric(rows):
        remarks.append("Not comparable: the runs have no metric in common.")
    knobs = varied_knobs(rows)
    last_names = {knob.rpartition(".")[2] for knob in knobs}
    allow = ["steps"] if last_names & {"duration", "batch_size"} else []
    differing = what_differs(list(zip(LETTERS, contents, strict=False)), ("data", "splits", "steps", "code"), allow)
    for kind, values in differing.items():
        parts = "; ".join(f"{value} in {', '.join(names)}" for value, names in values.items())
        remarks.append(f"Not comparable: they differ in {kind}: {parts}.")
    if "code" in differing:
        remarks += _changed_files(contents)
    seeds = {row.seed for row in rows}
    if len(seeds) > 1 and knobs:
        remarks.append("The seeds differ as well as the knobs, so a part of the difference is chance.")
    return remarks


def _shared_metric(rows: Sequence[RunRow]) -> set[str]:
    return set.intersection(*(set(row.metrics) for row in rows)) if rows else set()


def _changed_files(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns which files of code differ from those of the first run."""
    first, *others = (identity.recorded_identity(content) for content in contents)
    texts = [one.text for other in others for one in identity.differences(first, other) if one.kind == "code"]
    return [f"It is {text}." for text in dict.fromkeys(texts)]


def comparison_lines(found: Comparison, terminal: Terminal) -> list[str]:
    """Returns the lines of a comparison; runs that do not fit side by side follow in further tables, each with the first."""
    lines = []
    for letter, row in zip(LETTERS, found.rows, strict=False):
        name = terminal.shorten(clean(row.name), terminal.width - len(row.state) - 6)
        lines.append(f"{letter}  {name}  {terminal.paint(row.state, row.state)}")
    widths = [_width(found, number) for number in range(len(found.rows))]
    names = max((columns(line.name) for line in (*found.settings, *found.numbers)), default=0)
    room = terminal.width - min(names, terminal.width // 3)
    left = list(range(1, len(found.rows)))
    while left:
        chosen = [0, left.pop(0)]
        while left and sum(widths[number] for number in (*chosen, left[0])) <= room:
            chosen.append(left.pop(0))
        lines += ["", *_block(found, terminal, chosen)]
    if not found.settings:
        lines += ["", "The runs agree in every knob, in seed, code, data and devices."]
    remarks = [line for remark in found.remarks for line in terminal.wrap(f"! {remark}")]
    return [*lines, *([""] if remarks else []), *remarks]


def _width(found: Comparison, number: int) -> int:
    """Returns the columns that a run takes in a table, its difference from the first one included."""
    lines = (*found.settings, *found.numbers)
    width = GAP + max((min(columns(line.values[number]), WIDEST_CELL) for line in lines), default=1)
    if number == 0:
        return width
    return width + GAP + max([3, *(columns(line.differences[number - 1]) for line in lines if line.differences)])


def _block(found: Comparison, terminal: Terminal, chosen: Sequence[int]) -> list[str]:
    """Returns the table of some of the runs, by their numbers, with the lines in which these differ or have a number."""
    settings = [line for line in found.settings if len({line.values[i] for i in chosen}) > 1]
    numbers = [line for line in found.numbers if any(line.values[i] != NOTHING for i in chosen)]
    lines = [*settings, *numbers]
    shown = [Column("", [terminal.shorten(clean(line.name), max(terminal.width // 3, 16)) for line in lines])]
    for i in chosen:
        values = [terminal.shorten(line.values[i], WIDEST_CELL) for line in lines]
        shown.append(Column(LETTERS[i], values, is_right=True, least=8))
        if i:
            gaps = [line.differences[i - 1] if line.differences else "" for line in lines]
            purposes = [line.purposes[i - 1] if line.purposes else "" for line in lines]
            shown.append(Column(f"{LETTERS[i]}−A", gaps, is_right=True, rank=1, purposes=purposes))
    drawn = table(terminal, shown)
    cut = 1 + len(settings)
    return [*drawn[:cut], *([""] if settings and numbers else []), *drawn[cut:]]


def as_json(found: Comparison) -> str:
    """Returns the comparison as JSON: runs with their numbers as measured, what differs, remarks."""
    content = {
        "runs": [{"folder": str(row.folder), "state": row.state, "metrics": dict(row.metrics)} for row in found.rows],
        "differing": {line.name: list(line.values) for line in found.settings},
        "remarks": list(found.remarks),
    }
    return json.dumps(content, indent=1)
