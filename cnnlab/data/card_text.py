"""Shows the card of a data set: as text for a terminal, and a sheet of examples as a figure. Imports no jax."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlab.data.card import Card, Copies, Pixels, spread
from cnnlab.data.kinds import Boxes, Label, Mask, MultiLabel, Name, Target
from cnnlab.data.source import LazyImages, Source
from cnnlab.terminal import Column, Terminal, clean, table
from cnnlab.text import counted, format_bytes, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 30
"""Classes that the text lists; JSON has all."""
SHEET = 48
"""Examples on a sheet at most."""
SHEET_COLUMNS = 8
LARGEST_TILE = 160
"""Pixels of the longer side of an image on a sheet; larger images are made smaller."""
COLOURS = ((230, 60, 50), (60, 120, 230), (50, 170, 80), (240, 160, 20), (150, 80, 200), (0, 170, 180))
"""RGB of boxes and masks, by the number of the class."""


def card_lines(card: Card, terminal: Terminal) -> list[str]:
    """Returns the lines of a card."""
    total = sum(card.splits.values())
    sizes = ", ".join(f"{split} {size:,}" for split, size in card.splits.items())
    memory = "images of several sizes" if card.memory is None else f"{format_bytes(card.memory)} decoded"
    disk = "" if card.disk is None else f", {format_bytes(card.disk)} on disk"
    lines = [
        *terminal.wrap(f"{card.name}: {counted(total, 'example')} ({sizes}); {memory}{disk}"),
        terminal.paint(terminal.shorten(f"fingerprint {card.fingerprint}", terminal.width), "quiet"),
        "",
        *table(
            terminal,
            [
                Column("column", [clean(name) for name in card.columns], least=12),
                Column("kind", [kind for kind, _ in card.columns.values()]),
                Column("values", [clean(text) for _, text in card.columns.values()], least=20, shortens_at_end=True),
            ],
        ),
    ]
    for name, pixels in card.pixels.items():
        lines += ["", *_pixel_lines(name, pixels, terminal)]
    for name, classes in card.classes.items():
        lines += ["", *_class_lines(name, classes, terminal)]
    lines += ["", *_copy_lines(card, terminal)]
    for remark in card.remarks:
        lines += terminal.wrap(f"! {remark}")
    return lines


def _pixel_lines(name: str, pixels: Pixels, terminal: Terminal) -> list[str]:
    """Returns the sizes of images and a table of their channels."""
    sides = []
    for side, (least, median, most) in pixels.sides.items():
        sides.append(f"{side} {least}" if least == most else f"{side} {least} to {most} (median {median})")
    numbers = [[f"{value:.4f}" for value in (one.mean, one.sd, one.low, one.high)] for one in pixels.channels]
    heads = ("mean", "sd", "lowest", "highest")
    return [
        *terminal.wrap(
            f"{clean(name)}: {', '.join(sides)}; channels of {counted(pixels.examined, 'training image')}, 255 as 1"
        ),
        *table(
            terminal,
            [
                Column("channel", [str(number) for number in range(len(numbers))]),
                *(
                    Column(head, [row[i] for row in numbers], True, rank=i // 2) for i, head in enumerate(heads)
                ),  # extremes go first
            ],
            indent="  ",
        ),
    ]


def _class_lines(name: str, classes: Mapping[str, Mapping[str, int]], terminal: Terminal) -> list[str]:
    """Returns how often each class occurs in each split; of many classes the first ones, the rarest and the most frequent."""
    labels = list(classes)
    shown = labels[: MOST_CLASSES if len(labels) > MOST_CLASSES + 1 else None]
    splits = list(classes[labels[0]])
    lines = table(
        terminal,
        [
            Column(clean(name), [clean(label) for label in shown], least=12),
            *(Column(split, [f"{classes[label][split]:,}" for label in shown], is_right=True) for split in splits),
        ],
    )
    trained = {label: counts.get("train", 0) for label, counts in classes.items()}
    if len(shown) < len(labels):
        rarest, commonest = min(labels, key=trained.__getitem__), max(labels, key=trained.__getitem__)
        ends = f"in train {trained[rarest]:,} of {clean(rarest)} to {trained[commonest]:,} of {clean(commonest)}"
        lines += terminal.wrap(f"and {counted(len(labels) - len(shown), 'class', 'classes')} more; {ends}")
    return lines


def _copy_lines(card: Card, terminal: Terminal) -> list[str]:
    """Returns a sentence for the copies within each split and between splits."""
    lines = [line for found in card.copies for line in terminal.wrap(f"! {copies_in_words(found)}")]
    compared = [split for split in card.splits if split not in card.not_compared]
    if not card.copies and compared and card.pixels:
        lines.append("no image is a copy of another")
    if card.not_compared:
        lines += terminal.wrap(
            f"not compared, because they are decoded on request: the images of {' and '.join(card.not_compared)}"
        )
    return lines


def copies_in_words(found: Copies) -> str:
    """Returns `2 test images are copies of train images, 1 of them with another label: 3 is 77, 9 is 12`."""
    is_one = found.images == 1
    what = f"{counted(found.images, f'{found.split} image')} {'is a copy' if is_one else 'are copies'} of "
    what += f"other {found.split} images" if found.of == found.split else f"{found.of} images"
    other = f", {found.other_labels:,} of them with another label" if found.other_labels else ""
    return f"{what}{other}: number {listed((f'{here} is {there}' for here, there in found.pairs), len(found.pairs))}"


def example_sheet(source: Source, split: str = "train", most: int = SHEET) -> "Figure":
    """Returns a figure of examples of every class in turn, with their labels, boxes and masks.

    Args:
        source: the data set.
        split: the split that is shown.
        most: number of examples at most.
    """
    from cnnlab import figures

    part = source.splits[split]
    labels = part.labels if isinstance(source.kinds.get("label"), Label) else None
    chosen = spread(labels, len(part), most)
    tiles = [_tile(source, split, position) for position in chosen.tolist()]
    high, wide = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    page = np.full((len(tiles), high, wide, 3), 255, np.uint8)
    for place, tile in zip(page, tiles, strict=True):  # in the middle of its place
        top, left = (high - tile.shape[0]) // 2, (wide - tile.shape[1]) // 2
        place[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    captions = [caption(source, split, position) for position in chosen.tolist()]
    return figures.image_grid(page, captions, title=f"{source.name}, {split}", columns=SHEET_COLUMNS)


def _tile(source: Source, split: str, position: int) -> np.ndarray:
    """Returns one image in colour with its boxes and masks, u8 [H, W, 3], its longer side at most LARGEST_TILE."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    part = source.splits[split]
    images = part.images
    image = np.asarray(images.read([position])[0] if isinstance(images, LazyImages) else images[position])
    if image.dtype != np.uint8:
        image = np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    if image.shape[-1] != 3:  # [H, W, C] -> [H, W, 1] -> [H, W, 3]
        image = np.round(image.mean(-1, keepdims=True)).astype(np.uint8).repeat(3, -1)
    for name, kind in source.kinds.items():
        values: Any = part.columns[name]
        if isinstance(kind, Mask) and (values := _one(values, position)).shape[:2] == image.shape[:2]:
            image = _with_mask(image, values.reshape(image.shape[:2]), kind)
    picture = Picture.fromarray(image)
    factor = min(1.0, LARGEST_TILE / max(picture.size))
    picture = picture.resize([max(1, round(side * factor)) for side in picture.size]) if factor < 1 else picture
    draw = ImageDraw.Draw(picture)
    for name, kind in source.kinds.items():
        if isinstance(kind, Boxes):
            values = part.columns[name]
            for place in np.flatnonzero(values["valid"][position]).tolist():
                colour = COLOURS[int(values["label"][position, place]) % len(COLOURS)]
                draw.rectangle([float(side) * factor for side in values["corners"][position, place]], outline=colour, width=2)
    return np.asarray(picture)


