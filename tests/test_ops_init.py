"""Initialisers: the variance or the range that their papers give, and the scale of signals in deep nets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS

KEY = jax.random.key(0)
CONV = (5, 5, 20, 60)  # fan-in 500, fan-out 1500
VARIANCE = {
    "zeros": 0.0,
    "normal": 1e-4,
    "lecun": 1 / 500,
    "lecun_1998": 2.4**2 / 500**2 / 3,
    "xavier": 2 / 2000,
    "he": 2 / 500,
}


@pytest.mark.parametrize("name", VARIANCE)
def test_initializer_has_the_variance_of_its_paper(name):
    values = np.asarray(INITIALIZERS[name](KEY, CONV))
    assert values.shape == CONV
    np.testing.assert_allclose(values.var(), VARIANCE[name], rtol=0.05)
    assert abs(values.mean()) <= 4 * np.sqrt(VARIANCE[name] / values.size)


@pytest.mark.parametrize("initializer", [init.lecun, init.xavier, init.he])
def test_distributions_have_one_variance_and_their_own_range(initializer):
    uniform, normal = (np.asarray(initializer(KEY, CONV, distribution=name)) for name in ("uniform", "normal"))
    np.testing.assert_allclose(uniform.var(), normal.var(), rtol=0.05)
    assert np.abs(uniform).max() <= np.sqrt(3 * uniform.var()) * 1.05 < np.abs(normal).max()


def test_partial_identity_passes_inputs_on_and_draws_the_other_outputs():
    kernel = np.asarray(init.partial_identity(KEY, (3, 3, 20, 60)))
    images = np.asarray(jax.random.normal(KEY, (2, 5, 5, 20)))
    out = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(out[..., :20], images, atol=1e-6)
    drawn = kernel[..., 20:]
    assert np.abs(drawn).max() <= 1 / np.sqrt(180) and abs(drawn.var() * 3 * 180 - 1) < 0.1
    np.testing.assert_array_equal(init.partial_identity(KEY, (4, 3)), np.eye(4, 3, dtype=np.float32))


def test_lecun_1998_stays_within_its_bounds():
    values = init.lecun_1998(KEY, CONV)
    assert float(jnp.max(jnp.abs(values))) <= 2.4 / 500


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (3, 3, 4, 36), (3, 3, 4, 5)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    matrix = np.asarray(init.orthogonal(KEY, shape, gain=2.0)).reshape(-1, shape[-1])
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4.0 * np.eye(len(small)), atol=1e-5)


def test_knobs_may_be_tracers():
    np.testing.assert_allclose(
        jax.jit(lambda std: init.normal(KEY, CONV, std=std))(0.3), init.normal(KEY, CONV, std=0.3), rtol=1e-6
    )


@pytest.mark.parametrize(("name", "low", "high"), [("he", 0.3, 3.0), ("xavier", 0.0, 0.01), ("normal", 0.0, 1e-9)])
def test_only_he_keeps_the_scale_through_relu_layers(name, low, high):
    x = first = jax.random.normal(KEY, (64, 256))
    for number in range(20):
        x = jax.nn.relu(x @ INITIALIZERS[name](jax.random.fold_in(KEY, number), (256, 256)))
    assert low <= float(jnp.sqrt(jnp.mean(x**2)) / jnp.sqrt(jnp.mean(first**2))) <= high
