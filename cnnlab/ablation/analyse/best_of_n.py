"""Estimates what a search finds: the best of n trials by one metric, evaluated by another. Pure functions of arrays."""

import math

import numpy as np


def expected_best(chosen: np.ndarray, worth: np.ndarray, size: int) -> np.ndarray:
    """Returns f64 [S]: the exact mean worth of the best of `size` trials, over all sets of that size of the N trials.

    chosen: f64 [S, N], the number by which the best is chosen, higher is better.
    worth: f64 [S, N], the number by which it is evaluated.
    """
    trials = chosen.shape[1]
    order = np.argsort(-chosen, axis=1, kind="stable")
    # The trial of rank r is the best of a set whose others all have later ranks.
    chances = np.array([math.comb(trials - 1 - rank, size - 1) / math.comb(trials, size) for rank in range(trials)])
    return np.take_along_axis(worth, order, axis=1) @ chances


def independent_searches(trials: int, size: int, seeds: int) -> int:
    """Returns how many independent searches of `size` trials, at one seed each, a pool of `trials` amounts to.

    Half of those that its disjoint sets would make: bootstrap samples of a largest value spread less than it does, and with
    all of them one study in seven refuted what was true by construction (trials whose worth hardly depends on the seed).
    """
    return min(seeds, trials // (2 * size))


def resampled_advantage(
    chosen: np.ndarray, worth: np.ndarray, other: np.ndarray, size: int, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns f64 [R]: mean advantage of the best of `size` trials over `other`, in bootstrap samples of seeds and trials.

    A sample has as many searches as are independent; each draws a seed and `size` of the N trials, both with replacement,
    takes the best by `chosen`, and loses what `other` reaches with that seed. So an interval from these numbers does not
    shrink with the number of ways in which sets can be made of the same trials.

    Args:
        chosen: f64 [S, N], the number by which the best is chosen, higher is better.
        worth: f64 [S, N], the number by which it is evaluated.
        other: f64 [S], what it is compared with.
        size: trials of a search, at most N / 2.
        resamples: R.
        rng: generator of the draws.
    """
    seeds, trials = chosen.shape
    count = independent_searches(trials, size, seeds)
    seed = rng.integers(seeds, size=(resamples, count))
    drawn = rng.integers(trials, size=(resamples, count, size))
    best = np.argmax(chosen[seed[..., None], drawn], axis=-1)
    found = worth[seed, np.take_along_axis(drawn, best[..., None], axis=-1)[..., 0]]
    return np.mean(found - other[seed], axis=1)
