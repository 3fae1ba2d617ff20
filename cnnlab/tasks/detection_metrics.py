"""Statistics and metrics of detection: boxes with classes and scores against the true ones.

Letters in shapes: B batch, N images of a split, K classes, M places for objects, D places for detections, T terms of the loss.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Stats
from cnnlab.data.kinds.extent import EXTENT
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import metrics_of_boxes, nms
from cnnlab.ops.metrics_of_counts import macro
from cnnlab.ops.objects import Objects, of_boxes
from cnnlab.tasks.segmentation_metrics import MOST_NAMED, in_metric
from cnnlab.values import Count, Fraction, Range

SIZES = ("small", "medium", "large")
"""Sizes of objects, by COCO's areas in pixels of the images themselves."""
FOUND, TRUE = "found", "true"
"""First words of the names of rows: of detections, and of objects."""


@dataclasses.dataclass(frozen=True)
class Suppression:
    """How the scored boxes of an image become its detections: suppression in each class, then the best of all classes."""

    least_score: Fraction = 0.01
    """What the score of a detection exceeds."""
    threshold: Annotated[float, Range(0, 1)] = 0.5
    """Largest IoU of two detections of a class."""
    before: Count = 200
    """Boxes of each class that enter the suppression."""
    most: Count = 100
    """D: detections of an image at most, 100 in COCO's scoring."""

    def __call__(self, boxes: Array, scores: Array) -> dict[str, Array]:
        """Returns {corners [D, 4], score [D], label [D], valid [D]} of boxes [N, 4] or [N, K, 4] and scores [N, K]."""
        return nms.detections(boxes, scores, self.least_score, self.threshold, self.before, self.most)


@dataclasses.dataclass(frozen=True)
class BoxMetrics:
    """The metrics of boxes of named classes, and how they are found."""

    class_names: tuple[str, ...]
    column: str
    """Name of the column of boxes."""
    terms: tuple[str, ...]
    """Names of the terms of the loss."""
    suppression: Suppression = Suppression()
    published: tuple[int, ...] = ()
    """The number of each class in results for COCO; (): they count from 1."""

    @functools.cached_property
    def declared(self) -> tuple[Metric, ...]:
        """The metrics that `summary` gives; the first ranks."""
        share = functools.partial(Metric, unit=SHARE, higher_is_better=True)
        loss = functools.partial(Metric, higher_is_better=False, log_scale=True)
        named = self.class_names if len(self.class_names) <= MOST_NAMED else ()
        return (
            share("ap"),
            *map(loss, ("loss", *self.terms)),
            *map(share, ("ap50", "ap75", "recall", "voc_ap", "voc07_ap", *(f"ap_{size}" for size in SIZES))),
            *(share(f"ap50_{in_metric(name)}") for name in named),
        )

    def rows(self, found: dict[str, Array], batch: Batch) -> dict[str, Array]:
        """Returns the detections, clipped to their images on a canvas, and the objects of held-out images, [B, …] each."""
        truth, found = batch[self.column], without_padding(found, batch)
        return {
            "index": batch["index"],
            "mask": batch["mask"],
            **{f"{FOUND}_{name}": values for name, values in found.items()},
            **{f"{TRUE}_{name}": values for name, values in truth.items()},
        }

    def summary(self, stats: Stats) -> dict[str, float]:
        """Returns the metrics of merged statistics: of the rows of a held-out split, or of the sums of training."""
        rows = stats["rows"]
        if not rows:
            return self._losses(np.asarray(stats["sums"]["loss_terms"], np.float64))
        return {**self._losses(np.asarray(rows["loss_terms"], np.float64).sum(axis=0)), **self._precisions(rows)}

    def _precisions(self, rows: Mapping[str, Any]) -> dict[str, float]:
        """Returns the metrics of the detections of a split; without those of sizes and classes that it does not have."""
        images, classes = objects_of(rows), len(self.class_names)
        curves = metrics_of_boxes.coco_curves(images, classes)
        voc, voc07 = (metrics_of_boxes.voc_average_precision(images, classes, points=points) for points in (None, 11))
        found = {
            "ap": curves.average_precision(),
            "ap50": curves.average_precision(0.5),
            "ap75": curves.average_precision(0.75),
            "recall": curves.average_recall(),
            "voc_ap": macro(voc),
            "voc07_ap": macro(voc07),
        }
        partial = {f"ap_{size}": curves.average_precision(area=size) for size in SIZES}
        if classes <= MOST_NAMED:
            own = curves.by_class(0.5)
            partial |= {f"ap50_{in_metric(name)}": float(ap) for name, ap in zip(self.class_names, own, strict=True)}
        return found | {name: value for name, value in partial.items() if not np.isnan(value)}

    def _losses(self, sums: np.ndarray) -> dict[str, float]:
        """Returns the loss and its terms, of the sums f64 [2, T] of the terms and of what they are divided by."""
        means = sums[0] / np.maximum(sums[1], 1.0)
        return {"loss": float(means.sum()), **dict(zip(self.terms, means.tolist(), strict=True))}


def without_padding(found: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
    """Returns detections whose boxes end with their images, where these lie on canvases; [B, D, 4] in pixels."""
    if EXTENT not in batch:
        return dict(found)
    sides = jnp.tile(batch[EXTENT][:, None, ::-1], (1, 1, 2)).astype(found["corners"].dtype)  # [B, 2] -> [B, 1, 4]
    return {**found, "corners": jnp.minimum(found["corners"], sides)}


def objects_of(rows: Mapping[str, Any]) -> list[Objects]:
    """Returns the true and the found objects of each image of a split, N of them."""
    count = len(rows["index"])
    return [of_boxes(boxes_at(rows, TRUE, place), boxes_at(rows, FOUND, place)) for place in range(count)]


def boxes_at(rows: Mapping[str, Any], which: str, place: int) -> dict[str, np.ndarray]:
    """Returns {corners, label, valid, …} of the boxes of one image, of FOUND or TRUE, from the rows of a split."""
    names = [name for name in rows if name.startswith(f"{which}_")]
    return {name.removeprefix(f"{which}_"): np.asarray(rows[name])[place] for name in names}
