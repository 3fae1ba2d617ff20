"""Instances without training: a threshold between dark and bright, and a watershed between objects that touch."""

from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.errors import UsageError
from cnnlab.models.dense_maps import with_output
from cnnlab.models.mask_head import InstancesAlone, packed
from cnnlab.models.thresholds import minority_side
from cnnlab.ops import regions, watershed
from cnnlab.ops.watershed import NOTHING
from cnnlab.values import Count, Range


class OtsuWatershed(nn.Module):
    """Otsu's threshold and a watershed of the distances to the background; it has no parameters.

    The side of the threshold with fewer pixels is what objects are made of (models/thresholds.py). The score of an object says
    how near its number of pixels is to the median of its image's objects, as a ratio of the smaller to the larger one, so that
    specks and clumps come last.

    Attributes:
        classes: number of classes of objects, which is 1.
        blur: standard deviation in pixels of the Gaussian that smooths the grey image before the threshold; 0: none.
        smooth: that of the one that smooths the distances, whose small maxima would divide objects; 0: none.
        least_distance: pixels down or right from a maximum of the distances within which a higher one takes its object.
        least_pixels: an object of fewer pixels is none.
        most: objects of an image at most, those with the most pixels.
        bins: bins of a mask along each axis of its box.
    """

    classes: int
    blur: Annotated[float, Range(0, 20)] = 1.0
    smooth: Annotated[float, Range(0, 20)] = 1.0
    least_distance: Count = 3
    least_pixels: Count = 20
    most: Count = 100
    bins: Count = 28

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (detections with masks f32 [B, D, 7 + bins²], the same as `output`)."""
        if self.classes != 1:
            raise UsageError(
                f"a threshold finds objects of one class, and there are {self.classes}.\nTake another --model: mask_rcnn."
            )
        grey = jnp.mean(images.astype(jnp.float32), axis=-1)
        return with_output(jax.lax.map(self._of_image, grey), {})

    def _of_image(self, grey: jax.Array) -> jax.Array:
        """Returns the detections f32 [D, 7 + bins²] in an image f32 [H, W]."""
        mask = minority_side(watershed.blurred(grey, self.blur))
        height = watershed.blurred(watershed.distances(mask), self.smooth)
        owner = watershed.basins(height, mask, self.least_distance)
        flat = owner.reshape(-1)  # [H, W] -> [H·W]
        counts = jnp.zeros(flat.shape, jnp.float32).at[jnp.where(flat == NOTHING, flat.size, flat)].add(1.0, mode="drop")
        counts = jnp.where(counts >= self.least_pixels, counts, 0.0)
        pixels, place = jax.lax.top_k(jnp.pad(counts, (0, max(self.most - counts.size, 0))), self.most)  # [D] each
        masks = owner[None] == place[:, None, None].astype(owner.dtype)  # [1, H, W] and [D, 1, 1] -> [D, H, W]
        valid = pixels > 0
        corners = jnp.where(valid[:, None], _around(masks), 0.0)
        median = jnp.nanmedian(jnp.where(valid, pixels, jnp.nan))
        score = jnp.where(valid, jnp.minimum(pixels, median) / jnp.maximum(pixels, median), 0.0)
        label = jnp.zeros(self.most, jnp.int32)
        order = jnp.argsort(-score, stable=True)
        found = {"corners": corners, "score": score, "label": label, "valid": valid}
        covered = regions.cropped_masks(masks, corners, jnp.arange(self.most, dtype=jnp.int32), self.bins)
        return packed(found, covered)[order]  # [D, P] at [D]

    def head(self, image_size: tuple[int, int]) -> InstancesAlone:
        """Returns what the outputs mean."""
        return InstancesAlone(self.classes)


def _around(masks: jax.Array) -> jax.Array:
    """Returns the boxes (x1, y1, x2, y2) around masks bool [D, H, W], f32 [D, 4]; of one without a pixel anything."""
    ends = []
    for axis in (1, 2):
        along = jnp.any(masks, axis=axis)  # [D, W], then [D, H]
        first = jnp.argmax(along, axis=1)
        last = along.shape[1] - jnp.argmax(along[:, ::-1], axis=1)
        ends.append((first.astype(jnp.float32), last.astype(jnp.float32)))
    return jnp.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], axis=1)
