"""What a terminal can show: its width, colours and letters; rows of cells aligned so that no line wraps. Imports no jax."""

import dataclasses
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence

from cnnlab.text import printable

GAP = 2
"""Spaces between two columns."""
SHORTEST = 6
"""Columns to which a cell is shortened where a terminal is too narrow even for the least widths."""
COLOURS = {
    "finished": "32",
    "running": "1;36",
    "stale": "33",
    "preempted": "33",
    "stopped": "33",
    "unfinished": "33",
    "failed": "31",
    "diverged": "31",
    "damaged": "31",
    "better": "32",
    "worse": "31",
    "pruned": "2",
    "not begun": "2",
    "quiet": "2",
    "title": "1",
}
"""{state or purpose: the numbers of its ANSI escape sequence}."""


@dataclasses.dataclass(frozen=True)
class Terminal:
    """How lines are written."""

    width: int = 80
    height: int = 24
    has_colours: bool = False
    has_signs: bool = True
    """Whether its encoding has signs beyond ASCII, so that an ellipsis takes one column."""

    @classmethod
    def of_stdout(cls) -> "Terminal":
        """Returns what stdout shows: colours on a terminal alone and not where $NO_COLOR is set; $COLUMNS counts everywhere."""
        size = shutil.get_terminal_size((120, 24))
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
        return cls(max(size.columns, 40), max(size.lines, 6), colours, encoding.startswith("utf"))

    def paint(self, text: str, purpose: str) -> str:
        """Returns a text in the colour of a state or a purpose; as it is where there are none."""
        colour = COLOURS.get(purpose)
        return f"\x1b[{colour}m{text}\x1b[0m" if self.has_colours and colour and text else text

    def shorten(self, text: str, width: int, *, at_end: bool = False) -> str:
        """Returns a text in at most `width` columns; its middle, or its end, is replaced by an ellipsis."""
        if columns(text) <= width:
            return text
        ellipsis = "…" if self.has_signs else "~"
        head = width - 1 if at_end else width // 2
        return f"{_first(text, head)}{ellipsis}{'' if at_end else _last(text, width - 1 - head)}"

    def wrap(self, text: str, *, first: str = "", following: str = "  ") -> list[str]:
        """Returns the lines of a sentence, the first and the others indented."""
        return textwrap.wrap(clean(text), self.width, initial_indent=first, subsequent_indent=following, break_on_hyphens=False)

    def command(self, words: str, indent: str = "  ") -> list[str]:
        r"""Returns a command in lines that a shell takes as one, joined by `\`."""
        lines = textwrap.wrap(
            clean(words), self.width - 2, initial_indent=indent, subsequent_indent=indent * 2, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip
        return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def clean(text: str) -> str:
    """Returns a text without letters that would move the cursor, such as a line break in the name of a folder."""
    shown = printable(text)
    return shown if shown.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in shown)


def columns(text: str) -> int:
    """Returns how many columns a text takes: wide letters take two, and marks that combine with a letter none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _first(text: str, width: int) -> str:
    kept, used = [], 0
    for sign in text:
        used += columns(sign)
        if used > width:
            break
        kept.append(sign)
    return "".join(kept)


def _last(text: str, width: int) -> str:
    return _first(text[::-1], width)[::-1]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table."""

    head: str
    cells: Sequence[str]
    is_right: bool = False
    """Whether it is aligned right, as numbers are."""
    least: int | None = None
    """Columns to which it may be shortened; None: it is shown whole."""
    rank: int = 0
    """Columns of the highest rank are left out first where a line would be too long; 0: never."""
    shortens_at_end: bool = False
    purposes: Sequence[str] = ()
    """For each cell the state or purpose that gives its colour; empty: none."""

    @property
    def width(self) -> int:
        """The columns that it takes whole."""
        return max(map(columns, [self.head, *self.cells]), default=0)


def table(terminal: Terminal, chosen: Sequence[Column], indent: str = "") -> list[str]:
    """Returns the lines of a table, none of which is wider than the terminal.

    Columns without content are left out, then those of the highest rank until the others fit, shortened as far as they may be.

    Args:
        terminal: where it is shown.
        chosen: the columns from left to right.
        indent: what every line begins with.
    """
    kept = [column for column in chosen if any(column.cells) or column.rank == 0]
    room = terminal.width - len(indent)

    def needed(some: Sequence[Column]) -> int:
        return sum(min(one.width, one.width if one.least is None else one.least) + GAP for one in some) - GAP

    while needed(kept) > room and (last := max(kept, key=lambda one: one.rank)).rank > 0:
        kept.remove(last)
    spare = room - needed(kept)
    widths = []
    for column in kept:  # from the left, each gets what it lacks, or gives up what a line still has too much
        width = column.width if column.least is None else min(column.width, column.least)
        if column.least is not None:
            change = max(min(column.width - width, spare), min(SHORTEST - width, 0))
            width, spare = width + change, spare - change
        widths.append(width)

    def line(cells: Sequence[str], purposes: Sequence[str]) -> str:
        parts = []
        for column, width, cell, purpose in zip(kept, widths, cells, purposes, strict=True):
            shown = terminal.shorten(cell, width, at_end=column.shortens_at_end)
            pad = " " * (width - columns(shown))
            painted = terminal.paint(shown, purpose)
            parts.append(pad + painted if column.is_right else painted + pad)
        return (indent + (" " * GAP).join(parts)).rstrip()

    lines = [line([column.head for column in kept], ["quiet"] * len(kept))]
    for row in range(len(chosen[0].cells)):
        purposes = [column.purposes[row] if column.purposes else "" for column in kept]
        lines.append(line([column.cells[row] for column in kept], purposes))
    return lines
