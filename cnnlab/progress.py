"""A line on stderr that shows the progress of a task. Imports no jax."""

import shutil
import sys
import time

SECONDS = 2.0
"""Shortest time between two lines where stderr is no terminal, such as a log file."""


class ProgressLine:
    """A line that is rewritten on a terminal; elsewhere a new line is printed at most every `seconds` and at the end.

    A line that says the same as the one before is not printed again.
    """

    def __init__(self, *, quiet: bool = False, seconds: float = SECONDS) -> None:
        """Prints nothing where `quiet`."""
        self.is_terminal = sys.stderr.isatty()
        self._quiet, self._seconds = quiet, seconds
        self._shown, self._shown_at = "", float("-inf")
        self._is_open = False

    def show(self, line: str, *, last: bool = False) -> None:
        """Shows `line`; after the last one the terminal's cursor is at the beginning of a new line."""
        now = time.monotonic()
        if self._quiet or (line == self._shown and not (self.is_terminal and last)):
            return
        if not self.is_terminal and not last and now - self._shown_at < self._seconds:
            return
        self._shown, self._shown_at, self._is_open = line, now, self.is_terminal and not last
        if self.is_terminal:  # a line that wraps could not be rewritten
            line = f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}"
        print(line, end="" if self.is_terminal and not last else "\n", file=sys.stderr, flush=True)

    def erase(self) -> None:
        """Removes a line from the terminal that was not the last one."""
        if self._is_open:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        self._shown, self._is_open = "", False

    def close(self) -> None:
        """Leaves the line as it is; what is printed next begins on a new line."""
        if self._is_open:
            print(file=sys.stderr, flush=True)
        self._is_open = False
