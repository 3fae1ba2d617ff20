"""The part of a canvas that an image fills: (H, W) in pixels from the upper left corner, i32 [N, 2]."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, described, refuse

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion

EXTENT = "extent"
"""The name of this column."""


@dataclasses.dataclass(frozen=True)
class Extent(Kind):
    """How much of a canvas is the image; the rest, to the right and below, is padding."""

    is_spatial = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless there is a height and a width for each example."""
        if not isinstance(values, np.ndarray) or values.shape[1:] != (2,) or values.dtype != np.int32:
            refuse(where, f"it is {described(values)}", "int32 [N, 2], height and width in pixels")

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the whole size, since the padding may be anywhere after a motion; `random_crop` knows better."""
        import jax.numpy as jnp

        return jnp.asarray(motion.size, jnp.int32)

    def mixed(self, value: Value, partner: Value, share: Any) -> Value:
        """Returns what both images fill together."""
        import jax.numpy as jnp

        return jnp.maximum(value, partner)
