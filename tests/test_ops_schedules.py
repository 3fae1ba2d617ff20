"""Schedules: peak 1, the promised end, a linear warm-up, and values that may be tracers."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
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
    np.testing.assert_allclose(curve(name, final=0.125)[[-2, -1]], 0.125, rtol=1e-5)
    assert curve(name, final=0.125)[-3] > 0.125


LENGTHS = (1, 2, 3, 7, 100)


@pytest.mark.parametrize("name", SCHEDULES)
def test_short_and_long_trainings_begin_peak_and_end_where_the_help_says(name: str):
    """At every length: the first value, the peak, the last value, and one step that is never at less than the peak."""
    for steps in LENGTHS:
        for warmup in (0.0, 0.1, 0.5, 0.9) if name in WARM else (None,):
            final = {"final": 0.01} if name in FINAL else {}
            schedule = SCHEDULES[name](steps, **final, **({} if warmup is None else {"warmup": warmup}))
            with jax.numpy_dtype_promotion("standard"):
                values = np.array([schedule(jnp.int32(step)) for step in range(steps)])
            rise = 0 if warmup is None else min(round(steps * warmup), steps - 1)
            if name == "one_cycle":
                assert values[0] == pytest.approx(0.04 if steps > 2 else 1.0) and values.max() == pytest.approx(1.0)
            else:
                assert values[0] == pytest.approx(1 / (rise + 1))
            if name != "step":
                assert values[rise if name in WARM else values.argmax()] == pytest.approx(1.0)
            if name in FINAL and rise < steps - 1:
                assert values[-1] == pytest.approx(0.01, rel=1e-4)
            if steps == 1:
                assert values == pytest.approx([1.0]), "a training of one step is at the peak"


@pytest.mark.parametrize(("warmup", "drops"), [(0.0, [100, 150]), (0.1, [100, 150]), (0.5, [100, 150]), (0.6, [120, 150])])
def test_step_drops_at_fractions_of_the_whole_training_also_after_a_warm_up(warmup: float, drops: list[int]):
    values = curve("step", warmup=warmup, at=(0.5, 0.75))
    assert [i for i in range(1, STEPS) if values[i] < 0.5 * values[i - 1]] == drops


def test_cosine_is_half_a_cosine():
    np.testing.assert_allclose(curve("cosine")[:-1], (1 + np.cos(np.pi * np.arange(STEPS) / (STEPS - 1))) / 2, atol=1e-6)


def test_warm_restarts_begin_the_same_cosine_anew():
    values = curve("warm_restarts", at=(0.25, 0.5))
    for begin, end in ((0, 50), (50, 100), (100, 200)):
        np.testing.assert_allclose(values[begin:end], (1 + np.cos(np.pi * np.linspace(0, 1, end - begin))) / 2, atol=1e-6)
    assert np.array_equal(curve("warm_restarts", at=(0.001, 0.5)), curve("warm_restarts")), "no part of less than two steps"


@pytest.mark.parametrize("name", ["step", "warm_restarts"])
@pytest.mark.parametrize("at", [(100.0, 150.0), (0.5, 1.0), (-0.1,), (0.75, 0.5), (0.5, 0.5), (float("nan"),)])
def test_points_that_are_no_growing_fractions_of_the_training_are_refused(name: str, at: tuple[float, ...]):
    with pytest.raises(UsageError, match=r"expected fractions of the whole training.*\nStep 100 of 400 is written 0\.25"):
        SCHEDULES[name](STEPS, at=at)


def test_step_drops_at_its_fractions():
    values = curve("step", at=(0.5, 0.75), factor=0.1)
    np.testing.assert_allclose(values[[0, 99, 100, 149, 150, 200]], [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


@pytest.mark.parametrize("name", ["cosine", "linear", "exponential"])
def test_the_end_may_be_a_tracer(name: str):
    with jax.numpy_dtype_promotion("standard"):
        traced = jax.jit(lambda final: SCHEDULES[name](STEPS, final=final)(jnp.int32(60)))(0.25)
    assert traced == pytest.approx(curve(name, final=0.25)[60], rel=1e-5)
