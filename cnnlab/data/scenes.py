"""Scenes of several handwritten digits on cluttered canvases, with the class of every pixel, boxes and masks of the objects."""

import dataclasses
from typing import Annotated

import numpy as np

from cnnlab.data.arrays import digits
from cnnlab.data.kinds import Boxes, Image, InstanceMasks, Kind, Mask
from cnnlab.data.source import Source, Split, digest_splits
from cnnlab.errors import UsageError
from cnnlab.values import Count, Range

INK = 0.4
"""Share of the darkest ink above which a pixel of an enlarged digit belongs to its mask."""
TRIES = 10
"""Places that are tried for an object."""
FRAGMENT = 4
"""Side of the parts of digits that lie around as clutter, in pixels of the digits of 8 x 8 (after the cluttered MNIST of Mnih
et al. 2014, arXiv:1406.6247, section 4.1, whose parts are 8 x 8 of 28 x 28)."""


@dataclasses.dataclass(frozen=True)
class _Canvas:
    """What all scenes of a data set have in common."""

    size: int
    sides: tuple[float, float]
    most_objects: int
    visible: float
    clutter: int
    channels: int


@dataclasses.dataclass
class _Scene:
    """A scene while it is drawn; H = W = the size of the canvas, m objects so far."""

    pixels: np.ndarray
    """f32 [H, W, C] in [0, 1]."""
    owners: np.ndarray
    """i32 [H, W]: the number of the object that each pixel shows, -1 for the background."""
    labels: list[int]
    """The digit of each object."""
    areas: list[int]
    """The number of pixels of each object, visible or not."""


