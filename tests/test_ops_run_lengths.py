"""Run lengths of masks against pycocotools, and against a decoder of their own."""

import numpy as np
import pytest

from cnnlab.ops import run_lengths


def masks():
    """Masks of all kinds: empty, full, one that begins inside, noise, long runs, a row and a column."""
    draw = np.random.default_rng(0)
    big = np.zeros((300, 700), bool)
    big[20:280, 100:650] = True
    noisy = [draw.random(size) < share for size, share in (((7, 9), 0.5), ((40, 33), 0.05), ((1, 50), 0.5), ((50, 1), 0.9))]
    return [np.zeros((4, 5), bool), np.ones((4, 5), bool), big, ~big, *noisy]


def test_lengths_give_the_mask_again():
    for mask in masks():
        lengths = run_lengths.run_lengths(mask)
        again = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(mask.shape, order="F")
        np.testing.assert_array_equal(again, mask)


def test_texts_are_those_of_pycocotools():
    codes = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (tests/requirements.txt)")
    for mask in masks():
        theirs = codes.encode(np.asfortranarray(mask.astype(np.uint8)))
        ours = run_lengths.segmentation(mask)
        assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
