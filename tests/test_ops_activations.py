"""Activations against their definitions, and their knobs as tracers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.activations import ACTIVATIONS, PARAMETER_FREE, leaky_relu, relu6, scaled_tanh, step

x = np.linspace(-4, 4, 33, dtype=np.float32)


@pytest.mark.parametrize("name", PARAMETER_FREE)  # prelu: tested in test_models_layers.py
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_activation_keeps_shape_and_dtype_and_has_finite_gradients(name, dtype):
    inputs = jnp.asarray(x, dtype).reshape(3, 11)
    outputs, gradient = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(ACTIVATIONS[name]))))(inputs)
    assert outputs.shape == inputs.shape
    assert outputs.dtype == gradient.dtype == dtype
    assert bool(jnp.all(jnp.isfinite(outputs))) and bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("name", PARAMETER_FREE)
def test_activation_is_the_same_compiled(name):
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), jax.jit(ACTIVATIONS[name])(jnp.asarray(x)), atol=1e-6)


def test_activations_agree_with_their_definitions():
    from scipy.stats import norm

    expected = {
        "sigmoid": 1 / (1 + np.exp(-x)),
        "tanh": np.tanh(x),
        "softsign": x / (1 + np.abs(x)),
        "softplus": np.log1p(np.exp(x)),
        "relu": np.maximum(x, 0),
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "elu": np.where(x > 0, x, np.expm1(x)),
        "gelu": x * norm.cdf(x),
        "silu": x / (1 + np.exp(-x)),
        "identity": x,
        "step": (x >= 0).astype(np.float32),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), values, atol=1e-6, err_msg=name)


def test_scaled_tanh_takes_one_to_one():
    np.testing.assert_allclose(scaled_tanh(jnp.array([-1.0, 0.0, 1.0])), [-1.0, 0.0, 1.0], atol=1e-4)


def test_relu6_is_bounded_by_zero_and_six():
    np.testing.assert_array_equal(relu6(2 * jnp.asarray(x)), np.clip(2 * x, 0, 6))


def test_step_fires_at_zero_and_has_no_gradient():
    assert float(step(jnp.array(0.0))) == 1.0
    assert not np.any(jax.jit(jax.vmap(jax.grad(step)))(jnp.asarray(x)))


def test_slope_may_be_a_tracer():
    traced = jax.jit(lambda slope: leaky_relu(jnp.asarray(x), slope=slope))(0.2)
    np.testing.assert_allclose(traced, leaky_relu(jnp.asarray(x), slope=0.2))