def scenes(
    *,
    examples: Count = 1000,
    size: Annotated[int, Range(16)] = 64,
    sides: tuple[float, float] = (0.3, 0.5),
    most_objects: Count = 5,
    visible: Annotated[float, Range(0, 1)] = 0.75,
    clutter: Annotated[int, Range(0)] = 6,
    colour: bool = True,
    instances: bool = False,
    data_seed: int = 0,
) -> Source:
    """Draws scenes of one to several digits of scikit-learn, enlarged to various sizes, on cluttered canvases.

    The columns are `image` u8 [N, S, S, C]; `segmentation`, the class of every pixel: background, or the digit; `objects`, the
    boxes around the visible pixels of the digits; and, on request, `instances`, a mask of each object. A later digit covers an
    earlier one, of which most stays visible. Training and test scenes are made of different digits. Scene i of a split depends
    on i and `data_seed` alone, not on the number of scenes.

    Args:
        examples: size of the training split; the test split has a quarter of it.
        size: height and width of a scene in pixels.
        sides: smallest and largest side of a digit, as shares of the side of the canvas.
        most_objects: largest number of digits in a scene; every number from one is as frequent.
        visible: share of its pixels that a digit shows at least; a later one that would leave less of it lies elsewhere, or
            nowhere.
        clutter: number of parts of digits that lie around and belong to the background.
        colour: whether digits, clutter and background have colours, C = 3, or are grey, C = 1.
        instances: whether there is a column of the masks of single objects, which takes `most_objects` bytes a pixel.
        data_seed: seed of the scenes, which do not depend on the run's seed.
    """
    if not (len(sides) == 2 and 0 < sides[0] <= sides[1] <= 1):
        raise UsageError(
            f"--sides={','.join(map(str, sides))}: the smallest and the largest side of a digit are shares of the canvas.\n"
            "Expected two numbers with 0 < SMALLEST <= LARGEST <= 1, such as 0.3,0.5."
        )
    canvas = _Canvas(size, sides, most_objects, visible, clutter, 3 if colour else 1)
    glyphs, splits = digits(), {}
    for number, (split, total) in enumerate((("train", examples), ("test", max(1, examples // 4)))):
        part = glyphs.splits[split]
        drawn = []
        for index in range(total):
            stream = np.random.Philox(key=np.array([data_seed % 2**64, 2 * index + number], np.uint64))
            drawn.append(_scene(np.random.Generator(stream), part, canvas))
        splits[split] = Split(_columns(drawn, canvas, instances))
    names = glyphs.class_names
    kinds: dict[str, Kind] = {"image": Image(), "segmentation": Mask(("background", *names)), "objects": Boxes(names)}
    if instances:
        kinds["instances"] = InstanceMasks()
    return Source("scenes", splits, kinds, digest_splits("scenes", splits))


def _scene(draw: np.random.Generator, glyphs: Split, canvas: _Canvas) -> _Scene:
    """Draws one scene: a background, clutter, and objects one over the other."""
    shape = (canvas.size, canvas.size)
    scene = _Scene(_background(draw, canvas), np.full(shape, -1, np.int32), [], [])
    for _ in range(canvas.clutter):
        row, column = draw.integers(0, 8 - FRAGMENT + 1, 2)
        _, glyph = _drawn_digit(draw, glyphs)
        part = glyph[row : row + FRAGMENT, column : column + FRAGMENT]
        side = round(draw.uniform(*canvas.sides) * canvas.size * FRAGMENT / 8)
        _blend(scene.pixels, _enlarged(part, side), _place(draw, side, canvas), _ink(draw, canvas))
    for _ in range(draw.integers(1, canvas.most_objects + 1)):
        _add_object(scene, draw, glyphs, canvas)
    noise = draw.normal(0, 0.03, scene.pixels.shape)
    scene.pixels = np.clip(scene.pixels + noise, 0, 1)
    return scene


def _add_object(scene: _Scene, draw: np.random.Generator, glyphs: Split, canvas: _Canvas) -> None:
    """Lays a digit over the scene, at a place where enough of every earlier one stays visible; none where there is no such."""
    label, stored = _drawn_digit(draw, glyphs)
    side, ink = round(draw.uniform(*canvas.sides) * canvas.size), _ink(draw, canvas)
    glyph = _enlarged(stored, side)
    mask = glyph > INK
    for top, left in (_place(draw, side, canvas) for _ in range(TRIES)):
        owners = scene.owners.copy()
        owners[top : top + side, left : left + side][mask] = len(scene.labels)
        visible = [int((owners == number).sum()) for number in range(len(scene.labels))]
        if all(seen >= canvas.visible * area for seen, area in zip(visible, scene.areas, strict=True)):
            _blend(scene.pixels, glyph, (top, left), ink)
            scene.owners = owners
            scene.labels.append(label)
            scene.areas.append(int(mask.sum()))
            return


def _drawn_digit(draw: np.random.Generator, glyphs: Split) -> tuple[int, np.ndarray]:
    """Returns a digit and its ink, u8 [8, 8]."""
    example = np.array([draw.integers(len(glyphs))])
    return int(glyphs.labels[example][0]), glyphs.images[example][0, ..., 0]


def _background(draw: np.random.Generator, canvas: _Canvas) -> np.ndarray:
    """Returns smooth dark patches of random colours, f32 [H, W, C]."""
    coarse = draw.uniform(0, 0.5, (canvas.channels, 3, 3))
    planes = [_resized(plane.astype(np.float32), canvas.size, "BICUBIC") for plane in coarse]
    return np.clip(np.stack(planes, axis=-1), 0, 1)  # C of [H, W] -> [H, W, C]


def _ink(draw: np.random.Generator, canvas: _Canvas) -> np.ndarray:
    """Returns the colour of a digit or a piece of clutter, f32 [C], brighter than the background in one channel at least."""
    colour = draw.uniform(0.3, 1, canvas.channels)
    return (colour * draw.uniform(0.8, 1) / colour.max()).astype(np.float32)


def _place(draw: np.random.Generator, side: int, canvas: _Canvas) -> tuple[int, int]:
    """Returns (top, left) of a square that lies on the canvas."""
    top, left = draw.integers(0, canvas.size - side + 1, 2).tolist()
    return top, left


def _enlarged(glyph: np.ndarray, side: int) -> np.ndarray:
    """Returns the ink of a digit u8 [h, h], or of a part, enlarged to f32 [side, side] in [0, 1]."""
    return np.clip(_resized(glyph.astype(np.float32) / 255, side, "BICUBIC"), 0, 1)


def _resized(plane: np.ndarray, side: int, filter: str) -> np.ndarray:
    """Resizes one plane f32 [h, w] to [side, side]."""
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(plane).resize((side, side), Pillow.Resampling[filter]))


def _blend(pixels: np.ndarray, ink: np.ndarray, corner: tuple[int, int], colour: np.ndarray) -> None:
    """Lays ink f32 [h, h] of a colour f32 [C] over the pixels [H, W, C] from a corner (top, left)."""
    (top, left), side = corner, len(ink)
    # Twice the ink, so that the pixels of the mask are covered for the most part, and its rim is still smooth.
    cover = np.minimum(2 * ink, 1)[..., None]
    part = pixels[top : top + side, left : left + side]
    part[:] = (1 - cover) * part + cover * colour


def _columns(drawn: list[_Scene], canvas: _Canvas, instances: bool) -> dict[str, object]:
    """Returns the columns of N scenes with places for M objects each."""
    most = canvas.most_objects
    owners = np.stack([scene.owners for scene in drawn])  # [N, H, W]
    label, valid = np.zeros((len(drawn), most), np.int32), np.zeros((len(drawn), most), bool)
    corners = np.zeros((len(drawn), most, 4), np.float32)
    segmentation = np.zeros(owners.shape, np.uint8)
    for number, scene in enumerate(drawn):
        count = len(scene.labels)
        label[number, :count], valid[number, :count] = scene.labels, True
        # Object -1, the background, takes the last entry.
        segmentation[number] = np.array([*(digit + 1 for digit in scene.labels), 0], np.uint8)[scene.owners]
        corners[number, :count] = [corners_of(scene.owners == place) for place in range(count)]
    pixels = np.stack([np.rint(255 * scene.pixels).astype(np.uint8) for scene in drawn])
    columns: dict[str, object] = {
        "image": pixels,
        "segmentation": segmentation,
        "objects": {"corners": corners, "label": label, "valid": valid},
    }
    if instances:
        # [N, 1, H, W] against [M, 1, 1] -> [N, M, H, W]
        columns["instances"] = (owners[:, None] == np.arange(most)[:, None, None]).astype(np.uint8)
    return columns


def corners_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the corners (x1, y1, x2, y2) of the box around the true pixels of a mask bool [H, W]; there is one at least."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
