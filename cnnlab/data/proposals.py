"""Boxes that may hold an object as a column of a data set: found once for each image, on the host, and kept in the cache.

Letters in shapes: N images of a split, H W space, C channels, n boxes of one image, R boxes of an image at most.
"""

import functools
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from cnnlab.data.cache import Arrays, cached
from cnnlab.data.decoder import decoder_versions
from cnnlab.data.kinds import Boxes, Proposals
from cnnlab.data.kinds.proposals import PROPOSALS
from cnnlab.data.loading import SHOWN_AFTER, code_of
from cnnlab.data.resize import resize_to, settings_of
from cnnlab.data.source import Images, LazyImages, Source, Split
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError, UsageError
from cnnlab.ops import selective_search as search
from cnnlab.progress import ProgressLine
from cnnlab.values import Count, NonNegative, Positive

Proposer = Callable[[np.ndarray], np.ndarray]
"""An image u8 [H, W, 3] -> the corners of boxes f32 [n, 4] on it in pixels, the likelier ones first. A pure function."""
FORMAT = "1"
"""Number of the boxes that the functions here find; another one makes old entries of the cache useless."""
RANKS = (10, 30, 100, 300, 1000)
"""Numbers of proposals whose recall is said."""
OVERLAP = 0.5
"""IoU from which a proposal covers an object."""


def no_proposals(image: np.ndarray) -> np.ndarray:
    """The data set has the columns of its source alone."""
    return np.zeros((0, 4), np.float32)


def selective_search(
    image: np.ndarray,
    *,
    most: Count = 200,
    spaces: tuple[Literal["rgb", "hsv", "lab"], ...] = ("hsv", "lab"),
    scales: tuple[Positive, ...] = (50.0, 100.0),
    colour: Literal["with", "without", "both"] = "both",
    sigma: NonNegative = 0.8,
    least: Count = 20,
    smallest_side: Count = 4,
    widest: Count | None = 500,
) -> np.ndarray:
    """Selective search groups regions of similar colour and texture from small to large; each has a box.

    Uijlings et al. 2013 (IJCV 104(2)), in its fast version as in R-CNN and Fast R-CNN, which take 2,000 boxes of an image.

    Args:
        most: boxes of an image at most, those of the largest groups for the most part.
        spaces: colour spaces, in each of which regions are grouped.
        scales: scales of the first regions, with each of which regions are grouped: a larger one gives larger regions.
        colour: whether regions are grouped by colour beside texture, size and fill; both: once with it and once without.
        sigma: width in pixels of the Gaussian filter before the first regions.
        least: pixels of a first region at least.
        smallest_side: shortest side in pixels of a box.
        widest: width in pixels to which wider images are reduced before, 500 in R-CNN (section 4.2); none: they are not.
    """
    height, width = image.shape[:2]
    factor = min(1.0, (widest or width) / width)
    reduced = image
    if factor < 1:
        reduced = resize_to(image[None], max(1, round(height * factor)), max(1, round(width * factor)))[0]
    similarities = {"with": (True,), "without": (False,), "both": (True, False)}[colour]
    limits: Any = {"sigma": sigma, "least": least, "smallest_side": smallest_side}
    found = search.proposals(reduced, spaces=spaces, scales=scales, colour=similarities, **limits)[:most]
    sides = np.asarray([width / reduced.shape[1], height / reduced.shape[0]] * 2, np.float32)
    # Rounding may take a box that ends with the reduced image beyond the whole one.
    return np.minimum(np.asarray(found * sides, np.float32), np.asarray([width, height] * 2, np.float32))


PROPOSERS: dict[str, Proposer] = {"none": no_proposals, "selective_search": selective_search}
"""What proposes boxes, by name, for `Choice[PROPOSERS]`."""


def proposes(propose: Proposer) -> bool:
    """Returns whether a function, or what its settings are filled into, proposes anything."""
    return proposes(propose.func) if isinstance(propose, functools.partial) else propose is not no_proposals


def with_proposals(source: Source, propose: Proposer) -> Source:
    """Returns the source with a column `proposals` of the boxes that a function finds on each image.

    What it finds is kept in the cache by the digest of the images and the settings, and how much of the objects it covers is
    said.

    Raises:
        UsageError: the source has such a column already.
        DataError: the function returns something else than boxes on the image.
    """
    if not proposes(propose):
        return source
    if PROPOSALS in source.kinds:
        raise UsageError(f"--proposals: {source.name} has a column {PROPOSALS} of its own.\nLeave --proposals out.")
    settings = settings_of(propose)
    found = {split: _of_split(source, split, propose, f"{settings} {code_of(propose, PROPOSERS)}") for split in source.splits}
    room = max([1, *(int(counts.max()) for _, counts in found.values())])
    splits, remarks = {}, []
    for split, part in source.splits.items():
        corners, counts = found[split]
        splits[split] = part.having(**{PROPOSALS: _padded(corners, counts, room)})
        remarks.append(_remark(source, split, splits[split], settings["name"]))
    return Source(
        source.name,
        splits,
        {**source.kinds, PROPOSALS: Proposals()},
        combined_digest(source.fingerprint, *(corners for corners, _ in found.values()), *(n for _, n in found.values())),
        (*source.remarks, *remarks),
    )


