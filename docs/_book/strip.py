"""Draws docs/strip.jpg, the picture of the front page, from pictures of the docs: `python docs/_book/strip.py`.

Each part is a piece of a picture whose page names the command that drew it.
"""

import pathlib

from PIL import Image

DOCS = pathlib.Path(__file__).resolve().parents[1]
HEIGHT, GAP = 240, 10
PIECES = (
    ("run.png", (20, 100, 790, 610)),
    ("boxes.png", (294, 95, 552, 217)),
    ("explain.jpg", (23, 265, 173, 415)),
    ("explain.jpg", (819, 265, 969, 415)),
    ("style_and_dream.jpg", (525, 0, 780, 256)),
    ("style_and_dream.jpg", (1048, 0, 1304, 256)),
    ("generated.png", (448, 27, 664, 239)),
)
"""(file, (left, top, right, bottom) in its pixels)."""


def draw() -> Image.Image:
    """Returns the strip, pieces of one height side by side on white."""
    pieces = [Image.open(DOCS / name).convert("RGB").crop(box) for name, box in PIECES]
    pieces = [one.resize((round(one.width * HEIGHT / one.height), HEIGHT), Image.Resampling.LANCZOS) for one in pieces]
    whole = Image.new("RGB", (sum(one.width + GAP for one in pieces) - GAP, HEIGHT), "white")
    left = 0
    for one in pieces:
        whole.paste(one, (left, 0))
        left += one.width + GAP
    return whole


if __name__ == "__main__":
    draw().save(DOCS / "strip.jpg", quality=88)
