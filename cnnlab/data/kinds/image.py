"""Images: u8, or f32 in the unit in which they are stored, [N, H, W, C] in memory or decoded on request."""

import dataclasses

import numpy as np

from cnnlab.data.kinds.kind import Kind, Values, described, refuse


@dataclasses.dataclass(frozen=True)
class Image(Kind):
    """Images, which are scaled to [0, 1], varied and normalised inside the compiled step."""

    is_spatial = True

    def check(self, values: Values, where: str) -> None:
        """Raises DataError unless the values are images."""
        lazy = hasattr(values, "image_shape")
        axes = 4 if lazy else getattr(values, "ndim", 0)
        if axes != 4 or values.dtype not in (np.uint8, np.float32):
            refuse(where, f"it is {described(values)}", "images uint8 or float32 [N, H, W, C]")
