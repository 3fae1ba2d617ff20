"""Statistics and metrics of instances: objects with a mask each, beside those of their boxes.

Letters in shapes: B batch, N images of a split, H W space, K classes, M places for objects, D places for detections.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Stats
from cnnlab.data.kinds.extent import EXTENT
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import instances, metrics_of_boxes
from cnnlab.ops.objects import Objects, of_counts
from cnnlab.tasks.detection_metrics import FOUND, SIZES, TRUE, BoxMetrics, boxes_at
from cnnlab.tasks.segmentation_metrics import GROUP, MOST_NAMED, in_metric

INSIDE = 0.5
"""Probability from which a pixel belongs to an object."""
SURE = 0.3
"""Score from which a detection is shown."""
SHOWN = {"shown_true": 8, "shown_found": 8}
"""Rows of pictures, and of how many images they are fetched."""


@dataclasses.dataclass(frozen=True)
class InstanceMetrics(BoxMetrics):
    """The metrics of boxes and masks of named classes, and how they are found.

    An object touches another one where a pixel of it is next to a pixel of the other; of the metric of touching objects, the
    others need not be found, and count for nothing where they are.
    """

    masks: str = ""
    """Name of the column of masks."""
    group_column: str = ""
    """Name of the column that says of which kind an image is; empty: the data have none."""
    group_names: tuple[str, ...] = ()
    """Names of the kinds of images."""

    @functools.cached_property
    def declared(self) -> tuple[Metric, ...]:
        """The metrics that `summary` gives; the first ranks."""
        share = functools.partial(Metric, unit=SHARE, higher_is_better=True)
        named = self.class_names if len(self.class_names) <= MOST_NAMED else ()
        return (
            *map(share, ("mask_ap", "mask_ap50", "mask_ap75", "mask_recall", *(f"mask_ap_{size}" for size in SIZES))),
            *map(share, ("mask_ap50_touching", "mask_recall50_touching")),
            *(share(f"mask_ap50_{in_metric(name)}") for name in (*named, *self.group_names)),
            *super().declared,
        )

    def rows(self, found: dict[str, Array], batch: Batch) -> dict[str, Array]:
        """Returns the detections, the objects and what their masks share in each held-out image, [B, …] each."""
        masks = batch[self.masks] > 0  # [B, M, H, W]
        # One image after another: the masks of all detections of a batch at once would not fit.
        whole = jnp.tile(jnp.int32(masks.shape[2:]), (len(masks), 1))  # [2] -> [B, 2]
        counts = jax.lax.map(_counted, (found, masks, batch[self.column]["valid"], batch.get(EXTENT, whole)))
        return {
            **super().rows({name: values for name, values in found.items() if name != "mask"}, batch),
            **counts,
            **({GROUP: batch[self.group_column]} if self.group_names else {}),
        }

    def summary(self, stats: Stats) -> dict[str, float]:
        """Returns the metrics of merged statistics: of the rows of a held-out split, or of the sums of training."""
        found = super().summary(stats)
        return {**self._of_masks(stats["rows"]), **found} if stats["rows"] else found

    def _of_masks(self, rows: Mapping[str, Any]) -> dict[str, float]:
        """Returns the metrics of the masks of a split; without those of sizes, classes and kinds that it does not have."""
        images, classes = masks_of(rows), len(self.class_names)
        curves = metrics_of_boxes.coco_curves(images, classes)
        found = {
            "mask_ap": curves.average_precision(),
            "mask_ap50": curves.average_precision(0.5),
            "mask_ap75": curves.average_precision(0.75),
            "mask_recall": curves.average_recall(),
        }
        partial = {f"mask_ap_{size}": curves.average_precision(area=size) for size in SIZES}
        close = metrics_of_boxes.coco_curves(masks_of(rows, touching=True), classes, thresholds=np.asarray([INSIDE]))
        partial |= {
            "mask_ap50_touching": close.average_precision(0.5),
            "mask_recall50_touching": close.average_recall(),
        }
        if classes <= MOST_NAMED:
            own = curves.by_class(0.5)
            partial |= {f"mask_ap50_{in_metric(name)}": float(ap) for name, ap in zip(self.class_names, own, strict=True)}
        for number, group in enumerate(self.group_names):
            of_group: Sequence[Objects] = [images[place] for place in np.flatnonzero(np.asarray(rows[GROUP]) == number)]
            alone = metrics_of_boxes.coco_curves(of_group, classes, thresholds=np.asarray([0.5]))
            partial[f"mask_ap50_{in_metric(group)}"] = alone.average_precision(0.5)
        return found | {name: value for name, value in partial.items() if not np.isnan(value)}


def _counted(given: tuple[dict[str, Array], Array, Array, Array]) -> dict[str, Array]:
    """Returns the pixels that the masks of an image have in common, those of each, who touches whom, and pictures of both."""
    found, truth, valid, extent = given
    truth &= valid[:, None, None]  # [M] -> [M, 1, 1]
    masks = instances.on_image(found["mask"], found["corners"], (truth.shape[1], truth.shape[2])) >= INSIDE
    masks &= found["valid"][:, None, None]  # [D] -> [D, 1, 1]
    # What lies in the padding of a canvas belongs to no image.
    masks &= (jnp.arange(masks.shape[1]) < extent[0])[None, :, None] & (jnp.arange(masks.shape[2]) < extent[1])[None, None]
    owner = instances.owners(truth)
    shown = masks & (found["score"] >= SURE)[:, None, None]
    return {
        "mask_both": instances.common_pixels(masks, truth),  # [D, M]
        "mask_found": jnp.sum(masks, (1, 2), dtype=jnp.float32),
        "mask_true": jnp.sum(truth, (1, 2), dtype=jnp.float32),
        "mask_touching": instances.touching(owner, len(truth)),
        "shown_true": owner.astype(jnp.int16),
        "shown_found": instances.owners(shown).astype(jnp.int16),
    }


def masks_of(rows: Mapping[str, Any], *, touching: bool = False) -> list[Objects]:
    """Returns the true and the found objects of each image of a split, N of them, by their masks.

    Args:
        rows: of the split.
        touching: whether objects that touch no other one need not be found.
    """
    found = []
    for place in range(len(rows["index"])):
        truth = boxes_at(rows, TRUE, place)
        if touching:
            alone = ~np.asarray(rows["mask_touching"][place])
            truth = {**truth, "difficult": alone | truth.get("difficult", np.zeros(len(alone), bool))}
        pixels, found_pixels, both = (np.asarray(rows[f"mask_{name}"][place]) for name in ("true", "found", "both"))
        found.append(of_counts(truth, pixels, boxes_at(rows, FOUND, place), found_pixels, both))
    return found
