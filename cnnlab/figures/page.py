"""The page that every figure is drawn on: colours, fonts, positions, and how it becomes a file or an array.

Positions are in inches from the upper left corner, font sizes in points.
"""

import bisect
import functools
import math
import os
import pathlib
from collections.abc import Sequence
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

FONT = "DejaVu Sans"
"""The font of all pictures: it comes with matplotlib, so pictures are the same everywhere."""
FALLBACKS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Source Han Sans", "WenQuanYi Zen Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Arial Unicode MS", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai", "Nirmala UI"),
)
"""Fonts that are taken, where they are installed, for letters that FONT lacks, such as Chinese and Japanese ones."""
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
    type_face = {"fontfamily": list(families()), "fontsize": size, "fontweight": "bold" if bold else "normal"}
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


@functools.cache
def families() -> tuple[str, ...]:
    """Returns FONT and those of FALLBACKS that are installed."""
    from matplotlib import font_manager

    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in FALLBACKS if name in installed))


@functools.cache
def _paths(names: tuple[str, ...]) -> list[str]:
    from matplotlib import font_manager

    return [str(font_manager.findfont(name)) for name in names]


def _font(points: float) -> Any:
    from matplotlib import font_manager

    font = font_manager.get_font(_paths(families()))  # one object for each thread
    font.set_size(points, 72)
    return font


def in_letters(text: str) -> str:
    """Returns one line of letters that can be drawn: a letter that no font has becomes its code point, such as U+732B."""
    from matplotlib import font_manager

    fonts = [font_manager.get_font(path) for path in _paths(families())]
    letters = " ".join(text.split())
    return "".join(
        letter if any(font.get_char_index(ord(letter)) for font in fonts) else f"U+{ord(letter):04X}" for letter in letters
    )


def class_labels(names: Sequence[str]) -> list[str]:
    """Returns the names of classes as they are drawn; one that the fonts lack is preceded by the number of its class.

    The number is that in run.json, where the name itself can be read: names stay distinct where their middle is left out.
    Without classes there is one empty name, that of label 0.
    """
    if not names:
        return [""]
    lines = [" ".join(name.split()) for name in names]
    drawn = [in_letters(line) for line in lines]
    return [text if text == line else f"{number}: {text}" for number, (line, text) in enumerate(zip(lines, drawn, strict=True))]


def text_width(text: str, points: float) -> float:
    """Returns the width of one line in inches, as it is drawn: with code points for letters that no font has."""
    return _drawn_width(_font(points), in_letters(text))


def _drawn_width(font: Any, text: str) -> float:
    font.set_text(text)
    return font.get_width_height()[0] / 64 / 72


def fit_text(text: str, inches: float, points: float) -> str:
    """Fits text into one line of this width by leaving out its middle; a letter that no font has becomes its code point."""
    text, font = in_letters(text), _font(points)
    if _drawn_width(font, text) <= inches:
        return text

    def cut(keep: int) -> str:
        return f"{text[: keep - keep // 2].rstrip()}…{text[len(text) - keep // 2 :].lstrip()}"

    # The largest number of letters that fits, by bisection: of long names hundreds may have to go.
    fits = bisect.bisect_right(range(2, len(text)), inches, key=lambda keep: _drawn_width(font, cut(keep)))
    return cut(1 + fits) if fits else "…"


def wrap_text(text: str, inches: float, points: float) -> list[str]:
    """Returns text in lines of at most this width, broken between words; a longer word is shortened."""
    lines: list[str] = []
    for word in in_letters(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, points) <= inches:
            lines[-1] = longer
        else:
            lines.append(fit_text(word, inches, points))
    return lines


def format_number(value: float) -> str:
    """Formats a number with three digits and a typographic minus sign."""
    return f"{value:.3g}".replace("-", "−")


def save(figure: "Figure | np.ndarray", path: str | os.PathLike[str]) -> None:
    """Writes a PNG at 200 dots per inch, atomically; a plain picture u8 [H, W, 3] as it is."""

    def write(file: BinaryIO) -> None:
        if isinstance(figure, np.ndarray):
            from PIL import Image

            Image.fromarray(figure).save(file, format="PNG")
            return
        figure.savefig(file, format="png", dpi=SAVED_DPI, metadata={"Software": None})

    replace_file(pathlib.Path(path), write)


def as_pixels(figure: "Figure | np.ndarray") -> np.ndarray:
    """Renders the figure to u8 [H, W, 3] at 100 dots per inch, for TensorBoard; a plain picture stays as it is."""
    if isinstance(figure, np.ndarray):
        return figure
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()  # [H, W, RGBA] -> [H, W, RGB]
