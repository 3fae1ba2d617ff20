"""Verbs that show and tidy what was trained: runs, runs compare, runs clean. They import no jax."""

import pathlib
import sys
from typing import Literal

from cnnlab.cli.groups import Console
from cnnlab.errors import UsageError
from cnnlab.text import counted, format_bytes


def runs(
    *folders: str,
    state: tuple[str, ...] = (),
    experiment: tuple[str, ...] = (),
    sort: str = "time",
    all: bool = False,
    watch: bool = False,
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
        watch: redraw the table every two seconds until Ctrl-C; where stdout is no terminal, print a line for each change until
            nothing runs.
        format: how to print; csv has a row for each run, with the knobs that differ and all metrics.
        console: what is shown.
    """
    from cnnlab.overview import find, show, tables
    from cnnlab.overview.rows import Overview, Reader
    from cnnlab.overview.select import select
    from cnnlab.overview.watch import watch as watch_runs
    from cnnlab.terminal import Terminal

    if watch and format != "table":
        raise UsageError(f"--watch redraws a table, not {format}. Leave --format={format} or --watch out.")
    places, reader = tables.folders_of(folders), Reader()

    def look() -> Overview:
        return select(find.look(places, reader), state, experiment, sort)

    def draw(found: Overview, terminal: Terminal) -> list[str]:
        is_named = any(study.folder in places for study in found.studies)
        return show.overview_lines(found, terminal, everything=all or is_named)

    if watch:
        watch_runs(look, draw, is_terminal=sys.stdout.isatty())
    elif format == "table":
        print("\n".join(draw(look(), Terminal.of_stdout())))
    else:
        print(tables.as_json(look()) if format == "json" else tables.as_csv(look()).rstrip("\n"))
    return 0


def runs_compare(*folders: str, format: Literal["table", "json"] = "table", console: Console) -> int:
    """Compares runs with the first of them: the knobs that differ, and code, data, seed and devices, beside their numbers.

    Args:
        folders: folders of two runs or more.
        format: how to print.
        console: what is shown.
    """
    from cnnlab.overview import compare
    from cnnlab.terminal import Terminal

    found = compare.compare([pathlib.Path(folder) for folder in folders])
    print(compare.as_json(found) if format == "json" else "\n".join(compare.comparison_lines(found, Terminal.of_stdout())))
    return 0


def runs_clean(*folders: str, dry_run: bool = False, yes: bool = False, console: Console) -> int:
    """Removes, after asking, failed runs without a checkpoint, superseded runs and what is left over below a folder.

    A run that is running or finished is never touched.

    Args:
        folders: folders of runs, or folders above them; none: runs.
        dry_run: list what would be removed, with sizes, and remove nothing.
        yes: remove it without asking.
        console: what is shown.
    """
    from cnnlab.overview import clean, tables
    from cnnlab.terminal import Terminal

    found = clean.removals(tables.folders_of(folders))
    print("\n".join(clean.removal_lines(found, Terminal.of_stdout())))
    if not found or dry_run or not (yes or _agrees()):
        return 0
    left = {one.path: reason for one in found if (reason := clean.remove(one))}
    for path, reason in left.items():
        print(f"left: {path}: {reason}")
    size = sum(one.size for one in found if one.path not in left)
    print(f"removed: {counted(len(found) - len(left), 'entry', 'entries')}, {format_bytes(size)}")
    return 0


def _agrees() -> bool:
    """Returns whether a person answers yes; raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here, because stdin is no terminal. Add --yes to remove it, or --dry_run.")
    try:
        return input("Remove it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
