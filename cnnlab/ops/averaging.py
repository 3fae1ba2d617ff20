"""Averages of the weights over training: `average(steps, …) -> Averaging`, or None where nothing is averaged.

`steps` is the length of training. The step calls an averaging with its new values (engine/program.py); the weights and the
running statistics of batch normalisation are averaged alike (engine/averages.py).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnnlab.values import Fraction

Averaging = Callable[[Any, Any, jax.Array], Any]
"""(average, new values, number of steps before this one i32 []) -> the next average; all three are trees of one structure."""


def ema(steps: int, *, average_decay: Fraction = 0.0) -> Averaging | None:
    """Averages exponentially: each step keeps `average_decay` of the average, and less in the beginning.

    Args:
        steps: length of training; the average does not depend on it.
        average_decay: decay of the average; it grows to this value as (1 + t) / (10 + t), t the step, so that the start of
            training is forgotten; 0: nothing is averaged.
    """
    del steps
    if average_decay == 0:
        return None

    def averaging(average: Any, new: Any, step: jax.Array) -> Any:
        count = step.astype(jnp.float32)
        return _mixed(average, new, kept=jnp.minimum(jnp.float32(average_decay), (1.0 + count) / (10.0 + count)))

    return averaging


def swa(steps: int, *, average_from: Fraction = 0.75) -> Averaging:
    """Averages stochastic weights: those of every step from a point of training on count equally (SWA).

    Izmailov et al. 2018 (arXiv 1803.05407, algorithm 1 with cycle length 1); their schedule is constant, or cyclic, while they
    average. Before that point the average is the weights of the latest step.
    Deviation: statistics of batch normalisation are averaged with the weights, and not measured again over the training data.

    Args:
        steps: length of training.
        average_from: share of training that is over before the average begins.
    """
    first = round(average_from * steps)

    def averaging(average: Any, new: Any, step: jax.Array) -> Any:
        before = jnp.maximum(step - first, 0).astype(jnp.float32)  # the number of weights in the average
        return _mixed(average, new, kept=before / (before + 1.0))

    return averaging


def _mixed(average: Any, new: Any, *, kept: jax.Array) -> Any:
    """Returns kept · average + (1 − kept) · new, leaf by leaf."""
    return jax.tree.map(lambda old, new: kept * old + (1.0 - kept) * new, average, new)


AVERAGES: dict[str, Callable[..., Averaging | None]] = {"ema": ema, "swa": swa}
