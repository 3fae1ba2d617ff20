"""LARS, the optimiser that gives every layer a learning rate of its own, for training with large batches."""

import jax
import jax.numpy as jnp
import optax

from cnnlab.ops.schedules import SCHEDULES, cosine
from cnnlab.values import Choice, Fraction, NonNegative, Positive


def lars(
    *,
    steps: int,
    lr: Positive = 1.0,
    schedule: Choice[SCHEDULES] = cosine,
    momentum: Fraction = 0.9,
    trust: Positive = 0.001,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """LARS: the step of a kernel is a fixed share of its norm (You, Gitman and Ginsburg 2017, arXiv 1708.03888, algorithm 1).

    Biases and the scales of normalisations are updated by plain momentum at the learning rate times `trust`.
    Deviation: the paper does not say how these are updated; with a rate of the order of 1 they would diverge without `trust`.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule, for which the paper advises a warm-up.
        schedule: learning rate over training, as a fraction of its peak.
        momentum: share of the velocity that is kept at each step; the velocity is a sum of steps, each at its own rate.
        trust: share of the norm of a kernel that a gradient moves it by, before the learning rate; eta in the paper.
        weight_decay: weight of the L2 penalty on kernels, beta in the paper.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    shape = schedule(steps)
    return optax.chain(
        optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm),
        _scale_by_layer_norms(trust, weight_decay),
        optax.scale_by_learning_rate(lambda count: lr * shape(count)),
        optax.trace(momentum),
    )


def _scale_by_layer_norms(trust: float, decay: float) -> optax.GradientTransformation:
    """Turns the gradient g of a kernel w into trust · ‖w‖ / (‖g‖ + decay · ‖w‖) · (g + decay · w); others into trust · g."""

    def update(g: jax.Array, w: jax.Array) -> jax.Array:
        if w.ndim < 2:
            return trust * g
        size, long = (jnp.sqrt(jnp.sum(leaf**2)) for leaf in (w, g))
        total = long + decay * size
        # Without a norm there is no share of it: kernels that start at 0, or have no gradient, move as biases do.
        share = jnp.where((size > 0) & (total > 0), size / jnp.where(total > 0, total, 1.0), 1.0)
        return trust * share * (g + decay * w)

    return optax.stateless(lambda updates, params: jax.tree.map(update, updates, params))
