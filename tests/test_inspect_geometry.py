"""The part of an image that a program depends on, rule by rule, against what changes when a row or a column changes."""

import functools
import itertools
import math
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.inspect.receptive_field import views
from cnnlab.inspect.receptive_field.views import UNKNOWN, WHOLE, Fixed, Grid, Scattered
from cnnlab.inspect.receptive_field.walk import LOST, NOTHING, mark, walk
from cnnlab.ops import pooling
from cnnlab.ops.local_response_norm import local_response_normalization

SHAPE = (1, 20, 19, 4)
RANDOM = np.random.default_rng(0)
KERNELS = {size: jnp.asarray(RANDOM.uniform(0.1, 1.0, (*size, 4, 4)), jnp.float32) for size in ((1, 1), (3, 3), (1, 5), (4, 4))}
DEPTH_WISE = jnp.asarray(RANDOM.uniform(0.1, 1.0, (3, 3, 1, 4)), jnp.float32)


def seen_by(function, shape=SHAPE, *weights):
    """Returns the part of the images on which the result of function(*weights, images) depends."""
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    program = jax.make_jaxpr(lambda *inputs: mark(function(*inputs), 0))(*weights, images)
    return walk(program, shape[1:3])[0]


@functools.partial(jax.jit, static_argnums=(0, 2))
def responses(function, images, which):
    """[sides, …result]: whether the result changes when one row (`which` 1) or column (2) of the images does."""
    sides = images.shape[which]
    rows = jnp.eye(sides).reshape(sides, 1, *((sides, 1) if which == 1 else (1, sides)), 1)
    before = function(images).astype(jnp.float32)

    def changes(row):
        after = function(images + 100 * jnp.broadcast_to(row, images.shape)).astype(jnp.float32)
        # A batched convolution rounds otherwise than a single one on some processors; what a row really moves is far more.
        return ~jnp.isclose(after, before, rtol=1e-4, atol=1e-6, equal_nan=True)

    return jax.vmap(changes)(rows)


def really_seen(function, shape, which, axis):
    """The window of rows (or columns) that each position along an axis of the result responds to."""
    seed = zlib.crc32(repr(shape).encode())
    images = jnp.asarray(np.random.default_rng(seed).uniform(0.5, 1.0, shape), jnp.float32)
    changed = np.asarray(responses(function, images, which))
    changed = np.moveaxis(changed, 1 + axis, 1).reshape(shape[which], changed.shape[1 + axis], -1).any(-1)
    return [views.hull((int(row), int(row)) for row in np.flatnonzero(column)) for column in changed.T]


def conv(x, size=(3, 3), strides=(1, 1), padding="SAME", **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, KERNELS[size], strides, padding, dimension_numbers=numbers, **options)


def depth_wise(x):
    return jax.lax.conv_general_dilated(
        x, DEPTH_WISE, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
    )


def shifted_and_multiplied(x):
    """A depth-wise convolution of stride 2 as padding, strided slices, products and sums."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    slices = [
        padded[:, i : i + height : 2, j : j + width : 2] * DEPTH_WISE[i, j].reshape(1, 1, 1, 4)
        for i in range(3)
        for j in range(3)
    ]
    return sum(slices[1:], start=slices[0])


def patches_and_product(x):
    """A 3x3 convolution as the concatenation of shifted slices and one matrix product."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    slices = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(slices, -1) @ KERNELS[3, 3].reshape(36, 4)


def own_gradient(x):
    @jax.custom_vjp
    def twice(x):
        return 2 * conv(x)

    twice.defvjp(lambda x: (twice(x), None), lambda _, gradient: (gradient,))
    return twice(x)


def looped(x):
    return jax.lax.scan(lambda carry, weight: (carry * weight, None), conv(x), jnp.arange(1.0, 4.0))[0]


