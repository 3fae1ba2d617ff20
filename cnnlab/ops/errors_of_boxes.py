"""What a detector gets wrong: the kinds of its errors, what each costs in average precision, and the error of localisation.

The kinds are those of TIDE (Bolya et al. 2020, arXiv 2008.08115, section 2.2), with its thresholds: an overlap of at least 1/2
is the object, one below 1/10 background. NumPy alone, in f64.

Letters in shapes: N images, K classes, D found and G true objects of an image, P guesses.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cnnlab.ops.metrics_of_boxes import interpolated
from cnnlab.ops.objects import Objects, box_overlaps

RIGHT, IGNORED = "right", "ignored"
KINDS = ("localisation", "classification", "duplicate", "background", "both")
"""Errors of a found object, the first that holds: on an object of its class, but with too small an overlap; on an object of
another class; on one of its class that a higher score has taken; on nothing; on the edge of an object of another class."""
MISSED = "missed"
"""The error of a true object that is not found, and that no found object would be if its class or its place were right."""


@dataclasses.dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of the objects of one image."""

    kind: tuple[str, ...]
    """RIGHT, IGNORED or one of KINDS for each found object, D of them."""
    aim: np.ndarray
    """The true object of each found one that is right or wrong in its class or place, i64 [D]; −1: none."""
    missed: np.ndarray
    """Whether a true object is MISSED, bool [G]."""


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """Errors of a detector over a split."""

    average_precision: float
    """The mean over classes with objects at IoU 1/2."""
    counts: dict[str, int]
    """Number of errors of each of KINDS, and of those MISSED."""
    costs: dict[str, float]
    """By how much the average precision rises if the errors of one kind, and these alone, are corrected."""


def verdicts(image: Objects, *, foreground: float = 0.5, background: float = 0.1) -> Verdicts:
    """Returns what became of each object of an image.

    Found objects take true ones of their class from the highest score down. One that takes none, but lies on one that need not
    be found, is ignored.

    Args:
        image: its objects.
        foreground: the overlap from which a found object is on a true one.
        background: the overlap below which it is on nothing.
    """
    needed = np.flatnonzero(~image.optional)
    overlaps, same = image.overlaps[:, needed], image.found_label[:, None] == image.label[needed][None]  # [D, G']
    owner = _taken(np.where(same, overlaps, 0.0), foreground)  # i64 [D], a place among G'
    is_taken = np.isin(np.arange(len(needed)), owner)
    on_optional = (image.overlaps >= foreground) & image.optional & (image.found_label[:, None] == image.label)
    kinds, aims, is_aim = [], np.full(len(owner), -1), np.zeros(len(needed), bool)
    for place, row in enumerate(overlaps):
        own, other = np.where(same[place], row, 0.0), np.where(same[place], 0.0, row)
        if owner[place] >= 0:
            kind, aim = RIGHT, int(owner[place])
        elif on_optional[place].any():
            kind, aim = IGNORED, -1
        else:
            kind, aim = _error(own, other, is_taken, foreground, background)
        kinds.append(kind)
        if aim >= 0:
            aims[place], is_aim[aim] = needed[aim], True
    missed = np.zeros(len(image.label), bool)
    missed[needed] = ~is_taken & ~is_aim
    return Verdicts(tuple(kinds), aims, missed)


def breakdown(images: Sequence[Objects], classes: int, *, foreground: float = 0.5, background: float = 0.1) -> Breakdown:
    """Returns the errors of a detector and what each kind costs (Bolya et al. 2020, section 2.3).

    An error of class or place becomes a right one with the score that it has, if its object is not taken; of several of a kind
    on one object the highest score does, and the others are left out, as errors of the other kinds are. Missed objects are
    corrected by needing fewer.

    Deviation: tidecv, the authors' code, leaves an error of place out, too, if an error of class on the same object has a
    higher score, and the other way round. With its rule the costs are the same to 1e-15 on 30 random sets.

    Args:
        images: the objects of each image.
        classes: K.
        foreground: as of `verdicts`.
        background: as of `verdicts`.
    """
    judged = [verdicts(image, foreground=foreground, background=background) for image in images]
    needed = np.zeros(classes, np.int64)
    for image in images:
        needed += np.bincount(image.label[~image.optional], minlength=classes)
    before = _average_precision([_points(*pair, None) for pair in zip(images, judged, strict=True)], needed)
    counts = {kind: sum(each.kind.count(kind) for each in judged) for kind in KINDS}
    counts[MISSED] = int(sum(each.missed.sum() for each in judged))
    costs = {}
    for kind in counts:
        fewer = needed.copy()
        for image, each in zip(images, judged, strict=True):
            if kind == MISSED:
                fewer -= np.bincount(image.label[each.missed], minlength=classes)
        fixed = [_points(image, each, kind) for image, each in zip(images, judged, strict=True)]
        # A class all of whose objects are missed stays in the mean, with nothing found.
        costs[kind] = max(_average_precision(fixed, fewer, needed) - before, 0.0)
    return Breakdown(before, counts, costs)


