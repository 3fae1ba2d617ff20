"""Boxes around the groups of an image's regions, on a picture whose objects one sees."""

import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import selective_search

OBJECTS = np.asarray([[6, 5, 26, 20], [34, 8, 52, 40], [10, 30, 24, 44]], np.float32)


def scene():
    """Three rectangles on a ground, with noise, u8 [48, 60, 3]; the second has two halves of different colours."""
    image = np.full((48, 60, 3), [60, 120, 70], np.float64)
    for (x1, y1, x2, y2), colour in zip(OBJECTS.astype(int), ([220, 40, 40], [30, 60, 200], [230, 220, 60]), strict=True):
        image[y1:y2, x1:x2] = colour
    image[24:40, 34:52] = [70, 90, 220]
    return np.clip(image + np.random.default_rng(0).normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def test_proposals_hold_every_object_and_the_whole_image_once():
    image = scene()
    found = selective_search.proposals(image)
    assert selective_search.recall([found], [OBJECTS], threshold=0.8) == 1
    assert len(np.unique(found, axis=0)) == len(found) < 400
    assert np.all(found[:, :2] >= 0) and np.all(found[:, 2:] <= [60, 48]) and np.all(found[:, 2:] - found[:, :2] >= 4)
    assert [0, 0, 60, 48] in found.tolist()
    np.testing.assert_array_equal(found, selective_search.proposals(image))
    assert not np.array_equal(found, selective_search.proposals(image, seed=1))  # another order


def test_recall_counts_the_first_proposals():
    found = [np.concatenate([OBJECTS[:1], OBJECTS[:1] + 40, OBJECTS[1:]])]
    assert selective_search.recall(found, [OBJECTS], most=2) == pytest.approx(1 / 3)
    assert selective_search.recall(found, [OBJECTS]) == 1
    assert np.isnan(selective_search.recall([], [])) and np.isnan(selective_search.recall(found, [OBJECTS[:0]]))


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match="colour spaces cmyk"):
        selective_search.proposals(scene(), spaces=("cmyk",))
    with pytest.raises(UsageError, match=r"\[48, 60\]"):
        selective_search.proposals(scene()[..., 0])
