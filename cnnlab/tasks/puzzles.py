"""Questions about images that are answered by how they were made: the turn of an image, the order of its pieces.

Letters in shapes: B batch, P pieces of an image, H W space, C channels, K answers.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.errors import UsageError
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
