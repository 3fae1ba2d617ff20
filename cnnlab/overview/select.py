"""Which rows of an overview are shown, and in what order. Imports no jax."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence

from cnnlab.errors import UsageError, did_you_mean
from cnnlab.overview.rows import STATES, Overview, RunRow

ORDERS: dict[str, Callable[[RunRow], object]] = {
    "time": lambda row: -(row.changed or 0.0),
    "name": lambda row: row.name,
    "state": lambda row: STATES.index(row.state),
    "experiment": lambda row: row.experiment,
    "step": lambda row: -row.step,
    "seconds": lambda row: -(row.seconds or 0.0),
}
"""{word of --sort: key}; the newest, and the largest number, come first."""


def select(overview: Overview, states: Sequence[str], experiments: Sequence[str], sort: str) -> Overview:
    """Returns the overview with the chosen rows in order; a study keeps its row where it has such a run.

    Args:
        overview: everything that was found.
        states: states to show; empty: all.
        experiments: experiments to show, by their names or the names of their files; empty: all.
        sort: `time`, `name`, `state`, `experiment`, `step`, `seconds`, `metric`, or the name of a metric or a knob; with a
            minus sign before it, the other way round.
    """
    for state in states:
        if state not in STATES:
            raise UsageError(f"--state={state}: no such state.{did_you_mean(state, list(STATES))} States: {', '.join(STATES)}.")

    def is_shown(row: RunRow, experiment: str) -> bool:
        named = not experiments or {experiment, pathlib.Path(experiment).stem} & set(experiments)
        return bool(named) and (not states or row.state in states)

    ordered = order(sort, overview.runs)
    studies = [
        dataclasses.replace(study, runs=ordered([run for run in study.runs if is_shown(run, study.experiment)]))
        for study in overview.studies
    ]
    loose = ordered([row for row in overview.loose if is_shown(row, row.experiment)])
    studies = sorted((study for study in studies if study.runs), key=lambda study: -(study.changed or 0.0))
    return dataclasses.replace(overview, studies=tuple(studies), loose=loose)


def order(sort: str, runs: Sequence[RunRow]) -> Callable[[Sequence[RunRow]], tuple[RunRow, ...]]:
    """Returns the function that sorts rows; raises UsageError for a word that is neither an order, a metric nor a knob.

    Args:
        sort: as on the command line.
        runs: all runs there are, whose metrics and knobs may be named.
    """
    is_reversed, word = sort.startswith("-"), sort.removeprefix("-")
    key = ORDERS.get(word) or _by_metric(word, runs) or _by_knob(word, runs)
    if key is None:
        known = [*ORDERS, "metric", *dict.fromkeys(name for run in runs for name in (*run.metrics, *run.knobs))]
        raise UsageError(
            f"--sort={word}: no such order.{did_you_mean(word, known)}\n"
            f"Give one of {', '.join([*ORDERS, 'metric'])}, or the name of a metric or a knob of these runs."
        )
    chosen = key

    def sorted_rows(rows: Sequence[RunRow]) -> tuple[RunRow, ...]:
        """Rows without the value come last in both directions."""
        known = [row for row in rows if chosen(row) is not None]
        missing = [row for row in rows if chosen(row) is None]
        return (*sorted(known, key=chosen, reverse=is_reversed), *missing)  # type: ignore[arg-type]

    return sorted_rows


def _by_metric(word: str, runs: Sequence[RunRow]) -> Callable[[RunRow], object] | None:
    """Returns the key of a metric, the best value first; the largest, where the metric has no sense. None: no such metric."""
    names = {name for run in runs for name in run.metrics}
    if word != "metric" and not any(word in (name, name.rpartition("/")[2]) for name in names):
        return None

    def key(row: RunRow) -> float | None:
        name = next((one for one in (row.metric, *row.metrics) if word in ("metric", one, one.rpartition("/")[2])), "")
        value = row.metrics.get(name)
        if value is None or not math.isfinite(value):
            return None
        declared = row.declared.get(name.rpartition("/")[2])
        return value if declared is not None and declared.higher_is_better is False else -value

    return key


def _by_knob(word: str, runs: Sequence[RunRow]) -> Callable[[RunRow], object] | None:
    """Returns the key of a knob, numbers before texts; None where no run has it."""
    paths = {path for run in runs for path in run.knobs if word in (path, path.rpartition(".")[2])}
    if not paths:
        return None

    def key(row: RunRow) -> tuple[bool, float, str] | None:
        path = next((path for path in row.knobs if path in paths), None)
        if path is None:
            return None
        value = row.knobs[path]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return not is_number, value if is_number else 0.0, str(value)

    return key
