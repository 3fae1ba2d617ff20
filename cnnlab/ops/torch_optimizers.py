"""Optimisers with the rules and the defaults of torch.optim (2.x), so that a recipe for torch gives the same trajectory.

What differs from the optimisers of optimizers.py: the learning rate is constant by default, `weight_decay` acts on all
parameters, biases and the scales of normalisations too, and each has all the options of torch. The corrections for the bias of
averages are computed as 1 − bᵗ = −expm1(t · log b), which keeps in f32 the digits that torch keeps in f64.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cnnlab.errors import UsageError
from cnnlab.ops.schedules import SCHEDULES, Schedule, constant
from cnnlab.values import Choice, Fraction, NonNegative, Positive

Memory = dict[str, jax.Array]
Rule = Callable[[jax.Array, jax.Array, Memory], tuple[jax.Array, Memory]]
"""(number of the step, from 1 on f32 [], gradient, memory of a parameter) -> (direction of the step, the next memory)."""


class TorchState(NamedTuple):
    """The state of an optimiser of torch."""

    taken: jax.Array
    """i32 []: number of steps so far."""
    memory: dict[str, Any]
    """{name: tree like the parameters}, such as the buffer of the momentum."""


def _descend(
    rule: Rule,
    memory: Sequence[str],
    schedule: Schedule,
    lr: float,
    *,
    clip_norm: float | None,
    coupled_decay: float = 0.0,
    decoupled_decay: float = 0.0,
    start: float = 0.0,
) -> optax.GradientTransformation:
    """Returns the optimiser that moves every parameter by −lr · schedule · (direction of `rule` + decoupled_decay · parameter).

    Args:
        rule: rule of one parameter.
        memory: names of what it remembers.
        schedule: step, from 0 on -> share of the learning rate.
        lr: learning rate at the peak of the schedule.
        clip_norm: global norm to which a longer gradient is scaled down first; None: no clipping.
        coupled_decay: share of the parameter that is then added to its gradient.
        decoupled_decay: share of the parameter that is added to the direction.
        start: value with which the memory begins.
    """

    def init(params: optax.Params) -> optax.OptState:
        filled = {name: jax.tree.map(lambda leaf: jnp.full_like(leaf, start), params) for name in memory}
        return TorchState(jnp.zeros((), jnp.int32), filled)

    def update(
        gradient: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        leaves, structure = jax.tree.flatten(gradient)
        weights, remembered = jax.tree.leaves(params), {name: jax.tree.leaves(state.memory[name]) for name in memory}
        moves, after = [], []
        for place, (g, w) in enumerate(zip(leaves, weights, strict=True)):
            number = (state.taken + 1).astype(g.dtype)
            own = {name: remembered[name][place] for name in memory}
            direction, own = rule(number, g + coupled_decay * w, own)
            moves.append((-(lr * schedule(state.taken)) * (direction + decoupled_decay * w)).astype(w.dtype))
            after.append(own)
        kept = {name: jax.tree.unflatten(structure, [own[name] for own in after]) for name in memory}
        return jax.tree.unflatten(structure, moves), TorchState(state.taken + 1, kept)

    descend = optax.GradientTransformation(init, update)
    return descend if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), descend)


def _correction(kept: Any, number: jax.Array) -> jax.Array:
    """Returns 1 − keptᵗ for step t, accurately where `kept` is near 1."""
    log = (math.log(kept) if kept else -math.inf) if isinstance(kept, float | int) else jnp.log(kept)
    return -jnp.expm1(number * log)


def torch_sgd(
    *,
    steps: int,
    lr: Positive = 0.001,
    schedule: Choice[SCHEDULES] = constant,
    momentum: Fraction = 0.0,
    dampening: Fraction = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """torch.optim.SGD: the first step sets the velocity to the gradient, dampening acts from the second on.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        momentum: share of the velocity that is kept at each step.
        dampening: share of the gradient that does not enter the velocity.
        nesterov: whether the step looks ahead along the velocity; needs a momentum and no dampening, as in torch.
        weight_decay: weight of the L2 penalty on all parameters, whose gradient is added before the momentum.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    numbers = {"momentum": momentum, "dampening": dampening}
    if nesterov and any(isinstance(n, float | int) and (n != 0) != (name == "momentum") for name, n in numbers.items()):
        raise UsageError(
            f"--nesterov of torch_sgd with --momentum={momentum} and --dampening={dampening}.\n"
            "Expected a momentum above 0 and no dampening, as torch does. Give --momentum=0.9 --dampening=0."
        )

    def rule(number: jax.Array, g: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        velocity = jnp.where(number == 1, g, momentum * memory["velocity"] + (1 - dampening) * g)
        return (g + momentum * velocity if nesterov else velocity), {"velocity": velocity}

    return _descend(rule, ["velocity"], schedule(steps), lr, clip_norm=clip_norm, coupled_decay=weight_decay)


def torch_adagrad(
    *,
    steps: int,
    lr: Positive = 0.01,
    schedule: Choice[SCHEDULES] = constant,
    lr_decay: NonNegative = 0.0,
    initial_accumulator_value: NonNegative = 0.0,
    eps: Positive = 1e-10,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """torch.optim.Adagrad.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        lr_decay: d of the factor 1 / (1 + t · d) on the rate of step t, from 0 on.
        initial_accumulator_value: value with which the sums of squares start.
        eps: number added to their roots.
        weight_decay: weight of the L2 penalty on all parameters, whose gradient is added.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """

    def rule(number: jax.Array, g: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        total = memory["sum"] + g * g
        return g / (jnp.sqrt(total) + eps) / (1 + (number - 1) * lr_decay), {"sum": total}

    return _descend(
        rule,
        ["sum"],
        schedule(steps),
        lr,
        clip_norm=clip_norm,
        coupled_decay=weight_decay,
        start=initial_accumulator_value,
    )


def torch_rmsprop(
    *,
    steps: int,
    lr: Positive = 0.01,
    schedule: Choice[SCHEDULES] = constant,
    alpha: Fraction = 0.99,
    eps: Positive = 1e-8,
    momentum: Fraction = 0.0,
    centered: bool = False,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """torch.optim.RMSprop.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        alpha: share of the mean square of the gradient that is kept at each step.
        eps: number added to its root.
        momentum: share of the velocity that is kept at each step.
        centered: whether the square of the mean gradient is subtracted, which leaves the variance (Graves 2013).
        weight_decay: weight of the L2 penalty on all parameters, whose gradient is added.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """

    def rule(number: jax.Array, g: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        square = alpha * memory["square"] + (1 - alpha) * g * g
        mean = alpha * memory["mean"] + (1 - alpha) * g if centered else memory["mean"]
        velocity = momentum * memory["velocity"] + g / (jnp.sqrt(square - mean * mean if centered else square) + eps)
        return velocity, {"square": square, "mean": mean, "velocity": velocity}

    memory = ["square", "mean", "velocity"]
    return _descend(rule, memory, schedule(steps), lr, clip_norm=clip_norm, coupled_decay=weight_decay)


ADAM_MEMORY = ("mean", "square", "largest")
"""Names of what Adam remembers: averages of the gradient and of its square, and the largest of the latter."""


def _adam_rule(b1: float, b2: float, eps: float, *, amsgrad: bool) -> Rule:
    """Returns the rule of Adam, with the largest uncorrected mean square so far in place of the present one for AMSGrad."""

    def rule(number: jax.Array, g: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        mean = b1 * memory["mean"] + (1 - b1) * g
        square = b2 * memory["square"] + (1 - b2) * g * g
        largest = jnp.maximum(memory["largest"], square) if amsgrad else memory["largest"]
        root = jnp.sqrt(largest if amsgrad else square) / jnp.sqrt(_correction(b2, number))
        return mean / _correction(b1, number) / (root + eps), {"mean": mean, "square": square, "largest": largest}

    return rule


def torch_adam(
    *,
    steps: int,
    lr: Positive = 0.001,
    schedule: Choice[SCHEDULES] = constant,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: Positive = 1e-8,
    amsgrad: bool = False,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """torch.optim.Adam.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        b1: share of the mean of the gradient that is kept at each step, the first of torch's betas.
        b2: share of the mean of its square that is kept at each step, the second.
        eps: number added to the root of that mean.
        amsgrad: whether the largest mean square so far counts (Reddi et al. 2018, arXiv 1904.09237), as torch corrects it.
        weight_decay: weight of the L2 penalty on all parameters, whose gradient is added before Adam scales it.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    rule = _adam_rule(b1, b2, eps, amsgrad=amsgrad)
    return _descend(rule, ADAM_MEMORY, schedule(steps), lr, clip_norm=clip_norm, coupled_decay=weight_decay)


def torch_adamw(
    *,
    steps: int,
    lr: Positive = 0.001,
    schedule: Choice[SCHEDULES] = constant,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: Positive = 1e-8,
    amsgrad: bool = False,
    weight_decay: NonNegative = 0.01,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """torch.optim.AdamW.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        b1: share of the mean of the gradient that is kept at each step, the first of torch's betas.
        b2: share of the mean of its square that is kept at each step, the second.
        eps: number added to the root of that mean.
        amsgrad: whether the largest mean square so far counts (Reddi et al. 2018, arXiv 1904.09237), as torch corrects it.
        weight_decay: share of every parameter that a step removes, before it is multiplied by the learning rate.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    rule = _adam_rule(b1, b2, eps, amsgrad=amsgrad)
    return _descend(rule, ADAM_MEMORY, schedule(steps), lr, clip_norm=clip_norm, decoupled_decay=weight_decay)


TORCH_RULES: dict[str, Callable[..., optax.GradientTransformation]] = {
    "torch_sgd": torch_sgd,
    "torch_adagrad": torch_adagrad,
    "torch_rmsprop": torch_rmsprop,
    "torch_adam": torch_adam,
    "torch_adamw": torch_adamw,
}
"""Rules of torch.optim by name."""
