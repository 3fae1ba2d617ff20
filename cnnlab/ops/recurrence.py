"""The loop of a recurrent layer over time, whose kernel gets its gradient from one product after the loop.

Differentiated as it stands, a loop adds to the gradient of the kernel at every time: T products of B rows, and T times the
memory traffic of a whole kernel. Here the loop backward only keeps the gradients of the products, and a single product of
B · T rows follows; it is the same sum in another order.

Letters in shapes: B batch, T time, U units, G gates.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

State = Any
"""What a layer carries from one time to the next: a tree whose first leaf is the hidden state [B, U]."""

Step = Callable[[Any, State, jax.Array, jax.Array], State]
"""Function (weights, state, what is given now [B, …], product of the hidden state and the kernel [B, G · U]) -> next state."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def over_time(step: Step, kernel: jax.Array, weights: Any, start: State, given: jax.Array) -> tuple[jax.Array, State]:
    """Takes a step for each time of [B, T, …]; returns (the hidden states [B, T, U], the last state).

    Args:
        step: the layer's step. It closes over no array, since gradients would not reach it.
        kernel: [U, G · U], by which the hidden state of the time before is multiplied.
        weights: other parameters of the step, whose gradients are summed over time.
        start: the state before the first time.
        given: [B, T, …], of which the step gets one time.
    """
    return _loop(step, kernel, None, weights, start, given)


def _loop(step: Step, kernel: jax.Array, added: Any, weights: Any, start: State, given: jax.Array) -> Any:
    """Is over_time, with `added` (None, or [T, B, G · U]) added to the products."""

    def at(state: State, now: tuple[jax.Array, Any]) -> tuple[State, jax.Array]:
        given, added = now
        product = _hidden(state) @ kernel
        state = step(weights, state, given, product if added is None else product + added)
        return state, _hidden(state)

    last, found = jax.lax.scan(at, start, (jnp.moveaxis(given, 1, 0), added))  # [B, T, …] -> [T, B, …]
    return jnp.moveaxis(found, 0, 1), last  # [T, B, U] -> [B, T, U]


def _hidden(state: State) -> jax.Array:
    """Returns the hidden state [B, U] of a state."""
    return jax.tree.leaves(state)[0]


def _forward(step: Step, kernel: jax.Array, weights: Any, start: State, given: jax.Array) -> Any:
    """Returns what over_time does, and what the backward pass needs."""
    batch, times = given.shape[:2]
    # The gradient of what is added to a product is the product's own.
    added = jnp.zeros((times, batch, kernel.shape[1]), kernel.dtype)
    (found, last), pull_back = jax.vjp(functools.partial(_loop, step, kernel), added, weights, start, given)
    return (found, last), (pull_back, _hidden(start), found)


def _backward(step: Step, kept: Any, gradients: Any) -> Any:
    """Returns the gradients of kernel, weights, start and given."""
    pull_back, start, found = kept
    of_products, of_weights, of_start, of_given = pull_back(gradients)
    before = jnp.concatenate([start[:, None], found[:, :-1]], axis=1)  # [B, T, U]: the left factors of the products
    of_kernel = jnp.einsum("btu,tbg->ug", before, of_products)
    return of_kernel, of_weights, of_start, of_given


over_time.defvjp(_forward, _backward)
