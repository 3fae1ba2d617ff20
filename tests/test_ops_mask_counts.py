"""Counts of masks against scikit-learn, SciPy and definitions, on random masks with pixels that do not count."""

import jax
import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics

from cnnlab.ops import mask_counts, metrics_of_masks
from cnnlab.ops.metrics_of_counts import macro

draw = np.random.default_rng(1)
SMOOTH = ndimage.gaussian_filter(draw.normal(0, 1, (4, 3, 21, 26)), (0, 0, 3, 3)).argmax(axis=1).astype(np.int32)  # blobs
GUESS = np.where(draw.random(SMOOTH.shape) < 0.2, draw.integers(0, 3, SMOOTH.shape), SMOOTH).astype(np.int32)
VALID = draw.random(SMOOTH.shape) > 0.1


def test_confusion_matrices_are_those_of_scikit_learn():
    counts = jax.jit(mask_counts.confusion, static_argnums=3)(np.where(VALID, SMOOTH, 255), GUESS, VALID, 3)
    for number in range(len(SMOOTH)):
        ours = np.asarray(counts)[number]
        kept = VALID[number]
        np.testing.assert_array_equal(
            ours, metrics.confusion_matrix(SMOOTH[number][kept], GUESS[number][kept], labels=[0, 1, 2])
        )


def test_metrics_are_those_of_scikit_learn_and_pool_before_they_divide():
    truth, guess = SMOOTH[VALID], GUESS[VALID]
    each = np.stack([metrics.confusion_matrix(SMOOTH[i][VALID[i]], GUESS[i][VALID[i]], labels=[0, 1, 2]) for i in range(4)])
    counts = each.sum(axis=0)
    np.testing.assert_allclose(metrics_of_masks.ious(counts), metrics.jaccard_score(truth, guess, average=None), atol=1e-12)
    np.testing.assert_allclose(metrics_of_masks.dices(counts), metrics.f1_score(truth, guess, average=None), atol=1e-12)
    np.testing.assert_allclose(
        metrics_of_masks.accuracies(counts), metrics.recall_score(truth, guess, average=None), atol=1e-12
    )
    assert metrics_of_masks.pixel_accuracy(counts) == pytest.approx(metrics.accuracy_score(truth, guess), abs=1e-12)
    assert macro(metrics_of_masks.accuracies(counts)) == pytest.approx(metrics.balanced_accuracy_score(truth, guess), abs=1e-12)
    weighted = metrics.jaccard_score(truth, guess, average="weighted")
    assert metrics_of_masks.frequency_weighted_iou(counts) == pytest.approx(weighted, abs=1e-12)
    pooled, averaged = macro(metrics_of_masks.ious(counts)), metrics_of_masks.ious(each).mean()
    assert abs(pooled - averaged) > 1e-4  # the two are different numbers


def test_a_class_without_labels_is_left_out_and_nothing_gives_nan():
    counts = np.asarray([[5, 1, 2], [1, 3, 0], [0, 0, 0]])
    ious = metrics_of_masks.ious(counts)
    assert np.isnan(ious[2]) and macro(ious) == pytest.approx((5 / 9 + 3 / 5) / 2)
    assert np.isnan(metrics_of_masks.pixel_accuracy(np.zeros((2, 2)))) and np.isnan(macro(np.asarray([np.nan])))


@pytest.mark.parametrize("reach", [1, 2, 3, 5, 40])
def test_inner_borders_are_masks_without_their_erosion(reach):
    masks = np.asarray(mask_counts.one_hot(SMOOTH, VALID, 3))
    ours = np.asarray(jax.jit(mask_counts.inner_border, static_argnums=1)(masks, reach))
    square = np.ones((3, 3), bool)
    for number in range(2):
        for kind in range(3):
            mask = masks[number, :, :, kind]
            # Beyond the image is outside: SciPy's erosion takes it so by default.
            expected = mask & ~ndimage.binary_erosion(mask, square, iterations=reach)
            np.testing.assert_array_equal(ours[number, :, :, kind], expected)


@pytest.mark.parametrize("reach", [1, 2, 3, 6])
def test_the_band_of_a_trimap_is_near_a_change_of_class(reach):
    labels, valid = SMOOTH, np.ones_like(VALID)
    ours = np.asarray(jax.jit(mask_counts.near_border, static_argnums=2)(labels, valid, reach))
    for number in range(2):
        change = np.zeros(labels.shape[1:], bool)
        down, right = labels[number][1:] != labels[number][:-1], labels[number][:, 1:] != labels[number][:, :-1]
        change[1:] |= down
        change[:-1] |= down
        change[:, 1:] |= right
        change[:, :-1] |= right
        expected = ndimage.binary_dilation(change, np.ones((3, 3), bool), iterations=reach - 1) if reach > 1 else change
        np.testing.assert_array_equal(ours[number], expected)


def test_borders_to_what_does_not_count_are_none():
    labels, valid = np.zeros((1, 6, 6), np.int32), np.ones((1, 6, 6), bool)
    labels[0, :, 3:], valid[0, :, 2:4] = 1, False
    assert not np.any(mask_counts.near_border(labels, valid, 2))
