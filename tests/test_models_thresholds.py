"""Otsu's threshold against its definition, and as a network without parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.models.thresholds import LEVELS, Otsu, threshold
from tests import jitted

draw = np.random.default_rng(0)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_the_threshold_leaves_the_least_variance_within_the_two_classes(share):
    image = np.where(draw.random((40, 50)) < share, draw.normal(0.7, 0.1, (40, 50)), draw.normal(0.2, 0.1, (40, 50)))
    image = image.astype(np.float32)
    found = float(jax.jit(threshold)(image))

    def within(level):
        parts = image[image > level], image[image <= level]
        return sum(part.size * part.var(dtype=np.float64) for part in parts if part.size)

    levels = np.linspace(image.min(), image.max(), LEVELS + 1)
    best = min(map(within, levels))
    # The grey levels are rounded to 256, so the best of all thresholds is missed by little.
    assert within(found) <= 1.01 * best and abs(found - 0.45) < 0.1


@pytest.mark.parametrize("is_bright", [True, False])
def test_the_side_with_fewer_pixels_is_the_object(is_bright):
    image = np.full((1, 10, 12, 3), 0.2 if is_bright else 0.8, np.float32)
    image[:, 2:5, 3:7] = 0.9 if is_bright else 0.1
    logits, seen = jitted.apply(Otsu(2), {}, jnp.asarray(image), train=False)
    expected = np.zeros((10, 12), bool)
    expected[2:5, 3:7] = True
    np.testing.assert_array_equal(np.asarray(logits)[0].argmax(-1) == 1, expected)
    np.testing.assert_array_equal(seen["output"], logits)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_an_image_of_one_grey_level_has_no_object(level):
    flat, _ = jitted.apply(Otsu(2), {}, jnp.full((1, 4, 4, 1), level), train=False)
    assert (np.asarray(flat).argmax(-1) == 0).all()


def test_more_classes_than_two_are_refused():
    with pytest.raises(UsageError, match="2 classes, and there are 3"):
        jitted.init(Otsu(3), jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)