def _one(values: Any, position: int) -> np.ndarray:
    """Returns the value of one example of a column in memory or on the disk."""
    return np.asarray(values.read([position])[0] if isinstance(values, LazyImages) else values[position])


def _with_mask(image: np.ndarray, mask: np.ndarray, kind: Mask) -> np.ndarray:
    """Returns an image u8 [H, W, 3] in which the pixels of every class but the first are tinted, and ignored ones white."""
    tinted = image.astype(np.float32)
    for number in np.unique(mask).tolist():
        if number == 0:
            continue
        colour = (255, 255, 255) if number == kind.ignore else COLOURS[(number - 1) % len(COLOURS)]
        tinted[mask == number] = 0.5 * tinted[mask == number] + 0.5 * np.array(colour, np.float32)
    return tinted.round().astype(np.uint8)


def caption(source: Source, split: str, position: int) -> str:
    """Returns what the columns say of an example in a line: its classes, numbers, boxes or, without any, its name."""
    said, part = [], source.splits[split]
    for name, kind in source.kinds.items():
        values: Any = part.columns[name]
        if isinstance(kind, Label):
            said.append(kind.names[int(values[position])])
        elif isinstance(kind, MultiLabel):
            said.append(" + ".join(kind.names[i] for i in np.flatnonzero(values[position])) or "none")
        elif isinstance(kind, Target):
            said.append(", ".join(f"{number:.3g}" for number in values[position].tolist()))
        elif isinstance(kind, Boxes):
            said.append(counted(int(values["valid"][position].sum()), "box", "boxes"))
    if not said:
        names = getattr(part.images, "names", ())
        texts = [str(part.columns[name][position]) for name, kind in source.kinds.items() if isinstance(kind, Name)]
        said = [str(names[position]) if len(names) else (texts or [f"number {position}"])[0]]
    return clean(", ".join(said))
