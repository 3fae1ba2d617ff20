"""The pretext tasks by name, each with its knobs: what is asked about images without labels, and the head that answers.

Letters in shapes: B batch, P pieces of an image, H W space, C channels, F features.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import Task
from cnnlab.inputs import InputSpec
from cnnlab.models.pieces import PieceClassifier
from cnnlab.models.trunk import require_same_weights
from cnnlab.tasks.pretext import Puzzle, solve
from cnnlab.tasks.puzzles import Turns, turned_image


def rotation(trunk: nn.Module, inputs: InputSpec, *, turns: Turns = "all") -> Task:
    """By how many quarter turns an image was turned (RotNet, Gidaris, Singh and Komodakis 2018, arXiv 1803.07728).

    Args:
        turns: all: each step sees every image in all four turns, as the paper found best; one: in one that is drawn.
    """
    return _answered(trunk, inputs, turned_image(inputs.image_shape, turns))


PRETEXTS: dict[str, Callable[..., Task]] = {"rotation": rotation}
"""Pretext tasks by name: `pretext(trunk, inputs, *, knobs) -> Task`, of a network of models/trunk.py and what it takes."""


def _answered(trunk: nn.Module, inputs: InputSpec, puzzle: Puzzle, hidden: int = 0) -> Task:
    """Returns the task of a puzzle; UsageError where what the trunk learns of pieces does not fit whole images.

    hidden: units of a layer of the head before its last one; 0: there is none.
    """
    image, key = jax.ShapeDtypeStruct((1, *inputs.image_shape), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    pieces, _ = jax.eval_shape(lambda images, key: puzzle.ask(images, key[None]), image, key)
    _, _, *shape = pieces.shape  # [1, P, h, w, C] -> h, w, C
    require_same_weights(trunk, inputs.image_shape, tuple(shape))
    return solve(PieceClassifier(trunk, len(puzzle.answers), puzzle.together, hidden), puzzle)
