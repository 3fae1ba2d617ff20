"""Questions about images that are answered by how they were made: the turn of an image, the order of its pieces.

Letters in shapes: B batch, P pieces of an image, H W space, C channels, K answers.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.errors import UsageError
from cnnlab.ops.keys import folded
from cnnlab.ops.permutations import distant_permutations
from cnnlab.ops.pieces import Grid, cut, normalized, projected_colours, without_colours
from cnnlab.tasks.pretext import Puzzle

Turns = Literal["all", "one"]
"""Whether a step sees every image in all four turns, or in one that is drawn."""
TURNS = ("0°", "90°", "180°", "270°")
"""The answers of rotation, against the clock, as in np.rot90."""


def turned_image(image_shape: tuple[int, int, int], turns: Turns) -> Puzzle:
    """By how many quarter turns was an image turned (Gidaris, Singh and Komodakis 2018, arXiv 1803.07728)?

    Held-out images are asked about in all four turns. Raises UsageError for images (H, W, C) that are not square.
    """
    if image_shape[0] != image_shape[1]:
        raise UsageError(
            f"--pretext=rotation: images of {image_shape[0]}x{image_shape[1]} change their shape by a turn.\n"
            "Bring them to a square: --image_size=32."
        )
    return Puzzle(TURNS, four_turns if turns == "all" else one_turn, together=False, examine=four_turns)


def four_turns(images: Array, keys: Array) -> tuple[Array, Array]:
    """Returns every image in all four turns, [B, 4, H, W, C], and their numbers i32 [B, 4]."""
    turned = jnp.stack([jnp.rot90(images, turn, axes=(1, 2)) for turn in range(len(TURNS))], axis=1)
    return turned, jnp.broadcast_to(jnp.arange(len(TURNS), dtype=jnp.int32), turned.shape[:2])


def one_turn(images: Array, keys: Array) -> tuple[Array, Array]:
    """Returns every image in one turn, [B, 1, H, W, C], and its number i32 [B, 1]."""
    turned, _ = four_turns(images, keys)
    number = jax.vmap(lambda key: jax.random.randint(key, (1,), 0, len(TURNS), jnp.int32))(keys)
    return jnp.take_along_axis(turned, number[:, :, None, None, None], axis=1), number  # [B, 4, H, W, C] at [B, 1, …]


def shuffled_pieces(
    image_shape: tuple[int, int, int], *, grid: int, permutations: int, gap: float, jitter: bool, normalize: bool
) -> Puzzle:
    """In which order are the pieces of an image (Noroozi and Favaro 2016, arXiv 1603.09246)?

    The answer is a number of a set of permutations that differ in as many places as possible.

    Args:
        image_shape: (H, W, C) of the images.
        grid: cells in a row, 2 or 3; there are grid² pieces.
        permutations: number of orders, which are the answers.
        gap: share of a cell that lies between neighbouring pieces.
        jitter: whether a piece lies anywhere in its cell; else in its middle.
        normalize: whether each piece has a mean of 0 and a standard deviation of 1 in every channel.
    """
    count = grid * grid
    if not 2 <= permutations <= math.factorial(count):
        raise UsageError(
            f"--grid={grid} --permutations={permutations}: {count} pieces have {math.factorial(count)} orders.\n"
            "Expected from two permutations to as many as there are."
        )
    cells, orders = Grid(image_shape[:2], grid, gap), distant_permutations(count, permutations)

    def ask(images: Array, keys: Array) -> tuple[Array, Array]:
        number = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 0), (), 0, permutations, jnp.int32))(keys)
        pieces = cut(images, cells.corners(folded(keys, 1), jitter=jitter), cells.piece)
        order = jnp.asarray(orders)[number]  # [K, P] at [B] -> [B, P]
        pieces = jnp.take_along_axis(pieces, order[:, :, None, None, None], axis=1)  # [B, P, h, w, C] at [B, P, 1, 1, 1]
        return normalized(pieces) if normalize else pieces, number

    return Puzzle(tuple(map(str, range(permutations))), ask, together=True, is_normalized=normalize)


PLACES = ("↖", "↑", "↗", "←", "→", "↙", "↓", "↘")
"""The answers of relative position: where the second piece lies, seen from the first."""
NEIGHBOURS = (0, 1, 2, 3, 5, 6, 7, 8)
"""Cells of a grid of 3x3, row by row, around the one in the middle."""
Colours = Literal["keep", "drop", "project"]
"""What becomes of colours, whose fringes tell where in the image a piece lies: nothing; all channels but one become noise, in
each piece; or green against magenta is taken out."""


def neighbouring_pieces(image_shape: tuple[int, int, int], *, gap: float, jitter: bool, colours: Colours) -> Puzzle:
    """Where does one of the eight neighbours of a piece lie (Doersch, Gupta and Efros 2015, arXiv 1505.05192)?

    Args:
        image_shape: (H, W, C) of the images.
        gap: share of a cell that lies between neighbouring pieces.
        jitter: whether a piece lies anywhere in its cell; else in its middle.
        colours: what becomes of the colours.
    """
    if colours != "keep" and image_shape[2] != 3:
        raise UsageError(f"--colours={colours}: the images have {image_shape[2]} channel(s), and no colours.\nTake keep.")
    cells = Grid(image_shape[:2], 3, gap)

    def ask(images: Array, keys: Array) -> tuple[Array, Array]:
        number = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 0), (), 0, len(PLACES), jnp.int32))(keys)
        corners = cells.corners(folded(keys, 1), jitter=jitter)
        beside = jnp.asarray(NEIGHBOURS, jnp.int32)[number]  # [8] at [B] -> [B]
        chosen = jnp.stack([jnp.full_like(beside, 4), beside], axis=1)  # [B, 2]
        pieces = cut(images, jnp.take_along_axis(corners, chosen[:, :, None], axis=1), cells.piece)  # [B, 9, 2] at [B, 2, 1]
        if colours == "drop":
            pieces = without_colours(pieces, folded(keys, 2))
        return projected_colours(pieces) if colours == "project" else pieces, number

    return Puzzle(PLACES, ask, together=True)
