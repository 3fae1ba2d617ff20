"""Features of regions against loops over samples and bins in NumPy: inside a map, on its border, across it, and empty boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import regions

draw = np.random.default_rng(11)
FEATURES = draw.normal(size=(9, 12, 3)).astype(np.float32)
SCALE = 0.25
BOXES = np.asarray(
    [
        [8, 4, 30, 29],  # inside
        [0, 0, 48, 36],  # the whole map
        [-9, -7, 20, 18],  # across the border, far enough for points beyond one cell
        [30, 20, 60, 50],
        [13, 9, 14, 10],  # less than a cell
        [70, 70, 90, 90],  # beyond
        [0, 0, 0, 0],
    ],
    np.float32,
)
align = jax.jit(regions.roi_align, static_argnums=(2, 3, 4, 5))


def at(y, x):
    """The features [C] at a point, as torchvision's loop has them."""
    height, width, _ = FEATURES.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(3)
    (y, y0, y1), (x, x0, x1) = ((v, int(v), min(int(v) + 1, n - 1)) for v, n in ((max(y, 0), height), (max(x, 0), width)))
    (y0, y), (x0, x) = ((min(low, n - 1), min(v, n - 1)) for low, v, n in ((y0, y, height), (x0, x, width)))
    fy, fx = y - y0, x - x0
    rows = FEATURES.astype(np.float64)
    return (1 - fy) * ((1 - fx) * rows[y0, x0] + fx * rows[y0, x1]) + fy * ((1 - fx) * rows[y1, x0] + fx * rows[y1, x1])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [1, 2])
def test_aligned_features_are_those_of_a_loop(aligned, samples):
    size = (2, 3)
    expected = np.zeros((len(BOXES), *size, 3))
    for number, box in enumerate(BOXES.astype(np.float64)):
        x1, y1, x2, y2 = box * SCALE - (0.5 if aligned else 0)
        width, height = (side if aligned else max(side, 1) for side in (x2 - x1, y2 - y1))
        for p, q in np.ndindex(size):
            points = [(p + (i + 0.5) / samples, q + (j + 0.5) / samples) for i in range(samples) for j in range(samples)]
            expected[number, p, q] = np.mean([at(y1 + v * height / 2, x1 + u * width / 3) for v, u in points], axis=0)
    np.testing.assert_allclose(align(FEATURES, BOXES, size, SCALE, samples, aligned), expected, atol=1e-5)


def test_aligned_features_of_the_map_itself_are_the_map_and_legacy_ones_are_half_a_cell_off():
    whole = np.asarray([[0, 0, 48, 36]], np.float32)
    np.testing.assert_allclose(align(FEATURES, whole, (9, 12), SCALE, 1, True)[0], FEATURES, atol=1e-5)
    legacy = align(FEATURES, whole, (9, 12), SCALE, 1, False)[0]
    between = (FEATURES[:-1, :-1] + FEATURES[:-1, 1:] + FEATURES[1:, :-1] + FEATURES[1:, 1:]) / 4
    np.testing.assert_allclose(legacy[:-1, :-1], between, atol=1e-5)


def test_pooled_features_are_those_of_a_loop_and_so_is_their_gradient():
    size = (3, 2)
    cotangent = draw.normal(size=(len(BOXES), *size, 3)).astype(np.float32)
    expected, gradient = np.zeros((len(BOXES), *size, 3)), np.zeros(FEATURES.shape)
    for number, box in enumerate(BOXES.astype(np.float64)):
        x1, y1, x2, y2 = (int(np.sign(v) * np.floor(abs(v) + 0.5)) for v in box * SCALE)
        width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for p, q in np.ndindex(size):
            (top, bottom), (left, right) = (
                np.clip([int(np.floor(i * side / n)) + start, int(np.ceil((i + 1) * side / n)) + start], 0, extent)
                for i, side, n, start, extent in ((p, height, 3, y1, 9), (q, width, 2, x1, 12))
            )
            for channel in range(3) if bottom > top and right > left else ():
                window = FEATURES[top:bottom, left:right, channel]
                row, column = np.unravel_index(window.argmax(), window.shape)
                expected[number, p, q, channel] = window.max()
                gradient[top + row, left + column, channel] += cotangent[number, p, q, channel]

    @jax.jit
    def pooled(features, cotangent):
        found, pull = jax.vjp(lambda features: regions.roi_pool(features, BOXES, size, SCALE), features)
        return found, pull(cotangent)[0]

    found, back = pooled(FEATURES, cotangent)
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    np.testing.assert_allclose(back, gradient, atol=1e-5)


