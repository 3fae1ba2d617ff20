"""Variations of colours, noise, blur and tones, against the formulas of colorsys, SciPy and Pillow, and erased parts."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from cnnlab.data.variations import colour, tones
from cnnlab.data.variations.noise import blurred
from cnnlab.data.variations.rand_augment import OPERATIONS, USUAL, _motion, _toned
from cnnlab.errors import UsageError
from cnnlab.ops.keys import folded
from tests.varied import images_and_keys, vary

LEVELS = np.asarray(jax.random.randint(jax.random.key(7), (12, 10, 3), 20, 220)).astype(np.uint8)
"""An image of grey levels; Pillow rounds to whole ones, so that results may differ by one or two."""
IMAGE = jnp.asarray(LEVELS.astype(np.float32) / 256)
PICTURE = Image.fromarray(LEVELS)


def assert_as_pillow(ours: jax.Array, theirs: Image.Image, levels: float = 1.01) -> None:
    np.testing.assert_allclose(np.asarray(ours) * 256, np.asarray(theirs).astype(np.float32), atol=levels)


@pytest.mark.parametrize("factor", [0.4, 1.7])
def test_brightness_contrast_saturation_and_sharpness_blend_as_pillow_does(factor: float):
    factors = jnp.full((1, 1, 1, 1), factor)
    others = {
        ImageEnhance.Brightness: jnp.zeros_like(IMAGE),
        ImageEnhance.Contrast: colour.mean_grey(IMAGE),
        ImageEnhance.Color: colour.grey(IMAGE),
        ImageEnhance.Sharpness: tones.smoothed(IMAGE),
    }
    for enhance, other in others.items():
        ours = np.minimum(np.asarray(colour.blended(IMAGE[None], other[None], factors)[0]), 255 / 256)
        assert_as_pillow(ours, enhance(PICTURE).enhance(factor), 2.0)


def test_the_hue_is_turned_as_in_colorsys():
    turns = jnp.float32([-0.4, 0.13, 0.5]).reshape(3, 1, 1, 1)
    ours = np.asarray(colour.hue_turned(jnp.stack([IMAGE] * 3), turns))
    for number, turn in enumerate(turns.ravel().tolist()):
        for row, column in ((0, 0), (3, 7), (11, 9)):
            hue, saturation, value = colorsys.rgb_to_hsv(*np.asarray(IMAGE[row, column]).tolist())
            expected = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
            np.testing.assert_allclose(ours[number, row, column], expected, atol=1e-5)
    level = jnp.full((1, 2, 2, 3), 0.3)
    np.testing.assert_allclose(colour.hue_turned(level, turns[:1]), level, atol=1e-6)


def test_color_jitter_is_its_four_parts_and_changes_grey_images_in_brightness_and_contrast_alone():
    images, keys = images_and_keys(batch=64, height=6, width=5, channels=3)
    still = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    np.testing.assert_allclose(vary("color_jitter", images, keys, **still), images, atol=1e-5)
    bright = vary("color_jitter", images, keys, **{**still, "brightness": 0.3})
    factors = np.asarray(bright / images)[:, 0, 0, 0][np.asarray(bright).max(axis=(1, 2, 3)) < 1]
    assert factors.min() >= 0.7 and factors.max() < 1.3 and np.ptp(factors) > 0.3
    single = images[..., :1]
    np.testing.assert_array_equal(vary("color_jitter", single, keys, hue=0.5), vary("color_jitter", single, keys, hue=0.0))
    for name in ("saturation", "hue"):
        np.testing.assert_allclose(vary(name, images, keys, amount=0.0), images, atol=1e-5)
        assert not np.allclose(vary(name, images, keys), images, atol=0.01)
    for name in ("saturation", "hue", "grayscale"):
        with pytest.raises(UsageError, match=rf"--augment={name}: it changes colours, and the images have 1 channel"):
            vary(name, single, keys)
    with pytest.raises(UsageError, match="drop_channel: the images have 1 channel"):
        vary("drop_channel", single, keys)


def test_color_distortion_changes_most_images_and_makes_some_grey():
    images, keys = images_and_keys(batch=800, height=3, width=2, channels=3)
    varied = np.asarray(vary("color_distortion", images, keys, probability=0.6, grey_share=0.25))
    is_grey = np.ptp(varied, axis=3).max(axis=(1, 2)) < 1e-5
    same = np.abs(varied - np.asarray(images)).max(axis=(1, 2, 3)) < 1e-5
    assert is_grey.mean() == pytest.approx(0.25, abs=0.05) and same.mean() == pytest.approx(0.4 * 0.75, abs=0.05)
    np.testing.assert_allclose(vary("color_distortion", images, keys, strength=0.0, grey_share=0.0), images, atol=1e-5)
    jitter = dict.fromkeys(("brightness", "contrast", "saturation"), 0.4) | {"hue": 0.1}
    sure = vary("color_distortion", images, keys, strength=0.5, probability=1.0, grey_share=0.0)
    np.testing.assert_array_equal(sure, vary("color_jitter", images, folded(keys, 1), **jitter))
    single = images[..., :1]
    assert vary("color_distortion", single, keys).shape == single.shape


def test_grey_images_and_dropped_channels_have_their_share():
    images, keys = images_and_keys(batch=1500, height=2, width=2, channels=3)
    grey = np.asarray(vary("grayscale", images, keys, probability=0.3))
    is_grey = np.ptp(grey, axis=3).max(axis=(1, 2)) < 1e-6
    assert abs(is_grey.mean() - 0.3) < 0.06 and np.array_equal(grey[~is_grey], np.asarray(images)[~is_grey])
    left = np.asarray(vary("drop_channel", images, keys, probability=0.3)).max(axis=(1, 2)) > 0  # [B, C]
    assert set(left.sum(axis=1)) == {2, 3} and abs((~left).sum(axis=0) / 1500 - 0.1).max() < 0.04


def test_noise_has_its_deviation_and_a_blur_is_that_of_scipy():
    images, keys = images_and_keys(batch=40, height=20, width=20, channels=3)
    added = np.asarray(vary("noise", jnp.full_like(images, 0.5), keys, deviation=0.05)) - 0.5
    assert abs(added.std() - 0.05) < 0.001 and abs(added.mean()) < 0.001
    deviations = np.float32([0.7, 1.9])
    ours = blurred(images[:2], jnp.asarray(deviations), 6)
    for image, one, deviation in zip(np.asarray(images), ours, deviations, strict=False):
        theirs = scipy.ndimage.gaussian_filter(image, (deviation, deviation, 0), mode="mirror", radius=(6, 6, 0))
        np.testing.assert_allclose(one, theirs, atol=1e-5)
    np.testing.assert_array_equal(vary("blur", images, keys, probability=0.0), images)
    with pytest.raises(UsageError, match=r"--deviations=2,1: no range"):
        vary("blur", images, keys, deviations=(2.0, 1.0))


def test_tones_are_those_of_pillow():
    assert_as_pillow(tones.posterized(IMAGE, jnp.float32(3)), ImageOps.posterize(PICTURE, 3), 0)
    assert_as_pillow(tones.solarized(IMAGE, jnp.float32(0.5)), ImageOps.solarize(PICTURE, 128))
    assert_as_pillow(tones.with_full_contrast(IMAGE) * 255 / 256, ImageOps.autocontrast(PICTURE))
    larger = np.asarray(jax.random.normal(jax.random.key(1), (40, 40, 3)) * 20 + 120).clip(0, 255).astype(np.uint8)
    equalized = tones.equalized(jnp.asarray(larger.astype(np.float32) / 256))
    assert_as_pillow(equalized, ImageOps.equalize(Image.fromarray(larger)), 0)
    assert_as_pillow(tones.smoothed(IMAGE), PICTURE.filter(ImageFilter.SMOOTH))


def test_every_operation_of_rand_augment_is_the_one_of_its_name():
    expected = {
        "brightness": ImageEnhance.Brightness(PICTURE).enhance(1.45),
        "saturation": ImageEnhance.Color(PICTURE).enhance(1.45),
        "contrast": ImageEnhance.Contrast(PICTURE).enhance(1.45),
        "sharpness": ImageEnhance.Sharpness(PICTURE).enhance(1.45),
        "posterize": ImageOps.posterize(PICTURE, 6),
        "solarize": ImageOps.solarize(PICTURE, 128),
        "autocontrast": ImageOps.autocontrast(PICTURE),
        "equalize": ImageOps.equalize(PICTURE),
    }
    draws = jnp.float32(1.0), jnp.float32(0.5)
    toned = jax.jit(lambda number: _toned(IMAGE, (number, *draws), USUAL))
    moved = jax.jit(
        lambda number: _motion((number, *draws), (12, 10), USUAL, "zeros").points(jnp.float32([[6.0, 6.0], [5.0, 7.0]]))
    )
    places = {
        "shear_x": [[6, 6], [4.85, 7]],
        "shear_y": [[6, 5.85], [5, 7]],
        "translate_x": [[6 + 2.266, 6], [5 + 2.266, 7]],
        "translate_y": [[6, 6 + 2.719], [5, 7 + 2.719]],
        "rotate": [[5.966, 5.741], [5.259, 6.966]],
    }
    for number, name in enumerate(OPERATIONS):
        ours = np.minimum(np.asarray(toned(number)), 255 / 256)
        if name in expected:
            assert_as_pillow(ours, expected[name], 2.0)
        else:
            np.testing.assert_array_equal(ours, IMAGE)
        np.testing.assert_allclose(moved(number), places.get(name, [[6, 6], [5, 7]]), atol=2e-3, err_msg=name)


@pytest.mark.parametrize("name", ["cutout", "random_erasing"])
def test_an_erased_part_is_a_rectangle_of_its_area(name: str):
    images, keys = images_and_keys(batch=300, height=16, width=16, channels=3)
    knobs = {"share": 0.25} if name == "cutout" else {"probability": 1.0, "area": (0.1, 0.3), "paint": "zeros"}
    gone = np.asarray(vary(name, images + 0.01, keys, **knobs)).max(axis=3) == 0
    for one in gone:
        rows, columns = np.nonzero(one)
        assert one[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
    shares = gone.mean(axis=(1, 2))
    if name == "cutout":  # what reaches across the border is cut off
        assert shares.max() == 16 / 256 and shares.min() <= 8 / 256
    else:
        assert shares.min() > 0.08 and shares.max() < 0.33
    noisy = np.asarray(vary(name, images, keys, **{**knobs, "paint": "noise"}))
    mean = np.asarray(vary(name, images, keys, **{**knobs, "paint": "mean"}))
    first = np.nonzero(gone[0])
    assert np.ptp(noisy[0][first], axis=0).min() > 0.5
    np.testing.assert_allclose(
        mean[0][first], np.broadcast_to(np.asarray(images[0]).mean((0, 1)), (len(first[0]), 3)), atol=1e-5
    )


def test_an_image_that_random_erasing_leaves_out_is_unchanged():
    images, keys = images_and_keys(batch=400, height=6, width=6)
    out = np.asarray(vary("random_erasing", images, keys, probability=0.25))
    changed = np.any(out != np.asarray(images), axis=(1, 2, 3))
    assert abs(changed.mean() - 0.25) < 0.09
