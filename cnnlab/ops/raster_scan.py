"""The position in an image at which an autoregressive network is evaluated, in raster order: row by row, left to right."""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network is evaluated during sampling: at a pixel, in a row, or (row None) everywhere by matrix products.

    Everywhere by matrix products is for loops, in which XLA's CPU backend ran its convolution 5 to 7 times slower than outside
    (jax issue 12868). With jax 0.10.2 and a CPU without AVX-512 both ways take the same time.
    """

    size: tuple[int, int]
    """(H, W) of the image."""
    row: jax.Array | None = None
    """i32 [], the row; None: everywhere."""
    column: jax.Array | None = None
    """i32 [], the column; None: the whole row."""
