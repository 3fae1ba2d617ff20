"""Autoencoders: published parameter counts, mirrored shapes, tied kernels, and the linear one against PCA."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from cnnlab.models import AUTOENCODERS
from cnnlab.models.autoencoder import ConvAutoencoder, MLPAutoencoder, linear_autoencoder
from cnnlab.ops.reconstruction_losses import squared_error
from tests import jitted

KEY = jax.random.key(0)


def count(model, shape: tuple[int, int, int]) -> int:
    shapes = jax.eval_shape(functools.partial(model.init, train=False), KEY, jnp.zeros((1, *shape)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def test_parameters_are_as_published():
    assert count(MLPAutoencoder((28, 28, 1), widths=(1000, 500, 250), code=30), (28, 28, 1)) == 2_837_314
    weights = 784 * 1000 + 1000 * 500 + 500 * 250 + 250 * 30
    biases = 1000 + 500 + 250 + 30 + 250 + 500 + 1000 + 784
    assert count(MLPAutoencoder((28, 28, 1), tied=True), (28, 28, 1)) == weights + biases
    assert count(linear_autoencoder(image_shape=(28, 28, 1), code=30), (28, 28, 1)) == 2 * 784 * 30 + 784 + 30


@pytest.mark.parametrize("name", AUTOENCODERS)
@pytest.mark.parametrize(
    "shape", [(9, 7, 3), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((8, 8, 1), (5, 12, 2)))]
)
def test_outputs_have_the_shape_of_the_images_and_are_the_decoded_codes(name: str, shape: tuple[int, int, int]):
    model, images = AUTOENCODERS[name](image_shape=shape, code=6), jax.random.uniform(KEY, (3, *shape))
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, images)
    outputs, seen = jitted.apply(model, variables, images, train=True)
    codes = jitted.apply(model, variables, images, train=False, method="encode")
    assert outputs.shape == images.shape and codes.shape == (3, 6)
    np.testing.assert_array_equal(seen["code"], codes)
    np.testing.assert_allclose(jitted.apply(model, variables, codes, train=False, method="decode"), outputs, rtol=1e-6)


def test_one_image_does_not_touch_another():
    model, images = ConvAutoencoder((8, 8, 1)), jax.random.uniform(KEY, (4, 8, 8, 1))
    variables = jitted.init(model, KEY, images, train=False)
    outputs, _ = jitted.apply(model, variables, images, train=True)
    np.testing.assert_allclose(jitted.apply(model, variables, images[2:3], train=True)[0][0], outputs[2], atol=1e-5)


def test_tied_kernels_are_the_encoders_transposed():
    model, images = MLPAutoencoder((4, 4, 1), widths=(7,), code=3, tied=True), jax.random.uniform(KEY, (2, 4, 4, 1))
    params = jitted.init(model, KEY, images, train=False)["params"]
    assert set(params["decoder"]["dense1"]) == set(params["decoder"]["dense2"]) == {"bias"}
    first, second = (params["encoder"][name]["kernel"] for name in ("dense1", "dense2"))
    x = images.reshape(2, -1)
    expected = jax.nn.relu(jax.nn.relu(x @ first) @ second @ second.T) @ first.T
    outputs, _ = jitted.apply(model, {"params": params}, images, train=False)
    np.testing.assert_allclose(outputs.reshape(2, -1), expected, rtol=1e-4, atol=1e-5)


def test_the_first_components_of_pca_are_a_stationary_point_of_the_linear_autoencoder():
    values = load_digits().images.astype(np.float64) / 16
    flat = values.reshape(len(values), -1)
    judge = PCA(10).fit(flat)
    model, images = linear_autoencoder(image_shape=(8, 8, 1), code=10), jnp.asarray(values[..., None], jnp.float32)
    up, mean = jnp.asarray(judge.components_, jnp.float32), jnp.asarray(judge.mean_, jnp.float32)
    params = {
        "encoder": {"dense1": {"kernel": up.T, "bias": -(mean[None] @ up.T)[0]}},
        "decoder": {"dense1": {"kernel": up, "bias": mean}},
    }

    def loss(params) -> jax.Array:
        return jnp.mean(squared_error(model.apply({"params": params}, images, train=False)[0], images))

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    expected = ((judge.inverse_transform(judge.transform(flat)) - flat) ** 2).sum(1).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) < 1e-4
