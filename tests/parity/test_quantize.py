"""Scales, zero points, rounded numbers and gradients against torch.ao.quantization, to the bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import quantize
from cnnlab.ops.quantize import Extent, Grid
from tests.parity import fixtures
from tests.parity.quantize_oracle import CASES

pytestmark = [pytest.mark.parity, pytest.mark.slow]


@functools.cache
def fixture():
    path = fixtures.quantize_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures quantize` makes it (torch in an environment of its own)")
    return dict(np.load(path))


def grid_of(extent: Extent, name: str) -> Grid:
    _, scheme, bits, _ = CASES[name]
    make = {"affine": quantize.affine, "symmetric": quantize.symmetric}[scheme]
    return jax.jit(lambda low, high: make(Extent(low, high), quantize.limits(bits, symmetric=scheme == "symmetric")))(*extent)


def seen(name: str) -> Extent:
    """The range that an observer has after three batches [3, O, I]."""
    batches, observer = fixture()[f"{name}/batches"], CASES[name][0]
    if observer == "channels":
        return Extent(batches.min((0, 2)), batches.max((0, 2)))
    how = {"minmax": "minmax", "average": "average"}[observer]
    found = Extent(batches[0].min(), batches[0].max())
    for batch in batches[1:]:
        found = quantize.next_extent(found, quantize.extent_of(jnp.asarray(batch), how, 100.0), how)
    return found


@pytest.mark.parametrize("name", CASES)
def test_scales_and_zero_points_equal_the_observers(name):
    grid = grid_of(seen(name), name)
    expected = (fixture()[f"{name}/{key}"].reshape(np.shape(grid.scale)) for key in ("scale", "zero"))
    for found, wanted in zip(grid, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", CASES)
def test_rounded_numbers_and_gradients_equal_to_the_bit(name):
    """In f32: of f64, torch computes the codes in f32."""
    observer, scheme, bits, _ = CASES[name]
    x, y, dy, dx = (fixture()[f"{name}/{key}"] for key in ("x", "y", "dy", "dx"))
    grid = Grid(*(fixture()[f"{name}/{key}"].astype(np.float32) for key in ("scale", "zero")))
    grid = grid if observer == "channels" else Grid(*(each[0] for each in grid))
    codes = quantize.limits(bits, symmetric=scheme == "symmetric")

    @jax.jit
    def both(x, dy, grid):
        y, pull = jax.vjp(lambda x: quantize.quantized(x.T, grid, codes).T, x)  # channels are last here
        return y, pull(dy)[0]

    for found, wanted in zip(both(x, dy, grid), (y, dx), strict=True):
        np.testing.assert_array_equal(found, wanted)
