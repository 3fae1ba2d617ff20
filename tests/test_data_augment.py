import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data import augment
from cnnlab.data.augment import AUGMENTS


def example(batch=12, height=9, width=7, channels=2):
    key = jax.random.key(0)
    images = jax.random.uniform(key, (batch, height, width, channels))
    return images, jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch))


def vary_by(name):
    """An augmentation as a function of (images, keys); columns that it asks for are those of an image that begins mirrored."""

    def vary(images, keys):
        columns = {"index": jnp.ones(len(images), jnp.int32), "epoch": jnp.zeros(len(images), jnp.int32)}
        return AUGMENTS[name](images, keys, **{column: columns[column] for column in augment.columns_of(AUGMENTS[name])})

    return jax.jit(vary)


@pytest.mark.parametrize("name", AUGMENTS)
def test_augment_keeps_shape_and_type_and_range_under_jit(name):
    images, keys = example()
    out = vary_by(name)(images, keys)
    assert out.shape == images.shape and out.dtype == jnp.float32
    assert float(out.min()) >= 0 and float(out.max()) <= 1 + 1e-6
    assert not jnp.array_equal(out, images)


@pytest.mark.parametrize("name", AUGMENTS)
def test_augment_depends_on_each_examples_key_alone(name):
    images, keys = example()
    vary = vary_by(name)
    whole = vary(images, keys)
    np.testing.assert_array_equal(whole, vary(images, keys))
    parts = [vary(images[part], keys[part]) for part in (slice(0, 6), slice(6, 12))]
    np.testing.assert_allclose(whole, jnp.concatenate(parts), atol=1e-6)
    if name != "alternating_flip":
        assert not np.array_equal(whole, vary(images, jnp.roll(keys, 1)))


def test_flip_twice_is_the_identity_and_probability_is_honoured():
    images, keys = example()
    always = functools.partial(augment.flip, probability=1.0)
    np.testing.assert_array_equal(always(images, keys), images[:, :, ::-1])
    np.testing.assert_array_equal(always(always(images, keys), keys), images)
    np.testing.assert_array_equal(augment.flip(images, keys, probability=0.0), images)
    many, keys = example(batch=2000, height=1, width=2, channels=1)
    flipped = np.any(np.asarray(augment.flip(many, keys) != many), axis=(1, 2, 3)).mean()
    assert abs(flipped - 0.5) < 0.05  # 4.5 standard deviations


def test_alternating_flip_mirrors_every_image_in_every_second_epoch_exactly():
    images, keys = example(batch=400, height=2, width=2, channels=1)
    index = jnp.arange(400)
    by_epoch = [
        np.asarray(augment.alternating_flip(images, jnp.roll(keys, epoch), index=index, epoch=jnp.full(400, epoch)))
        for epoch in range(4)
    ]
    mirrored = np.asarray(images[:, :, ::-1])
    begins = np.all(by_epoch[0] == mirrored, axis=(1, 2, 3))
    assert abs(begins.mean() - 0.5) < 0.11  # 4.4 standard deviations
    for epoch, seen in enumerate(by_epoch):
        flipped = begins ^ (epoch % 2 == 1)
        np.testing.assert_array_equal(seen, np.where(flipped[:, None, None, None], mirrored, images))


def test_a_crop_of_a_reflected_image_is_never_black():
    images, keys = example(batch=50, height=5, width=5, channels=1)
    images = images + 1.0
    assert float(augment.pad_crop(images, keys, pad=2).min()) == 0.0
    assert float(augment.pad_crop(images, keys, pad=2, edge="reflect").min()) >= 1.0


def test_shift_and_shift_rotate_of_nothing_are_the_identity():
    images, keys = example()
    np.testing.assert_array_equal(augment.shift(images, keys, pixels=0.0), images)
    np.testing.assert_array_equal(augment.shift_rotate(images, keys, degrees=0.0, pixels=0.0, zoom=0.0), images)


def test_pad_crop_is_a_whole_pixel_shift_with_zeros_and_reaches_every_place():
    images, keys = example(batch=200, height=3, width=3, channels=1)
    images = jnp.zeros_like(images).at[:, 1, 1, 0].set(1.0)
    out = np.asarray(augment.pad_crop(images, keys, pad=1))[..., 0]
    assert set(out.sum(axis=(1, 2)).tolist()) == {1.0}
    assert len(np.unique(out.reshape(200, 9).argmax(axis=1))) == 9
    assert np.asarray(augment.pad_crop(images, keys, pad=2)).sum() < 200  # some leave the picture


def test_warp_rotates_as_numpy_does_and_moves_and_enlarges():
    image = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    zero = jnp.zeros(2)
    for turns in (1, 2, 3):
        turned = augment._warp(image, jnp.float32(90 * turns), jnp.float32(1), zero)
        np.testing.assert_allclose(turned, np.rot90(image, turns), atol=1e-5)
    moved = augment._warp(image, jnp.float32(0), jnp.float32(1), jnp.array([2.0, -1.0]))
    np.testing.assert_array_equal(moved[2:, :-1], image[:-2, 1:])
    assert float(jnp.abs(moved[:2]).sum()) == 0
    ramp = jnp.tile(jnp.arange(9, dtype=jnp.float32)[:, None, None], (1, 9, 1))
    enlarged = augment._warp(ramp, jnp.float32(0), jnp.float32(2), zero)
    np.testing.assert_allclose(enlarged[:, 4, 0], 2 + np.arange(9) / 2, atol=1e-5)


def test_bilinear_equals_jax_map_coordinates():
    image = jax.random.uniform(jax.random.key(2), (6, 5, 1))
    rows, columns = jax.random.uniform(jax.random.key(3), (2, 6, 5), minval=-2.0, maxval=8.0)
    expected = jax.scipy.ndimage.map_coordinates(image[..., 0], [rows, columns], order=1)
    np.testing.assert_allclose(augment._bilinear(image, rows, columns)[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("flip", {"probability": 1.0}),
        ("pad_crop", {"pad": 1}),
        ("flip_crop", {"pad": 1}),
        ("flip_crop", {"probability": 1.0}),
        ("shift", {"pixels": 1.0}),
        ("shift_rotate", {"degrees": 40.0}),
        ("shift_rotate", {"pixels": 1.0}),
        ("shift_rotate", {"zoom": 0.5}),
    ],
)
def test_augment_knob_does_something(name, knobs):
    images, keys = example()
    assert not np.array_equal(AUGMENTS[name](images, keys, **knobs), AUGMENTS[name](images, keys))
