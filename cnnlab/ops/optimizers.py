"""Optimisers: `optimizer(*, steps, schedule, lr, …) -> optax.GradientTransformation`, each with a learning rate that suits it.

A recipe calls the optimiser with its number of steps, over which the schedule runs. Schedules have peak 1 (schedules.py), and
`lr` may be a tracer. Where torch and optax differ in a default (RMSprop's decay and whether its epsilon is added inside the
root, AdaGrad's accumulator and epsilon, AdamW's decay), the docstring of the optimiser gives the value and its source. Those of
torch_optimizers.py are torch's in everything.
"""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from cnnlab.errors import UsageError
from cnnlab.ops import trees
from cnnlab.ops.lars import lars
from cnnlab.ops.lbfgs import lbfgs
from cnnlab.ops.muon import muon
from cnnlab.ops.schedules import SCHEDULES, Schedule, constant, cosine
from cnnlab.ops.torch_optimizers import TORCH_RULES
from cnnlab.values import Choice, Count, Fraction, NonNegative, Positive, Probability, Range


def _kernels(params: optax.Params) -> optax.Params:
    """Returns True for the leaves that weight decay acts on: kernels, not biases and not the scales of a normalisation."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _descend(
    schedule: Schedule,
    lr: float,
    *scale: optax.GradientTransformation,
    clip_norm: float | None,
    coupled_decay: float = 0.0,
    decoupled_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Chains: clip; add the L2 penalty to the gradient; `scale`; add the decoupled decay; multiply by −lr·schedule."""
    return optax.chain(
        optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm),
        optax.add_decayed_weights(coupled_decay, mask=_kernels),
        *scale,
        optax.add_decayed_weights(decoupled_decay, mask=_kernels),
        optax.scale_by_learning_rate(lambda count: lr * schedule(count)),
    )


