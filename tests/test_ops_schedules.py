"""Schedules: peak 1, the promised end, a linear warm-up, and values that may be tracers."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.schedules import SCHEDULES

STEPS = 200
WARM = [name for name, schedule in SCHEDULES.items() if "warmup" in inspect.signature(schedule).parameters]
FINAL = [name for name, schedule in SCHEDULES.items() if "final" in inspect.signature(schedule).parameters]


def curve(name: str, **knobs: float | tuple[float, ...]) -> np.ndarray:
    """Multipliers of steps 0 … STEPS, f32 [STEPS + 1]."""
    schedule = SCHEDULES[name](STEPS, **knobs)
    with jax.numpy_dtype_promotion("standard"):
        return np.array([schedule(jnp.int32(step)) for step in range(STEPS + 1)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_peak_is_one_and_nothing_is_negative(name: str):
    values = curve(name)
    assert values.max() == pytest.approx(1.0, abs=1e-6) and values.min() >= 0


@pytest.mark.parametrize("name", WARM)
def test_warm_up_rises_linearly_to_the_peak(name: str):
    values = curve(name, warmup=0.1)
    assert values[20] == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(np.diff(values[:21]), (1 - values[0]) / 20, rtol=1e-3)
    assert values[0] == pytest.approx(1 / 21)


@pytest.mark.parametrize("name", FINAL)
def test_the_end_is_as_promised(name: str):
    assert curve(name, final=0.125)[-1] == pytest.approx(0.125, rel=1e-3)


def test_cosine_is_half_a_cosine():
    np.testing.assert_allclose(curve("cosine"), (1 + np.cos(np.pi * np.arange(STEPS + 1) / STEPS)) / 2, atol=1e-6)


def test_step_drops_at_its_fractions():
    values = curve("step", at=(0.5, 0.75), factor=0.1)
    np.testing.assert_allclose(values[[0, 99, 100, 149, 150, 200]], [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


@pytest.mark.parametrize("name", ["cosine", "linear", "exponential"])
def test_the_end_may_be_a_tracer(name: str):
    with jax.numpy_dtype_promotion("standard"):
        traced = jax.jit(lambda final: SCHEDULES[name](STEPS, final=final)(jnp.int32(60)))(0.25)
    assert traced == pytest.approx(curve(name, final=0.25)[60], rel=1e-5)
