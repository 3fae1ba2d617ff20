"""How a classifier learns from examples without labels: the choices of the knob `method` of semi-supervised learning.

Letters in shapes: U examples without labels, K classes.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.ops.unlabelled_losses import confidence, entropy, gaussian_rise, linear_rise, squared_gap
from cnnlab.values import Count, Fraction, NonNegative, Probability

CONFIDENT = 0.95
"""Probability from which on a class counts as confident in what is reported of methods that have no threshold."""


@dataclasses.dataclass(frozen=True)
class Passes:
    """The passes of a step over the examples without labels that a method may ask for; each returns logits f32 [U, K]."""

    noisy: Callable[[], Array]
    """The network that learns, with dropout, on varied images: what a loss is differentiated through."""
    again: Callable[[], Array]
    """The same with other noise and other variations."""
    calm: Callable[[], Array]
    """The network that learns, without noise, on the images as they are; no gradient."""
    teacher: Callable[[], Array]
    """The teacher, with noise and variations of its own if it is an average, else without any; no gradient."""
    loss: Callable[[Array, Array], Array]
    """(logits f32 [U, K], classes i32 [U]) -> f32 [U]: the loss of the labelled examples."""


@dataclasses.dataclass(frozen=True)
class Method:
    """What is learned from examples without labels."""

    judge: Callable[[Passes], tuple[Array, Array]]
    """Passes -> (losses f32 [U], the logits f32 [U, K] by which it takes the examples for the class that is reported)."""
    weight: Callable[[Array], Array]
    """Share of training that is over, f32 [] -> the weight f32 [] of the mean of these losses."""
    threshold: float | Array = CONFIDENT
    """Probability from which on a class counts as confident."""
    teacher: Literal["none", "average", "frozen"] = "none"
    """none; average: the moving average of the weights, which also predicts; frozen: the network at the start of a round."""
    decay: float | Array = 0.0
    """Decay of that average in a step."""
    rounds: int = 0
    """Number of phases that begin with a new frozen teacher, after one on the labelled examples alone."""


def self_training(*, rounds: Count = 3, threshold: Probability = CONFIDENT, weight: NonNegative = 1.0) -> Method:
    """Learns the classes of which the network of the round before is confident; they stay the same within a round.

    Training is divided into rounds + 1 phases of equal length, the first of which is on the labelled examples alone. Each other
    one begins with a copy of the network, which gives the labels: a deterministic function of the image without variations, so
    that no label changes before the next round. The network goes on from its weights. (Scudder 1965, IEEE Transactions on
    Information Theory 11; Yarowsky 1995, ACL.)

    Args:
        rounds: number of times that labels are given.
        threshold: probability of the likeliest class from which on an example takes part.
        weight: weight of these examples; those that take no part count as a loss of 0.
    """

    def judge(passes: Passes) -> tuple[Array, Array]:
        given = passes.teacher()
        return _taken(passes, given, threshold), given

    return Method(judge, lambda progress: jnp.asarray(weight, jnp.float32), threshold, "frozen", rounds=rounds)


def pseudo_labels(
    *, threshold: Probability = CONFIDENT, weight: NonNegative = 1.0, start: Probability = 0.1, full: Probability = 0.6
) -> Method:
    """Learns the class of which the network itself is confident at every step, with a weight that rises (Lee 2013).

    Deviation: Lee's labels have no threshold (here --threshold=0) and are those of the pass with dropout; here the pass that
    gives them has neither noise nor variations. His weight rises linearly to 3.

    Args:
        threshold: probability of the likeliest class from which on an example takes part.
        weight: weight of these examples at its height; those that take no part count as a loss of 0.
        start: share of training at which the weight begins to rise from 0.
        full: share of training from which on it is at its height.
    """

    def judge(passes: Passes) -> tuple[Array, Array]:
        given = passes.calm()
        return _taken(passes, given, threshold), given

    return Method(judge, lambda progress: jnp.asarray(weight, jnp.float32) * linear_rise(progress, start, full), threshold)


def entropy_minimisation(*, weight: NonNegative = 0.5) -> Method:
    """Lowers the entropy of the predicted classes, so that their borders keep away from examples (Grandvalet and Bengio 2005).

    Args:
        weight: weight of the entropy in nats, λ of their equation 7.
    """

    def judge(passes: Passes) -> tuple[Array, Array]:
        logits = passes.noisy()
        return entropy(logits), logits

    return Method(judge, lambda progress: jnp.asarray(weight, jnp.float32))


def pi_model(*, weight: NonNegative = 10.0, full: Probability = 0.4) -> Method:
    """Makes two passes with different dropout and variations agree (the Π-model of Laine and Aila 2017, arXiv 1610.02242).

    Deviation: they compare the two passes of labelled examples, too, and their weight is 100 times the share of the labelled.

    Args:
        weight: weight of the mean over classes of the squared difference of probabilities, at its height.
        full: share of training over which it rises to that, as exp(−5 (1 − t)²).
    """

    def judge(passes: Passes) -> tuple[Array, Array]:
        logits = passes.noisy()
        return squared_gap(logits, passes.again()), logits

    return Method(judge, lambda progress: _gaussian(weight, progress, full))


def mean_teacher(*, weight: NonNegative = 10.0, full: Probability = 0.4, decay: Fraction = 0.99) -> Method:
    """Agrees with the moving average of its own weights, which is what predicts (Tarvainen and Valpola 2017, arXiv 1703.01780).

    Both get noise and variations of their own. The average keeps min(1 − 1 / (t + 1), decay) of itself in step t.
    Deviation: they compare labelled examples, too, and the running statistics of their teacher's batch norms are those of its
    own passes; here they are averaged as its weights are.

    Args:
        weight: weight of the mean over classes of the squared difference of probabilities, at its height.
        full: share of training over which it rises to that, as exp(−5 (1 − t)²).
        decay: share of the average that a step keeps.
    """

    def judge(passes: Passes) -> tuple[Array, Array]:
        given = passes.teacher()
        return squared_gap(passes.noisy(), given), given

    return Method(judge, lambda progress: _gaussian(weight, progress, full), teacher="average", decay=decay)


def _gaussian(weight: float | Array, progress: Array, full: float | Array) -> Array:
    """Returns the weight f32 [] that rises to `weight` over the share `full` of training."""
    return jnp.asarray(weight, jnp.float32) * gaussian_rise(progress, full)


def _taken(passes: Passes, given: Array, threshold: float | Array) -> Array:
    """Returns the losses f32 [U] for the likeliest class of logits [U, K]; 0 where its probability is below the threshold."""
    classes, probability = confidence(given)
    losses = passes.loss(passes.noisy(), jnp.where(classes < 0, 0, classes))
    return jnp.where((probability >= jnp.asarray(threshold, probability.dtype)) & (classes >= 0), losses, 0.0)


METHODS: dict[str, Callable[..., Method]] = {
    "self_training": self_training,
    "pseudo_labels": pseudo_labels,
    "entropy_minimisation": entropy_minimisation,
    "pi_model": pi_model,
    "mean_teacher": mean_teacher,
}
"""Methods by name, for `Choice[METHODS]`."""
