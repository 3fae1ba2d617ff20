"""Pieces of images that lie on a grid of cells, for tasks that ask how they belong together.

Letters in shapes: B batch, P pieces of an image, H W space, C channels, g cells in a row of the grid.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError


class Grid:
    """A grid of g x g cells in the middle of an image, with a piece in each cell that leaves a gap to its neighbours.

    Attributes:
        side: g, cells in a row.
        piece: (height, width) of a piece in pixels.
        gap: (rows, columns) of pixels between neighbouring pieces that lie in the middle of their cells.
        origin: (row, column) of the upper left corner of each cell, i32 [g · g, 2], row by row.
    """

    def __init__(self, image_size: tuple[int, int], side: int, gap: float):
        """Divides images of (H, W) pixels; `gap` is a share of a cell. Raises UsageError where a piece would have no pixel."""
        cells = [length // side for length in image_size]
        self.side, self.gap = side, tuple(round(gap * cell) for cell in cells)
        self.piece = tuple(cell - room for cell, room in zip(cells, self.gap, strict=True))
        if min(self.piece) < 2:
            raise UsageError(
                f"images of {image_size[0]}x{image_size[1]} leave pieces of {self.piece[0]}x{self.piece[1]} pixels in "
                f"{side}x{side} cells with gaps of {gap:g} of a cell.\n"
                f"Take larger images (--image_size={16 * side}) or a smaller --gap."
            )
        first = [(length - side * cell) // 2 for length, cell in zip(image_size, cells, strict=True)]
        rows, columns = (start + cell * np.arange(side) for start, cell in zip(first, cells, strict=True))
        places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)  # [g, g, 2]
        self.origin = places.reshape(-1, 2).astype(np.int32)  # [g, g, 2] -> [g · g, 2]

    def corners(self, keys: jax.Array, *, jitter: bool) -> jax.Array:
        """Returns the corners of the pieces of each image, i32 [B, g · g, 2], by keys [B].

        jitter: whether a piece lies anywhere in its cell, every place being as likely; else in its middle.
        """
        if not jitter:
            middle = self.origin + np.asarray([room // 2 for room in self.gap], np.int32)[None]
            return jnp.broadcast_to(jnp.asarray(middle), (len(keys), *middle.shape))
        most = jnp.asarray(self.gap, jnp.int32)[None]

        def drawn(key: jax.Array) -> jax.Array:
            shape = self.origin.shape
            return jax.random.randint(key, shape, 0, jnp.broadcast_to(most + 1, shape), jnp.int32)

        return jnp.asarray(self.origin)[None] + jax.vmap(drawn)(keys)


def cut(images: jax.Array, corners: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Returns the pieces of (h, w) pixels with these corners (row, column), [B, P, h, w, C].

    Args:
        images: [B, H, W, C].
        corners: i32 [B, P, 2].
        size: (h, w).
    """

    def one(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (corner[0], corner[1], jnp.zeros((), jnp.int32))
        return jax.lax.dynamic_slice(image, start, (*size, image.shape[-1]))

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(images, corners)


def normalized(pieces: jax.Array) -> jax.Array:
    """Returns pieces [B, P, h, w, C] each of whose channels has the mean 0 and the standard deviation 1, but for flat ones.

    So the low-level statistics of neighbouring pieces do not tell that they are neighbours (Noroozi and Favaro 2016, section
    3.2).
    """
    wide = pieces.astype(jnp.promote_types(pieces.dtype, jnp.float32))
    mean = jnp.mean(wide, axis=(2, 3), keepdims=True)
    deviation = jnp.sqrt(jnp.mean((wide - mean) ** 2, axis=(2, 3), keepdims=True))
    return ((wide - mean) / (deviation + 1e-3)).astype(pieces.dtype)


def without_colours(pieces: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns pieces [B, P, h, w, C] of each of which one channel is kept, drawn by keys [B]; noise takes the others' place.

    The noise has a hundredth of the standard deviation of the channel that is kept (Doersch, Gupta and Efros 2015, arXiv
    1505.05192, section 4.1, "color dropping"). Images are normalised, so that its mean is 0.
    """
    count, (height, width, channels) = pieces.shape[1], pieces.shape[2:]

    def of_image(image: jax.Array, key: jax.Array) -> jax.Array:
        kept = jax.random.randint(jax.random.fold_in(key, 0), (count, 1, 1, 1), 0, channels, jnp.int32)
        noise = jax.random.normal(jax.random.fold_in(key, 1), (count, height, width, channels), jnp.float32)
        is_kept = jnp.arange(channels)[None, None, None] == kept  # [1, 1, 1, C] by [P, 1, 1, 1] -> [P, 1, 1, C]
        alone = jnp.sum(jnp.where(is_kept, image, jnp.zeros((), image.dtype)), axis=-1, keepdims=True)  # [P, h, w, 1]
        spread = jnp.std(alone.astype(jnp.float32), axis=(1, 2), keepdims=True)
        return jnp.where(is_kept, image, (0.01 * spread * noise).astype(image.dtype))

    return jax.vmap(of_image)(pieces, keys)


def projected_colours(pieces: jax.Array) -> jax.Array:
    """Returns RGB pieces [..., 3] without the part along green against magenta, (−1, 2, −1), which fringes change.

    Doersch, Gupta and Efros 2015, arXiv 1505.05192, section 4.1, "projection": B = I − aᵀa / (a aᵀ). Deviation: of normalised
    images.
    """
    axis = jnp.asarray([-1.0, 2.0, -1.0], pieces.dtype)
    along = sum(pieces[..., i : i + 1] * axis[i] for i in range(3))  # [..., 1]
    return pieces - along * axis.reshape((1,) * (pieces.ndim - 1) + (3,)) / jnp.asarray(6.0, pieces.dtype)
