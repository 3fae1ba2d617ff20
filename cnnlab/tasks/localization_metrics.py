"""Statistics, metrics and figures of localisation: the class and the box of the one object of an image.

Letters in shapes: B batch, K classes, N images of a split.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Stats
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import boxes
from cnnlab.ops.metrics import confusion_counts
from cnnlab.tasks import boxes_shown
from cnnlab.tasks.detection_metrics import FOUND, TRUE, BoxMetrics, without_padding

LEAST_OVERLAP = 0.5
"""IoU from which a box is right (Russakovsky et al. 2015, arXiv 1409.0575, section 4.1)."""
TERMS = ("class_loss", "box_loss")
"""Names of the terms of the loss."""


@dataclasses.dataclass(frozen=True)
class PlaceMetrics:
    """The metrics of one class and one box for each image; those of images without an object are left out."""

    class_names: tuple[str, ...]
    column: str
    """Name of the column of boxes, of which an image has one at most."""
    class_weight: float
    box_weight: float

    @property
    def declared(self) -> tuple[Metric, ...]:
        """The metrics that `summary` gives; the first ranks."""
        return (
            Metric("localization_error", SHARE, higher_is_better=False, is_proportion=True),
            *(Metric(name, higher_is_better=False, log_scale=True) for name in ("loss", *TERMS)),
            Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True),
            Metric("mean_iou", SHARE, higher_is_better=True),
        )

    @functools.cached_property
    def shown(self) -> BoxMetrics:
        """The same classes and column for pictures of boxes."""
        return BoxMetrics(self.class_names, self.column, TERMS)

    def sums(self, found: Mapping[str, Array], terms: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
        """Returns sums over the images with an object, f32 []: of each term, of the images, and of those that are wrong."""
        values = {**terms, "wrong": ~self._is_right(found, batch)}
        real = batch["mask"] & has_object(batch[self.column])
        added = {name: jnp.sum(jnp.where(real, value.astype(jnp.float32), 0.0)) for name, value in values.items()}
        return {**added, "count": jnp.sum(real.astype(jnp.float32))}

    def rows(self, found: Mapping[str, Array], terms: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
        """Returns the rows of a held-out batch, [B, …] each: both boxes, their IoU and the terms of the loss."""
        return {**self.shown.rows(dict(found), batch), **terms, "iou": self._overlap(found, batch)}

    def summary(self, stats: Stats) -> dict[str, float]:
        """Returns the metrics of merged statistics: of the rows of a held-out split, or of the sums of training."""
        if not stats["rows"]:
            sums = {name: float(value) for name, value in stats["sums"].items()}
            means = {name: sums[name] / max(sums["count"], 1.0) for name in (*TERMS, "wrong")}
            return {"localization_error": means.pop("wrong"), **self._losses(means)}
        rows = {name: values[stats["rows"][f"{TRUE}_valid"].any(axis=1)] for name, values in stats["rows"].items()}
        if not len(rows["index"]):
            return {}
        right = _same_class(rows)
        means = {name: float(np.mean(rows[name], dtype=np.float64)) for name in TERMS}
        return {
            "localization_error": 1.0 - float(np.mean(right & (rows["iou"] >= LEAST_OVERLAP))),
            **self._losses(means),
            "accuracy": float(np.mean(right)),
            "mean_iou": float(np.mean(rows["iou"], dtype=np.float64)),
        }

    def draw_figures(self, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
        """Returns the confusion of classes, the first images with both boxes, and those whose boxes overlap least."""
        from cnnlab import figures

        rows = stats["rows"]
        if not rows:
            return {}
        some = np.flatnonzero(rows[f"{TRUE}_valid"].any(axis=1))
        truth, guess = (rows[f"{which}_label"][some, 0] for which in (TRUE, FOUND))
        counts = confusion_counts(truth, np.where(rows[f"{FOUND}_valid"][some, 0], guess, -1), len(self.class_names))
        worst = some[np.argsort(rows["iou"][some], kind="stable")][: boxes_shown.EXAMPLES]
        first = np.arange(min(boxes_shown.EXAMPLES, len(rows["index"])))
        sheet = functools.partial(boxes_shown.sheet, self.shown, rows, data, split, least=0.0)
        shown = {
            "confusion_matrix": figures.confusion_matrix(counts, self.class_names),
            "boxes": sheet(first, title=f"The first images of {split}, with their true and their predicted boxes"),
        }
        return shown | ({"mistakes": sheet(worst, title=f"The smallest overlaps on {split}")} if len(worst) else {})

    def _losses(self, terms: Mapping[str, float]) -> dict[str, float]:
        """Returns the terms of the loss, and their weighted sum `loss`."""
        return {"loss": self.class_weight * terms["class_loss"] + self.box_weight * terms["box_loss"], **terms}

    def _overlap(self, found: Mapping[str, Array], batch: Batch) -> Array:
        """Returns the IoU of the predicted with the true box of each image, f32 [B]; 0 without an object."""
        corners = without_padding(found, batch)["corners"]  # as the rows have it
        overlap = boxes.iou_of_pairs(corners[:, 0], batch[self.column]["corners"][:, 0])
        return jnp.where(has_object(batch[self.column]), overlap, 0.0)

    def _is_right(self, found: Mapping[str, Array], batch: Batch) -> Array:
        """Returns whether class and box are right, bool [B]."""
        same = found["valid"][:, 0] & (found["label"][:, 0] == batch[self.column]["label"][:, 0])
        return same & (self._overlap(found, batch) >= LEAST_OVERLAP)


def has_object(objects: Mapping[str, Array]) -> Array:
    """Returns whether an image has an object, bool [B], of a column of boxes with one place."""
    return objects["valid"][:, 0]


def _same_class(rows: Mapping[str, Any]) -> np.ndarray:
    """Returns whether the predicted class is the true one, bool [N]; never where none was predicted."""
    same = rows[f"{FOUND}_label"][:, 0] == rows[f"{TRUE}_label"][:, 0]
    return np.asarray(rows[f"{FOUND}_valid"][:, 0] & same)
