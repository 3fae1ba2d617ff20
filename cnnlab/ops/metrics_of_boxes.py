"""Average precision of a detector, by COCO's rules and by Pascal VOC's, over all images of a split. NumPy alone, in f64.

The three usual numbers are not the same: COCO interpolates precision at 101 recalls and averages over 10 thresholds of IoU, VOC
until 2009 at 11 recalls, and from 2010 it takes the area under the whole curve, both at IoU 1/2. What an image lacks leaves no
trace, so the numbers do not depend on batches.

Letters in shapes: T thresholds of IoU, R recalls, K classes, A ranges of areas, C caps on the number of detections, D found and
G true objects of a class in an image.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cnnlab.errors import UsageError
from cnnlab.ops.objects import Objects

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
CAPS = (1, 10, 100)
"""Numbers of detections of a class in an image that count, those of the highest scores."""
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of areas in square pixels, both ends included. On small images, most of them are empty."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """Precision and recall by class; NaN where a class has no object (of a range of areas) that must be found."""

    precision: np.ndarray
    """f64 [T, R, K, A, C]: the highest precision at this recall or a higher one, 0 where it is not reached."""
    recall: np.ndarray
    """f64 [T, K, A, C]: the largest recall."""
    thresholds: np.ndarray
    """f64 [T]."""
    caps: tuple[int, ...]
    """C numbers."""

    def by_class(self, threshold: float | None = None, area: str = "all") -> np.ndarray:
        """Returns the average precision of each class at the largest cap, f64 [K].

        Args:
            threshold: one of the thresholds of IoU; None: the mean over all.
            area: one of AREAS.
        """
        own = self.precision[self._at(threshold), :, :, list(AREAS).index(area), -1]  # [T', R, K]
        return np.asarray(own.mean(axis=(0, 1)))

    def average_precision(self, threshold: float | None = None, area: str = "all") -> float:
        """Returns the mean of `by_class` over classes with objects; NaN where there are none."""
        return _mean(self.precision[self._at(threshold), :, :, list(AREAS).index(area), -1])

    def average_recall(self, cap: int | None = None, area: str = "all") -> float:
        """Returns the mean of the largest recalls over thresholds and classes with objects, at a cap (None: the largest)."""
        place = -1 if cap is None else self.caps.index(cap)
        return _mean(self.recall[:, :, list(AREAS).index(area), place])

    def _at(self, threshold: float | None) -> list[int]:
        """Returns the places of a threshold, or all."""
        if threshold is None:
            return list(range(len(self.thresholds)))
        places = np.flatnonzero(np.isclose(self.thresholds, threshold, rtol=0, atol=1e-9)).tolist()
        if not places:
            raise UsageError(
                f"average precision at IoU {threshold:g}: expected one of {', '.join(f'{each:g}' for each in self.thresholds)}."
            )
        return [int(place) for place in places]


def coco_curves(
    images: Sequence[Objects],
    classes: int,
    *,
    thresholds: np.ndarray = THRESHOLDS,
    caps: tuple[int, ...] = CAPS,
) -> Curves:
    """Returns precision and recall by COCO's rules, equal to pycocotools (Lin et al. 2014, arXiv 1405.0312, and its code).

    In the order of their scores, found objects of a class take the true object of this class that they overlap most and that
    is not taken, if the overlap is at least the threshold; those that need not be found come last. A found object that takes
    such a one counts for nothing, nor does one without a match whose area is out of range.

    Args:
        images: the objects of each image. Equal scores go by the order of images.
        classes: K.
        thresholds: of IoU, f64 [T].
        caps: numbers of detections, C numbers from the smallest.
    """
    shape = (len(thresholds), len(RECALLS), classes, len(AREAS), len(caps))
    precision, recall = np.full(shape, np.nan), np.full((shape[0], *shape[2:]), np.nan)
    for number in range(classes):
        matches = [_matched(image, number, thresholds, caps[-1]) for image in images if _has(image, number)]
        if not matches:
            continue
        needed = np.sum([each.needed for each in matches], axis=0)  # i64 [A]
        for place, cap in enumerate(caps):
            score = np.concatenate([each.score[:cap] for each in matches])
            order = np.argsort(-score, kind="stable")
            right, wrong = (
                np.cumsum(np.concatenate([getattr(each, name)[..., :cap] for each in matches], axis=-1)[..., order], axis=-1)
                for name in ("right", "wrong")
            )  # i64 [A, T, D over all images]
            for area in np.flatnonzero(needed):
                at = interpolated(right[area], wrong[area], int(needed[area]))
                precision[:, :, number, area, place], recall[:, number, area, place] = at
    return Curves(precision, recall, np.asarray(thresholds), tuple(caps))


def coco_summary(images: Sequence[Objects], classes: int) -> dict[str, float]:
    """Returns COCO's twelve numbers by name, NaN where there is no object of a size (pycocotools: −1)."""
    curves = coco_curves(images, classes)
    sizes = list(AREAS)[1:]
    return {
        "AP": curves.average_precision(),
        "AP50": curves.average_precision(0.5),
        "AP75": curves.average_precision(0.75),
        **{f"AP_{size}": curves.average_precision(area=size) for size in sizes},
        **{f"AR_{cap}": curves.average_recall(cap) for cap in CAPS},
        **{f"AR_{size}": curves.average_recall(area=size) for size in sizes},
    }


