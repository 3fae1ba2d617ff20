"""Regularisers of the weights: `regularizer(optimizer, *, …) -> optimizer`, which every step of any optimiser passes through.

A penalty is a term of the loss: its gradient is added to that of the loss before the optimiser sees it. A constraint is a
projection of the weights after the optimiser's update. Both act on kernels, not on biases and not on the scales of a
normalisation. They keep no state of their own, and float knobs may be tracers.

The optimisers' own `weight_decay` differs: it is added after the gradient was clipped, and in adamw it is no term of the loss.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from cnnlab.values import NonNegative, Positive

L1Step = Literal["subgradient", "proximal"]
WITH_UNITS = (2, 4)
"""Numbers of axes of the kernels of dense layers [I, O] and of convolutions [h, w, I, O], whose last axis counts the units."""


def penalties(
    optimizer: optax.GradientTransformation,
    *,
    l1: NonNegative = 0.0,
    l1_step: L1Step = "subgradient",
    l2: NonNegative = 0.0,
    max_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """Adds the penalties l1 · Σ |w| and l2 · Σ w² to the loss, and bounds the norm of each unit's weights.

    The numbers that are reported as the loss do not hold the penalties, so that runs with and without them compare.

    Args:
        optimizer: optimiser that is regularised; the recipe supplies it.
        l1: weight of the sum of absolute weights of all kernels.
        l1_step: subgradient adds the sign of the weights to the gradient, which makes weights small; proximal makes them 0: a
            weight that the step would carry through 0 stops there, and leaves only where the loss pulls harder than l1.
        l2: weight of the sum of squared weights of all kernels, as in Keras; a weight_decay of 2 · l2 has the same gradient.
        max_norm: largest Euclidean norm of a unit's incoming weights, to which longer ones are scaled down after each update
            (Srivastava et al. 2014, section 5.1; 3 to 4 there); none: no bound.
    """
    is_zero = {name: isinstance(weight, float | int) and weight == 0 for name, weight in (("l1", l1), ("l2", l2))}
    if all(is_zero.values()) and max_norm is None:
        return optimizer

    def update(
        gradient: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        if not is_zero["l2"]:
            gradient = _on_kernels(lambda g, w: g + 2.0 * jnp.asarray(l2, w.dtype) * w, gradient, params)
        if not is_zero["l1"]:
            gradient = _on_kernels(lambda g, w: _with_l1(g, w, jnp.asarray(l1, w.dtype), l1_step), gradient, params)
        extra["penalty"] = functools.partial(_penalty, l1, l2)  # for optimisers that compare losses, such as lbfgs
        updates, state = optax.with_extra_args_support(optimizer).update(gradient, state, params, **extra)
        if not is_zero["l1"] and l1_step == "proximal":
            updates = _on_kernels(_stopped_at_zero, updates, params, gradient)
        if max_norm is not None:
            updates = _on_kernels(lambda u, w: _bounded(u, w, jnp.asarray(max_norm, w.dtype)), updates, params)
        return updates, state

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _penalty(l1: float, l2: float, params: optax.Params) -> jax.Array:
    """Returns l1 · Σ |w| + l2 · Σ w² over all kernels, f32 []."""
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    sums = [jnp.asarray(l1, w.dtype) * jnp.sum(jnp.abs(w)) + jnp.asarray(l2, w.dtype) * jnp.sum(w * w) for w in kernels]
    return sum(sums, jnp.float32(0))


def _on_kernels(function: Callable[..., jax.Array], first: Any, params: Any, *more: Any) -> Any:
    """Returns `first` with function(leaf, weights, …) for the leaves of kernels; all trees have the structure of `params`."""
    return jax.tree.map(
        lambda leaf, weights, *others: function(leaf, weights, *others) if weights.ndim > 1 else leaf, first, params, *more
    )


def _with_l1(gradient: jax.Array, weights: jax.Array, l1: jax.Array, l1_step: L1Step) -> jax.Array:
    """Returns the gradient of the loss plus a subgradient of l1 · Σ |w|; at w = 0 that is 0, or the one of least norm."""
    moved = gradient + l1 * jnp.sign(weights)
    if l1_step == "subgradient":
        return moved
    # The pseudo-gradient of Andrew and Gao (2007, eq. 4): at 0 the loss has to pull harder than the penalty.
    return jnp.where(weights != 0, moved, jnp.sign(gradient) * jnp.maximum(jnp.abs(gradient) - l1, 0.0))


def _stopped_at_zero(updates: jax.Array, weights: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the updates, cut short where a weight would change its sign: it becomes exactly 0.

    With plain gradient descent at rate η this is the proximal step w ← soft(w − η·g, η·l1) of forward-backward splitting (Duchi
    and Singer 2009, JMLR 10, section 3), except that a weight which changes its sign rests at 0 for a step. It needs no
    learning rate, so it suits every optimiser: it is the projection of Andrew and Gao (2007, Scalable training of
    L1-regularized log-linear models, eq. 6), who use it with L-BFGS.
    """
    # A weight at 0 may move to the side to which the penalised loss falls, and to no other, such as that of a stale velocity.
    side = jnp.where(weights != 0, jnp.sign(weights), -jnp.sign(gradient))
    return jnp.where((weights + updates) * side > 0, updates, -weights)


def _bounded(updates: jax.Array, weights: jax.Array, largest: jax.Array) -> jax.Array:
    """Returns the updates after which the incoming weights of no unit have a larger norm than `largest`."""
    if weights.ndim not in WITH_UNITS:
        return updates
    new = weights + updates
    norms = jnp.sqrt(jnp.sum(new**2, axis=tuple(range(new.ndim - 1)), keepdims=True))  # [h, w, I, O] -> [1, 1, 1, O]
    return new * jnp.minimum(1.0, largest / jnp.maximum(norms, jnp.finfo(new.dtype).tiny)) - weights


REGULARIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"penalties": penalties}
"""Regularisers by name, for `Choice[REGULARIZERS]`."""
