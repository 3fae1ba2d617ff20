"""PixelCNN, gated PixelCNN and PixelRNN: who sees whom, exactly; the published form; two ways of computing one function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.inspect import trace
from cnnlab.models import PIXEL_MODELS
from cnnlab.models.causal import POINT, channel_of, mask, square
from cnnlab.ops.raster_scan import Place
from tests import jitted
from tests.stages import slow_but

S = 6
SMALL = {"pixelcnn": {"blocks": 6}, "gated_pixelcnn": {"layers": 4}, "pixelrnn": {"layers": 2}}


def started(name, *, channels=1, groups=None, classes=0, **more):
    """(model, variables with biases that are not 0, images [2, 6, 6, C])."""
    groups = channels if groups is None else groups
    model = PIXEL_MODELS[name](
        outputs=channels, groups=groups, classes=classes, **{"width": 6, "head": 9, **SMALL[name], **more}
    )
    images = jax.random.normal(jax.random.key(0), (2, S, S, channels))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), images, labels(2))
    return model, jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape), variables), images


def labels(count):
    return jnp.zeros(count, jnp.int32)


def sight(name, **how):
    """bool [H W C, H W C]: whether a pixel's number has a gradient with respect to another's value, in any of two images."""
    model, variables, images = started(name, **how)

    def numbers(image):
        return model.apply(variables, image[None], labels(1), train=False)[0][0]

    jacobian = np.asarray(jax.jit(jax.vmap(jax.jacrev(numbers)))(images))
    count = np.prod(images.shape[1:])
    return (jacobian.reshape(2, count, count) != 0).any(axis=0)


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", slow_but(PIXEL_MODELS, "gated_pixelcnn"))
def test_no_number_depends_on_its_own_value_or_a_later_one(name, channels):
    seen = sight(name, channels=channels)
    assert not np.triu(seen).any()
    of_pixel = [place * channels + channel for place in range(1, S * S) for channel in range(channels)]
    assert seen[of_pixel].any(axis=1).mean() > 0.9  # a unit may be off in both images
    if channels == 3:
        place = 3 * np.arange(S * S)
        assert all(seen[place + late, place + early].mean() > 0.5 for late, early in ((1, 0), (2, 0), (2, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_without_groups_no_number_depends_on_its_own_pixel(name):
    seen = sight(name, channels=3, groups=1).reshape(S * S, 3, S * S, 3).any(axis=(1, 3))
    assert not np.triu(seen).any() and seen[1:].any(axis=1).all()


@pytest.mark.slow
def test_gated_pixelcnn_sees_every_pixel_before_and_pixelcnn_has_a_blind_spot():
    row, column = np.divmod(np.arange(S * S), S)
    down, right = row[:, None] - row[None], column[None] - column[:, None]  # how far above, and to the right, the other is
    before = np.tril(np.ones((S * S, S * S), bool), -1)
    np.testing.assert_array_equal(sight("gated_pixelcnn", reach=1, layers=6), before)
    np.testing.assert_array_equal(sight("pixelcnn", reach=1), before & (right <= down))


PUBLISHED = {16: (27_489, 19_521), 32: (100_449, 70_177), 64: (386_145, 268_257)}
"""Parameters stored and not masked, by width: our reading of Table 1 for MNIST, seven blocks."""


@pytest.mark.parametrize("width", PUBLISHED)
def test_pixelcnn_has_the_parameters_of_table_1(width):
    model = PIXEL_MODELS["pixelcnn"](outputs=1, groups=1, classes=0, width=width)
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 28, 28, 1)), labels(1)
    )["params"]
    stored = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    masked = 0
    for name, layer in shapes.items():
        rows, columns, inputs, outputs = layer["kernel"].shape
        window = POINT if rows == columns == 1 else square(rows // 2)
        order = "a" if name == "conv0" else "b"
        masked += (~mask(window, order, channel_of(inputs, 1), channel_of(outputs, 1))).sum()
    assert (stored, stored - masked) == PUBLISHED[width]


def test_units_of_both_gates_belong_to_the_channels_in_order():
    np.testing.assert_array_equal(channel_of(6, 3), [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(channel_of(8, 3, parts=2), [0, 0, 1, 2, 0, 0, 1, 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_the_class_changes_the_numbers_of_every_pixel(name):
    model, variables, images = started(name, classes=3)
    one, two = (jitted.apply(model, variables, images[:1], jnp.full(1, label), train=False)[0] for label in (0, 2))
    assert (one != two).all()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_convolutions_and_products_of_windows_compute_the_same(name, channels):
    model, variables, images = started(name, channels=channels)
    whole, _ = jitted.apply(model, variables, images, labels(2), train=False)
    products, _ = jitted.apply(model, variables, images, labels(2), train=False, at=Place((S, S)))
    np.testing.assert_allclose(whole, products, atol=2e-5)


def test_multiply_accumulates_are_of_the_weights_that_count():
    """14x14 places; 24 of 49 taps of the first convolution, 5 of 9 of the others."""
    model = PIXEL_MODELS["pixelcnn"](outputs=1, groups=1, classes=0, width=16)
    labels = jnp.zeros(1, jnp.int32)
    image = jax.ShapeDtypeStruct((1, 14, 14, 1), jnp.float32)
    layers = trace(lambda x: model.init_with_output(jax.random.key(0), x, labels, train=False), image)
    block = 32 * 16 + 5 * 16 * 16 + 16 * 32
    assert sum(layer.macs for layer in layers) == 14 * 14 * (24 * 32 + 7 * block + 2 * 32 * 32 + 32)
