"""How large gradients and updates are, by player: measured inside the step, and only in runs that ask for it.

The numbers travel with the sums of a step's statistics, so they are averaged over the steps between two logs, kept by
checkpoints and taken apart for batched runs as all others are.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, PyTree, Stats

PREFIX = "gradient of "
"""What the names of these sums begin with; the name of the player follows."""


def global_norm(tree: PyTree) -> Array:
    """Returns the Euclidean norm f32 [] of all leaves of a tree together."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)), jnp.float32(0)))


def measured(player: str, gradient: PyTree, updates: PyTree, own: PyTree) -> dict[str, Array]:
    """Returns the sums of one turn: f32 [3] of 1, the norm of the gradient, and that of the update over the parameters' own.

    Args:
        player: who moves.
        gradient: gradient of the global batch, as the optimiser gets it, before any clipping.
        updates: what is added to the parameters.
        own: the player's parameters before that.
    """
    norm, update, before = map(global_norm, (gradient, updates, own))
    ratio = update / jnp.maximum(before, jnp.finfo(jnp.float32).tiny)
    return {f"{PREFIX}{player}": jnp.stack([jnp.float32(1), norm, ratio])}


def without_gradients(merged: Stats) -> tuple[Stats, dict[str, float]]:
    """Returns merged statistics without these sums, for the task's summary, and the means over the turns they were taken in.

    The means are {"gradient_norm/PLAYER": …, "update_ratio/PLAYER": …}; {} for a run that does not measure them.
    """
    sums = {name: value for name, value in merged["sums"].items() if not name.startswith(PREFIX)}
    numbers: dict[str, float] = {}
    for name in merged["sums"].keys() - sums.keys():
        turns, norm, ratio = np.asarray(merged["sums"][name], np.float64).tolist()
        player = name.removeprefix(PREFIX)
        numbers |= {f"gradient_norm/{player}": norm / turns, f"update_ratio/{player}": ratio / turns}
    return {**merged, "sums": sums}, dict(sorted(numbers.items()))