def localisation_error(
    labels: np.ndarray,
    corners: np.ndarray,
    guesses: np.ndarray,
    guessed: np.ndarray,
    *,
    threshold: float = 0.5,
) -> float:
    """Returns the share of images none of whose guesses has both the class and the place of its object.

    A guess has the place if its IoU with the box is at least the threshold (Russakovsky et al. 2015, arXiv 1409.0575, section
    4.2, with five guesses). NaN where there are no images.

    Args:
        labels: class of each image's object, i32 [N].
        corners: its box, [N, 4].
        guesses: guessed classes, i32 [N, P].
        guessed: their boxes, [N, P, 4].
        threshold: the least IoU.
    """
    if not len(labels):
        return float("nan")
    is_near = [
        box_overlaps(np.asarray(own, np.float64), np.asarray(box, np.float64)[None], np.zeros(1, bool))[:, 0] >= threshold
        for own, box in zip(guessed, corners, strict=True)
    ]
    return float(1 - np.mean(np.any((guesses == labels[:, None]) & np.stack(is_near), axis=1)))


def _taken(overlaps: np.ndarray, foreground: float) -> np.ndarray:
    """Returns the true object that each found one takes, i64 [D], −1 for none, of overlaps f64 [D, G] of equal classes."""
    free, found = np.ones(overlaps.shape[1], bool), np.full(len(overlaps), -1)
    for place, row in enumerate(overlaps):
        best = int(np.where(free, row, 0.0).argmax()) if len(row) else -1
        if best >= 0 and free[best] and row[best] >= foreground:
            found[place], free[best] = best, False
    return found


def _error(own: np.ndarray, other: np.ndarray, is_taken: np.ndarray, foreground: float, background: float) -> tuple[str, int]:
    """Returns the kind of a wrong found object, and its aim or −1.

    Args:
        own: overlaps with true objects of its class, else 0, f64 [G].
        other: overlaps with true objects of other classes, else 0, f64 [G].
        is_taken: which true objects are found, bool [G].
        foreground: as of `verdicts`.
        background: as of `verdicts`.
    """
    if not len(own):
        return "background", -1
    if background <= own.max() < foreground:
        return "localisation", int(own.argmax())
    if other.max() >= foreground:
        return "classification", int(other.argmax())
    if np.max(own, where=is_taken, initial=0.0) >= foreground:
        return "duplicate", -1
    return ("background" if max(own.max(), other.max()) < background else "both"), -1


def _points(image: Objects, judged: Verdicts, fixed: str | None) -> list[tuple[float, int, bool]]:
    """Returns (score, class, whether it is right) of the found objects that count, the errors of one kind being corrected."""
    points, done = [], {int(aim) for aim, kind in zip(judged.aim, judged.kind, strict=True) if kind == RIGHT}
    for score, label, kind, aim in zip(image.score, image.found_label, judged.kind, judged.aim, strict=True):
        if kind == IGNORED or (kind == fixed and (aim < 0 or int(aim) in done)):
            continue
        if kind == fixed:
            done.add(int(aim))
            points.append((float(score), int(image.label[aim]), True))
        else:
            points.append((float(score), int(label), kind == RIGHT))
    return points


def _average_precision(
    images: list[list[tuple[float, int, bool]]], needed: np.ndarray, classes_of: np.ndarray | None = None
) -> float:
    """Returns the mean of COCO's average precision over classes of which objects are needed, NaN where there are none.

    Args:
        images: what `_points` gives for each image.
        needed: objects of each class that must be found, i64 [K].
        classes_of: the same numbers before any correction, which choose the classes; None: `needed`.
    """
    values = []
    for label in np.flatnonzero(needed if classes_of is None else classes_of):
        points = [(score, right) for image in images for score, own, right in image if own == label]
        order = np.argsort([-score for score, _ in points], kind="stable")
        right = np.asarray([is_right for _, is_right in points], bool)[order]
        if not needed[label]:
            values.append(0.0)
            continue
        precision, _ = interpolated(np.cumsum(right)[None], np.cumsum(~right)[None], int(needed[label]))
        values.append(float(precision.mean()))
    return float(np.mean(values)) if values else float("nan")
