"""Bounds and maxima: their values, their gradients, and that no gradient of the package asks whether two numbers are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models import MODELS
from cnnlab.ops.activations import PARAMETER_FREE
from cnnlab.ops.bounds import at_least, at_most, between, largest
from cnnlab.ops.likelihoods import LIKELIHOODS
from cnnlab.ops.losses import LOSSES
from tests.equalities import float_equalities
from tests.stages import slow_but
from tests.zoo import kinds, thin

QUICK = ("resnet18", "vgg11_a")
"""Networks that the fast stage traces: batch normalisation and max pooling are in them."""
x = np.asarray([[3.0, -1.0, 7.0, 7.0], [0.5, 2.0, -4.0, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("bounded", "low", "high"),
    [
        (lambda v: at_least(v, 1.0), 1.0, np.inf),
        (lambda v: at_most(v, 2.0), -np.inf, 2.0),
        (lambda v: between(v, 0.0, 3.0), 0.0, 3.0),
        (lambda v: at_least(v, jnp.asarray([[0.0, 5.0, 5.0, 5.0]])), np.asarray([0.0, 5.0, 5.0, 5.0]), np.inf),
    ],
)
def test_bounds_clip_and_pass_the_gradient_of_what_is_inside(bounded, low, high):
    np.testing.assert_array_equal(bounded(jnp.asarray(x)), np.clip(x, low, high))
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(bounded(v))))(jnp.asarray(x))
    np.testing.assert_array_equal(gradient, ((x > low) & (x < high)).astype(np.float32))


def test_bounds_keep_what_is_not_a_number_and_the_dtype():
    for bounded in (lambda v: at_least(v, 1.0), lambda v: at_most(v, 1.0), lambda v: between(v, 0.0, 1.0)):
        found = bounded(jnp.asarray([np.nan, 3.0, -3.0], jnp.bfloat16))
        assert found.dtype == jnp.bfloat16 and bool(jnp.isnan(found[0])) and bool(jnp.all(jnp.isfinite(found[1:])))
    assert bool(jnp.isnan(largest(jnp.asarray([1.0, np.nan]), 0)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_largest_gives_the_gradient_to_the_first_of_equal_numbers(axis):
    values, back = jax.vjp(lambda v: largest(v, axis), jnp.asarray(x))
    np.testing.assert_array_equal(values, x.max(axis))
    (gradient,) = back(jnp.ones_like(values))
    first = np.zeros_like(x)
    np.put_along_axis(first, np.expand_dims(x.argmax(axis), axis), 1.0, axis)
    np.testing.assert_array_equal(gradient, first)


def test_a_comparison_of_equals_is_found():
    """JAX's own maxima and bounds have one, below a jit and a loop, too; comparisons with constants are none."""
    for function in (
        lambda v: jnp.max(v),
        lambda v: jnp.sum(jnp.maximum(v, 2 * v[::-1])),
        lambda v: jnp.sum(jnp.clip(v, 0, 1)),
    ):
        assert float_equalities(jax.make_jaxpr(jax.jit(jax.grad(function)))(x).jaxpr)
    assert float_equalities(jax.make_jaxpr(lambda v: jax.lax.map(jax.grad(jnp.max), v))(x).jaxpr)
    assert float_equalities(jax.make_jaxpr(jax.grad(lambda v: jnp.sum(jnp.where(v == 0.0, 0.0, v))))(x).jaxpr) == []


@pytest.mark.parametrize("name", PARAMETER_FREE)
def test_no_activation_compares_equals(name):
    assert float_equalities(jax.make_jaxpr(jax.grad(lambda v: jnp.sum(PARAMETER_FREE[name](v))))(x).jaxpr) == []


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_compares_equals(name):
    gradient = jax.grad(lambda logits: jnp.sum(LOSSES[name](logits, jnp.asarray([1, 0]))))
    assert float_equalities(jax.make_jaxpr(gradient)(x).jaxpr) == []


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_likelihood_compares_equals(name):
    likelihood, images = LIKELIHOODS[name](), np.full((2, 2, 2, 1), 0.5, np.float32)
    parameters = np.zeros((2, 2, 2, likelihood.outputs), np.float32)
    assert float_equalities(jax.make_jaxpr(jax.grad(lambda p: jnp.sum(likelihood.log_p(p, images))))(parameters).jaxpr) == []


@pytest.mark.parametrize("name", slow_but(kinds(), *QUICK))
def test_no_network_compares_equals(name):
    model, images = MODELS[name](classes=10, **thin(name)), jnp.zeros((2, 64, 64, 3))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(lambda: model.init(keys, images, train=True))

    def loss(params, variables):
        (logits, _), _ = model.apply({**variables, "params": params}, images, train=True, rngs=keys, mutable=["batch_stats"])
        return jnp.sum(logits**2)

    assert float_equalities(jax.make_jaxpr(jax.grad(loss))(variables["params"], variables).jaxpr) == []
