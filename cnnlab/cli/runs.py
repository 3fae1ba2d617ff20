"""Verbs that show and tidy what was trained: runs, runs compare, runs clean. They import no jax."""

from typing import Literal

from cnnlab.cli.groups import Console


def runs(
    *folders: str,
    state: tuple[str, ...] = (),
    experiment: tuple[str, ...] = (),
    sort: str = "time",
    all: bool = False,
    format: Literal["table", "json", "csv"] = "table",
    console: Console,
) -> int:
    """Lists every run and study below a folder: state, step, metric, age, and how to go on.

    Args:
        folders: folders of runs or studies, or folders above them; none: runs.
        state: show these alone, of running, stale, failed, diverged, damaged, preempted, stopped, not begun, pruned, finished.
        experiment: show the runs of these experiments alone.
        sort: order of the runs: time, name, state, experiment, step, seconds, metric, or a metric or knob by its name; -NAME
            for the other way round.
        all: show the runs of every study below it.
        format: how to print; csv has a row for each run, with the knobs that differ and all metrics.
        console: what is shown.
    """
    from cnnlab.overview import find, show, tables
    from cnnlab.overview.select import select
    from cnnlab.overview.terminal import Terminal

    places = tables.folders_of(folders)
    found = select(find.look(places), state, experiment, sort)
    if format == "table":
        is_named = any(study.folder in places for study in found.studies)
        print("\n".join(show.overview_lines(found, Terminal.of_stdout(), everything=all or is_named)))
    else:
        print(tables.as_json(found) if format == "json" else tables.as_csv(found), end="\n" if format == "json" else "")
    return 0
