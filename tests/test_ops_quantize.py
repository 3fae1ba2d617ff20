"""Numbers on grids of few integers: errors, zeros, ties, gradients, ranges; and layers of integers against sums of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import integers, quantize
from cnnlab.ops.lax_convolution import lax_convolve
from cnnlab.ops.quantize import Extent, Grid
from cnnlab.ops.windows import Geometry

BITS = (2, 3, 4, 8)


def drawn(shape: tuple[int, ...], seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def grid_of(x: np.ndarray, bits: int, symmetric: bool) -> tuple[Grid, tuple[int, int]]:
    codes = quantize.limits(bits, symmetric=symmetric)
    make = quantize.symmetric if symmetric else quantize.affine
    return make(Extent(jnp.min(x), jnp.max(x)), codes), codes


def test_limits_are_signed_and_symmetric_ones_leave_the_lowest_code_out():
    assert [quantize.limits(bits, symmetric=False) for bits in (2, 8)] == [(-2, 1), (-128, 127)]
    assert [quantize.limits(bits, symmetric=True) for bits in (2, 8)] == [(-1, 1), (-127, 127)]


@pytest.mark.parametrize("symmetric", [False, True])
def test_rounding_moves_a_number_by_half_a_step_at_most_keeps_zero_and_order_and_knows_its_own_numbers(symmetric: bool):
    rounded = jax.jit(quantize.quantized, static_argnums=2)
    for bits, shift in [(bits, shift) for bits in BITS for shift in (0.0, 5.0, -0.3)]:
        x = np.sort(drawn((400,), seed=bits)) + np.float32(shift)
        grid, codes = grid_of(x, bits, symmetric)
        y = np.asarray(rounded(x, grid, codes))
        low, high = (np.asarray(quantize.values_of(jnp.float32(code), grid)) for code in codes)
        inside = (x >= low) & (x <= high)
        # The grid's zero point is rounded, so that its end may lie half a step within the range.
        assert np.abs(y - x)[inside].max() <= float(grid.scale) * 0.5001
        assert np.abs(y - x).max() <= float(grid.scale) * 1.0001
        assert np.all(np.diff(y) >= 0) and len(np.unique(y)) <= 2**bits
        assert float(rounded(jnp.float32(0), grid, codes)) == 0.0
        np.testing.assert_array_equal(rounded(y, grid, codes), y)


def test_ties_go_to_the_even_code_in_f32_and_f64():
    half = np.arange(-8, 8) + 0.5
    with jax.enable_x64(True):
        for dtype in (np.float32, np.float64):
            grid = Grid(jnp.asarray(0.25, dtype), jnp.asarray(3, dtype))
            found = quantize.codes_of(jnp.asarray(half / 4, dtype), grid, (-128, 127))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, np.rint(half) + 3)


def test_in_f64_grids_and_numbers_are_those_of_the_formula():
    x = drawn((300,), dtype=np.float64) + 0.7
    with jax.enable_x64(True):
        for bits in BITS:
            least, most = codes = quantize.limits(bits, symmetric=False)
            grid = quantize.affine(Extent(jnp.min(x), jnp.max(x)), codes)
            scale = (x.max() - x.min()) / (most - least)
            zero = np.clip(least - np.rint(x.min() / scale), least, most)
            assert (float(grid.scale), float(grid.zero)) == (scale, zero)
            expected = (np.clip(zero + np.rint(x * (1 / scale)), least, most) - zero) * scale
            np.testing.assert_array_equal(quantize.quantized(jnp.asarray(x), grid, codes), expected)


def test_the_gradient_passes_straight_through_within_the_limits_alone_any_number_of_times():
    x, grid, codes = np.float32([-9.0, -2.1, 0.4, 1.6, 9.0]), Grid(np.float32(0.5), np.float32(0)), (-4, 3)
    inside = np.float32([0, 1, 1, 1, 0])

    @jax.jit
    def found(x, scale):
        def total(x, scale):
            return (quantize.quantized(x, Grid(scale, grid.zero), codes) ** 3).sum()

        once, twice = jax.value_and_grad(lambda x: jax.grad(total)(x, scale).sum())(x)
        return once, twice, jax.grad(total, argnums=1)(x, scale), quantize.quantized(x, grid, codes)

    once, twice, to_scale, y = found(x, grid.scale)
    np.testing.assert_allclose(once, (3 * y**2 * inside).sum())
    np.testing.assert_array_equal(twice, 6 * y * inside)
    assert float(to_scale) == 0.0


def test_weights_have_a_scale_for_each_channel_and_keep_their_codes_when_they_are_rounded_again():
    kernel, codes = drawn((3, 3, 4, 6)) * np.geomspace(0.01, 10, 6, dtype=np.float32), quantize.limits(8, symmetric=True)

    @jax.jit
    def found(kernel):
        grids = [quantize.of_weights(kernel, codes, by) for by in ("channel", "tensor")]
        return (
            grids,
            [quantize.codes_of(kernel, grid, codes) for grid in grids],
            [quantize.quantized(kernel, grid, codes) for grid in grids],
        )

    (by_channel, by_tensor), (numbers, _), (finely, roughly) = found(kernel)
    np.testing.assert_allclose(by_channel.scale, np.abs(kernel).max((0, 1, 2)) / 127, rtol=1e-6)
    np.testing.assert_array_equal(found(finely)[1][0], numbers)
    assert by_tensor.scale.shape == () and float(by_tensor.scale) == float(by_channel.scale.max())
    assert np.abs(roughly - kernel).mean() > np.abs(finely - kernel).mean()


def test_a_range_of_nothing_has_a_grid():
    for make in (quantize.affine, quantize.symmetric):
        grid = make(Extent(jnp.float32(0), jnp.float32(0)), (-127, 127))
        assert float(grid.scale) > 0 and float(quantize.quantized(jnp.float32(0), grid, (-127, 127))) == 0.0


def test_ranges_of_batches_and_of_the_next_one():
    first, second = drawn((8, 5, 4)), 3 * drawn((8, 5, 4), seed=1)
    seen = {
        how: [quantize.extent_of(jnp.asarray(x), how, 90.0) for x in (first, second)]
        for how in ("minmax", "average", "percentile")
    }
    assert quantize.first_extent(seen["minmax"], "minmax") == (min(first.min(), second.min()), max(first.max(), second.max()))
    np.testing.assert_allclose(
        quantize.first_extent(seen["average"], "average").high, (first.max() + second.max()) / 2, rtol=1e-6
    )
    of_images = np.quantile(first.reshape(8, -1), [0.1, 0.9], axis=1).mean(1)
    np.testing.assert_allclose(seen["percentile"][0], of_images, rtol=1e-5)
    assert seen["percentile"][0].high < seen["minmax"][0].high
    moved = quantize.next_extent(seen["average"][0], seen["average"][1], "average")
    np.testing.assert_allclose(moved.high, first.max() + 0.01 * (second.max() - first.max()), rtol=1e-6)
    assert float(quantize.next_extent(seen["minmax"][0], seen["minmax"][1], "minmax").low) == min(first.min(), second.min())


def codes_drawn(shape: tuple[int, ...], seed: int, least: int = -128) -> np.ndarray:
    return np.random.default_rng(seed).integers(least, 128, shape).astype(np.int8)


def test_sums_of_a_dense_layer_are_those_of_whole_numbers():
    codes, kernel, zero = codes_drawn((7, 3, 50), 0), codes_drawn((50, 9), 1, -127), np.int8(-31)
    found = jax.jit(integers.dense)(codes, zero, kernel)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, (codes.astype(np.int64) + 31) @ kernel.astype(np.int64))


@pytest.mark.parametrize(
    ("geometry", "groups"),
    [
        (Geometry(padding=((1, 1), (1, 1))), 1),
        (Geometry(strides=(2, 1), padding=((0, 1), (2, 0))), 2),
        (Geometry(padding=((2, 2), (2, 2)), dilation=(2, 2)), 4),
    ],
)
def test_sums_of_a_convolution_are_those_of_whole_numbers_padding_included(geometry: Geometry, groups: int):
    codes, kernel, zero = codes_drawn((3, 6, 7, 4), 2), codes_drawn((3, 3, 4 // groups, 8), 3, -127), np.int8(57)
    found = jax.jit(lambda x, k, z: integers.convolve(x, z, k, geometry, groups))(codes, kernel, zero)
    with jax.enable_x64(True):
        whole = lax_convolve(jnp.asarray(codes, jnp.float64) - 57, jnp.asarray(kernel, jnp.float64), geometry, groups)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, whole)


def test_sums_that_may_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"70,000 products may not fit 32 bits(.|\n)*arithmetic=simulated"):
        jax.eval_shape(integers.dense, np.zeros((1, 70_000), np.int8), np.int8(0), np.zeros((70_000, 1), np.int8))
