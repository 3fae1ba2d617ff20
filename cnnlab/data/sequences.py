"""Sequences that ask how long a network remembers, made from a seed: images that are read row by row (models/recurrent.py)."""

from typing import Annotated

import numpy as np

from cnnlab.data.kinds import Image, Target
from cnnlab.data.source import Source, Split, digest_splits, labelled
from cnnlab.values import Count, Range


def adding(
    *, lag: Annotated[int, Range(2)] = 100, examples: Count = 10_000, test_examples: Count = 1000, data_seed: int = 0
) -> Source:
    """Makes the adding problem: T rows of a number in [0, 1] and a mark, f32 images [N, T, 2, 1], with the sum of those marked.

    One mark lies in the first half of the sequence and one in the second. Who answers 1 at all times has a mean squared error
    of 1/6. (Hochreiter and Schmidhuber 1997, section 5.4, with the marks of Le et al. 2015, arXiv 1504.00941, section 4.1.)

    Args:
        lag: length T of the sequences.
        examples: size of the training split.
        test_examples: size of the test split.
        data_seed: seed of the examples, which do not depend on the run's seed.
    """
    draw = np.random.Generator(np.random.Philox(data_seed % 2**64))
    total = examples + test_examples
    numbers = draw.random((total, lag), np.float32)
    marks = np.zeros((total, lag), np.float32)
    each = np.arange(total)
    marks[each, draw.integers(0, lag // 2, total)] = 1
    marks[each, draw.integers(lag // 2, lag, total)] = 1
    images = np.stack([numbers, marks], axis=-1)[..., None]  # 2 x [N, T] -> [N, T, 2, 1]
    sums = (numbers * marks).sum(axis=1, keepdims=True)
    kinds = {"image": Image(), "target": Target(("sum",))}
    columns = {"image": images, "target": sums}
    parts = {"train": slice(0, examples), "test": slice(examples, total)}
    splits = {split: Split({name: values[part] for name, values in columns.items()}) for split, part in parts.items()}
    return Source("adding", splits, kinds, digest_splits("adding", splits))


def recall(
    *,
    lag: Count = 50,
    symbols: Annotated[int, Range(2)] = 2,
    examples: Count = 10_000,
    test_examples: Count = 1000,
    data_seed: int = 0,
) -> Source:
    """Makes sequences of random symbols whose class is the first of them: f32 images [N, lag + 1, K, 1], a symbol as 1 of K.

    All symbols after the first are distractors, so nothing but memory over `lag` steps answers better than chance, 1/K (after
    Bengio, Simard and Frasconi 1994, Learning long-term dependencies with gradient descent is difficult, section II).

    Args:
        lag: number of symbols after the one that is asked.
        symbols: number K of different symbols.
        examples: size of the training split.
        test_examples: size of the test split.
        data_seed: seed of the examples, which do not depend on the run's seed.
    """
    draw = np.random.Generator(np.random.Philox(data_seed % 2**64))
    total = examples + test_examples
    drawn = draw.integers(0, symbols, (total, lag + 1), dtype=np.int32)
    images = np.eye(symbols, dtype=np.float32)[drawn][..., None]  # [N, lag + 1] -> [N, lag + 1, K, 1]
    parts = {"train": slice(0, examples), "test": slice(examples, total)}
    splits = {split: (images[part], drawn[part, 0]) for split, part in parts.items()}
    return labelled("recall", splits, [f"symbol {number}" for number in range(symbols)])
