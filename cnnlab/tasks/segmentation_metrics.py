"""Statistics and metrics of segmentation: a class for every pixel.

Letters in shapes: B batch, N images of a split, H W space, K classes, T terms of the loss.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Stats
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import mask_counts, metrics_of_masks
from cnnlab.ops.metrics_of_counts import macro

MOST_NAMED = 40
"""Largest number of classes whose own IoU is a metric each; of more there are figures alone."""
DILATION = 0.02
"""Width of the band along a border as a share of the image's diagonal (Cheng et al. 2021, arXiv 2103.16562, section 5)."""
GROUP = "group"
"""Name of the rows that say of which kind an image is, such as fluorescence or histology, where data have such a column."""


@dataclasses.dataclass(frozen=True)
class MaskMetrics:
    """The metrics of masks of named classes, and how they are found."""

    class_names: tuple[str, ...]
    ignore: int
    """Value of pixels that do not count."""
    column: str
    """Name of the column of masks."""
    group_column: str = ""
    """Name of the column that says of which kind an image is; empty: the data have none."""
    group_names: tuple[str, ...] = ()
    """Names of the kinds of images."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """The colour of each class, as the data have it; (): the usual ones."""
    published: tuple[int, ...] = ()
    """The number of each class in submissions; (): they have none of their own."""
    categories: tuple[str, ...] = ()
    """The category of each class, such as vehicle; (): they have none."""

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def category_names(self) -> tuple[str, ...]:
        """The categories, in the order of their first classes."""
        return tuple(dict.fromkeys(self.categories))

    @functools.cached_property
    def declared(self) -> tuple[Metric, ...]:
        """The metrics that `summary` gives; the first ranks."""
        share = functools.partial(Metric, unit=SHARE, higher_is_better=True)
        named = self.class_names if self.classes <= MOST_NAMED else ()
        return (
            share("miou"),
            Metric("loss", higher_is_better=False, log_scale=True),
            *map(share, ("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "dice")),
            *map(share, ("image_miou", "boundary_iou", "trimap_accuracy")),
            *(share(f"iou_{in_metric(name)}") for name in named),
            *map(share, ["category_miou"] * bool(self.categories)),
            *(share(f"category_iou_{in_metric(name)}") for name in self.category_names),
            *(share(f"{metric}_{in_metric(group)}") for group in self.group_names for metric in ("miou", "dice")),
        )

    def valid(self, batch: Batch) -> tuple[Array, Array]:
        """Returns (labels i32 [B, H, W], which of them count: bool [B, H, W]) of a batch, padding left out."""
        labels = batch[self.column].astype(jnp.int32)
        return labels, (labels != self.ignore) & batch["mask"][:, None, None]

    def sums(self, logits: Array, batch: Batch) -> dict[str, Array]:
        """Returns the confusion matrix f32 [K, K] of a training batch and the number of its images."""
        labels, valid = self.valid(batch)
        counts = mask_counts.confusion(labels, predicted_classes(logits), valid, self.classes)
        return {"confusion": jnp.sum(counts, axis=0), "count": jnp.sum(batch["mask"].astype(jnp.float32))}

    def rows(self, logits: Array, batch: Batch) -> dict[str, Array]:
        """Returns what is counted in each held-out image: confusion f32 [B, K, K], borders f32 [B, K, 2], trimap f32 [B, 2]."""
        labels, valid = self.valid(batch)
        guess = predicted_classes(logits)
        reach = border_reach(labels.shape[1], labels.shape[2])
        truth, found = (
            mask_counts.inner_border(mask_counts.one_hot(part, valid, self.classes), reach) for part in (labels, guess)
        )
        band = mask_counts.near_border(labels, valid, reach)
        borders = [jnp.sum(part, (1, 2), jnp.float32) for part in (truth & found, truth | found)]  # two of [B, K]
        trimap = [jnp.sum(part, (1, 2), jnp.float32) for part in (band & (labels == guess), band)]  # two of [B]
        return {
            "index": batch["index"],
            "mask": batch["mask"],
            "confusion": mask_counts.confusion(labels, guess, valid, self.classes),
            "borders": jnp.stack(borders, axis=-1),
            "trimap": jnp.stack(trimap, axis=-1),
            **({GROUP: batch[self.group_column]} if self.group_names else {}),
        }

    def summary(self, stats: Stats) -> dict[str, float]:
        """Returns the metrics of merged statistics: of the rows of a held-out split, or of the sums of training."""
        rows = stats["rows"]
        if not rows:
            counts = np.asarray(stats["sums"]["confusion"], np.float64)
            return {"loss": loss_of(stats["sums"]["loss_terms"]), **_of_counts(counts)}
        each = np.asarray(rows["confusion"], np.float64)  # [N, K, K]
        counts = each.sum(axis=0)
        both, either = np.asarray(rows["borders"], np.float64).sum(axis=0).T  # [N, K, 2] -> [K] and [K]
        right, band = np.asarray(rows["trimap"], np.float64).sum(axis=0)
        labelled = counts.sum(axis=1) > 0
        by_class = metrics_of_masks.ious(counts)
        found = {
            "loss": loss_of(np.asarray(rows["loss_terms"], np.float64).sum(axis=0)),
            **_of_counts(counts),
            "image_miou": macro(metrics_of_masks.means(metrics_of_masks.ious(each))),
            "boundary_iou": macro(np.where(labelled, both / np.maximum(either, 1), np.nan)),
            "trimap_accuracy": right / band if band else float("nan"),
        }
        if self.classes <= MOST_NAMED:
            found |= {f"iou_{in_metric(name)}": float(iou) for name, iou in zip(self.class_names, by_class, strict=True)}
        found |= self._of_categories(counts)
        for number, group in enumerate(self.group_names):
            of_group = _of_counts(each[np.asarray(rows[GROUP]) == number].sum(axis=0))
            found |= {f"{metric}_{in_metric(group)}": of_group[metric] for metric in ("miou", "dice")}
        return found

    def _of_categories(self, counts: np.ndarray) -> dict[str, float]:
        """Returns the IoU of categories and its mean, of counts [K, K]; {} where classes have none.

        Within a category one class may be taken for another (cityscapesScripts, `getIouScoreForCategory`).
        """
        if not self.categories:
            return {}
        numbers = np.array([self.category_names.index(category) for category in self.categories])
        found = metrics_of_masks.ious(metrics_of_masks.pooled(counts, numbers))
        named = zip(self.category_names, found.tolist(), strict=True)
        return {"category_miou": macro(found), **{f"category_iou_{in_metric(name)}": iou for name, iou in named}}


def loss_of(terms: Array) -> float:
    """Returns the loss of sums f64 [T, 2]: for each term its factor times Σ values · shares, and Σ shares."""
    totals, shares = np.asarray(terms, np.float64).T
    return float(np.sum(totals / np.where(shares > 0, shares, 1.0)))


def predicted_classes(logits: Array) -> Array:
    """Returns the class of each pixel, i32 [B, H, W], of logits [B, H, W, K]; of equal ones the first."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def border_reach(height: int, width: int) -> int:
    """Returns the width in pixels of the band along borders, at least 1."""
    return max(1, round(DILATION * float(np.hypot(height, width))))


def in_metric(name: str) -> str:
    """Returns the name of a class as a part of a metric's name: letters and digits, `_` for anything else."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _of_counts(counts: np.ndarray) -> dict[str, float]:
    """Returns the metrics of a pooled confusion matrix [K, K]; with two classes `dice` is that of the second."""
    dices = metrics_of_masks.dices(counts)
    return {
        "miou": macro(metrics_of_masks.ious(counts)),
        "pixel_accuracy": metrics_of_masks.pixel_accuracy(counts),
        "mean_accuracy": macro(metrics_of_masks.accuracies(counts)),
        "frequency_weighted_iou": metrics_of_masks.frequency_weighted_iou(counts),
        "dice": macro(dices if len(dices) > 2 else dices[1:]),
    }
