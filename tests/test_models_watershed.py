"""Instances by a threshold and a watershed: discs that touch, images of nothing, what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.models.mask_head import unpacked
from cnnlab.models.watershed import OtsuWatershed
from cnnlab.ops import instances
from tests import jitted

SIZE = (40, 56)
MIDDLES = ((12, 12), (14, 25), (28, 42))
MODEL = OtsuWatershed(1, most=6, bins=14)


def discs():
    """A mask of each of three discs of radius 7.5, of which two touch, bool [3, H, W]."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([np.hypot(y - row, x - column) < 7.5 for row, column in MIDDLES])


@functools.cache
def found():
    """The detections in an image of bright discs, of dark ones, and of grey alone."""
    bright = 0.2 + 0.6 * discs().any(axis=0)[..., None].astype(np.float32) * np.ones(3, np.float32)
    images = jnp.asarray(np.stack([bright, 1 - bright, np.full_like(bright, 0.5)]))
    outputs, seen = jitted.apply(MODEL, {}, images, train=False)
    np.testing.assert_array_equal(outputs, seen["output"])
    return jax.device_get(jax.jit(jax.vmap(unpacked))(outputs))


@pytest.mark.parametrize("place", [0, 1])
def test_discs_that_touch_are_found_one_by_one_bright_or_dark(place):
    one = {name: values[place] for name, values in found().items()}
    assert one["valid"].tolist() == [True] * 3 + [False] * 3 and np.all(np.diff(one["score"]) <= 0) and one["score"][0] == 1
    masks = np.asarray(jax.jit(instances.on_image, static_argnums=2)(one["mask"], one["corners"], SIZE))[:3] >= 0.5
    both = (masks[:, None] & discs()[None]).sum((2, 3))
    either = (masks[:, None] | discs()[None]).sum((2, 3))
    assert np.sort((both / either).max(axis=0))[0] > 0.85 and set((both / either).argmax(axis=0).tolist()) == {0, 1, 2}


def test_every_knob_of_the_watershed_changes_its_program():
    others = {"blur": 0.0, "smooth": 2.0, "least_distance": 4, "least_pixels": 3, "most": 5, "bins": 7}
    assert others.keys() == {field.name for field in dataclasses.fields(OtsuWatershed)} - {"classes", "parent", "name"}
    image = jnp.zeros((1, *SIZE, 3))
    programs = [
        str(jax.make_jaxpr(lambda x, knobs=knobs: OtsuWatershed(1, **knobs).apply({}, x, train=False)[0])(image))
        for knobs in ({}, *({name: value} for name, value in others.items()))
    ]
    assert len(set(programs)) == 1 + len(others)


def test_an_image_of_one_grey_has_no_object_and_objects_have_one_class():
    assert not found()["valid"][2].any() and np.isfinite(found()["score"]).all()
    head = MODEL.head(SIZE)
    assert head.terms == () and head.losses(jnp.zeros((6, 203)), None)[0].shape == (0,)
    with pytest.raises(UsageError, match=r"there are 3.\n.*mask_rcnn"):
        jax.eval_shape(lambda images: OtsuWatershed(3).apply({}, images, train=False), jnp.zeros((1, 8, 8, 3)))
