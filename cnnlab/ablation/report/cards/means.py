"""Means over seeds with their 95 % intervals, as records and figures have them. Imports no jax."""

from collections.abc import Mapping, Sequence

import numpy as np

from cnnlab.ablation.analyse import statistics, words
from cnnlab.ablation.report.cards.record import Numbers
from cnnlab.metric import NO_BOUNDS, Bounds

FEWEST = 5
"""Seeds below which a band is the range over seeds: an interval by so few is wider than any of them differ."""


def curve_point(values: Sequence[float], *, log: bool, bounds: Bounds = NO_BOUNDS) -> tuple[float, float, float] | None:
    """Returns (mean, low, high) of numbers, geometric ones where `log` and all are above 0; None where none is finite.

    Low and high are the ends of the 95 % interval, or of the range where there are fewer than FEWEST numbers.
    """
    log = log and min(values) > 0
    found = numbers_of(dict(enumerate(np.log(values) if log else values)), NO_BOUNDS if log else bounds)
    if found.mean is None:
        return None
    low, high = found.interval or (found.mean, found.mean)
    if len(found.values) < FEWEST:
        low, high = min(found.values.values()), max(found.values.values())
    return (float(np.exp(found.mean)), float(np.exp(low)), float(np.exp(high))) if log else (found.mean, low, high)


def numbers_of(values: Mapping[int, float | None], bounds: Bounds = NO_BOUNDS) -> Numbers:
    """Returns mean and interval of {seed: number}, without those that are missing or not finite."""
    kept = {seed: float(value) for seed, value in values.items() if value is not None and np.isfinite(value)}
    if not kept:
        return Numbers(None, None, {})
    interval = statistics.mean_interval(np.array(list(kept.values())), words.ALPHA, bounds=bounds)
    return Numbers(float(np.mean(list(kept.values()))), (interval.low, interval.high) if interval else None, kept)
