"""Every form of a convolution against the library's: values, both gradients, second derivatives, transformations."""

import functools
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnlab.models import layers
from cnnlab.ops.convolve import convolve, convolve_transpose
from cnnlab.ops.cpu.forms import FORMS, choose_form
from cnnlab.ops.lax_convolution import NHWC
from cnnlab.ops.windows import Geometry, explicit_padding
from tests import jitted
from tests.stages import slow_but

CASES = {  # image, kernel, strides, padding, dilation, groups
    "3x3": ((4, 9, 8, 5), (3, 3, 5, 7), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "3x3 strided": ((4, 9, 8, 5), (3, 3, 5, 7), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "5x5 valid": ((4, 9, 11, 3), (5, 5, 3, 6), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "1x7 lopsided": ((4, 6, 9, 3), (1, 7, 3, 4), (1, 1), ((0, 0), (2, 4)), (1, 1), 1),
    "dilated": ((4, 9, 9, 3), (3, 3, 3, 4), (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
    "1x1": ((4, 5, 6, 8), (1, 1, 8, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "1x1 strided": ((4, 5, 6, 8), (1, 1, 8, 3), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    "depth-wise": ((4, 9, 8, 6), (3, 3, 1, 6), (1, 1), ((1, 1), (1, 1)), (1, 1), 6),
    "depth-wise strided": ((4, 9, 8, 6), (3, 3, 1, 6), (2, 2), ((0, 1), (0, 1)), (1, 1), 6),
    "depth-wise twice": ((4, 9, 8, 6), (3, 3, 1, 12), (1, 1), ((1, 1), (1, 1)), (1, 1), 6),
    "depth-wise dilated": ((4, 9, 8, 6), (3, 2, 1, 6), (2, 1), ((2, 1), (1, 2)), (2, 3), 6),
    "depth-wise wide": ((4, 9, 8, 6), (5, 5, 1, 6), (3, 2), ((2, 1), (0, 2)), (1, 1), 6),
    "two groups": ((4, 7, 7, 8), (3, 3, 4, 6), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    "many groups": ((4, 7, 7, 32), (3, 3, 2, 48), (2, 2), ((1, 1), (1, 1)), (1, 1), 16),
    "large batch": ((32, 8, 8, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
}


def library(x, kernel, strides, padding, dilation, groups):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=NHWC, feature_group_count=groups
    )


def arrays(case, dtype=jnp.float32):
    image, kernel, *_ = CASES[case]
    random = np.random.default_rng(0)
    return jnp.asarray(random.normal(size=image), dtype), jnp.asarray(random.normal(size=kernel), dtype)


def ours(case):
    _, _, strides, padding, dilation, groups = CASES[case]
    return functools.partial(convolve, strides=strides, padding=padding, dilation=dilation, groups=groups)


def theirs(case):
    return lambda x, kernel: library(x, kernel, *CASES[case][2:])


def forms(case):
    """The forms that can compute a case."""
    image, kernel, _, _, _, groups = CASES[case]
    depthwise = kernel[2] == 1 and groups == image[-1]
    grouped = {"library", "shifts"} if depthwise else {"library", "blocks"}
    dense = {"library", "turned", "chunks", "channels", "shrinking"} | ({"dot"} if kernel[:2] == (1, 1) else set())
    return sorted(grouped if groups > 1 else dense)


def close(found, expected, tolerance=1e-5):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(
    ("case", "name"),
    slow_but(
        [(case, name) for case in CASES for name in forms(case)],
        "3x3 strided",
        "1x7 lopsided",
        "1x1",
        "depth-wise wide",
        "many groups",
    ),
)
def test_every_form_has_the_values_and_gradients_of_the_library(case, name):
    x, kernel = arrays(case)
    _, _, strides, padding, dilation, groups = CASES[case]
    geometry = Geometry(strides, padding, dilation)
    shape = jax.eval_shape(theirs(case), x, kernel).shape
    weights = np.cos(np.arange(math.prod(shape), dtype=np.float32)).reshape(shape)

    def values_and_gradients(function):
        def total(x, kernel):
            y = function(x, kernel)
            return jnp.vdot(y, weights), y

        gradients, y = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(x, kernel)
        return (y, *gradients)

    found = values_and_gradients(lambda x, k: FORMS[name](x, k, geometry, groups))
    for mine, reference in zip(found, values_and_gradients(theirs(case)), strict=True):
        close(mine, reference)


@pytest.mark.parametrize(
    "case",
    slow_but(CASES, "depth-wise"),
)
def test_second_derivatives_and_forward_mode_are_the_library_s(case):
    x, kernel = arrays(case)

    def penalty(function):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel)))

        def squared(x, kernel):
            return jnp.sum(jax.grad(loss)(x, kernel) ** 2)

        def both(x, kernel):
            _, tangent = jax.jvp(function, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))
            return (*jax.grad(squared, argnums=(0, 1))(x, kernel), tangent)

        return jax.jit(both)(x, kernel)

    for mine, reference in zip(penalty(ours(case)), penalty(theirs(case)), strict=True):
        close(mine, reference, 1e-4)


@pytest.mark.parametrize(
    "case", slow_but(["3x3", "1x1 strided", "depth-wise strided", "many groups", "large batch"], "3x3", "depth-wise strided")
)
def test_the_convolution_is_the_same_in_scan_vmap_pmap_and_other_precisions(case):
    x, kernel = arrays(case)
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.sin(ours(case)(x, kernel)))))
    alone = gradient(kernel, x)
    stacked = jnp.stack([x, 2.0 * x])
    close(jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(kernel, stacked)[0], alone)
    close(jax.pmap(gradient, in_axes=(None, 0), devices=jax.devices()[:2])(kernel, stacked)[0], alone)
    _, looped = lax.scan(lambda _, images: (None, gradient(kernel, images)), None, stacked)
    close(looped[0], alone)
    half = gradient(kernel.astype(jnp.bfloat16), x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    close(half.astype(jnp.float32), alone, 0.06)
    with jax.enable_x64(True):
        exact = [jnp.asarray(np.asarray(array), jnp.float64) for array in (x, kernel)]
        found = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.sin(ours(case)(x, kernel)))))(exact[1], exact[0])
        expected = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.sin(theirs(case)(x, kernel)))))(exact[1], exact[0])
        close(found, expected, 1e-13)


