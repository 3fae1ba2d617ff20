"""Points on the image, such as the keypoints of a face: (x, y) in pixels, M for each example."""

import dataclasses
from collections.abc import Callable

import numpy as np

from cnnlab.data.kinds.kind import Kind, Values, refuse, require_arrays, require_finite
from cnnlab.data.placement import Placement, inside, moved_points


@dataclasses.dataclass(frozen=True)
class Points(Kind):
    """M points of each example; `names` are those of the points.

    The value is a dict: `position` f32 [N, M, 2], (x, y) in pixels, x to the right and y down, continuous, so that the middle
    of the first pixel is (½, ½); `valid` bool [N, M].
    """

    is_spatial = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless there is a flag for each point and, where points have names, a name."""
        require_arrays(values, where, {"position": (np.float32, 3, (2,)), "valid": (np.bool_, 2, ())})
        if values["position"].shape[:2] != values["valid"].shape:
            refuse(where, "position and valid differ in size", "position [N, M, 2] and valid [N, M]")
        if self.names and len(self.names) != values["valid"].shape[1]:
            refuse(where, f"it has {values['valid'].shape[1]} points and {len(self.names)} names", "one name for each point")
        require_finite(values["position"], where)

    def fitted(self, values: Values, place: Callable[[int], Placement]) -> Values:
        """Returns the points on the fitted images; a point outside is not valid."""
        position = moved_points(values["position"], place)
        return {**values, "position": position, "valid": values["valid"] & inside(position, place)}
