"""The clock keeps compilation, evaluation and steps apart."""

import time

import jax.numpy as jnp
import pytest

from cnnlab.engine import train
from cnnlab.engine.clock import StepClock
from cnnlab.runs.run_progress import describe_waiting


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


def test_only_time_in_which_the_devices_had_nothing_to_do_is_waiting_for_data(
    now: list[float], monkeypatch: pytest.MonkeyPatch
):
    clock, busy = StepClock(), jnp.zeros(())
    clock.dispatched(1, 0.0, 1, busy)  # compiles
    assert clock.waiting_share is None
    for is_ready, took in ((True, 3.0), (False, 4.0)):
        began = now[0]
        now[0] += took
        monkeypatch.setattr(type(busy), "is_ready", lambda array, is_ready=is_ready: is_ready)
        clock.fetched(began, {"sums": busy})
        clock.dispatched(1, now[0], 1, busy)
        now[0] += 1.0
    now[0] += 3.0
    clock.end_window()
    assert clock.waiting_share == 3.0 / 12.0
    clock.fetched(now[0] - 5.0, None)  # before the next window begins
    clock.begin_window()
    assert clock.waiting_share == 3.0 / 12.0


@pytest.mark.parametrize(("share", "said"), [(None, ""), (0.004, ""), (0.05, ", 5% of"), (0.34, "--resident_mib")])
def test_waiting_for_data_is_said_with_what_helps_where_it_is_long(share: float | None, said: str):
    text = describe_waiting({} if share is None else {"waiting_share": share})
    assert said in text and bool(text) == bool(said) and ("What helps" in text) == ((share or 0) > 0.1)


def test_the_step_time_is_the_median_window_and_unknown_without_one():
    assert StepClock().step_seconds is None
    assert StepClock(windows=[1.0, 1.0, 90.0]).step_seconds == 1.0


def test_intervals_name_their_callbacks_in_order():
    assert train.Intervals(log=2, evaluate=3, save=5).callbacks == (2, 3, 5)