def voc_curve(images: Sequence[Objects], label: int, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall and precision after each found object of a class, f64 [N] each (Everingham et al. 2010, section 4.2).

    A found object belongs to the true one that it overlaps most; if that is taken already, it is wrong, and if it need not be
    found, it counts for nothing. Both are NaN where the class has no object that must be found.

    Deviation: boxes are continuous, where VOC's code adds a pixel to their sides; the same numbers come from corners
    (x1 − 1, y1 − 1, x2, y2) of VOC's files.

    Args:
        images: the objects of each image.
        label: the class.
        threshold: the least IoU of a found object.
    """
    scores, rights, wrongs, needed = [], [], [], 0
    for image in images:
        own, found = image.label == label, image.found_label == label
        optional, overlaps = image.optional[own], image.overlaps[found][:, own]
        needed += int(np.sum(~optional))
        taken = np.zeros(len(optional), bool)
        for row, score in zip(overlaps, image.score[found], strict=True):
            place = int(row.argmax()) if len(row) else -1
            is_near = place >= 0 and row[place] >= threshold
            if is_near and optional[place]:
                continue
            is_right = is_near and not taken[place]
            if is_right:
                taken[place] = True
            scores.append(score)
            rights.append(is_right)
            wrongs.append(not is_right)
    if not needed:
        return np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    right, wrong = (np.cumsum(np.asarray(each, bool)[order]) for each in (rights, wrongs))
    return right / needed, right / np.maximum(right + wrong, 1)


def voc_average_precision(images: Sequence[Objects], classes: int, *, points: int | None = None) -> np.ndarray:
    """Returns VOC's average precision of each class, f64 [K]; NaN for a class without an object that must be found.

    Args:
        images: the objects of each image.
        classes: K.
        points: 11: the mean of the interpolated precision at 11 recalls, as until 2009; None: the area under the interpolated
            curve, as from 2010.
    """
    found = []
    for label in range(classes):
        if not any(np.any((image.label == label) & ~image.optional) for image in images):
            found.append(np.nan)
            continue
        recall, precision = voc_curve(images, label)
        best = np.maximum.accumulate(precision[::-1])[::-1]  # the highest precision at this recall or a higher one
        if points is None:
            found.append(float(np.sum(np.diff(recall, prepend=0.0) * best)))
        else:
            places = np.searchsorted(recall, np.linspace(0.0, 1.0, points), side="left")
            found.append(float(np.append(best, 0.0)[places].mean()))
    return np.asarray(found)


@dataclasses.dataclass(frozen=True, eq=False)
class _Matches:
    """What became of the found objects of one class in one image."""

    score: np.ndarray  # f64 [D]
    right: np.ndarray  # bool [A, T, D]
    wrong: np.ndarray  # bool [A, T, D]
    needed: np.ndarray  # i64 [A], true objects that must be found


def _has(image: Objects, label: int) -> bool:
    """Returns whether an image has a true or found object of a class."""
    return bool(np.any(image.label == label) or np.any(image.found_label == label))


def _matched(image: Objects, label: int, thresholds: np.ndarray, cap: int) -> _Matches:
    """Returns the matches of one class in one image, for all ranges of areas and all thresholds at once."""
    own, found = np.flatnonzero(image.label == label), np.flatnonzero(image.found_label == label)[:cap]
    low, high = (np.asarray(bound)[:, None] for bound in zip(*AREAS.values(), strict=True))  # [A, 1] each
    area, found_area = image.area[own][None], image.found_area[found][None]
    optional = image.optional[own][None] | (area < low) | (area > high)  # [A, G]
    is_out = (found_area < low) | (found_area > high)  # [A, D]
    crowd, overlaps = image.crowd[own], image.overlaps[np.ix_(found, own)]
    least = np.minimum(thresholds, 1 - 1e-10)[None, :, None]  # [1, T, 1]
    taken = np.zeros((len(AREAS), len(thresholds), len(own)), bool)
    right, counts = (np.zeros((len(AREAS), len(thresholds), len(found)), bool) for _ in range(2))
    areas, levels = np.ogrid[: len(AREAS), : len(thresholds)]
    for place, row in enumerate(overlaps):
        counts[:, :, place] = ~is_out[:, place, None]
        if not len(row) or row.max() < least.min():
            continue
        is_free = (row >= least) & (~taken | crowd)  # [A, T, G]
        must = is_free & ~optional[:, None]
        is_free = np.where(must.any(axis=2, keepdims=True), must, is_free)
        # Of equal overlaps the last, as in pycocotools.
        best = len(row) - 1 - np.where(is_free, row, -1.0)[..., ::-1].argmax(axis=2)  # [A, T]
        is_match = is_free.any(axis=2)
        taken[areas, levels, best] |= is_match
        counts[:, :, place] = np.where(is_match, ~optional[areas, best], counts[:, :, place])
        right[:, :, place] = is_match & counts[:, :, place]
    return _Matches(image.score[found], right, counts & ~right, np.sum(~optional, axis=1))


def interpolated(right: np.ndarray, wrong: np.ndarray, needed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns precisions at RECALLS, f64 [T, R], and the largest recall, f64 [T].

    Args:
        right: how many of the first n found objects are right, i64 [T, N].
        wrong: how many of them are wrong, i64 [T, N].
        needed: how many true objects must be found, above 0.
    """
    recall, precision = right / needed, right / (wrong + right + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    at = [np.append(row, 0.0)[np.searchsorted(each, RECALLS, side="left")] for row, each in zip(best, recall, strict=True)]
    return np.stack(at), recall[:, -1] if recall.shape[1] else np.zeros(len(recall))


def _mean(values: np.ndarray) -> float:
    """Returns the mean of the values that are not NaN; NaN where there are none."""
    some = values[~np.isnan(values)]
    return float(some.mean()) if some.size else float("nan")
