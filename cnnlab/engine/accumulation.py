"""The gradient of a batch, taken whole or in equal parts one after another, which hold the activations of one part at a time.

Letters in shapes: B examples of a batch, K parts.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from cnnlab.core import Array, Batch, PyTree, Stats

LossOf = Callable[[PyTree, PyTree, Batch, Array], tuple[Array, tuple[PyTree, Stats]]]
"""(a player's own parameters, model state, batch, key) -> (loss [], (new model state, statistics))."""
GradientOf = Callable[[LossOf, PyTree, PyTree, Batch, Array], tuple[Array, PyTree, PyTree, dict[str, Array]]]
"""(loss, own parameters, model state, batch, key) -> (loss [], gradient, new model state, sums of the statistics)."""


def in_parts(count: int) -> GradientOf:
    """Returns the function that computes a batch's gradient in `count` equal parts: the mean of those of the parts.

    For a loss that is a mean over the examples it is the gradient of the whole batch. The model state goes from part to part,
    so batch normalisation uses the statistics of each part, and updates its running ones `count` times. A loss that compares
    examples, or weights them by sums over the batch, sees those of one part. One part is the whole batch, without a loop.
    """
    return _whole if count == 1 else lambda *arguments: _accumulated(count, *arguments)


def parts(batch: Batch, count: int, key: Array) -> Iterator[tuple[Batch, Array]]:
    """Yields the `count` equal parts of a batch and the key of each, those that `in_parts` takes; one part is the batch."""
    if count == 1:
        yield batch, key
        return
    split = _split(batch, count)
    for number in range(count):
        # [K, B / K, …] -> [B / K, …]
        yield jax.tree.map(lambda leaf, at=number: leaf[at], split), jax.random.fold_in(key, number)


def _split(batch: Batch, count: int) -> Batch:
    """Returns a batch [B, …] as its parts [K, B / K, …].

    Part k has the examples k, k + K, k + 2 K, …: whichever devices share the batch, each has its share of every part, the same
    examples form a part, and nothing is sent between devices.
    """
    # [B, …] -> [B / K, K, …] -> [K, B / K, …]
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] // count, count, *leaf.shape[1:]).swapaxes(0, 1), batch)


def _whole(
    loss_of: LossOf, own: PyTree, model_state: PyTree, batch: Batch, key: Array
) -> tuple[Array, PyTree, PyTree, dict[str, Array]]:
    """Implements GradientOf for the whole batch at once."""
    (loss, (model_state, stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(own, model_state, batch, key)
    return loss, gradient, model_state, stats["sums"]


def _accumulated(
    count: int, loss_of: LossOf, own: PyTree, model_state: PyTree, batch: Batch, key: Array
) -> tuple[Array, PyTree, PyTree, dict[str, Array]]:
    """Implements GradientOf for `count` parts, one after another."""

    def add(carry: tuple[PyTree, PyTree], part: tuple[Batch, Array]) -> tuple[tuple[PyTree, PyTree], Any]:
        total, model_state = carry
        examples, number = part
        # The noise of an example follows from its place in its part and from the part's own key.
        loss, gradient, model_state, sums = _whole(loss_of, own, model_state, examples, jax.random.fold_in(key, number))
        return (jax.tree.map(jnp.add, total, gradient), model_state), (loss, sums)

    numbered = (_split(batch, count), jnp.arange(count, dtype=jnp.int32))
    (total, model_state), (losses, sums) = jax.lax.scan(add, (jax.tree.map(jnp.zeros_like, own), model_state), numbered)
    gradient = jax.tree.map(lambda leaf: leaf / count, total)
    return jnp.mean(losses), gradient, model_state, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), sums)  # [K, …] -> […]
