"""Convolutions, pooling, unpooling, interpolation and LRN against torch.nn.functional, with gradients, in f64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models import layers, recurrent
from cnnlab.ops import unpool, upsample
from cnnlab.ops.local_response_norm import local_response_normalization
from cnnlab.ops.pooling import adaptive_average_pool
from cnnlab.tasks.distil import soft_losses
from tests.parity import fixtures
from tests.parity.torch_functions import (
    ADAPTIVE,
    CONVOLUTIONS,
    ENLARGED,
    RECURRENT,
    RESPONSES,
    SPREAD,
    TEMPERATURES,
    TRANSPOSED,
    UNPOOLED,
    WINDOWS,
)

pytestmark = [pytest.mark.parity, pytest.mark.slow]

TOLERANCE = 1e-12


@functools.cache
def fixture():
    path = fixtures.functions_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures functions` makes it (torch in an environment of its own)")
    return dict(np.load(path))


def compare(name, function, kernel_axes=None, flipped=False):
    """function(x, kernel) or function(x), x [B, H, W, C], equals the case in value and gradients."""
    case = {key: fixture()[f"{name}/{key}"] for key in ("x", "y", "dy", "dx")}
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = [jnp.asarray(case["x"].transpose(0, 2, 3, 1))]
        expected = [case["dx"].transpose(0, 2, 3, 1)]
        if kernel_axes is not None:
            turned = [fixture()[f"{name}/{key}"].transpose(kernel_axes) for key in ("kernel", "dkernel")]
            kernel, gradient = (array[::-1, ::-1] if flipped else array for array in turned)
            given, expected = [*given, jnp.asarray(kernel)], [*expected, gradient]

        @jax.jit
        def both(dy, *given):
            y, pull = jax.vjp(function, *given)
            return y, pull(dy)

        y, gradients = both(jnp.asarray(case["dy"].transpose(0, 2, 3, 1)), *given)
    for found, wanted in zip((y, *gradients), (case["y"].transpose(0, 2, 3, 1), *expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max(), err_msg=name)


def applied(module):
    """The module as a function of x and its kernel."""
    return lambda x, kernel: module.apply({"params": {"kernel": kernel}}, x)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_equals_the_reference(name):
    _, (features, _, *kernel), options = CONVOLUTIONS[name]
    strides, padding, groups, dilation = (
        options.get(key, default) for key, default in (("stride", 1), ("padding", 0), ("groups", 1), ("dilation", 1))
    )
    module = layers.Conv(features, tuple(kernel), strides, padding, dilation, groups, bias=False)
    compare(f"conv/{name}", applied(module), (2, 3, 1, 0))


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution_equals_the_reference(name):
    _, (_, features, *kernel), options = TRANSPOSED[name]
    strides, padding, more = (
        options.get(key, default) for key, default in (("stride", 1), ("padding", 0), ("output_padding", 0))
    )
    module = layers.ConvTranspose(features, tuple(kernel), strides, padding, more, bias=False)
    compare(f"conv_transpose/{name}", applied(module), (2, 3, 0, 1), flipped=True)


@pytest.mark.parametrize(("size", "window", "stride", "padding", "ceil"), WINDOWS)
def test_pooling_equals_the_reference(size, window, stride, padding, ceil):
    name = f"{size}-{window}-{stride}-{padding}-{ceil}"
    compare(f"max_pool/{name}", lambda x: layers.MaxPool(window, stride, padding, ceil).apply({}, x))
    for counts in (False, True):
        module = layers.AveragePool(window, stride, padding, ceil, counts)
        compare(f"avg_pool/{name}-{counts}", lambda x, module=module: module.apply({}, x))


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_equal_the_reference(name):
    """torch has two vectors of biases, which are added everywhere but in the content of the GRU."""
    case = {key.rsplit("/", 1)[1]: array for key, array in fixture().items() if key.startswith(f"recurrent/{name}/")}
    knobs = {"forget_bias": 0.0} if name == "lstm" else {}
    layer = recurrent.LAYERS[name](width=5, **knobs)

    def named(prefix):
        """Their weights, or with the prefix d the gradients, as our parameters."""
        kernel, before, bias, second = (case[f"{prefix}{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        added = bias if prefix else bias + np.where(np.arange(len(second)) < (10 if name == "gru" else 99), second, 0.0)
        content = {"recurrent_bias": second[10:]} if name == "gru" else {}
        return {"inputs": {"kernel": kernel.T, "bias": added}, "recurrent": before.T, **content}

    def run(params, x, *start):
        hidden, last = layer.apply({"params": params}, x, start if name == "lstm" else start[0])
        return hidden, last[1] if name == "lstm" else last

    starts = [key for key in ("hidden", "cell") if key in case]
    with jax.enable_x64(True):
        given = jax.tree.map(jnp.asarray, (named(""), case["x"], *(case[key][0] for key in starts)))

        @jax.jit
        def both(dy, *given):
            y, pull, last = jax.vjp(run, *given, has_aux=True)
            return y, pull(dy), last

        y, gradients, last = both(jnp.asarray(case["dy"]), *given)
    expected = (case["y"], (named("d"), case["dx"], *(case[f"d{key}"][0] for key in starts)), case["last"][0])
    for found, wanted in zip(jax.tree.leaves((y, gradients, last)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())


@pytest.mark.parametrize(("size", "cells"), ADAPTIVE)
def test_adaptive_pooling_equals_the_reference(size, cells):
    compare(f"adaptive_avg_pool/{size}-{cells}", lambda x: adaptive_average_pool(x, cells))


@pytest.mark.parametrize("options", RESPONSES)
def test_local_response_normalization_equals_the_reference(options):
    size, alpha, beta, k = options
    compare(f"lrn/{options}", lambda x: local_response_normalization(x, size=size, alpha=alpha, beta=beta, k=k))


@pytest.mark.parametrize(("size", "window", "ceil"), UNPOOLED)
def test_pooling_with_switches_and_unpooling_equal_the_reference(size, window, ceil):
    name = f"{size}-{window}-{ceil}"
    pool = functools.partial(unpool.max_pool_with_switches, window=window, ceil=ceil)
    compare(f"switches/{name}", lambda x: pool(x)[0])
    compare(f"unpool/{name}", lambda x: unpool.max_unpool(*pool(x), size, window))
    _, switches = jax.jit(pool)(jnp.asarray(fixture()[f"switches/{name}/x"].transpose(0, 2, 3, 1), jnp.float32))
    np.testing.assert_array_equal(switches, fixture()[f"switches/{name}/places"].transpose(0, 2, 3, 1))


@pytest.mark.parametrize("size", ENLARGED)
def test_bilinear_interpolation_equals_the_reference(size):
    compare(f"bilinear/{size}", lambda x: upsample.bilinear(x, size))


@pytest.mark.parametrize("factor", SPREAD)
def test_the_fixed_bilinear_transposed_convolution_equals_the_reference(factor):
    compare(f"spread/{factor}", lambda x: upsample.spread(x, factor))


@pytest.mark.parametrize(("temperature", "teachers"), TEMPERATURES)
def test_the_loss_of_soft_targets_equals_the_reference(temperature, teachers):
    """torch.nn.functional.kl_div, times T², and its gradient."""
    names = ("x", "y", "dy", "dx", "teachers")
    case = {key: fixture()[f"soft_targets/{temperature}-{teachers}/{key}"] for key in names}
    with jax.enable_x64(True):
        x, dy, given = (jnp.asarray(case[key]) for key in ("x", "dy", "teachers"))

        @jax.jit
        def both(x, dy):
            y, pull = jax.vjp(lambda student: soft_losses(student, given, temperature), x)
            return y, pull(dy)[0]

        for found, wanted in zip(both(x, dy), (case["y"], case["dx"]), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())
