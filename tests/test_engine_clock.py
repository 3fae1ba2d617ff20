"""The clock keeps compilation, evaluation and steps apart."""

import time

import jax.numpy as jnp
import pytest

from cnnlab.engine import train
from cnnlab.engine.clock import StepClock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the clock reads, in seconds, to be set by the test."""
    reading = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: reading[0])
    return reading


def test_compilation_and_pauses_are_not_step_time(now: list[float]):
    clock = StepClock()
    for program, took, steps in ((1, 30.0, 1), (1, 2.0, 4), (4, 50.0, 4)):  # the last is another shape, which compiles anew
        began = now[0]
        now[0] += took
        clock.dispatched(program, began, steps, jnp.zeros(()))
        clock.end_window()
        now[0] += 1000.0  # an evaluation
        clock.begin_window()
    assert clock.compile_seconds == 80.0 and clock.windows == [0.5] and clock.step_seconds == 0.5


def test_the_step_time_is_the_median_window_and_unknown_without_one():
    assert StepClock().step_seconds is None
    assert StepClock(windows=[1.0, 1.0, 90.0]).step_seconds == 1.0


def test_intervals_name_their_callbacks_in_order():
    assert train.Intervals(log=2, evaluate=3, save=5).callbacks == (2, 3, 5)
