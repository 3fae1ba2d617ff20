"""Pruning by magnitude: which weights stay, and an optimiser that leaves the others at exactly 0.

Han, Pool, Tran and Dally 2015, Learning both weights and connections for efficient neural networks, arXiv 1506.02626; Zhu and
Gupta 2017, To prune, or not to prune, arXiv 1710.01878; Frankle and Carbin 2019, The lottery ticket hypothesis, arXiv
1803.03635.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ops import trees

Scope = Literal["layer", "network"]
Schedule = Literal["geometric", "cubic"]


class Pruned(NamedTuple):
    """The state of an optimiser that leaves pruned weights alone."""

    mask: Any
    """u8 of every parameter's shape: 1 where it stays."""
    start: Any
    """The parameters with which training began, for rounds that go back to them; () where none does."""
    inner: optax.OptState


def keeps_zeros(optimizer: optax.GradientTransformation, *, remembers: bool = False) -> optax.GradientTransformation:
    """Returns the optimiser without updates where the mask in its state is 0, so that pruned weights stay 0 to the bit.

    Args:
        optimizer: optimiser whose updates are masked, regularisation included.
        remembers: whether the state holds the first parameters.
    """

    def init(params: optax.Params) -> Pruned:
        mask = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, jnp.uint8), params)
        return Pruned(mask, params if remembers else (), optimizer.init(params))

    def update(
        updates: optax.Updates, state: Pruned, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, Pruned]:
        updates, inner = optax.with_extra_args_support(optimizer).update(updates, state.inner, params, **extra)
        # where, not a product: an update that is not finite stays away from weights that are gone.
        updates = jax.tree.map(lambda each, stays: jnp.where(stays > 0, each, jnp.zeros_like(each)), updates, state.mask)
        return updates, state._replace(inner=inner)

    return optax.GradientTransformationExtraArgs(init, update)


def densities(density: float, rounds: int, schedule: Schedule) -> list[float]:
    """Returns the share of weights that stay after each of several rounds, the last of which is `density`.

    Args:
        density: share at the end, in (0, 1].
        rounds: number of rounds, n.
        schedule: geometric: every round keeps the same share of what there is, d^(i / n); cubic: quickly at first, 1 − s +
            s (1 − i / n)³ with the sparsity s = 1 − d (Zhu and Gupta 2017, eq. 1).
    """
    parts = [number / rounds for number in range(1, rounds + 1)]
    if schedule == "geometric":
        return [density**part for part in parts]
    return [density + (1.0 - density) * (1.0 - part) ** 3 for part in parts]


def masks(params: Any, shares: dict[str, float], scope: Scope) -> Any:
    """Returns the mask u8 of the parameters' tree in which the largest weights stay.

    Of weights of equal magnitude those that come first stay, so that the number is exact.

    Args:
        params: a player's parameters, on the host.
        shares: {path of a kernel: share of its weights that stay}; others stay whole.
        scope: layer: each kernel keeps its own share; network: all keep as many together, wherever the largest are.
    """
    leaves = trees.flatten(params)
    kept = {path: np.ones(np.shape(leaf), np.uint8) for path, leaf in leaves.items()}
    magnitudes = {path: np.abs(np.asarray(leaves[path], np.float32)).reshape(-1) for path in shares}
    counts = {path: math.ceil(share * magnitudes[path].size) for path, share in shares.items()}
    if scope == "layer":
        for path, magnitude in magnitudes.items():
            kept[path] = _largest(magnitude, counts[path]).reshape(kept[path].shape)  # [numbers] -> the kernel's shape
    elif magnitudes:
        together = _largest(np.concatenate(list(magnitudes.values())), sum(counts.values()))
        ends = np.cumsum([magnitude.size for magnitude in magnitudes.values()])[:-1]
        for path, part in zip(magnitudes, np.split(together, ends), strict=True):
            kept[path] = part.reshape(kept[path].shape)  # [numbers] -> the kernel's shape
    return trees.unflatten(kept)


def _largest(magnitudes: np.ndarray, count: int) -> np.ndarray:
    """Returns u8 [m] with 1 for the `count` largest of magnitudes [m]."""
    found = np.zeros(len(magnitudes), np.uint8)
    found[np.argsort(-magnitudes, kind="stable")[:count]] = 1
    return found


def shares_of(params: Any, density: float, layers: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Returns {path of a kernel: share of its weights that stays}: `density`, or that of the first pattern that matches it.

    Biases and the scales of norms are not pruned. Raises UsageError for a pattern that matches no kernel.
    """
    return trees.by_kernel(params, density, layers, knob="density_by_layer")


def layer_shares(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Returns [(pattern, share)] of texts REGEX=SHARE; raises UsageError for another form or a share outside (0, 1]."""
    form = "--density_by_layer: {} is not REGEX=SHARE with a share in (0, 1], such as output=0.26."
    return [trees.valued_pattern(text, _share, form=form) for text in texts]


def _share(text: str) -> float:
    if not 0.0 < (value := float(text)) <= 1.0:
        raise ValueError(text)
    return value


def pruned(tree: Any, mask: Any) -> Any:
    """Returns a tree on the host with zeros where the mask is 0."""
    return jax.tree.map(lambda leaf, stays: np.where(stays > 0, leaf, np.zeros_like(leaf)), tree, mask)
