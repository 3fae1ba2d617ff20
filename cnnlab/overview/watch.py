"""The live view of an overview: redrawn in place on a terminal, elsewhere a line for each change. Imports no jax."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from cnnlab.errors import Preempted
from cnnlab.overview.rows import Overview, RunRow
from cnnlab.overview.show import number, steps_cell
from cnnlab.terminal import Terminal, clean

WATCH_SECONDS = 2.0
"""Seconds between two looks at the folders."""
OTHER_SCREEN, OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Begin and end of a screen of its own without a cursor, after which the terminal is as it was."""
HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"


def watch(
    look: Callable[[], Overview],
    draw: Callable[[Overview, Terminal], Sequence[str]],
    *,
    is_terminal: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Shows an overview again and again until Ctrl-C; where stdout is no terminal, until nothing runs any more.

    Args:
        look: returns the overview as it is now.
        draw: overview and terminal -> the lines that are shown.
        is_terminal: whether the table is redrawn in place; else it is printed once, then a line for each run that changes.
        sleep: waits for so many seconds.
    """
    with contextlib.suppress(Preempted, KeyboardInterrupt), _interrupt_ends():
        if is_terminal:
            _redraw(look, draw, sleep)
        else:
            _report_changes(look, draw, sleep)


@contextlib.contextmanager
def _interrupt_ends() -> Iterator[None]:
    """Raises KeyboardInterrupt for Ctrl-C, which ends a live view in order; the command's own handler follows afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _redraw(look: Callable[[], Overview], draw: Callable[..., Sequence[str]], sleep: Callable[[float], None]) -> None:
    """Redraws the table on a screen of its own; the last one stays on the terminal."""
    lines: Sequence[str] = []
    try:
        sys.stdout.write(OTHER_SCREEN)
        while True:
            terminal = Terminal.of_stdout()  # it may have been made larger or smaller
            lines = draw(look(), terminal)
            room = terminal.height - 2
            hidden = len(lines) - room
            shown = [*lines[:room], *([f"… {hidden} more lines"] if hidden > 0 else [])]
            foot = terminal.paint(terminal.shorten(f"{time.strftime('%H:%M:%S')}, Ctrl-C ends", terminal.width - 1), "quiet")
            sys.stdout.write(HOME + "".join(f"{line}{TO_LINE_END}\n" for line in shown) + foot + TO_LINE_END + TO_SCREEN_END)
            sys.stdout.flush()
            sleep(WATCH_SECONDS)
    finally:
        sys.stdout.write(OWN_SCREEN)
        print("\n".join(lines), flush=True)


def _report_changes(look: Callable[[], Overview], draw: Callable[..., Sequence[str]], sleep: Callable[[float], None]) -> None:
    """Prints the table, then a line for each run whose state, step or numbers changed, until nothing runs."""
    found = look()
    print("\n".join(draw(found, Terminal.of_stdout())), flush=True)
    before = {row.folder: _essence(row) for row in found.runs}
    while any(row.state == "running" for row in found.runs) or any(study.state == "running" for study in found.studies):
        sleep(WATCH_SECONDS)
        found = look()
        for row in found.runs:
            if before.get(row.folder) != _essence(row):
                before[row.folder] = _essence(row)
                print(change_line(row), flush=True)


def _essence(row: RunRow) -> tuple[object, ...]:
    return row.state, row.step, row.metric, row.value


def change_line(row: RunRow) -> str:
    """Returns `12:00:01  NAME  running  450/9,765  validation accuracy 61.20 %`."""
    split, metric = row.metric.rpartition("/")[0], row.shown_metric
    value = f"{split} {metric.label} {number(row.value, metric)} {metric.shown_unit}".rstrip() if row.metric else ""
    name = f"{row.studies[0]}: {row.name}" if row.studies else row.name
    return "  ".join(filter(None, [time.strftime("%H:%M:%S"), clean(name), row.state, steps_cell(row), value]))
