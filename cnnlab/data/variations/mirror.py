"""Mirrored examples, at random or in every second epoch."""

import jax

from cnnlab.core import Array
from cnnlab.data.motion import mirror
from cnnlab.data.variations.examples import Examples, moved
from cnnlab.ops.keys import of_each
from cnnlab.values import Probability


def flip(examples: Examples, keys: Array, *, probability: Probability = 0.5) -> Examples:
    """Mirrors left to right.

    Args:
        probability: probability that an example is mirrored.
    """
    return moved(examples, keys, lambda key, size: mirror(size, jax.random.bernoulli(key, probability)))


def vertical_flip(examples: Examples, keys: Array, *, probability: Probability = 0.5) -> Examples:
    """Mirrors top to bottom.

    Args:
        probability: probability that an example is mirrored.
    """
    return moved(examples, keys, lambda key, size: mirror(size, jax.random.bernoulli(key, probability), axis="vertical"))


def alternating_flip(examples: Examples, keys: Array, *, index: Array, epoch: Array) -> Examples:
    """Mirrors every example left to right in every second epoch; a fixed draw for each decides whether it begins mirrored.

    In two epochs in a row an image is seen both ways, which random flips leave to chance (Jordan 2024, arXiv 2404.00498,
    section 3.6).

    Args:
        index: place of each example in the split, i32 [B].
        epoch: number of times that training has shown each example before, i32 [B].
    """
    draws = of_each(jax.random.key(0), index)
    begins = jax.vmap(jax.random.bernoulli)(draws)
    return moved(examples, begins ^ (epoch % 2 == 1), lambda chosen, size: mirror(size, chosen))
