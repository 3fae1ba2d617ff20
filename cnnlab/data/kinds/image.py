"""Images: u8, or f32 in the unit in which they are stored, [N, H, W, C] in memory or decoded on request."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlab.data.kinds.kind import Kind, Value, Values, described, refuse

if TYPE_CHECKING:  # jax is needed on the device alone
    from cnnlab.data.motion import Motion


@dataclasses.dataclass(frozen=True)
class Image(Kind):
    """Images, which are scaled to [0, 1], varied and normalised inside the compiled step."""

    is_spatial = True
    takes_precision = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless the values are images."""
        lazy = hasattr(values, "image_shape")
        axes = 4 if lazy else getattr(values, "ndim", 0)
        if axes != 4 or values.dtype not in (np.uint8, np.float32):
            refuse(where, f"it is {described(values)}", "images uint8 or float32 [N, H, W, C]")
        if not lazy and values.dtype == np.float32 and values.size:
            _require_finite(values, where)

    def moved(self, value: Value, motion: "Motion") -> Value:
        """Returns the image f32 [H, W, C] moved, by bilinear interpolation, with the motion's edge."""
        return motion.pixels(value, "bilinear", motion.fill(value))

    def mixed(self, value: Value, partner: Value, share: Any) -> Value:
        """Returns the weighted mean of both images."""
        return share * value + (1.0 - share) * partner

    def pasted(self, value: Value, partner: Value, region: Any, share: Any) -> Value:
        """Returns the image with the region of the partner's."""
        import jax.numpy as jnp

        return jnp.where(region[..., None], partner, value)


def _require_finite(values: np.ndarray, where: str) -> None:
    """Raises DataError where an image has a value that is not finite; the ends of the range show whether there is one."""
    low, high = float(values.min()), float(values.max())
    if np.isfinite(low) and np.isfinite(high):
        return
    wrong = [number for number, image in enumerate(values) if not np.isfinite(image).all()]
    refuse(
        where,
        f"example {wrong[0]} has a value that is not finite ({len(wrong)} such); all values are from {low:g} to {high:g}",
        "finite floats in [0, 1], or uint8 in 0..255",
    )
