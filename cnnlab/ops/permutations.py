"""Sets of permutations that differ in as many places as possible, for jigsaw puzzles."""

import functools
import itertools
import math

import numpy as np


@functools.lru_cache(maxsize=8)
def distant_permutations(length: int, count: int) -> np.ndarray:
    """Returns `count` permutations of 0 … length − 1, i32 [count, length], each far from all before it; always the same.

    Noroozi and Favaro 2016, arXiv 1603.09246, Algorithm 1: the next one is as far as possible, in places that differ (the
    Hamming distance), from those that are chosen. Deviation: the paper adds the distances to all of them up; here the smallest
    of them counts first, and the sum decides among equals, so that no two are nearly alike. The first one is drawn by a fixed
    seed.

    Raises ValueError where there are fewer permutations than `count`.
    """
    if count > math.factorial(length):
        raise ValueError(f"{length} pieces have {math.factorial(length)} orders, and {count} are asked for.")
    # [length, length!]: a column is an order, so that the loop runs over long rows
    orders = np.array(list(itertools.permutations(range(length))), np.int8).T.copy()
    number = orders.shape[1]
    chosen = [int(np.random.Generator(np.random.Philox(0)).integers(number))]
    smallest, total = np.full(number, length + 1, np.int32), np.zeros(number, np.int32)
    while len(chosen) < count:
        distance = sum((row != row[chosen[-1]]).astype(np.int32) for row in orders)  # [length!]
        smallest, total = np.minimum(smallest, distance), total + distance
        # The smallest distance to a chosen one first, then the sum, which is below (length + 1) · count.
        chosen.append(int(np.argmax(smallest * ((length + 1) * count) + total)))
    found = orders[:, chosen].T.astype(np.int32)  # [length, count] -> [count, length]
    found.setflags(write=False)
    return found