def over_rows(step, x, start=1, **order):
    """The results of a scan over the rows of x, from carries of zeros."""
    zeros = jnp.zeros(x[:, 0].shape)
    return jax.lax.scan(step, zeros if start == 1 else (zeros,) * start, x.transpose(1, 0, 2, 3), **order)


def chosen(x):
    return jax.lax.cond(jnp.asarray(True), lambda x: conv(x, (1, 5)) + conv(x), conv, x)


PROGRAMS = {
    "elementwise": lambda x: jnp.where(x > 0.7, jnp.exp(x), jax.nn.silu(x)),
    "conv": conv,
    "strided conv": lambda x: conv(x, strides=(2, 3)),
    "valid conv": lambda x: conv(x, (4, 4), padding="VALID"),
    "conv of one row": lambda x: conv(x, (1, 5)),
    "dilated conv": lambda x: conv(x, rhs_dilation=(2, 3)),
    "padded on one side": lambda x: conv(x, padding=((0, 2), (2, 0))),
    "depth-wise": depth_wise,
    "shifted and multiplied": shifted_and_multiplied,
    "patches and product": patches_and_product,
    "matrix product": lambda x: x @ KERNELS[1, 1][0, 0],
    "strided matrix product": lambda x: x[:, ::2, 1::2] @ KERNELS[1, 1][0, 0],
    "stack": lambda x: conv(conv(conv(x, strides=(2, 2)))),
    "transposed conv": lambda x: conv(x, (4, 4), padding=((2, 2), (2, 2)), lhs_dilation=(2, 2)),
    "transposed, then strided": lambda x: conv(conv(x, padding=((2, 1), (1, 2)), lhs_dilation=(3, 2)), (1, 5), strides=(2, 1)),
    "channels first": lambda x: jnp.moveaxis(jax.lax.conv(jnp.moveaxis(x, 3, 1), KERNELS[3, 3].T, (2, 1), "SAME"), 1, 3),
    "max pool": lambda x: pooling.max_pool(x, window=(3, 2), strides=(2, 2), padding=((1, 1), (0, 0))),
    "average pool": lambda x: pooling.average_pool(x, window=(3, 3), strides=(2, 1), padding=((1, 1), (1, 1))),
    "flax pools": lambda x: nn.max_pool(nn.max_pool(x, (2, 2)), (3, 3), (2, 2), "SAME"),
    "response normalisation": lambda x: local_response_normalization(conv(x)),
    "residual": lambda x: conv(conv(x, strides=(2, 2))) + conv(x, (1, 1), strides=(2, 2)),
    "branches": lambda x: jnp.concatenate(
        [conv(x), conv(conv(x)), conv(x, (1, 5)), nn.max_pool(x, (3, 3), padding="SAME")], -1
    ),
    "channels halved": lambda x: jnp.concatenate(jnp.split(conv(x), 2, -1)[::-1], -1),
    "channels shuffled": lambda x: conv(x).reshape(1, 20, 19, 2, 2).swapaxes(3, 4).reshape(1, 20, 19, 4),
    "channels picked": lambda x: conv(x)[..., jnp.array([2, 0])],
    "flipped": lambda x: conv(x, strides=(2, 2))[:, ::-1],
    "transposed": lambda x: jnp.swapaxes(conv(x, (1, 5)), 1, 2),
    "cut": lambda x: conv(x[:, 1:, :-2], strides=(2, 2), padding="VALID"),
    "framed": lambda x: conv(jnp.pad(x, ((0, 0), (5, 2), (0, 3), (0, 0))), strides=(2, 2)),
    "sorted by channel": lambda x: jnp.sort(conv(x), -1),
    "summed up by channel": lambda x: jnp.cumsum(conv(x), -1),
    "best channel": lambda x: jnp.max(conv(x), -1),
    "rematerialised": jax.checkpoint(conv),
    "own gradient": own_gradient,
    "looped": looped,
    "rows in turns": lambda x: jax.lax.map(lambda row: row * 2, conv(x).transpose(1, 2, 0, 3)),
    "two rows before": lambda x: over_rows(lambda carry, row: ((row, carry[0]), carry[1]), x, start=2)[1],
    "chosen": chosen,
    "attended": lambda x: jnp.einsum("bhwc,bhwd->bhwcd", conv(x), x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_position_sees_the_rows_and_columns_that_change_it(name):
    function = PROGRAMS[name]
    for which, view in enumerate(seen_by(function), start=1):
        assert isinstance(view, Grid), view
        windows = really_seen(function, SHAPE, which, view.axis)
        inside = [
            position
            for position in range(len(windows))
            if (window := view.at(position)) and window[0] >= 0 and window[1] < SHAPE[which]
        ]
        assert len(inside) >= 2 * len(view.windows)
        assert [windows[position] for position in inside] == [view.at(position) for position in inside]


GLOBAL = {
    "averaged": lambda x: conv(x).mean((1, 2)),
    "averaged and kept": lambda x: conv(x).mean((1, 2), keepdims=True),
    "flattened and multiplied": lambda x: conv(x).reshape(1, -1) @ jnp.ones((20 * 19 * 4, 2)),
    "pooled over all and squeezed": lambda x: nn.max_pool(conv(x), (20, 19)).squeeze((1, 2)),
    "largest": lambda x: jnp.max(jnp.argmax(x, 3)),
    "attention": lambda x: jnp.einsum("bhwc,bhwd->bcd", x, x),
    "cells, flattened and multiplied": lambda x: pooling.adaptive_average_pool(x, (5, 5)).reshape(1, -1) @ jnp.ones((100, 2)),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_what_is_gathered_over_space_sees_the_whole_image(name):
    assert seen_by(GLOBAL[name]) == (Fixed(WHOLE), Fixed(WHOLE))


def test_a_gate_lets_every_position_see_the_whole_image_and_keeps_the_stride():
    height, width = seen_by(lambda x: (y := conv(x, strides=(2, 1))) * jax.nn.sigmoid(y.mean((1, 2), keepdims=True)))
    assert (height, width) == (Grid(1, (WHOLE,), 2), Grid(2, (WHOLE,), 1))
    assert views.measures(height) == (2, math.inf, None)


def test_a_sum_over_one_axis_leaves_the_other_alone():
    assert seen_by(lambda x: conv(x).sum(1)) == (Fixed(WHOLE), Grid(1, ((-1, 1),), 1))
    assert seen_by(lambda x: conv(x).sum((1, 3), keepdims=True)) == (Fixed(WHOLE), Grid(2, ((-1, 1),), 1))


def test_a_sum_over_part_of_the_image_sees_that_part():
    height, width = seen_by(lambda x: conv(x)[:, 3:6].mean((1, 2)))
    assert (height, width) == (Fixed((2, 6)), Fixed(WHOLE))
    assert views.measures(height) == (None, 5, None)


def test_a_flattened_layer_keeps_its_windows_and_a_layer_of_one_position_its_stride():
    flat, _ = seen_by(lambda x: conv(x).reshape(1, -1))
    assert flat == Scattered(frozenset({1}), 3, WHOLE) and views.measures(flat) == (None, 3, None)
    height, _ = seen_by(lambda x: conv(conv(x, strides=(20, 19))))
    assert height == Grid(1, ((-20, 22),), 20)  # rows 0-2, and the windows of neighbours that are padding


def test_cells_of_adaptive_pooling_see_as_much_as_the_largest():
    height, width = seen_by(lambda x: pooling.adaptive_average_pool(x, (6, 19)))
    assert height == Scattered(frozenset({1}), 4, WHOLE)  # 20 rows in 6 cells: 0-3, 3-6, 6-9, 10-13, …
    assert width == Grid(2, ((0, 0),), 1)


def test_weights_see_nothing_and_what_is_computed_with_them_sees_the_image():
    weights = jnp.ones((4, 3))
    assert seen_by(lambda w, x: w * jnp.arange(12.0).reshape(4, 3), SHAPE, weights) == NOTHING
    assert seen_by(lambda w, x: conv(x) @ w, SHAPE, weights) == seen_by(conv)
    assert views.measures(None) == (None, 0, None)


@pytest.mark.parametrize(("turned", "is_reversed"), [*itertools.product((1, -1), (False, True))])
def test_a_recurrence_sees_all_rows_up_to_its_own(turned, is_reversed):
    def states(x, which):
        rows = conv(x, strides=(2, 1))[:, ::turned]
        return over_rows(lambda carry, row: (carry + row, (carry, carry + row)), rows, reverse=is_reversed)[1][which]

    is_upward = (turned == -1) != is_reversed
    for which in (0, 1):
        height, width = seen_by(lambda x, which=which: states(x, which))
        assert width == Grid(2, ((-1, 1),), 1) and isinstance(height, Grid) and views.measures(height)[:2] == (2, math.inf)
        for position, window in enumerate(really_seen(lambda x, which=which: states(x, which), SHAPE, 1, height.axis)):
            low, high = height.at(position)
            assert (high if is_upward else low) in (math.inf, -math.inf)
            assert window is None or window == (max(low, 0), min(high, SHAPE[1] - 1))


def test_the_end_of_a_recurrence_over_rows_sees_the_whole_image():
    assert seen_by(lambda x: over_rows(lambda carry, row: (carry + row, None), conv(x))[0])[0] == Fixed(WHOLE)
    assert seen_by(lambda x: over_rows(lambda carry, row: (row, None), conv(x))[0])[0] == Fixed((18, 20))


UNFOLLOWED = {
    "no rule": lambda x: jnp.linalg.qr(x)[0],
    "sorted over space": lambda x: jnp.sort(x, 1).mean(2),
    "running sum": lambda x: jnp.cumsum(jnp.cumsum(x, 1), 2),
    "resized with computed weights": lambda x: jax.image.resize(x, (1, 7, 7, 4), "linear"),
    "picked positions": lambda x: x[:, jnp.array([[3], [1]]), jnp.array([[2, 2]])],
    "space to depth, then a conv": lambda x: conv(
        x[:, :, :18].reshape(1, 10, 2, 9, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(1, 10, 9, 16)[..., :4]
    ),
    "grids of different strides": lambda x: x[:, :10, :9] + x[:, ::2, :18:2],
    "growing in a loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, y: conv(y), x),
    "until it is enough": lambda x: jax.lax.while_loop(lambda y: y.sum() < 100, lambda y: y * 2, x),
    "rows in turns, and the image": lambda x: jax.lax.map(lambda row: row + x[:, 0], x.transpose(1, 0, 2, 3)),
}


@pytest.mark.parametrize("name", UNFOLLOWED)
def test_what_cannot_be_followed_is_unknown_and_never_a_number(name):
    assert UNKNOWN in seen_by(UNFOLLOWED[name])
    assert views.measures(UNKNOWN) == (None, None, None)


def test_marks_are_found_in_programs_within_programs():
    def function(x):
        jax.jit(lambda y: mark(conv(y), 1))(x)
        jax.checkpoint(lambda y: mark(conv(conv(y)), 2))(x)
        jax.lax.scan(lambda carry, _: (mark(conv(carry), 3), None)[0:0] or (carry, None), x, length=2)
        jax.lax.fori_loop(0, 2, lambda _, y: (mark(conv(y), 4), conv(y))[1], x)
        mark(jnp.zeros(3), 5)
        return x

    found = walk(jax.make_jaxpr(function)(jax.ShapeDtypeStruct(SHAPE, jnp.float32)), SHAPE[1:3])
    assert found[1] == found[3] == (Grid(1, ((-1, 1),), 1), Grid(2, ((-1, 1),), 1))
    assert found[2] == (Grid(1, ((-2, 2),), 1), Grid(2, ((-2, 2),), 1))
    assert found[4] == LOST and found[5] == NOTHING
