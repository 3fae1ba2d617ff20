"""Codebooks of shared weights: k-means of numbers (Han, Mao and Dally 2016, arXiv 1510.00149, section 3)."""

from collections.abc import Callable

import numpy as np

MOST_ITERATIONS = 300


def linear(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Returns centres at equal distances from the least to the largest value: large weights, which matter, get their own."""
    return np.linspace(values.min(), values.max(), count)


def density(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Returns centres that divide the sorted values into parts of equal size, most of them near zero."""
    return np.quantile(values, (np.arange(count) + 0.5) / count)


def at_random(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Returns values that are drawn without replacement."""
    return np.sort(random.choice(values, count, replace=len(values) < count))


STARTS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "linear": linear,
    "density": density,
    "random": at_random,
}
"""First centres by name: `start(values f64 [m], count, random) -> f64 [count]`, growing (section 3.2 of the paper)."""


def cluster(
    values: np.ndarray, count: int, *, start: Callable[..., np.ndarray] = linear, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (centres f32 [k], the code i32 [m] of the nearest centre of each value).

    Lloyd's algorithm goes on until nothing moves. Centres grow, and those that no value has are left out, so that k <= count.

    Args:
        values: numbers [m].
        count: number of centres at most.
        start: first centres, one of STARTS.
        seed: of the random start.
    """
    numbers = np.sort(values.astype(np.float64))
    if not len(numbers):
        return np.zeros(0, np.float32), np.zeros(0, np.int32)
    sums = np.concatenate([[0.0], np.cumsum(numbers)])
    centres = np.sort(start(numbers, count, np.random.default_rng(seed)))
    ends = np.zeros(0, np.int64)
    for _ in range(MOST_ITERATIONS):
        # The values of a centre lie together among the sorted ones, between the middles to its neighbours.
        middles = (centres[1:] + centres[:-1]) / 2
        found = np.concatenate([[0], np.searchsorted(numbers, middles), [len(numbers)]])
        if np.array_equal(found, ends):
            break
        ends = found
        sizes = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(sizes, 1)
        centres = np.where(sizes > 0, means, centres)
    kept = centres[np.diff(ends) > 0].astype(np.float32)
    return kept, nearest(values, kept)


def nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns the code i32 [m] of the nearest of growing centres for each value."""
    middles = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    return np.searchsorted(middles, values.astype(np.float64)).astype(np.int32)
