"""Applies a function of images to overlapping tiles of large ones, and puts together what it gives for their middles.

Ronneberger, Fischer and Brox 2015, arXiv 1505.04597, figure 2 (the overlap-tile strategy).

Letters in shapes: B batch, H W space, C channels, K classes, T tiles.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

ALIGNMENT = 32
"""Tiles begin at multiples of this many pixels, so that a network which shrinks images by up to as much has the same cells."""


def in_tiles(function: Callable[[jax.Array], jax.Array], images: jax.Array, tile: int, overlap: int) -> jax.Array:
    """Returns `function(images)` [B, H, W, K], computed tile by tile; images that are no larger than a tile are one.

    A pixel is taken from the tile whose edges are far from it: `overlap` / 2 pixels at least, but for the edges of the image,
    at which the outer tiles end. So this is exact where the function depends on no pixel further away, and not on its image as
    a whole. Memory does not grow with the size of the images, but for what is returned.

    Args:
        function: images [B, h, w, C] -> outputs [B, h, w, K], for any h and w.
        images: images [B, H, W, C].
        tile: largest height and width of a tile in pixels, a multiple of ALIGNMENT.
        overlap: least number of pixels that neighbouring tiles share, a multiple of ALIGNMENT below `tile` by two at least.
    """
    (height, width), channels = images.shape[1:3], images.shape[3]
    if max(height, width) <= tile:
        return function(images)
    # All tiles are as large, and the last one ends with the image: it is a whole number of ALIGNMENT after the first.
    sides = [side if side <= tile else tile - (-side) % ALIGNMENT for side in (height, width)]
    (tops, rows, inside_rows), (lefts, columns, inside_columns) = (
        _owners(side, used, overlap) for side, used in zip((height, width), sides, strict=True)
    )
    places = jnp.asarray([(top, left) for top in tops for left in lefts], jnp.int32)  # [T, 2]

    def of_tile(place: jax.Array) -> jax.Array:
        return function(jax.lax.dynamic_slice(images, (0, *place, 0), (len(images), *sides, channels)))

    found = jax.lax.map(of_tile, places)  # [T, B, h, w, K]
    numbers = rows[:, None] * len(lefts) + columns[None, :]  # [H, W]: the tile of each pixel
    # [T, B, h, w, K] at tile, row and column of each pixel [H, W] -> [H, W, B, K]
    chosen = found[numbers, :, inside_rows[:, None], inside_columns[None, :]]
    return jnp.moveaxis(chosen, 2, 0)  # [H, W, B, K] -> [B, H, W, K]


def _owners(side: int, tile: int, overlap: int) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Returns the starts of tiles along a side, and for each pixel the number of its tile and its place in that, i32 [side]."""
    last, step = side - tile, max((tile - overlap) // ALIGNMENT * ALIGNMENT, ALIGNMENT)
    starts = [*range(0, last, step), last]
    # The border between two tiles is in the middle of what they share.
    borders = [(before + tile + after) // 2 for before, after in itertools.pairwise(starts)]
    owner = np.searchsorted(borders, np.arange(side), side="right").astype(np.int32)
    return starts, owner, np.arange(side, dtype=np.int32) - np.asarray(starts, np.int32)[owner]
