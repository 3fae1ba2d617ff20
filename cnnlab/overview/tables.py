"""The overview for other programs: CSV with one tidy row a run, and JSON. Imports no jax."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from cnnlab.ablation.report.csv_tables import csv_table
from cnnlab.overview.rows import Overview, RunRow, StudyRow, iso_time, varied_knobs

COLUMNS = (
    "folder",
    "experiment",
    "study",
    "arm",
    "seed",
    "state",
    "step",
    "steps",
    "metric",
    "value",
    "begun",
    "changed",
    "seconds",
    "attempts",
    "message",
    "command",
)
"""Columns that every table has; those of knobs and metrics follow."""


def as_csv(overview: Overview) -> str:
    """Returns one row a run: what it is, its state, the knobs that differ, and every metric by its SPLIT/NAME.

    A knob that is named as another column gets `knob.` before its name. What a run does not have is empty.
    """
    rows = overview.runs
    knobs = varied_knobs(rows)
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    heads = {knob: f"knob.{knob}" if knob in COLUMNS or knob in metrics else knob for knob in knobs}
    lines = []
    for row in rows:
        cells = {**_cells(row), **row.metrics}
        lines.append(cells | {head: _plain(row.knobs[knob]) for knob, head in heads.items() if knob in row.knobs})
    return csv_table((*COLUMNS, *heads.values(), *metrics), lines)


def _cells(row: RunRow) -> dict[str, Any]:
    """Returns the cells of a run in COLUMNS."""
    return {
        "folder": str(row.folder),
        "experiment": row.experiment,
        "study": "; ".join(row.studies),
        "arm": row.arm,
        "seed": row.seed,
        "state": row.state,
        "step": row.step,
        "steps": row.steps,
        "metric": row.metric,
        "value": row.value,
        "begun": row.begun,
        "changed": iso_time(row.changed),
        "seconds": row.seconds,
        "attempts": row.attempts,
        "message": row.message,
        "command": row.command,
    }


def _plain(value: Any) -> Any:
    """Returns a knob's value as one cell holds it."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def as_json(overview: Overview) -> str:
    """Returns {"studies": […], "runs": […], "problems": […]}."""
    content = {
        "studies": [_study(study) for study in overview.studies],
        "runs": [_run(row) for row in overview.runs],
        "problems": list(overview.problems),
    }
    return json.dumps(content, indent=1)


def _study(study: StudyRow) -> dict[str, Any]:
    return {
        "folder": str(study.folder),
        "experiment": study.experiment,
        "state": study.state,
        "metric": study.metric,
        "runs": dict(study.counts),
        "verdict": study.verdict,
        "changed": iso_time(study.changed),
        "command": study.command,
    }


def _run(row: RunRow) -> dict[str, Any]:
    more = {"precision": row.precision, "process": row.process, "trained_by": row.trained_by}
    return {**_cells(row), "study": list(row.studies), **more, "knobs": dict(row.knobs), "metrics": dict(row.metrics)}


def folders_of(words: Sequence[str]) -> list[pathlib.Path]:
    """Returns the folders of a command; the folder of today's verbs where none is given."""
    return [pathlib.Path(word) for word in words] or [pathlib.Path("runs")]