def sgd(
    *,
    steps: int,
    lr: Positive = 0.1,
    schedule: Choice[SCHEDULES] = cosine,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """Plain stochastic gradient descent.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        weight_decay: weight of the L2 penalty on kernels, whose gradient is added.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    return _descend(schedule(steps), lr, clip_norm=clip_norm, coupled_decay=weight_decay)


def momentum(
    *,
    steps: int,
    lr: Positive = 0.05,
    schedule: Choice[SCHEDULES] = cosine,
    momentum: Fraction = 0.9,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """Gradient descent with momentum as in torch.optim.SGD (the velocity is a sum, not an average).

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        momentum: share of the velocity that is kept at each step.
        nesterov: whether the gradient step looks ahead along the velocity (Nesterov 1983).
        weight_decay: weight of the L2 penalty on kernels, whose gradient is added before the momentum.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    trace = optax.trace(momentum, nesterov=nesterov)
    return _descend(schedule(steps), lr, trace, clip_norm=clip_norm, coupled_decay=weight_decay)


def adagrad(
    *,
    steps: int,
    lr: Positive = 0.01,
    schedule: Choice[SCHEDULES] = cosine,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """AdaGrad (Duchi et al. 2011) with torch's defaults: accumulator from 0, epsilon 1e-10 outside the root.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        weight_decay: weight of the L2 penalty on kernels, whose gradient is added.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    return _descend(schedule(steps), lr, _scale_by_root_of_sum(1e-10), clip_norm=clip_norm, coupled_decay=weight_decay)


def _scale_by_root_of_sum(epsilon: float) -> optax.GradientTransformation:
    """Divides the gradient by √(Σ g²) + epsilon, Σ over all steps so far (Duchi et al. 2011, section 1.1, diagonal form).

    optax.scale_by_rss adds its epsilon inside the root, where 1e-10 acts as 1e-5 and gradients below 1e-5 stand still.
    """

    def init(params: optax.Params) -> optax.OptState:
        return optax.ScaleByRssState(sum_of_squares=jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        sums = jax.tree.map(lambda total, g: total + g * g, state.sum_of_squares, updates)
        scaled = jax.tree.map(lambda g, total: g / (jnp.sqrt(total) + epsilon), updates, sums)
        return scaled, optax.ScaleByRssState(sum_of_squares=sums)

    return optax.GradientTransformation(init, update)


def rmsprop(
    *,
    steps: int,
    lr: Positive = 0.001,
    schedule: Choice[SCHEDULES] = cosine,
    decay: Fraction = 0.99,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """RMSprop (Tieleman & Hinton 2012) as in torch.optim: decay 0.99, epsilon 1e-8 outside the root.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        decay: share of the mean square of the gradient that is kept at each step.
        weight_decay: weight of the L2 penalty on kernels, whose gradient is added.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    scale = optax.scale_by_rms(decay=decay, eps=1e-8, eps_in_sqrt=False)
    return _descend(schedule(steps), lr, scale, clip_norm=clip_norm, coupled_decay=weight_decay)


def adam(
    *,
    steps: int,
    lr: Positive = 0.001,
    schedule: Choice[SCHEDULES] = cosine,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1).

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        b1: share of the mean of the gradient that is kept at each step.
        b2: share of the mean of its square that is kept at each step.
        weight_decay: weight of the L2 penalty on kernels, whose gradient is added before Adam scales it (not so in adamw).
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    return _descend(schedule(steps), lr, optax.scale_by_adam(b1=b1, b2=b2), clip_norm=clip_norm, coupled_decay=weight_decay)


def adamw(
    *,
    steps: int,
    lr: Positive = 0.001,
    schedule: Choice[SCHEDULES] = cosine,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    weight_decay: NonNegative = 0.01,
    clip_norm: Positive | None = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2; torch's decay of 0.01).

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        lr: learning rate at the peak of the schedule.
        schedule: learning rate over training, as a fraction of its peak.
        b1: share of the mean of the gradient that is kept at each step.
        b2: share of the mean of its square that is kept at each step.
        weight_decay: share of a kernel that a step removes, before it is multiplied by the learning rate.
        clip_norm: global norm to which a longer gradient is scaled down; none: no clipping.
    """
    return _descend(schedule(steps), lr, optax.scale_by_adam(b1=b1, b2=b2), clip_norm=clip_norm, decoupled_decay=weight_decay)


def apart(
    optimizer: optax.GradientTransformation, own: optax.GradientTransformation, pattern: str
) -> optax.GradientTransformation:
    """Returns the optimiser with another one, `own`, for the layers whose path matches a regular expression (trees.matches)."""

    def labels(params: optax.Params) -> optax.Params:
        chosen = ["own" if trees.matches(pattern, path) else "rest" for path in trees.flatten(params)]
        return jax.tree.unflatten(jax.tree.structure(params), chosen)

    return optax.multi_transform({"own": own, "rest": optimizer}, labels)


def scale_by_layer(optimizer: optax.GradientTransformation, multipliers: tuple[str, ...]) -> optax.GradientTransformation:
    """Returns the optimiser with other learning rates for some layers; the first pattern that matches a leaf counts.

    Args:
        optimizer: optimiser whose updates are scaled.
        multipliers: `REGEX=FACTOR` by path (trees.matches), such as `stem=0.1`; all other layers keep the full rate.

    Raises UsageError for a text of another form, and, when the optimiser is initialised, for a pattern that matches no layer.
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise UsageError(
            f"--optimizer: it returns {type(optimizer).__name__}.\n"
            "Expected an optax.GradientTransformation, such as optax.sgd(lambda step: lr * schedule(steps)(step))."
        )
    if not multipliers:
        return optimizer
    factors = [_multiplier(text) for text in multipliers]

    def init(params: optax.Params) -> optax.OptState:
        trees.require_match([pattern for pattern, _ in factors], trees.flatten(params), knob="lr_multipliers")
        return optimizer.init(params)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        updates, state = optax.with_extra_args_support(optimizer).update(updates, state, params, **extra)
        scaled = {
            path: next((factor for pattern, factor in factors if trees.matches(pattern, path)), 1.0) * leaf
            for path, leaf in trees.flatten(updates).items()
        }
        return jax.tree.unflatten(jax.tree.structure(updates), list(scaled.values())), state

    return optax.GradientTransformationExtraArgs(init, update)


def _multiplier(text: str) -> tuple[str, float]:
    """Splits `pattern=factor` into (pattern, factor)."""
    form = "--lr_multipliers: {} is not REGEX=FACTOR with a factor >= 0, such as stem=0.1."
    return trees.valued_pattern(text, _factor, form=form)


def _factor(text: str) -> float:
    if not 0.0 <= (value := float(text)) < float("inf"):
        raise ValueError(text)
    return value


RULES: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "muon": muon,
    "lars": lars,
}
"""Rules by which gradients become updates; weight decay acts on kernels alone."""
ALL_RULES = {**RULES, **TORCH_RULES}


def reduce_on_plateau(
    *,
    steps: int,
    rule: Choice(ALL_RULES, supplied=("schedule",)) = momentum,
    schedule: Choice[SCHEDULES] = constant,
    window: Count = 100,
    patience: Count = 10,
    factor: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 0.1,
    tolerance: Annotated[float, Range(0, 1, open_low=True)] = 1e-4,
    cooldown: Annotated[int, Range(0)] = 0,
    final: Probability = 0.0,
) -> optax.GradientTransformation:
    """Reduces the learning rate of a rule where the training loss stops falling (optax.contrib.reduce_on_plateau).

    The loss is the player's own over the global batch, before the update; its mean over a window is what is compared.

    Args:
        steps: number of steps over which the schedule runs; the recipe supplies it.
        rule: rule by which the weights are updated, with its learning rate.
        schedule: learning rate over training, as a fraction of its peak, by which the reduced rate is multiplied.
        window: number of steps whose mean loss counts as one value.
        patience: number of values in a row without an improvement after which the rate is reduced.
        factor: number by which the rate is then multiplied.
        tolerance: share of the lowest value so far by which a value has to lie below it to be an improvement.
        cooldown: number of values after a reduction that are not compared.
        final: smallest multiplier of the rate.
    """
    reduced = optax.contrib.reduce_on_plateau(
        factor=factor, patience=patience, rtol=tolerance, cooldown=cooldown, accumulation_size=window, min_scale=final
    )
    return optax.chain(rule(steps=steps, schedule=schedule), reduced)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    **ALL_RULES,
    "lbfgs": lbfgs,
    "reduce_on_plateau": reduce_on_plateau,
}