def _of_split(source: Source, split: str, propose: Proposer, settings: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes of all images of a split, one image after another, f32 [T, 4], and the number of each, i32 [N]."""
    images, name = source.splits[split].images, f"{source.name} {split}"
    contents: list[str | np.ndarray] = [settings, FORMAT, f"scikit-image {version('scikit-image')}"]
    if isinstance(images, np.ndarray):
        contents.append(images)
    else:
        contents += [decoder_versions(), f"{source.fingerprint} {split}" if images.digests is None else images.digests]
    key = combined_digest(*contents)
    made = cached(f"proposals-{key[:24]}", lambda: _made(images, name, propose), about=f"proposals of {name}")
    return np.array(made["corners"]), np.array(made["counts"])


def _made(images: Images, name: str, propose: Proposer) -> Arrays:
    """Calls the function for each image; how far it is, is shown where it takes long."""
    began, progress, found = time.monotonic(), ProgressLine(), []
    for position in range(len(images)):
        image = images.read([position])[0] if isinstance(images, LazyImages) else images[position]
        found.append(_checked(propose(_in_colour(np.asarray(image))), image.shape, f"{name}, image {position}"))
        if time.monotonic() - began > SHOWN_AFTER:
            text = f"[data] {name}: proposals of {len(found):,} of {len(images):,} images"
            progress.show(text, last=len(found) == len(images))
    return {"corners": np.concatenate(found), "counts": np.asarray([len(boxes) for boxes in found], np.int32)}


def _in_colour(image: np.ndarray) -> np.ndarray:
    """Returns an image [H, W, C], u8 or f32 in [0, 1], as u8 [H, W, 3]; one of other than three channels becomes grey."""
    if image.dtype != np.uint8:
        image = np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    if image.shape[2] == 3:
        return image
    return np.round(image.mean(axis=2, keepdims=True)).astype(np.uint8).repeat(3, axis=2)  # [H, W, C] -> [H, W, 1] -> [H, W, 3]


def _checked(boxes: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Returns boxes f32 [n, 4]; raises DataError where a function of a user's own returned something else."""
    fits = isinstance(boxes, np.ndarray) and boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype == np.float32
    inside = fits and bool(np.all((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= shape[1::-1])))
    if not inside:
        is_array = isinstance(boxes, np.ndarray)
        found = f"{boxes.dtype} {list(boxes.shape)}" if is_array and not fits else "boxes beyond it or without an area"
        raise DataError(
            f"{where}: --proposals found {found if is_array else type(boxes).__name__}.\n"
            "Expected float32 [n, 4], (x1, y1, x2, y2) in pixels on the image, with x1 < x2 and y1 < y2."
        )
    return np.asarray(boxes)


def _padded(corners: np.ndarray, counts: np.ndarray, room: int) -> dict[str, np.ndarray]:
    """Returns the column of N images with R = `room` places each, of their boxes f32 [T, 4] one after another."""
    valid = np.arange(room)[None] < counts[:, None]  # [N, R]
    padded = np.zeros((*valid.shape, 4), np.float32)
    padded[valid] = corners  # [T, 4] at [N, R], T of which are true
    return {"corners": padded, "valid": valid}


def _remark(source: Source, split: str, part: Split, name: str) -> str:
    """Returns how many proposals an image has and, where there are true boxes, how many of them one covers."""
    proposed = _each(part.columns[PROPOSALS])
    most, mean = max(map(len, proposed)), np.mean([len(each) for each in proposed])
    said = f"{source.name}, {split}: {name} proposes {mean:.0f} boxes of an image, {most} at most"
    column = next((column for column, kind in source.kinds.items() if isinstance(kind, Boxes)), None)
    if column is None:
        return said
    ranks, truth = [*(rank for rank in RANKS if rank < most), most], _each(part.columns[column])
    shares = [100 * search.recall(proposed, truth, most=rank, threshold=OVERLAP) for rank in ranks]
    numbers = ", ".join(f"{share:.1f} % with the first {rank}" for share, rank in zip(shares, ranks, strict=True))
    return f"{said}; objects that one covers with an IoU of {OVERLAP:g}: {numbers}"


def _each(column: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the boxes of each image in a column, N of f32 [n, 4]."""
    return [corners[valid] for corners, valid in zip(column["corners"], column["valid"], strict=True)]
