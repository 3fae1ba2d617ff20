"""Unpooling and enlarging against NumPy; tests/parity/test_functions.py compares them with torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models.layers import ConvTranspose
from cnnlab.ops import pooling, unpool, upsample
from tests import jitted

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("size", "ceil"), [((5, 6), False), ((5, 7), True)])
def test_unpooling_puts_every_maximum_back_to_its_place(size, ceil):
    x = RANDOM.normal(size=(2, *size, 3)).astype(np.float32)

    @jax.jit
    def there_and_back(x):
        pooled, switches = unpool.max_pool_with_switches(x, ceil=ceil)
        return pooled, switches, unpool.max_unpool(pooled, switches, size)

    pooled, switches, back = jax.device_get(there_and_back(x))
    rows, columns = ((side + ceil) // 2 for side in size)
    assert pooled.shape == switches.shape == (2, rows, columns, 3) and switches.dtype == np.int32
    flat = x.reshape(2, -1, 3)  # [B, H, W, C] -> [B, H·W, C], as switches count
    np.testing.assert_array_equal(np.take_along_axis(flat, switches.reshape(2, -1, 3), 1), pooled.reshape(2, -1, 3))
    for i in range(rows):
        for j in range(columns):
            window = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            np.testing.assert_array_equal(pooled[:, i, j], window.max((1, 2)))
            kept = np.where(window == pooled[:, i : i + 1, j : j + 1], window, 0)
            np.testing.assert_array_equal(back[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], kept)
    np.testing.assert_array_equal(back[:, 2 * rows :], 0)  # of an incomplete window that was left out


def test_among_equals_the_first_has_the_switch_and_the_gradient():
    x = jnp.ones((1, 2, 2, 1))
    grad = jax.jit(jax.grad(lambda x: unpool.max_pool_with_switches(x)[0].sum()))(x)
    np.testing.assert_array_equal(grad[0, :, :, 0], [[1, 0], [0, 0]])


def test_nearest_copies_and_nails_leave_zeros():
    x = RANDOM.normal(size=(2, 2, 3, 2)).astype(np.float32)
    copied, nailed = jax.device_get(jax.jit(lambda x: (upsample.nearest(x, 3), upsample.bed_of_nails(x, 3)))(x))
    np.testing.assert_array_equal(copied, x.repeat(3, 1).repeat(3, 2))
    np.testing.assert_array_equal(nailed[:, ::3, ::3], x)
    assert nailed.shape == copied.shape and np.count_nonzero(nailed) == x.size


@pytest.mark.parametrize("factor", [2, 8])
def test_a_transposed_convolution_that_starts_bilinear_interpolates(factor):
    x = RANDOM.normal(size=(2, 5, 4, 3)).astype(np.float32)
    layer = ConvTranspose(3, 2 * factor, factor, 0, bias=False, initializer=upsample.bilinear_kernel)
    enlarged, variables = jax.device_get(jitted.init_with_output(layer, jax.random.key(0), x))
    spread, smooth = jax.device_get(
        jax.jit(lambda x: (upsample.spread(x, factor), upsample.bilinear(x, (5 * factor, 4 * factor))))(x)
    )
    assert variables["params"]["kernel"].shape == (2 * factor, 2 * factor, 3, 3)
    np.testing.assert_allclose(spread, enlarged, atol=1e-6)
    half = factor // 2
    # Beyond the outermost centres interpolation repeats the border, and the transposed convolution takes zeros.
    inside = (slice(None), slice(half, -half), slice(half, -half))
    np.testing.assert_allclose(enlarged[:, half:-half, half:-half][inside], smooth[inside], atol=1e-6)
    rows = np.clip((np.arange(5 * factor) + 0.5) / factor - 0.5, 0, 4)
    columns = np.clip((np.arange(4 * factor) + 0.5) / factor - 0.5, 0, 3)
    down = np.stack([np.interp(rows, np.arange(5), line) for line in x[0, :, :, 0].T], 1)
    np.testing.assert_allclose(smooth[0, :, :, 0], [np.interp(columns, np.arange(4), line) for line in down], atol=1e-6)


def test_weights_of_bilinear_interpolation_take_any_size():
    np.testing.assert_allclose(upsample.bilinear_weights(7, 3).sum(1), 1)
    np.testing.assert_array_equal(upsample.bilinear_weights(4, 1), np.ones((4, 1)))
    np.testing.assert_array_equal(upsample.bilinear_weights(5, 5), np.eye(5))


def test_a_dilated_pooling_is_the_ordinary_one_at_every_second_pixel():
    x = RANDOM.normal(size=(2, 9, 8, 2)).astype(np.float32)
    dense = jax.device_get(jax.jit(lambda x: pooling.dilated_max_pool(x, window=2, dilation=2))(x))
    assert dense.shape == (2, 7, 6, 2)
    np.testing.assert_array_equal(dense[:, 3, 1], x[:, 3:6:2, 1:4:2].max((1, 2)))
