"""Distances, connected parts and basins of masks against scipy.ndimage, and discs that touch."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from cnnlab.ops import watershed


def noise(share, seed=0, size=(33, 41)):
    return np.random.default_rng(seed).random(size) < share


def discs(*middles, radius=8.0, size=(40, 48)):
    """Whether each pixel lies on one of some discs."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.any([np.hypot(y - row, x - column) < radius for row, column in middles], axis=0)


@pytest.mark.parametrize("mask", [noise(0.5), noise(0.97, 1), discs((12, 12), (14, 30)), ~discs((20, 20)), noise(0.0)])
def test_distances_are_those_of_scipy(mask):
    np.testing.assert_allclose(jax.jit(watershed.distances)(mask), ndimage.distance_transform_edt(mask), rtol=1e-6)


def test_without_a_pixel_outside_all_distances_are_the_same():
    np.testing.assert_array_equal(jax.jit(watershed.distances)(np.ones((5, 7), bool)), 12.0)


@pytest.mark.parametrize("mask", [noise(0.4), noise(0.6, 2), discs((12, 12), (30, 30)), noise(0.0)])
def test_connected_parts_are_those_of_scipy(mask):
    found = np.asarray(jax.jit(watershed.components)(mask))
    theirs, count = ndimage.label(mask, np.ones((3, 3)))
    pairs = set(zip(found[mask].tolist(), theirs[mask].tolist(), strict=True))
    assert len(pairs) == count == len({first for first, _ in pairs}) and np.all(found[~mask] == watershed.NOTHING)


def test_means_are_those_of_scipy():
    values = noise(0.5).astype(np.float32)
    blurred = jax.jit(watershed.blurred, static_argnums=1)
    np.testing.assert_allclose(blurred(values, 1.0), ndimage.gaussian_filter(values, 1.0, mode="nearest", radius=3), atol=1e-6)
    np.testing.assert_array_equal(blurred(values, 0.0), values)


def test_discs_that_touch_are_told_apart_along_the_line_between_them():
    mask = discs((18, 14), (20, 28), (34, 44))
    cut = jax.jit(lambda mask: watershed.basins(watershed.distances(mask), mask, 4))
    found = np.asarray(cut(mask))
    assert len(np.unique(found[mask])) == 3 and np.all(found[~mask] == watershed.NOTHING)
    first, second = found[18, 14], found[20, 28]
    y, x = np.nonzero(mask & (found != found[34, 44]))
    nearer = np.hypot(y - 18, x - 14) - np.hypot(y - 20, x - 28)
    clear = np.abs(nearer) > 2
    np.testing.assert_array_equal(found[y, x][clear], np.where(nearer < 0, first, second)[clear])


def test_a_maximum_near_a_higher_one_belongs_to_its_basin_unless_background_lies_between():
    height = np.zeros((5, 20), np.float32)
    height[2] = [1, 2, 3, 2, 3.5, 2, 1, 1, 2, 1, 0, 0, 4, 3, 2, 1, 2, 3, 2, 1]
    mask = np.zeros((5, 20), bool)
    mask[2] = height[2] > 0
    basins = jax.jit(watershed.basins, static_argnums=2)
    for reach, expected in ((1, {2, 4, 8, 12, 17}), (2, {4, 8, 12, 17}), (4, {4, 12, 17}), (5, {4, 12})):
        found = np.asarray(basins(height, mask, reach))
        assert set(np.unique(found[mask]) - 40) == expected, reach
