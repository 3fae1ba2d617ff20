"""Variations at fixed parameters against torchvision.transforms.v2, in f32."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data import motion
from cnnlab.data.variations import colour, tones
from cnnlab.data.variations.noise import blurred
from cnnlab.data.variations.warp import rotation, shearing
from tests.parity import fixtures

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def test_variations_are_those_of_torchvision():
    path = fixtures.variations_path()
    if not path.exists():
        pytest.skip(
            "no fixture: `python -m tests.parity.fixtures variations` makes it (torchvision, in an environment of its own)"
        )
    expected = dict(np.load(path))
    image = jnp.asarray(expected.pop("image"))
    size, still, zero = (20, 24), jnp.zeros(2), jnp.float32(0)

    def blend(other, factor):
        return colour.blended(image[None], other[None], jnp.full((1, 1, 1, 1), factor))[0]

    def moved(drawn):
        return drawn.pixels(image, "bilinear", 0.0)

    ours = {
        "brightness": blend(jnp.zeros_like(image), 1.3),
        "contrast": blend(colour.mean_grey(image), 0.6),
        "saturation": blend(colour.grey(image), 1.5),
        "hue": colour.hue_turned(image[None], jnp.full((1, 1, 1, 1), 0.17))[0],
        "grey": colour.grey(image),
        "sharpness": blend(tones.smoothed(image), 1.6),
        "autocontrast": tones.with_full_contrast(image),
        "blur": blurred(image[None], jnp.float32([1.3]), 4)[0],
        "vertical_flip": moved(motion.mirror(size, jnp.bool_(True), axis="vertical")),
        "resized_crop": moved(motion.resized_crop(size, jnp.float32([3, 5]), jnp.float32([10, 12]))),
        "rotate": moved(motion.affine(size, rotation(jnp.float32(25)), still)),
        "translate": moved(motion.affine(size, rotation(zero), jnp.float32([-3, 4]))),
        "scale": moved(motion.affine(size, rotation(zero, 1.4), still)),
        "shear": moved(motion.affine(size, shearing(jnp.float32(np.tan(np.deg2rad(20))), zero), still)),
    }
    assert set(ours) == set(expected)
    for name, one in ours.items():
        np.testing.assert_allclose(one, expected[name], rtol=0, atol=5e-6, err_msg=name)
