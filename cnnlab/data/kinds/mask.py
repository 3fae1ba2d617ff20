"""Semantic masks: the class of every pixel, u8 [N, H, W], in memory or decoded on request."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, described, refuse, require_numbers_of_classes, require_size_of_images
from cnnlab.data.placement import Placement, by_area, nearest

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion

IGNORE = 255
"""The value of a pixel that counts in no loss and no metric: a border between objects, or a place outside of the image."""


@dataclasses.dataclass(frozen=True)
class Mask(Kind):
    """The class of every pixel, or `ignore`."""

    is_spatial = True
    names_outputs = True

    ignore: int = IGNORE
    """The value of pixels that do not count."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """The colour in which pictures show each class; (): they have none of their own."""
    published: tuple[int, ...] = ()
    """The number by which the publisher's own masks, and submissions, have each class; (): its place among the names."""
    categories: tuple[str, ...] = ()
    """The category of each class, for an IoU of categories; (): they have none."""
    by_area: bool = False
    """Whether a pixel of a mask that is brought to another size is the class of the largest part of its area, and not that of
    the nearest pixel."""

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless the values are numbers of classes; masks that are decoded on request are not read."""
        lazy = hasattr(values, "image_shape")
        if values.dtype != np.uint8 or not (lazy or values.ndim == 3):
            refuse(where, f"it is {described(values)}", "uint8 [N, H, W], the number of a class for each pixel")
        if len(self.names) > self.ignore:
            refuse(where, f"{len(self.names)} classes reach the ignore value {self.ignore}", f"at most {self.ignore} classes")
        if not lazy:
            require_numbers_of_classes(values, len(self.names), where, also=(self.ignore,))

    def check_on(self, values: Values, sizes: np.ndarray, where: str) -> None:
        """Raises DataError where a mask has another size than its image."""
        require_size_of_images(values, sizes, where)

    def occurrences(self, values: Values) -> np.ndarray | None:
        """Returns the number of pixels of each class; of files as they are stored, None where it is not known."""
        if hasattr(values, "image_shape"):
            counts: np.ndarray | None = getattr(values, "class_counts", None)
            return None if counts is None else counts.sum(axis=0)  # [N, K] -> [K]
        return np.bincount(values.reshape(-1), minlength=256)[: len(self.names)]  # [N, H, W] -> [K]; `ignore` is beyond

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the masks at the size of the fitted images: each pixel is that of the nearest place, outside `ignore`."""
        if self.by_area:
            return by_area(values, place, classes=len(self.names), outside=self.ignore)
        return nearest(values, place, outside=self.ignore)

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the mask [H, W] moved: each pixel is the nearest one, outside of the image `ignore`."""
        return motion.pixels(value, "nearest", float(self.ignore))

    def pasted(self, value: Value, partner: Value, region: Any, share: Any) -> Value:
        """Returns the mask with the region of the partner's."""
        import jax.numpy as jnp

        return jnp.where(region, partner, value)
