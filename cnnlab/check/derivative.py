"""Compares the gradient of a loss with finite differences in f64, array by array."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Params, PyTree, Task
from cnnlab.engine.program import owned, with_owned

EXAMPLES = 16
"""Examples over which the loss is taken."""
MOST_ARRAYS = 12
"""Arrays of parameters that are compared, evenly spread over the network."""
WIDTHS = (1e-4, 1e-5, 1e-6)
"""Steps of the central differences, of which the best counts: their error is ∝ h² until rounding takes over, ∝ 1 / h."""
SMALLEST = 1e-7
"""Slope, as a share of the whole gradient, below which differences are compared with that share instead."""


def largest_error(task: Task, params: Params, model_state: PyTree, batch: Batch) -> float:
    """Returns the relative difference of the first player's gradient from central differences, the largest over arrays.

    Each array moves along its gradient and a random direction of the same length together, so that a part which is missing in
    the gradient shows.

    Args:
        task: task with the loss.
        params: parameters by player.
        model_state: the task's state.
        batch: examples, in f32.
    """
    player = task.turns[0]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params, model_state, batch = (_wide(tree) for tree in (params, model_state, batch))
        own = owned(task, params, player)

        def loss_of(own: PyTree) -> Array:
            value, _ = task.loss(with_owned(task, params, player, own), model_state, batch, jax.random.key(0), player)
            return value.astype(jnp.float64)

        gradient = jax.tree.map(np.asarray, jax.jit(jax.grad(loss_of))(own))
        leaves, structure = jax.tree.flatten(own)
        slopes = jax.tree.leaves(gradient)
        length = float(np.sqrt(sum(np.sum(slope**2) for slope in slopes)))
        program, errors = jax.jit(loss_of), []
        for number in sorted({round(place) for place in np.linspace(0, len(leaves) - 1, min(MOST_ARRAYS, len(leaves)))}):
            direction = _direction(slopes[number], number)
            exact = float(np.sum(direction * slopes[number]))
            moved = functools.partial(_moved, leaves, structure, number, direction)
            differences = [float(program(moved(h)) - program(moved(-h))) / (2 * h) for h in WIDTHS]
            scale = max(abs(exact), SMALLEST * length, np.finfo(np.float64).tiny)
            errors.append(min(abs(difference - exact) / max(scale, abs(difference)) for difference in differences))
    return max(errors)


def _wide(tree: Any) -> Any:
    """Returns a tree with its f32 leaves in f64."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64) if np.asarray(leaf).dtype == np.float32 else np.asarray(leaf), tree
    )


def _direction(slope: np.ndarray, number: int) -> np.ndarray:
    """Returns the unit vector along a gradient plus a random one, the same for every call with the same number."""
    drawn = np.random.default_rng(number).standard_normal(slope.shape)
    length = float(np.linalg.norm(slope))
    return drawn / np.linalg.norm(drawn) + (slope / length if length else 0.0)


def _moved(leaves: list[np.ndarray], structure: Any, number: int, direction: np.ndarray, distance: float) -> PyTree:
    """Returns the parameters with one array moved."""
    changed = [*leaves[:number], leaves[number] + distance * direction, *leaves[number + 1 :]]
    return jax.tree.unflatten(structure, changed)
