"""Canonical Huffman codes of bounded length for symbols 0, …, n − 1 (Huffman 1952; Larmore and Hirschberg 1990).

A code is known by the lengths of its words, 0 for a symbol that does not occur: words are numbered by length, then by symbol.
"""

import heapq
from collections.abc import Sequence

import numpy as np

LONGEST = 15
"""Bits of the longest word, so that a length takes four bits."""
WINDOW = 16
"""Bits that are looked at to find a word."""
CHUNK = 1 << 20
"""Symbols that are encoded at a time, each as 16 bits of which the first are taken."""


def code_lengths(counts: Sequence[int] | np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """Returns the lengths u8 [n] of the words of an optimal code among those with words of `longest` bits at most.

    The package-merge algorithm: from the longest words to the shortest, symbols and pairs of cheaper packages compete. A symbol
    that never occurs gets no word, the only one that occurs a word of one bit.

    Args:
        counts: how often each symbol occurs, [n].
        longest: bits of the longest word, 2^longest >= n.
    """
    lengths = np.zeros(len(counts), np.uint8)
    used = [(int(count), (symbol,)) for symbol, count in enumerate(counts) if count > 0]
    if len(used) <= 1:
        lengths[[symbol for _, (symbol,) in used]] = 1
        return lengths
    if len(used) > 2**longest:
        raise ValueError(f"{len(used)} symbols have no words of {longest} bits or less")
    used.sort()
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(longest):
        cheapest = list(heapq.merge(used, packages))
        packages = [(a + b, one + other) for (a, one), (b, other) in zip(cheapest[::2], cheapest[1::2], strict=False)]
    for _, symbols in packages[: len(used) - 1]:
        np.add.at(lengths, list(symbols), 1)
    return lengths


def words(lengths: np.ndarray) -> np.ndarray:
    """Returns the words u16 [n] of the canonical code with these lengths, as numbers of so many bits."""
    found, word, before = np.zeros(len(lengths), np.uint16), 0, 0
    for symbol in sorted(np.flatnonzero(lengths).tolist(), key=lambda symbol: (lengths[symbol], symbol)):
        word <<= int(lengths[symbol]) - before
        found[symbol], before, word = word, int(lengths[symbol]), word + 1
    return found


def encode(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """Returns the words of symbols [m] one after another, in bytes; the last is filled with zeros."""
    # Words from the left of 16 bits, and which of these bits are theirs.
    left = words(lengths) << (WINDOW - lengths.astype(np.uint16))
    table = np.unpackbits(left.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)  # [n] -> [n, 16]
    mine = np.arange(WINDOW)[None] < lengths[:, None]
    parts = [symbols[start : start + CHUNK] for start in range(0, len(symbols), CHUNK)]
    bits = [table[part][mine[part]] for part in parts]  # [n, 16] at [m] -> the bits of m words
    return np.packbits(np.concatenate(bits) if bits else np.zeros(0, np.uint8)).tobytes()


def decode(data: bytes, lengths: np.ndarray, count: int) -> np.ndarray:
    """Returns the `count` symbols i32 that were encoded as `data`.

    Raises ValueError where the bytes are no words of this code, too few or too many.
    """
    require_code(lengths)
    size = 8 * len(data)
    symbol_at, length_at = _table(lengths)
    padded = np.frombuffer(data + bytes(3), np.uint8).astype(np.uint32)
    at = np.arange(size)
    # The 16 bits from each position on lie in three bytes.
    byte, shift = at >> 3, 8 - (at & 7)
    wide = (padded[byte] << 16) | (padded[byte + 1] << 8) | padded[byte + 2]
    ahead = (wide >> shift) & (2**WINDOW - 1)
    steps = length_at[ahead].tolist()  # the length of the word that would begin at each position, 0 if none does
    places, place = np.empty(count, np.int64), 0
    for number in range(count):
        if place >= size or not steps[place]:
            raise ValueError(f"no word of the code begins at bit {place}")
        places[number] = place
        place += steps[place]
    if place > size or size - place >= 8 or np.unpackbits(np.frombuffer(data, np.uint8))[place:].any():
        raise ValueError(f"{count} words take {place} bits, and there are {size}")
    return symbol_at[ahead[places]]


def require_code(lengths: np.ndarray) -> None:
    """Raises ValueError for lengths that no code with unique words has (Kraft's inequality)."""
    if np.sum(np.exp2(LONGEST - lengths[lengths > 0].astype(float))) > 2**LONGEST or np.any(lengths > LONGEST):
        raise ValueError("the lengths of the words are those of no code")


def _table(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (the symbol i32, the length u8 of its word) by the next 16 bits, [65536]; 0 bits where no word begins so."""
    symbol_at, length_at = np.zeros(2**WINDOW, np.int32), np.zeros(2**WINDOW, np.uint8)
    for symbol, word in zip(np.flatnonzero(lengths).tolist(), words(lengths)[lengths > 0].tolist(), strict=True):
        free = WINDOW - int(lengths[symbol])
        symbol_at[word << free : (word + 1) << free] = symbol
        length_at[word << free : (word + 1) << free] = lengths[symbol]
    return symbol_at, length_at
