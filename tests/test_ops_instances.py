"""Masks of single objects: the same on the device as on the host, counts of pixels, and who touches whom."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops import instances, regions

SIZE = (24, 31)
BOXES = np.asarray([[3, 2, 17, 20], [0, 0, 31, 24], [-4, -3.5, 6.2, 9], [20.3, 11.1, 35, 30], [5, 5, 5, 9]], np.float32)


def test_masks_lie_on_their_image_as_those_that_are_pasted_on_the_host():
    """Inside, on and across the border; a box without an area has no pixel."""
    bins = np.random.default_rng(0).random((len(BOXES), 6, 6)).astype(np.float32)
    found = jax.jit(instances.on_image, static_argnums=2)(bins, BOXES, SIZE)
    assert not found[-1].any()
    for values, mask, box in zip(found, bins, BOXES, strict=True):
        for threshold in (0.2, 0.5, 0.8):
            near = np.abs(values - threshold) < 1e-5
            assert np.all((regions.pasted(mask, box, SIZE, threshold) == (values >= threshold)) | near)


def test_pixels_in_common_are_those_of_the_logical_and():
    draw = np.random.default_rng(1)
    found, masks = draw.random((5, *SIZE)) < 0.5, draw.random((3, *SIZE)) < 0.3
    both = jax.jit(instances.common_pixels)(found, masks)
    np.testing.assert_array_equal(both, (found[:, None] & masks[None]).sum((2, 3)))


def test_objects_touch_where_a_pixel_has_a_neighbour_of_another_one():
    masks = np.zeros((6, 9, 12), bool)
    masks[0, 1:3, 1:3] = True
    masks[1, 3:5, 3:5] = True  # across a corner
    masks[2, 6, 1:4] = True  # a row apart from the one above
    masks[3, 2:4, 7] = True
    masks[4, 4, 6] = True  # across the other corner
    owner = jax.jit(instances.owners)(masks)
    assert np.asarray(owner)[0, 0] == instances.NOBODY and np.asarray(owner)[4, 6] == 4
    touched = jax.jit(instances.touching, static_argnums=1)(owner, 6)
    assert touched.tolist() == [True, True, False, True, True, False]
    nobody = jax.jit(instances.owners)(jnp.zeros((0, 9, 12), bool))
    assert np.all(nobody == instances.NOBODY) and jax.jit(instances.touching, static_argnums=1)(nobody, 0).shape == (0,)
