"""Draws a chart as a standalone SVG file that can be shown on a slide: fixed size, no style sheet, light or dark. No jax."""

import dataclasses
import html
import math
from collections.abc import Sequence

from cnnlab.ablation.report.svg import Axis

WIDTH, HEIGHT = 960, 540
SMALL, NORMAL, LARGE = 15, 17, 24
"""Sizes of text in pixels: ticks and notes, labels, the title."""
LETTER = 0.53
"""Mean width of a letter of a sans-serif font as a share of its size; bold letters are a fifth wider, as in DejaVu Sans, which
is the widest of the usual fonts."""
DASHES = ("", "9 5", "2 5", "12 4 2 4", "5 3", "16 6", "1 4", "8 3 2 3")
"""Dash patterns of lines in their order, so that no reader needs the colour."""


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a chart: those of Okabe and Ito 2008 that have enough contrast to the background."""

    name: str
    background: str
    ink: str
    soft: str
    grid: str
    band: str
    series: tuple[str, ...]


LIGHT = Theme(
    "light",
    background="#ffffff",
    ink="#1f2328",
    soft="#57606a",
    grid="#d8dee4",
    band="#e7eef6",
    series=("#0072b2", "#c24e00", "#007a59", "#a8518a", "#946200", "#2a7fb0", "#5b5b5b", "#7a3e9d"),
)
DARK = Theme(
    "dark",
    background="#0d1117",
    ink="#e6edf3",
    soft="#9da7b1",
    grid="#30363d",
    band="#1b2838",
    series=("#56b4e9", "#ff9d4d", "#2fd3a5", "#e79ac5", "#f0e442", "#8fb8ff", "#bdbdbd", "#c9a0ff"),
)


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def across(self, axis: Axis, value: float) -> float:
        """Returns the horizontal position of a value."""
        return self.left + (self.right - self.left) * axis.share(value)

    def down(self, axis: Axis, value: float) -> float:
        """Returns the vertical position of a value."""
        return self.bottom - (self.bottom - self.top) * axis.share(value)


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Returns about how many pixels wide a text is."""
    return len(text) * size * LETTER * (1.2 if bold else 1)


def wrapped(text: str, width: float, size: float, *, most: int, bold: bool = False) -> list[str]:
    """Returns the text in lines of at most `width` pixels, at most `most` of them; an ellipsis ends what does not fit."""
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(f"{lines[-1]} {word}", size, bold=bold) <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    room = max(int(width / width_of("a", size, bold=bold)), 2)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])[:room]]
        lines[-1] = f"{lines[-1][: room - 1].rstrip()}…"
    return [line if len(line) <= room else f"{line[: room - 1]}…" for line in lines]


def fitted(text: str, width: float, sizes: Sequence[tuple[int, int]], *, bold: bool = False) -> tuple[int, list[str]]:
    """Returns (size, lines) of a text: the first of some pairs (size, most lines) into which it fits, else the last one."""
    for size, most in sizes:
        lines = wrapped(text, width, size, most=most, bold=bold)
        if not lines or not lines[-1].endswith("…"):
            break
    # A narrower column that needs no more lines makes them about equally long.
    narrow = [wrapped(text, width * share / 20, size, most=most + 1, bold=bold) for share in range(10, 20)]
    return size, next((found for found in narrow if found and len(found) <= len(lines) and "…" not in found[-1]), lines)


class Canvas:
    """A drawing that grows by parts and ends as an SVG file."""

    def __init__(self, theme: Theme, title: str) -> None:
        self.theme = theme
        self._title = title
        self._parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = NORMAL,
        anchor: str = "start",
        color: str = "",
        bold: bool = False,
        turned: bool = False,
    ) -> None:
        """Writes a line of text; `turned` ones read upwards."""
        weight = ' font-weight="600"' if bold else ""
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color or self.theme.ink}"'
            f"{weight}{turn}>{html.escape(text)}</text>"
        )

    def line(self, *points: tuple[float, float], color: str = "", width: float = 1.0, dash: str = "") -> None:
        """Draws a line through points."""
        path = " ".join(f"{'M' if not i else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{color or self.theme.soft}" stroke-width="{width}" '
            f'stroke-linejoin="round" stroke-linecap="round"{dashed}/>'
        )

    def area(self, points: Sequence[tuple[float, float]], *, color: str, opacity: float = 1.0) -> None:
        """Fills a polygon."""
        path = " ".join(f"{'M' if not i else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
        self._parts.append(f'<path d="{path}Z" fill="{color}" fill-opacity="{opacity}"/>')

    def mark(self, x: float, y: float, kind: int, *, color: str, hollow: bool = False, size: float = 6.0) -> None:
        """Draws one of four marks: a circle, a square, a triangle, a diamond."""
        s, r = size, 1.3 * size
        shapes = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s:.1f}"',
            f'<rect x="{x - 0.9 * s:.1f}" y="{y - 0.9 * s:.1f}" width="{1.8 * s:.1f}" height="{1.8 * s:.1f}"',
            f'<path d="M{x:.1f} {y - 1.2 * s:.1f}L{x + 1.1 * s:.1f} {y + 0.8 * s:.1f}H{x - 1.1 * s:.1f}Z"',
            f'<path d="M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f} {-r:.1f} {r:.1f} {-r:.1f} {-r:.1f}Z"',
        )
        fill = self.theme.background if hollow else color
        self._parts.append(f'{shapes[kind % len(shapes)]} fill="{fill}" stroke="{color}" stroke-width="2"/>')

    def svg(self) -> str:
        """Returns the content of the file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'role="img" aria-label="{html.escape(self._title)}" font-family="Helvetica, Arial, Liberation Sans, sans-serif">\n'
            f"<title>{html.escape(self._title)}</title>\n"
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{self.theme.background}"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )


def ticks(axis: Axis, most: int) -> list[float]:
    """Returns at most `most` round numbers on an axis, whole decades where a logarithmic one is long."""
    return [value for value in axis.ticks(most) if axis.low <= value <= axis.high or math.isclose(value, axis.low)]
