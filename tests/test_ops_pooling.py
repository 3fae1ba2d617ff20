"""Pooling and local response normalisation against their definitions, and gradients where values tie."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models import layers
from cnnlab.ops.local_response_norm import local_response_normalization
from cnnlab.ops.pooling import adaptive_average_pool
from tests import jitted

random = np.random.default_rng(0)
OPTIONS = list(itertools.product([(7, 8), (5, 6)], [2, 3, 5], [1, 2, 3], [0, 1], [False, True]))


def windows(size, window, stride, padding, ceil):
    """(start, stop) of every window along one axis of `size` numbers, padding counted negative."""
    span = size + 2 * padding - window
    count = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1
    return [(i * stride - padding, i * stride - padding + window) for i in range(count)]


def by_definition(x, window, stride, padding, ceil, reduce):
    """reduce(values inside the image, how many the window has inside image and padding) at every window."""
    _, height, width, _ = x.shape
    rows, columns = (windows(size, window, stride, padding, ceil) for size in (height, width))
    out = np.zeros((x.shape[0], len(rows), len(columns), x.shape[3]))
    for (i, (top, bottom)), (j, (left, right)) in itertools.product(enumerate(rows), enumerate(columns)):
        inside = x[:, max(top, 0) : bottom, max(left, 0) : right]
        counted = (min(bottom, height + padding) - top) * (min(right, width + padding) - left)
        out[:, i, j] = reduce(inside, counted)
    return out


@pytest.mark.parametrize(("size", "window", "stride", "padding", "ceil"), OPTIONS)
def test_pooling_is_its_definition(size, window, stride, padding, ceil):
    if padding > window // 2:
        pytest.skip("more padding than half a window is not defined in the references")
    x = random.normal(size=(2, *size, 3)).astype(np.float32)
    largest = jitted.apply(layers.MaxPool(window, stride, padding, ceil), {}, x)
    expected = by_definition(x, window, stride, padding, ceil, lambda inside, _: inside.max((1, 2)))
    np.testing.assert_array_equal(largest, expected.astype(np.float32))
    for counts in (True, False):
        mean = jitted.apply(layers.AveragePool(window, stride, padding, ceil, counts), {}, x)
        expected = by_definition(
            x,
            window,
            stride,
            padding,
            ceil,
            lambda inside, counted, counts=counts: inside.sum((1, 2)) / (counted if counts else inside[0, ..., 0].size),
        )
        np.testing.assert_allclose(mean, expected, atol=1e-5)


@pytest.mark.parametrize("window", [2, 3, 9])
def test_the_gradient_of_the_largest_goes_to_one_place_of_each_window_under_jit(window):
    x = jnp.asarray(random.integers(0, 3, (2, 12, 12, 2)), jnp.float32)  # many ties

    @jax.jit
    def slope(x):
        return jax.grad(lambda x: jnp.sum(layers.MaxPool(window, window).apply({}, x)))(x)

    blocks = np.asarray(slope(x))[:, : 12 // window * window, : 12 // window * window]
    blocks = blocks.reshape(2, 12 // window, window, 12 // window, window, 2)
    np.testing.assert_array_equal((blocks != 0).sum((2, 4)), 1)
    np.testing.assert_array_equal(blocks.sum((2, 4)), 1.0)


@pytest.mark.parametrize("window", [3, 9])
def test_the_gradient_of_the_mean_is_shared_evenly(window):
    x = jnp.ones((1, 9, 9, 1))
    slope = jax.jit(jax.grad(lambda x: jnp.sum(layers.AveragePool(window).apply({}, x))))(x)
    np.testing.assert_allclose(slope, 1 / window**2, rtol=1e-6)


@pytest.mark.parametrize("size", [(7, 7), (3, 2), (1, 1), (9, 10)])
def test_adaptive_pooling_averages_its_cells(size):
    x = random.normal(size=(2, 7, 5, 3)).astype(np.float32)
    pooled = np.asarray(adaptive_average_pool(jnp.asarray(x), size))
    assert pooled.shape == (2, *size, 3)
    for i, j in itertools.product(range(size[0]), range(size[1])):
        rows = slice(i * 7 // size[0], -(-(i + 1) * 7 // size[0]))
        columns = slice(j * 5 // size[1], -(-(j + 1) * 5 // size[1]))
        np.testing.assert_allclose(pooled[:, i, j], x[:, rows, columns].mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 4, 5])
@pytest.mark.parametrize(("alpha", "beta", "k"), [(1e-4, 0.75, 2.0), (1.0, 0.5, 1.0)])
def test_local_response_normalisation_is_its_definition(size, alpha, beta, k):
    x = random.normal(size=(2, 3, 3, 7)).astype(np.float32)
    found = jax.jit(lambda x: local_response_normalization(x, size=size, alpha=alpha, beta=beta, k=k))(x)
    for channel in range(7):
        near = x[..., max(0, channel - size // 2) : channel + (size - 1) // 2 + 1]
        expected = x[..., channel] / (k + alpha / size * (near**2).sum(-1)) ** beta
        np.testing.assert_allclose(found[..., channel], expected, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(local_response_normalization(x, size=size) ** 2)))(jnp.asarray(x))
    assert bool(jnp.all(jnp.isfinite(slope)))