@pytest.mark.parametrize("case", ["3x3", "3x3 strided"])
def test_a_loop_holds_only_convolutions_for_which_a_cpu_has_a_kernel(case):
    x, kernel = arrays(case)

    def loss(x, kernel):
        y = ours(case)(x, kernel)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(convolve_transpose(y, kernel.transpose(0, 1, 3, 2))))

    gradients = jax.grad(loss, argnums=(0, 1))

    def loop(x, kernel):
        return lax.scan(lambda _, images: (None, gradients(images, kernel)), None, jnp.stack([x, x]))

    program = jax.jit(loop).lower(x, kernel).compile().as_text()
    orders = set(re.findall(r" convolution\(.*dim_labels=(\S+?),", program))
    assert " while(" in program and orders == {"b01f_01io->b01f"}


def test_the_form_follows_from_shapes_and_backend():
    geometry = Geometry(padding=((1, 1), (1, 1)))
    assert choose_form((64, 16, 16, 128), (1, 1, 128, 256), Geometry(), 1, "cpu") == "dot"
    assert choose_form((64, 16, 16, 128), (3, 3, 1, 128), geometry, 128, "cpu") == "shifts"
    assert choose_form((64, 16, 16, 128), (3, 3, 4, 128), geometry, 32, "cpu") == "blocks"
    assert choose_form((64, 16, 16, 128), (3, 3, 128, 128), geometry, 1, "cpu") == "chunks"
    assert choose_form((64, 32, 32, 16), (3, 3, 16, 16), geometry, 1, "cpu") == "turned"
    assert choose_form((64, 16, 16, 128), (3, 3, 1, 128), geometry, 128, "gpu") == "library"


@pytest.mark.parametrize(
    ("padding", "expected"), [(1, ((1, 1), (1, 1))), ((0, 2), ((0, 0), (2, 2))), ("valid", ((0, 0), (0, 0)))]
)
def test_padding_has_one_long_form(padding, expected):
    assert explicit_padding(padding, (5, 5), (3, 3), (1, 1)) == expected


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 1), (8, 3, 2), (9, 5, 3), (4, 2, 2)])
def test_same_padding_is_that_of_flax(size, kernel, stride):
    x = jax.random.normal(jax.random.key(0), (2, size, size, 3))
    mine, flax = layers.Conv(4, kernel, stride), nn.Conv(4, (kernel, kernel), stride)
    variables = jitted.init(flax, jax.random.key(1), x)
    np.testing.assert_allclose(jitted.apply(mine, variables, x), jitted.apply(flax, variables, x), atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("kernel", "stride"), slow_but([(3, 2), (4, 2), (2, 2), (5, 3), (3, 1), (2, 3)], (3, 2), (5, 3), (2, 3))
)
def test_transposed_convolution_is_that_of_flax_with_the_same_parameters(kernel, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    mine = layers.ConvTranspose(4, kernel, stride, padding.lower())
    flax = nn.ConvTranspose(4, (kernel, kernel), (stride, stride), padding)
    variables = jitted.init(flax, jax.random.key(1), x)
    np.testing.assert_allclose(jitted.apply(mine, variables, x), jitted.apply(flax, variables, x), atol=1e-5)

    def slope(module):
        return jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(module.apply(v, x)))))(variables)["params"]["kernel"]

    np.testing.assert_allclose(slope(mine), slope(flax), atol=1e-4)


def test_transposed_convolution_is_the_transpose_of_the_convolution():
    x, kernel = jax.random.normal(jax.random.key(0), (2, 9, 9, 3)), jax.random.normal(jax.random.key(1), (3, 3, 3, 5))

    @jax.jit
    def both_ways(x, kernel):
        y, transpose = jax.vjp(lambda x: convolve(x, kernel, strides=(2, 2), padding=((1, 1), (1, 1))), x)
        turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)  # [h, w, C, F] -> [h, w, F, C], turned around
        return convolve_transpose(y, turned, strides=(2, 2), padding=((1, 1), (1, 1))), transpose(y)[0]

    close(*both_ways(x, kernel))