def test_boxes_pass_no_gradient_and_features_a_finite_one_in_half_precision():
    def total(features, boxes):
        return jnp.sum(regions.roi_align(features, boxes, 2, SCALE).astype(jnp.float32))

    features, boxes = jax.jit(jax.grad(total, (0, 1)))(jnp.asarray(FEATURES, jnp.bfloat16), BOXES)
    assert features.dtype == jnp.bfloat16 and np.all(np.isfinite(features.astype(jnp.float32)))
    assert np.any(features.astype(jnp.float32)) and not np.any(boxes)


def test_regions_of_a_batch_are_those_of_its_images():
    maps, boxes = np.stack([FEATURES, FEATURES[::-1]]), np.stack([BOXES, BOXES[::-1]])
    found = jax.jit(jax.vmap(lambda f, b: regions.roi_align(f, b, (2, 3), SCALE)))(maps, boxes)
    np.testing.assert_allclose(found[0], align(FEATURES, BOXES, (2, 3), SCALE, 2, True), atol=1e-6)


def test_levels_are_those_of_the_equation():
    sides = np.asarray([0, 10, 111.9, 112, 223.9, 224, 448, 900, 5000], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    np.testing.assert_array_equal(jax.jit(regions.levels)(boxes), [2, 2, 2, 3, 3, 4, 5, 5, 5])


def test_a_pyramid_aligns_each_box_on_its_own_level():
    maps, scales, level = (FEATURES, FEATURES[::2, ::2]), (SCALE, SCALE / 2), np.asarray([0, 1, 0, 1, 1, 0, 0])
    found = jax.jit(lambda *maps: regions.pyramid_align(maps, BOXES, level, (2, 3), scales))(*maps)
    each = [align(one, BOXES, (2, 3), scale, 2, True) for one, scale in zip(maps, scales, strict=True)]
    np.testing.assert_allclose(found, np.where((level == 0)[:, None, None, None], *each), atol=1e-6)
    with pytest.raises(UsageError, match="one scale for each map"):
        regions.pyramid_align(maps, BOXES, level, 2, (SCALE,))


def test_a_mask_cut_out_and_put_back_is_the_mask():
    y, x = np.mgrid[:60, :80]
    disc = ((y - 31) ** 2 / 20**2 + (x - 42) ** 2 / 30**2) <= 1
    box = np.asarray([[12, 11, 73, 52], [0, 0, 20, 20]], np.float32)
    masks = np.stack([~disc, disc])
    bins = np.asarray(jax.jit(regions.cropped_masks, static_argnums=3)(masks, box, np.asarray([1, 0]), 28))
    assert bins.shape == (2, 28, 28) and bins.min() >= 0 and bins.max() <= 1
    back = regions.pasted(bins[0], box[0], disc.shape)
    assert (back & disc).sum() / (back | disc).sum() > 0.97
    assert bins[1].mean() > 0.95  # the corner of the image is outside the disc
    assert not regions.pasted(bins[0], np.asarray([5, 5, 5, 9]), disc.shape).any()
    inside = regions.pasted(np.ones((4, 4)), np.asarray([10, 20, 30, 40]), disc.shape)
    # Beyond the outermost centres the mask falls to 0, which takes two or three pixels from each corner.
    assert 380 < inside[20:40, 10:30].sum() == inside.sum() and inside[20:40, 20].all() and inside[30, 10:30].all()


def test_no_bin_and_no_sample_are_refused():
    with pytest.raises(UsageError, match="0 x 7 bins"):
        regions.roi_pool(FEATURES, BOXES, (0, 7), SCALE)
    with pytest.raises(UsageError, match="samples=0"):
        regions.roi_align(FEATURES, BOXES, 7, SCALE, 0)
