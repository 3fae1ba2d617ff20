"""The objects of an image, true and found, as a metric needs them: classes, scores, areas and overlaps. NumPy alone, in f64.

Letters in shapes: G true objects, D found ones, H W space; M and N places of padded arrays.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

SCALE = "scale"
"""Name, among the true objects of an image, of the sides (down, right) of a pixel of the image itself in those of the boxes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """The true objects of one image and those that a detector found in it."""

    label: np.ndarray
    """Class of each true object, i64 [G]."""
    area: np.ndarray
    """Its area in square pixels, f64 [G]."""
    crowd: np.ndarray
    """Whether it stands for many that nobody told apart, bool [G]: it may be found any number of times, and need not be."""
    difficult: np.ndarray
    """Whether it need not be found, bool [G]."""
    found_label: np.ndarray
    """Class of each found object, i64 [D], from the highest score down."""
    score: np.ndarray
    """Its score, f64 [D]."""
    found_area: np.ndarray
    """Its area in square pixels, f64 [D]."""
    overlaps: np.ndarray
    """IoU of found with true objects, f64 [D, G]; with a crowd, the share of the found object's area that is inside."""

    @property
    def optional(self) -> np.ndarray:
        """Whether a true object need not be found, bool [G]."""
        return np.asarray(self.crowd | self.difficult)


def of_boxes(truth: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> Objects:
    """Returns the objects of an image from padded boxes.

    Args:
        truth: `corners` [M, 4], `label` [M] and `valid` bool [M]; `crowd` and `difficult`, bool [M], and `area`, [M], where
            they are there. COCO's files give an object's area, that of its mask; else it is the box's. With `scale` [2],
            (down, right), boxes are in pixels of an image that was scaled so, and areas are those in the image itself. The
            overlaps do not depend on it.
        found: `corners` [N, 4], `score` [N], `label` [N] and `valid` bool [N], as of `nms.detections`.
    """
    true, guess, order = _of_places(truth), _of_places(found), _order(found)
    boxes, guessed = (np.asarray(each["corners"], np.float64) for each in (true, guess))
    scale = np.asarray(truth.get(SCALE, (1.0, 1.0)), np.float64)[::-1]  # of (x, y)
    sides, guessed_sides = ((each[:, 2:] - each[:, :2]) / scale for each in (boxes, guessed[order]))
    area = np.asarray(true["area"], np.float64) if "area" in true else sides.prod(axis=1)
    crowd = _flags(true, "crowd")
    return Objects(
        label=np.asarray(true["label"], np.int64),
        area=area,
        crowd=crowd,
        difficult=_flags(true, "difficult"),
        found_label=np.asarray(guess["label"], np.int64)[order],
        score=np.asarray(guess["score"], np.float64)[order],
        found_area=guessed_sides.prod(axis=1),
        overlaps=box_overlaps(guessed[order], boxes, crowd),
    )


def of_masks(
    truth: Mapping[str, np.ndarray], masks: np.ndarray, found: Mapping[str, np.ndarray], found_masks: np.ndarray
) -> Objects:
    """Returns the objects of an image from masks at its own size.

    Args:
        truth: `label` [M] and `valid` bool [M], with `crowd`, `difficult` and `area` as in `of_boxes`.
        masks: of the true objects, bool [M, H, W].
        found: `score` [N], `label` [N] and `valid` bool [N].
        found_masks: of the found ones, bool [N, H, W].
    """
    # [M, H, W] -> [M, H·W] and [N, H, W] -> [N, H·W]
    own, guessed = (each.reshape(len(each), int(np.prod(each.shape[1:]))).astype(np.float64) for each in (masks, found_masks))
    return of_counts(truth, own.sum(axis=1), found, guessed.sum(axis=1), guessed @ own.T)


def of_counts(
    truth: Mapping[str, np.ndarray],
    pixels: np.ndarray,
    found: Mapping[str, np.ndarray],
    found_pixels: np.ndarray,
    both: np.ndarray,
) -> Objects:
    """Returns the objects of an image from the numbers of pixels of their masks.

    Args:
        truth: as of `of_masks`; with `scale`, areas are those in the image itself, as in `of_boxes`.
        pixels: of each true object, [M].
        found: as of `of_masks`.
        found_pixels: of each found object, [N].
        both: of each found object that a true one has, too, [N, M].
    """
    true, guess, order = _of_places(truth), _of_places(found), _order(found)
    there, own = np.asarray(found["valid"]), np.asarray(truth["valid"])
    pixels, found_pixels = np.asarray(pixels, np.float64)[own], np.asarray(found_pixels, np.float64)[there][order]
    crowd, pixel = _flags(true, "crowd"), np.prod(np.asarray(truth.get(SCALE, (1.0, 1.0)), np.float64))
    return Objects(
        label=np.asarray(true["label"], np.int64),
        area=np.asarray(true["area"], np.float64) if "area" in true else pixels / pixel,
        crowd=crowd,
        difficult=_flags(true, "difficult"),
        found_label=np.asarray(guess["label"], np.int64)[order],
        score=np.asarray(guess["score"], np.float64)[order],
        found_area=found_pixels / pixel,
        overlaps=_shares(np.asarray(both, np.float64)[there][order][:, own], found_pixels, pixels, crowd),
    )


def box_overlaps(found: np.ndarray, boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Returns the overlaps f64 [D, G] of found boxes [D, 4] with true ones [G, 4], as `Objects.overlaps`."""
    low = np.maximum(found[:, None, :2], boxes[None, :, :2])  # [D, 1, 2] and [1, G, 2] -> [D, G, 2]
    high = np.minimum(found[:, None, 2:], boxes[None, :, 2:])
    both = np.maximum(high - low, 0).prod(axis=2)
    found_area, area = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (found, boxes))
    return _shares(both, found_area, area, crowd)


def _shares(both: np.ndarray, found_area: np.ndarray, area: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Returns intersections [D, G] over unions, or over the found object's area beside a crowd; 0 where both are 0."""
    whole = np.where(crowd[None], found_area[:, None], found_area[:, None] + area[None] - both)
    return np.divide(both, whole, out=np.zeros_like(both), where=both > 0)


def _of_places(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns padded arrays [M, …] without the places that are not valid."""
    valid = np.asarray(values["valid"])
    return {name: np.asarray(array)[valid] for name, array in values.items() if name not in ("valid", SCALE)}


def _order(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the places of the found objects from the highest score down, of equal ones the first, i64 [D]."""
    return np.argsort(-np.asarray(found["score"], np.float64)[np.asarray(found["valid"])], kind="stable")


def _flags(values: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Returns flags bool [G], all false where there are none."""
    return np.asarray(values[name], bool) if name in values else np.zeros(len(values["label"]), bool)
