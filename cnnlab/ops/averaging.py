"""Averages of the weights over training: `average(steps, …) -> Averaging`, or None where nothing is averaged.

`steps` is the length of training. The step calls an averaging with its new values (engine/program.py). The running statistics
of batch normalisation are averaged like the weights, or recomputed for the averaged ones (engine/averages.py).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnnlab.values import Choice, Count, Fraction

Averaging = Callable[[Any, Any, jax.Array], Any]
"""(average, new values, number of steps before this one i32 []) -> the next average; all three are trees of one structure."""


@dataclasses.dataclass(frozen=True)
class Recomputing:
    """An averaging of the weights alone; the statistics of batch normalisation are recomputed for the averaged ones."""

    averaging: Averaging
    batches: int
    """Number of training batches over which they are recomputed."""

    def __call__(self, average: Any, new: Any, step: jax.Array) -> Any:
        """Returns the next average."""
        return self.averaging(average, new, step)


def averaged(averaging: Averaging) -> Averaging:
    """Averages the statistics of batch normalisation like the weights, which takes no pass over the data."""
    return averaging


def recomputed(averaging: Averaging, *, batches: Count = 100) -> Averaging:
    """Recomputes the statistics of batch normalisation before each evaluation and each checkpoint.

    They are the mean of those of the run's first batches under the averaged weights (Izmailov et al. 2018, section 3.2), as
    torch.optim.swa_utils.update_bn computes it.

    Args:
        batches: number of training batches over which they are recomputed.
    """
    return Recomputing(averaging, batches)


STATISTICS: dict[str, Callable[..., Averaging]] = {"averaged": averaged, "recomputed": recomputed}
"""What becomes of the statistics of batch normalisation, by name."""


def ema(steps: int, *, average_decay: Fraction = 0.0, statistics: Choice[STATISTICS] = averaged) -> Averaging | None:
    """Averages exponentially: each step keeps `average_decay` of the average, and less in the beginning.

    Args:
        steps: length of training; the average does not depend on it.
        average_decay: decay of the average; it grows to this value as (1 + t) / (10 + t), t the step, so that the start of
            training is forgotten; 0: nothing is averaged.
        statistics: whether those of batch normalisation are averaged too, or recomputed.
    """
    del steps
    if average_decay == 0:
        return None

    def averaging(average: Any, new: Any, step: jax.Array) -> Any:
        count = step.astype(jnp.float32)
        return _mixed(average, new, kept=jnp.minimum(jnp.float32(average_decay), (1.0 + count) / (10.0 + count)))

    chosen: Averaging = statistics(averaging)
    return chosen


def swa(steps: int, *, average_from: Fraction = 0.75, statistics: Choice[STATISTICS] = averaged) -> Averaging:
    """Averages stochastic weights: those of every step from a point of training on count equally (SWA).

    Izmailov et al. 2018 (arXiv 1803.05407, algorithm 1 with cycle length 1); their schedule is constant, or cyclic, while they
    average. Before that point the average is the weights of the latest step.
    Deviation: statistics of batch normalisation are averaged with the weights; theirs are --average.statistics=recomputed.

    Args:
        steps: length of training.
        average_from: share of training that is over before the average begins.
        statistics: whether those of batch normalisation are averaged too, or recomputed.
    """
    first = round(average_from * steps)

    def averaging(average: Any, new: Any, step: jax.Array) -> Any:
        before = jnp.maximum(step - first, 0).astype(jnp.float32)  # the number of weights in the average
        return _mixed(average, new, kept=before / (before + 1.0))

    chosen: Averaging = statistics(averaging)
    return chosen


def _mixed(average: Any, new: Any, *, kept: jax.Array) -> Any:
    """Returns kept · average + (1 − kept) · new, leaf by leaf."""
    return jax.tree.map(lambda old, new: kept * old + (1.0 - kept) * new, average, new)


AVERAGES: dict[str, Callable[..., Averaging | None]] = {"ema": ema, "swa": swa}
