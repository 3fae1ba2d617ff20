"""Masks of objects: u8 [N, M, H, W] of 0 and 1, one for each of at most M objects."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, described, refuse, require_size_of_images
from cnnlab.data.placement import Placement, nearest

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion


@dataclasses.dataclass(frozen=True)
class InstanceMasks(Kind):
    """Which pixels belong to each object; the objects stand in the order of the column of boxes, padded with zeros."""

    is_spatial = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless the values are 0 or 1; masks that are decoded on request are not read."""
        lazy = hasattr(values, "image_shape")
        if values.dtype != np.uint8 or not (lazy or values.ndim == 4):
            refuse(where, f"it is {described(values)}", "uint8 [N, M, H, W] of 0 and 1")
        if not lazy and values.size and values.max() > 1:
            refuse(where, f"its largest value is {values.max()}", "0 or 1: whether a pixel belongs to the object")

    def check_on(self, values: Values, sizes: np.ndarray, where: str) -> None:
        """Raises DataError where a mask has another size than its image."""
        require_size_of_images(values, sizes, where)

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the masks at the size of the fitted images; what lies outside belongs to no object."""
        return nearest(values, place, outside=0)

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the masks [M, H, W] moved: each pixel is the nearest one, and what lies outside belongs to no object."""
        import jax.numpy as jnp

        last = motion.pixels(jnp.moveaxis(value, 0, -1), "nearest", 0.0)  # [M, H, W] -> [H', W', M]
        return jnp.moveaxis(last, -1, 0)
