"""Mixtures of two examples, with soft labels. The partner is the example before, by place in the global batch.

Batches are shuffled, so that the partner is a random example; it is the same one on any number of devices.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnnlab.core import Array, PyTree
from cnnlab.data.variations.examples import Examples
from cnnlab.data.variations.parts import inside
from cnnlab.ops import collectives
from cnnlab.values import Positive, Probability


def mixup(examples: Examples, keys: Array, *, alpha: Positive = 0.2, probability: Probability = 1.0) -> Examples:
    """Replaces images, labels and targets by weighted means with those of a partner (Zhang et al. 2017, arXiv:1710.09412).

    The share of the example is drawn from Beta(alpha, alpha): 1 on CIFAR-10 in the paper, 0.2 on ImageNet.
    Deviation: each example draws a share of its own, where the paper's code draws one for a batch.

    Args:
        alpha: both parameters of the Beta distribution; the smaller, the more mixtures are almost one of the two.
        probability: probability that an example is mixed.
    """

    def mix(key: Array, values: dict[str, PyTree], partners: dict[str, PyTree]) -> dict[str, PyTree]:
        share = _share(key, alpha, probability)
        return {name: examples.kinds[name].mixed(value, partners[name], share) for name, value in values.items()}

    return _with_partners(examples, keys, mix)


def cutmix(examples: Examples, keys: Array, *, alpha: Positive = 1.0, probability: Probability = 1.0) -> Examples:
    """Pastes a rectangle of a partner's image, whose labels count by their share of pixels (Yun et al. 2019, arXiv:1905.04899).

    The rectangle has the shape of the image, and its area is 1 - Beta(alpha, alpha) of it before what reaches across the border
    is cut off; labels are mixed by the pixels that are really replaced. Masks follow the pixels.

    Args:
        alpha: both parameters of the Beta distribution.
        probability: probability that an example is changed (0.5 on CIFAR, 1 on ImageNet in the paper).
    """
    size = examples.size

    def mix(key: Array, values: dict[str, PyTree], partners: dict[str, PyTree]) -> dict[str, PyTree]:
        region = _region(key, size, jnp.sqrt(1.0 - _share(jax.random.fold_in(key, 0), alpha, probability)))
        share = 1.0 - jnp.mean(region.astype(jnp.float32))
        return {name: examples.kinds[name].pasted(value, partners[name], region, share) for name, value in values.items()}

    return _with_partners(examples, keys, mix)


def _with_partners(examples: Examples, keys: Array, mix: Callable[..., dict[str, Any]]) -> Examples:
    """Calls mix(key, values, values of the partner) for each example."""
    before = collectives.positions(len(keys)) - 1

    def partners(leaf: Array) -> Array:
        whole = collectives.gather(leaf)
        # [global batch, …] at the places before [B] -> [B, …]
        return jnp.take(whole, before % len(whole), axis=0)

    columns = dict(examples.columns)
    return examples.with_columns(jax.vmap(mix)(keys, columns, jax.tree.map(partners, columns)))


def _share(key: Array, alpha: float, probability: float) -> Array:
    """Draws the share of the example itself, f32 [] in [0, 1]; 1 where it is not mixed."""
    share = jax.random.beta(jax.random.fold_in(key, 1), alpha, alpha, dtype=jnp.float32)
    return jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 2), probability), share, 1.0)


def _region(key: Array, size: tuple[int, int], scale: Array) -> Array:
    """Draws the rectangle that is replaced, bool [H, W]; its sides are those of the image times `scale`, f32 []."""
    middle = jnp.stack([jax.random.randint(jax.random.fold_in(key, 3 + i), (), 0, side) for i, side in enumerate(size)])
    half = jnp.floor(jnp.floor(scale * jnp.asarray(size, jnp.float32)) / 2)
    return inside(size, middle.astype(jnp.float32) - half, middle.astype(jnp.float32) + half)
