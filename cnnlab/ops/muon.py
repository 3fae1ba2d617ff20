"""Muon, the optimiser that orthogonalises the updates of kernels (Jordan et al. 2024; optax.contrib has the iteration)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from cnnlab.ops.schedules import SCHEDULES, cosine
from cnnlab.values import Choice, Count, Fraction, NonNegative, Positive

LAST_LAYER = "output"
"""Name of a classifier's last layer (core.OUTPUT), which Muon leaves to gradient descent."""


def muon(
    *,
    steps: int,
    lr: Positive = 0.02,
    schedule: Choice[SCHEDULES] = cosine,
    momentum: Fraction = 0.95,
    iterations: Count = 5,
    fixed_norm: bool = False,
    other_lr: Positive = 0.05,
    output_lr: Positive = 0.05,
    other_momentum: Fraction = 0.9,
    weight_decay: NonNegative = 0.0,
    other_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """Muon: the update of a kernel is its momentum with all singular values near 1 (Jordan et al. 2024, optax.contrib).

    A kernel is taken as a matrix of all its inputs by its outputs. The last layer, biases and the scales of normalisations
    are updated by gradient descent with Nesterov's momentum.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate of kernels at the peak of the schedule: the singular values of a step, nearly.
        schedule: all learning rates over training, as a fraction of their peaks.
        momentum: share of the mean gradient of a kernel that is kept at each step.
        iterations: Newton-Schulz iterations; more bring the singular values nearer to 1.
        fixed_norm: whether each step sets the Frobenius norm of a kernel to the root of its number of outputs first.
        other_lr: learning rate of biases and scales at the peak of the schedule.
        output_lr: learning rate of the last layer at the peak of the schedule.
        other_momentum: share of the velocity that the last layer, biases and scales keep at each step.
        weight_decay: share of a kernel that a step removes at the peak of the schedule, whatever the learning rate; with
            fixed_norm, of the last layer's alone.
        other_decay: the same for biases and scales. This and the last layer's decay enter the velocity.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    shape = schedule(steps)
    kernels = [
        optax.contrib.scale_by_muon(ns_steps=iterations, beta=momentum, weight_dimension_numbers=_as_matrices),
        optax.identity() if fixed_norm else optax.add_decayed_weights(weight_decay / lr),
        optax.scale_by_learning_rate(lambda count: lr * shape(count)),
    ]

    def others(rate: float, decay: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(decay / rate),
            optax.trace(other_momentum, nesterov=True),
            optax.scale_by_learning_rate(lambda count: rate * shape(count)),
        )

    groups = {
        "kernels": optax.chain(*kernels, *([optax.stateless(_to_fixed_norm)] if fixed_norm else [])),
        "output": others(output_lr, weight_decay),
        "others": others(other_lr, other_decay),
    }
    clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)
    return optax.chain(clip, optax.multi_transform(groups, _muon_groups))


def _muon_groups(params: optax.Params) -> optax.Params:
    """Returns for each leaf the name of its group in `muon`."""

    def group(path: tuple[Any, ...], leaf: jax.Array) -> str:
        is_last = any(getattr(entry, "key", None) == LAST_LAYER for entry in path)
        return "output" if is_last else "kernels" if leaf.ndim > 1 else "others"

    return jax.tree.map_with_path(group, params)


def _as_matrices(kernels: optax.Params) -> optax.Params:
    """Returns for each kernel [..., I, O] that its last axis are the outputs and all others the inputs."""
    return jax.tree.map(lambda leaf: optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), kernels)


def _to_fixed_norm(updates: optax.Updates, kernels: optax.Params) -> optax.Updates:
    """Adds what brings the Frobenius norm of each kernel [..., O] to √O before its update is applied."""

    def moved(update: jax.Array, kernel: jax.Array) -> jax.Array:
        norm = jnp.maximum(jnp.linalg.norm(kernel.reshape(-1)), 1e-7)  # [..., O] -> [all numbers]
        return update + kernel * (kernel.shape[-1] ** 0.5 / norm - 1)

    return jax.tree.map(moved, updates, kernels)
