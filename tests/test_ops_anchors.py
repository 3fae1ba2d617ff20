"""Anchors: published numbers and places of SSD300's default boxes and of a proposal network's anchors."""

import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import anchors


def ssd300(**how):
    given = (anchors.SSD300_SIZES, (300, 300), anchors.SSD300_SMALLEST, anchors.SSD300_LARGEST, anchors.SSD300_RATIOS)
    return anchors.default_boxes(*given, anchors.SSD300_STEPS, **how)


def test_ssd300_has_its_published_number_of_boxes():
    boxes = ssd300()
    assert boxes.shape == (8732, 4) and boxes.dtype == np.float32
    # 38² x 4 + 19² x 6 + 10² x 6 + 5² x 6 + 3² x 4 + 4; the first centre is half a step of 8 inside.
    side, between, wide = 30, np.sqrt(30 * 60), np.asarray([30 * np.sqrt(2), 30 / np.sqrt(2)])
    sides = np.asarray([[side, side], [between, between], wide, wide[::-1]])
    np.testing.assert_allclose(boxes[:4], np.concatenate([4 - sides / 2, 4 + sides / 2], axis=1), rtol=1e-6)
    np.testing.assert_allclose((boxes[4:8, 0] + boxes[4:8, 2]) / 2, 12, rtol=1e-6)  # along a row first
    np.testing.assert_allclose(boxes[-4:].sum(axis=1), 600, rtol=1e-6)  # the last map's cell is the image's middle


def test_clipped_sides_are_at_most_the_images():
    free, held = ssd300(), ssd300(clip=True)
    assert (free[:, 2] - free[:, 0]).max() > 300 >= (held[:, 2] - held[:, 0]).max()
    np.testing.assert_allclose(free[:8000], held[:8000])


def test_default_boxes_without_steps_are_in_the_middles_of_cells_of_any_image():
    boxes = anchors.default_boxes([(2, 4)], (20, 60), [8], [8], [()])
    middles = (boxes[::2, :2] + boxes[::2, 2:]) / 2
    np.testing.assert_allclose(middles, [[x, y] for y in (5, 15) for x in (7.5, 22.5, 37.5, 52.5)])


def test_grid_anchors_are_rounded_and_on_cell_corners_as_published():
    """Size 32 at ratios 1/2, 1 and 2: ±(23, 11), ±(16, 16), ±(11, 23), centred at multiples of the stride."""
    boxes = anchors.grid_anchors((2, 3), 16, (32,), (0.5, 1.0, 2.0))
    around = np.asarray([[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]], np.float32)
    shifts = [[x, y, x, y] for y in (0, 16) for x in (0, 16, 32)]
    np.testing.assert_array_equal(boxes, np.concatenate([around + shift for shift in np.asarray(shifts, np.float32)]))


def test_grid_anchors_have_their_areas_and_ratios_in_the_middle_of_cells():
    boxes = anchors.grid_anchors((1, 1), (8, 4), (16, 24), (0.5, 2.0), rounded=False, offset=0.5)
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(np.prod(sides, axis=1), [256, 576, 256, 576], rtol=1e-5)  # sizes within ratios
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5, 0.5, 2, 2], rtol=1e-5)
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, [[2, 4]] * 4, atol=1e-5)


def test_wrong_numbers_are_refused():
    with pytest.raises(UsageError, match="differ in length: feature_sizes 1, smallest 2"):
        anchors.default_boxes([(2, 2)], (20, 20), [8, 9], [8], [()])
    with pytest.raises(UsageError, match="sizes are"):
        anchors.grid_anchors((1, 1), 8, (0,), (1.0,))
    with pytest.raises(UsageError, match="there are no sizes"):
        anchors.grid_anchors((1, 1), 8, (), (1.0,))
