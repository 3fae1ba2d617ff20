"""Boxes around objects: corners in pixels, the class of each, and which of the M places hold a box."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, refuse, require_arrays, require_finite, require_numbers_of_classes
from cnnlab.data.placement import Placement, moved_points

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion


@dataclasses.dataclass(frozen=True)
class Boxes(Kind):
    """At most M boxes for each example.

    The value is a dict: `corners` f32 [N, M, 4], (x1, y1, x2, y2) in pixels, x to the right and y down, continuous, so that the
    whole image is (0, 0, W, H); `label` i32 [N, M]; `valid` bool [N, M]. The content of places that are not valid counts for
    nothing.
    """

    is_spatial = True
    names_outputs = True

    least_remaining: float = 0.25
    """Share of its area that a box keeps at least when a variation moves it across the border; with less it is not valid."""

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless valid boxes have a positive area and a class."""
        require_arrays(
            values, where, {"corners": (np.float32, 3, (4,)), "label": (np.int32, 2, ()), "valid": (np.bool_, 2, ())}
        )
        corners, valid = values["corners"], values["valid"]
        if corners.shape[:2] != valid.shape or values["label"].shape != valid.shape:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in values.items())
            refuse(where, f"its arrays differ in size: {shapes}", "corners [N, M, 4], label [N, M] and valid [N, M]")
        require_finite(corners, where)
        empty = valid & ((corners[..., 2] <= corners[..., 0]) | (corners[..., 3] <= corners[..., 1]))
        if empty.any():
            example, place = (int(axis[0]) for axis in np.nonzero(empty))
            refuse(
                where,
                f"box {place} of example {example} is {corners[example, place].tolist()} ({int(empty.sum())} such)",
                "x1 < x2 and y1 < y2",
                "Mark boxes without an area as not valid.",
            )
        require_numbers_of_classes(np.where(valid, values["label"], 0), len(self.names), where)

    def occurrences(self, values: Values) -> np.ndarray:
        """Returns the number of boxes of each class."""
        return np.bincount(values["label"][values["valid"]], minlength=len(self.names))

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the boxes on the fitted images, clipped to them; a box outside is not valid."""
        corners = values["corners"]
        shape = (*corners.shape[:2], 2, 2)
        moved = moved_points(corners.reshape(shape), place)  # [N, M, 4] -> [N, M, 2, 2]: two corners of (x, y)
        sides = np.array([place(number).size[::-1] for number in range(len(corners))], np.float32)  # [N, 2]: width, height
        # [N, M, 2, 2] -> [N, M, 4]
        clipped = np.clip(moved, 0, sides[:, None, None, :]).reshape(corners.shape)
        inside = (clipped[..., 2] > clipped[..., 0]) & (clipped[..., 3] > clipped[..., 1])
        return {**values, "corners": clipped, "valid": values["valid"] & inside}

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the boxes around the moved corners, clipped to the image; one with too little of its area left is invalid."""
        import jax.numpy as jnp

        x1, y1, x2, y2 = jnp.moveaxis(value["corners"], -1, 0)  # [M, 4] -> four of [M]
        points = motion.points(jnp.stack([jnp.stack([x1, x2, x2, x1], -1), jnp.stack([y1, y1, y2, y2], -1)], -1))  # [M, 4, 2]
        low, high = jnp.min(points, axis=1), jnp.max(points, axis=1)  # [M, 2] each
        sides = jnp.asarray(motion.size[::-1], points.dtype)[None]
        seen_low, seen_high = jnp.clip(low, 0.0, sides), jnp.clip(high, 0.0, sides)
        area, seen = (jnp.prod(end - begin, axis=1) for begin, end in ((low, high), (seen_low, seen_high)))
        remains = (seen > 0) & (seen >= self.least_remaining * area)
        return {**value, "corners": jnp.concatenate([seen_low, seen_high], axis=1), "valid": value["valid"] & remains}
