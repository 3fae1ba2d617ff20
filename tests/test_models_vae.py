"""Variational autoencoders' networks: published sizes, any image, labels on both sides."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models import VAES, VQ_VAES
from tests import jitted
from tests.stages import slow_but

SHAPES = [(13, 21, 3), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((28, 28, 1), (8, 8, 1), (32, 32, 3)))]


def built(name, image_shape=(28, 28, 1), outputs=1, classes=0, **knobs):
    model = VAES[name](image_shape=image_shape, outputs=outputs, classes=classes, **knobs)
    return model, jitted.init(model, jax.random.key(0), jnp.zeros((1, *image_shape)), jnp.zeros(1, jnp.int32))


@pytest.mark.parametrize(("name", "count"), [("mlp", 815_824), ("mlp_400_20", 652_824), ("iwae_200_200_50", 425_284)])
def test_published_networks_have_their_parameters(name: str, count: int):
    _, variables = built(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", slow_but(["mlp", "conv"], "mlp"))
def test_any_image_comes_back_at_its_size(name: str, shape: tuple[int, int, int]):
    model, variables = built(name, shape, outputs=2, latent=3)
    images = jax.random.uniform(jax.random.key(1), (4, *shape))
    mean, log_variance = jitted.apply(model, variables, images, method="encode")
    assert mean.shape == log_variance.shape == (4, 3)
    assert jitted.apply(model, variables, mean, method="decode").shape == (4, *shape[:2], 2 * shape[2])
    out, seen = jitted.apply(model, variables, images)
    np.testing.assert_allclose(out, jitted.apply(model, variables, seen["code"], method="decode"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", slow_but(["mlp", "conv"], "mlp"))
def test_labels_reach_both_sides_of_a_conditional_model_alone(name: str):
    images, codes = jax.random.uniform(jax.random.key(1), (2, 8, 8, 1)), jnp.zeros((2, 20))
    labels, others = jnp.int32([0, 1]), jnp.int32([2, 2])
    for classes in (0, 3):
        model, variables = built(name, (8, 8, 1), classes=classes)
        for method, x in (("encode", images), ("decode", codes)):
            found, other = (jax.tree.leaves(jitted.apply(model, variables, x, y, method=method))[0] for y in (labels, others))
            assert np.allclose(found, other) == (classes == 0), (classes, method)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_grid_of_vectors_is_a_quarter_of_the_image(shape: tuple[int, int, int]):
    model = VQ_VAES["vq_vae"](image_shape=shape, outputs=2)
    images = jax.random.uniform(jax.random.key(1), (2, *shape))
    variables = jitted.init(model, jax.random.key(0), images)
    vectors = jitted.apply(model, variables, images, method="encode")
    assert vectors.shape == (2, *model.grid, 32) and model.grid == tuple(math.ceil(math.ceil(n / 2) / 2) for n in shape[:2])
    assert jitted.apply(model, variables, vectors, method="decode").shape == (2, *shape[:2], 2 * shape[2])


def test_the_paper_codes_an_image_of_32_pixels_by_8x8():
    model = VQ_VAES["vq_vae_2017"](image_shape=(32, 32, 3), outputs=2)
    assert model.grid == (8, 8) and model.entries == 512 and model.dimension == 64
