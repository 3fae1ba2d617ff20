"""Positions of the weights that stay, as gaps of few bits (Han, Mao and Dally 2016, arXiv 1510.00149, section 2).

A gap counts the positions that are left out before an entry. Where it exceeds the largest number of its bits, entries of the
value zero, fillers, divide it.
"""

import numpy as np

MOST_BITS = 8
"""Largest number of bits of a gap."""


def to_gaps(positions: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (the gap i64 before each entry, whether it is a filler), fillers included.

    Args:
        positions: of the weights that stay, growing, [m].
        bits: bits of a gap: entries are at most 2^bits positions apart.
    """
    left_out = np.diff(positions, prepend=-1) - 1
    reach = 2**bits
    fillers = left_out // reach
    ends = np.cumsum(fillers + 1) - 1  # place of each weight among all entries
    gaps = np.full(ends[-1] + 1 if len(ends) else 0, reach - 1)
    is_filler = np.ones(len(gaps), bool)
    gaps[ends], is_filler[ends] = left_out % reach, False
    return gaps, is_filler


def to_positions(gaps: np.ndarray) -> np.ndarray:
    """Returns the positions i64 of all entries, fillers included, for the gaps before them."""
    return np.cumsum(gaps.astype(np.int64) + 1) - 1


def best_bits(positions: np.ndarray, code_bits: float, most: int = MOST_BITS) -> int:
    """Returns the number of bits of a gap with which gaps and codes take least by their entropy, the codes of fillers included.

    Args:
        positions: of the weights that stay, growing.
        code_bits: bits of a code on average.
        most: largest number of bits.
    """

    def size(bits: int) -> float:
        gaps, _ = to_gaps(positions, bits)
        return len(gaps) * (entropy(np.bincount(gaps)) + code_bits) + 2**bits * 4  # the table's lengths take 4 bits each

    return min(range(1, most + 1), key=size)


def entropy(counts: np.ndarray) -> float:
    """Returns the entropy in bits of symbols that occur so often; 0 where there are none."""
    shares = counts[counts > 0] / max(np.sum(counts), 1)
    return float(-np.sum(shares * np.log2(shares)))
