"""Points on the image, such as the keypoints of a face: (x, y) in pixels, M for each example."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, refuse, require_arrays, require_finite
from cnnlab.data.placement import Placement, inside, moved_points

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion


@dataclasses.dataclass(frozen=True)
class Points(Kind):
    """M points of each example; `names` are those of the points.

    The value is a dict: `position` f32 [N, M, 2], (x, y) in pixels, x to the right and y down, continuous, so that the middle
    of the first pixel is (½, ½); `valid` bool [N, M].
    """

    is_spatial = True

    mirrored: tuple[int, ...] = ()
    """For each point the number of the one whose place it takes in a mirrored image: the left eye takes that of the right one.
    (): each keeps its own."""

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless there is a flag for each point and, where points have names, a name."""
        require_arrays(values, where, {"position": (np.float32, 3, (2,)), "valid": (np.bool_, 2, ())})
        if values["position"].shape[:2] != values["valid"].shape:
            refuse(where, "position and valid differ in size", "position [N, M, 2] and valid [N, M]")
        if self.names and len(self.names) != values["valid"].shape[1]:
            refuse(where, f"it has {values['valid'].shape[1]} points and {len(self.names)} names", "one name for each point")
        if self.mirrored and sorted(self.mirrored) != list(range(values["valid"].shape[1])):
            refuse(where, f"its mirrored places are {list(self.mirrored)}", f"each of 0 to {values['valid'].shape[1] - 1} once")
        require_finite(values["position"], where)

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the points on the fitted images; a point outside is not valid."""
        position = moved_points(values["position"], place)
        return {**values, "position": position, "valid": values["valid"] & inside(position, place)}

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the points moved; one outside of the image is not valid. A mirrored image exchanges them by `mirrored`."""
        import jax.numpy as jnp

        position = motion.points(value["position"])
        sides = jnp.asarray(motion.size[::-1], position.dtype)[None]
        valid = value["valid"] & jnp.all((position >= 0) & (position < sides), axis=1)
        if self.mirrored:
            # A motion that mirrors takes (middle, right of it, below it) to three points of the other orientation.
            middle = jnp.asarray(motion.size[::-1], position.dtype) / 2
            steps = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], position.dtype)
            origin, right, below = motion.points(middle[None] + steps)
            turned = jnp.cross(right - origin, below - origin) < 0
            order = jnp.asarray(self.mirrored)
            position = jnp.where(turned, position[order], position)  # [M, 2] at [M] -> [M, 2]
            valid = jnp.where(turned, valid[order], valid)
        return {**value, "position": position, "valid": valid}
