"""The page that every figure is drawn on: colours, fonts, positions, and how it becomes a file or an array.

Positions are in inches from the upper left corner, font sizes in points.
"""

import math
import os
import pathlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cnnlab.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito, "Color Universal Design" (2008): distinguishable with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, SOFT, RULE = "#222222", "#666666", "#E3E3E3"
GOOD, BAD = GREEN, ORANGE
"""Colours of the caption of a right and of a wrong prediction."""

FONT = "DejaVu Sans"  # comes with matplotlib, so pictures are the same everywhere
TITLE, TEXT, SMALL = 13.0, 10.0, 8.5  # points
DPI, SAVED_DPI = 100, 200
MARGIN = 0.3  # inches around a page


def blank_page(width: float, height: float) -> "Figure":
    """Returns an empty page of this size, rounded up to whole dots."""
    from matplotlib.figure import Figure

    size = [math.ceil(inches * DPI - 1e-6) / DPI for inches in (width, height)]  # whole dots, or images would be blurred
    figure = Figure(figsize=(size[0], size[1]), dpi=DPI, facecolor="white")
    figure.set_layout_engine("none")  # whatever the user's matplotlibrc says
    return figure


def place_axes(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Adds axes in the style of these figures: two thin spines, small labels."""
    across, down = figure.get_size_inches()
    axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down), facecolor="white")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=SOFT, linewidth=0.8)
    axes.tick_params(colors=SOFT, labelsize=SMALL, labelfontfamily=FONT, width=0.8, length=3)
    return axes


def text_style(
    *, size: float = TEXT, color: str = INK, ha: str = "left", va: str = "top", bold: bool = False
) -> dict[str, Any]:
    """Returns keyword arguments for a matplotlib text, without mathematics: class names may contain dollar signs."""
    type_face = {"fontfamily": FONT, "fontsize": size, "fontweight": "bold" if bold else "normal"}
    return {"color": color, "ha": ha, "va": va, "parse_math": False, **type_face}


def place_text(figure: "Figure", left: float, top: float, text: str, **style: Any) -> None:
    """Writes one line on the page; `style` as in `text_style`."""
    across, down = figure.get_size_inches()
    figure.text(left / across, 1 - top / down, text, **text_style(**style))


def below_heading(note: str) -> float:
    """Returns where the heading ends, with or without a note."""
    return MARGIN + (0.62 if note else 0.38)


def place_heading(figure: "Figure", title: str, note: str) -> None:
    """Writes the title and, smaller beneath it, the note, each truncated to the width of the page."""
    across = figure.get_size_inches()[0] - 2 * MARGIN
    place_text(figure, MARGIN, MARGIN, fit_text(title, across, TITLE * 1.12), size=TITLE, bold=True)
    place_text(figure, MARGIN, MARGIN + 0.27, fit_text(note, across, SMALL), size=SMALL, color=SOFT)


def _font(points: float) -> Any:
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont(FONT))  # one object for each thread
    font.set_size(points, 72)
    return font


def text_width(text: str, points: float) -> float:
    """Returns the width of one line in inches."""
    font = _font(points)
    font.set_text(text)
    return font.get_width_height()[0] / 64 / 72


def fit_text(text: str, inches: float, points: float) -> str:
    """Fits text into one line of this width by leaving out its middle; a character that the font lacks becomes a ?."""
    font = _font(points)
    text = "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in " ".join(text.split()))
    if text_width(text, points) <= inches:
        return text
    for keep in range(len(text) - 1, 1, -1):
        cut = f"{text[: keep - keep // 2].rstrip()}…{text[len(text) - keep // 2 :].lstrip()}"
        if text_width(cut, points) <= inches:
            return cut
    return "…"


def format_number(value: float) -> str:
    """Formats a number with three digits and a typographic minus sign."""
    return f"{value:.3g}".replace("-", "−")


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a PNG at 200 dots per inch, atomically."""

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png", dpi=SAVED_DPI, metadata={"Software": None})

    replace_file(pathlib.Path(path), write)


def as_pixels(figure: "Figure") -> np.ndarray:
    """Renders the figure to u8 [H, W, 3] at 100 dots per inch, for TensorBoard."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()  # [H, W, RGBA] -> [H, W, RGB]
