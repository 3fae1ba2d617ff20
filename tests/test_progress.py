"""What a person sees of a run and of a study while they take their time: compilation is no step, no line is stale."""

import pathlib
import time
import types
from typing import Any

import jax.numpy as jnp
import pytest

from cnnlab.ablation.run.console import StudyProgress
from cnnlab.ablation.run.time_left import TimeLeft
from cnnlab.engine.clock import StepClock
from cnnlab.progress import ProgressLine
from cnnlab.runs import run_files, run_progress
from cnnlab.runs.run_progress import RunProgress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of every clock, in seconds, to be set by the test."""
    reading = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: reading[0])
    monkeypatch.setattr(time, "monotonic", lambda: reading[0])
    return reading


def use_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Lets stderr be a terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))


def run_progress_of(clock: StepClock, *, validates: bool = True) -> RunProgress:
    return RunProgress(steps=100, epoch_steps=50, names=("loss", "accuracy"), clock=clock, validates=validates)


def dispatch(clock: StepClock, now: list[float], took: float, *, size: int = 1) -> None:
    """Takes a dispatch of `size` steps that lasts so long."""
    began = now[0]
    now[0] += took
    clock.dispatched(size, began, size, jnp.zeros(()))


def pause(clock: StepClock, now: list[float], took: float) -> None:
    """Takes a pause for callbacks."""
    clock.end_window()
    now[0] += took
    clock.begin_window()


def test_the_time_left_counts_steps_and_pauses_but_no_compilation(now: list[float]):
    clock = StepClock()
    assert clock.seconds_left(99) is None
    dispatch(clock, now, 600.0)  # compiles for ten minutes
    pause(clock, now, 30.0)  # compiles the evaluation
    assert clock.seconds_left(99) is None, "no step was timed yet"
    for _ in range(9):
        dispatch(clock, now, 2.0)
        pause(clock, now, 1.0)
    assert clock.seconds_left(90) == pytest.approx(90 * (2.0 + 9 / 10))
    dispatch(clock, now, 400.0, size=4)  # another shape compiles
    assert clock.seconds_left(10) == pytest.approx(10 * (2.0 + 9 / 14))


def test_progress_in_a_log_shows_no_time_left_before_a_step_was_timed(now: list[float], capsys: pytest.CaptureFixture[str]):
    clock = StepClock()
    progress = run_progress_of(clock)
    progress.compiling()
    dispatch(clock, now, 1000.0)
    progress(1, {"train/loss": 0.7, "train/accuracy": 0.5})
    for _ in range(49):
        dispatch(clock, now, 2.0)
    clock.end_window()
    progress(50, {"train/loss": 0.5, "train/accuracy": 0.75})
    compiling, first, second = capsys.readouterr().err.splitlines()
    assert compiling == "compiling …" and "\r" not in first
    assert first == "step 1/100 (1%, epoch 0.0)  loss 0.7  accuracy 0.5"
    assert second == "step 50/100 (50%, epoch 1.0)  ETA 1 min 40 s  0.5 steps/s  loss 0.5  accuracy 0.75"


@pytest.mark.parametrize("validates", [True, False])
def test_the_last_step_is_shown_once_with_its_own_validation(
    now: list[float], capsys: pytest.CaptureFixture[str], validates: bool
):
    progress = run_progress_of(StepClock(windows=[0.1]), validates=validates)
    validation = {"validation/accuracy": 0.25}
    for step, accuracy in ((50, 0.25), (100, 0.75)):
        now[0] += 60
        progress(step, {"train/loss": 1 / step})
        now[0] += 60
        if validates:
            progress(step, validation | {"validation/accuracy": accuracy})
    lines = [line for line in capsys.readouterr().err.splitlines() if "step 100/100" in line]
    assert len(lines) == 1 and "ETA" not in lines[0] and "loss 0.01" in lines[0]
    assert ("val accuracy 0.75" in lines[0]) == validates and "0.25" not in lines[0]


def test_a_terminal_shows_long_measurements_and_keeps_what_follows_apart(
    now: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    use_terminal(monkeypatch, 100)
    progress = run_progress_of(StepClock())
    short = progress.measuring("validation", at_end=False)
    short(0, 2)
    assert capsys.readouterr().err == "", "a short one would flicker"
    now[0] += 5
    short(1, 2)
    progress.measuring("test", at_end=True)(0, 1200)
    progress.measured()
    progress.compiling()
    progress.close()
    progress.close()
    shown = ["measuring validation: 1 of 2 batches", "measuring test: 0 of 1,200 batches", "", "compiling …"]
    assert capsys.readouterr().err == "".join(f"\r\x1b[2K{line}" for line in shown) + "\n"


def test_a_log_shows_only_a_long_measurement_at_the_end(now: list[float], capsys: pytest.CaptureFixture[str]):
    progress = run_progress_of(StepClock())
    training, final = progress.measuring("validation", at_end=False), progress.measuring("test", at_end=True)
    progress.compiling()
    for done in range(4):
        training(done, 3)
        final(done, 3)
        now[0] += 1.5
    progress.measured()
    progress.close()
    assert capsys.readouterr().err == "compiling …\nmeasuring test: 2 of 3 batches\n"
    run_progress.measuring(ProgressLine(quiet=True), "test")(0, 1)
    assert capsys.readouterr().err == ""


def test_a_progress_line_is_rewritten_on_a_terminal_and_never_wraps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    use_terminal(monkeypatch, 20)
    line = ProgressLine()
    for text in ("1 of 2", "1 of 2", "x" * 50):
        line.show(text)
    line.show("2 of 2", last=True)
    assert capsys.readouterr().err == f"\r\x1b[2K1 of 2\r\x1b[2K{'x' * 19}\r\x1b[2K2 of 2\n"


def test_a_progress_line_elsewhere_comes_seldom_but_shows_the_end(capsys: pytest.CaptureFixture[str]):
    line = ProgressLine(seconds=60)
    for number in range(5):
        line.show(f"{number} of 5")
    line.show("5 of 5", last=True)
    ProgressLine(quiet=True).show("nobody reads this", last=True)
    assert capsys.readouterr().err == "0 of 5\n5 of 5\n"


def status(state: str, step: int, attempt: int = 1) -> dict[str, Any]:
    return {"state": state, "step": step, "steps": 100, "attempt": attempt}


def test_a_study_that_goes_on_is_estimated_by_the_plan_until_a_step_is_timed():
    before = [status("DONE", 100), status("PREEMPTED", 60), {}, {}]
    left = TimeLeft(list("aabb"), [100] * 4, before, planned_seconds=24.0)  # for 240 steps
    assert left.seconds(before, [1, 2, 3]) == pytest.approx(24.0) and not left.has_begun
    compiling = [before[0], status("RUNNING", 60, attempt=2), {}, {}]
    for now in (0.0, 3600.0):  # an hour of compilation
        left.observe(compiling, now)
    assert left.seconds(compiling, [1, 2, 3]) == pytest.approx(24.0) and not left.has_begun
    for step, now in ((70, 3601.0), (75, 3631.0), (85, 3633.0)):  # the first evaluation compiles for half a minute
        running = [before[0], status("RUNNING", step, attempt=2), {}, {}]
        left.observe(running, now)
    assert left.has_begun and left.seconds(running, [1, 2, 3]) == pytest.approx(215 * 0.2)


def test_the_runs_of_an_arm_share_its_speed_and_what_runs_at_once_shares_the_time():
    left = TimeLeft(list("aabb"), [100] * 4, [{}] * 4)
    assert left.seconds([{}] * 4, [0, 1, 2, 3]) is None, "neither a plan nor a run"
    left.observe([status("RUNNING", 0), {}, status("RUNNING", 0), {}], 0.0)
    done = [status("DONE", 100), {}, status("DONE", 100), {}]
    left.finished(0, 0.5)
    left.finished(2, 1.5)
    left.observe(done, 100.0)
    assert left.seconds(done, [1, 3]) == pytest.approx(150.0), "no less than the longest run"
    assert left.seconds(done, [3]) == pytest.approx(150.0) and left.seconds(done, []) == 0.0
    assert left.seconds([{}] * 4, [0, 1, 2, 3]) == pytest.approx((50 + 50 + 150 + 150) / 2)


def test_a_run_that_a_dead_process_left_running_takes_no_share():
    left_over = [status("RUNNING", 40), status("RUNNING", 40)]
    left = TimeLeft(list("ab"), [100] * 2, left_over)
    left.observe(left_over, 0.0)
    left.finished(0, 1.0)
    assert left.seconds(left_over, [0, 1]) == pytest.approx(120.0)


def test_a_study_on_a_terminal_shows_compilation_and_then_the_time_left(
    now: list[float], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    use_terminal(monkeypatch, 100)
    folders = [tmp_path / name for name in "ab"]
    study_runs = [types.SimpleNamespace(arm=types.SimpleNamespace(name="a", steps=100), folder=folder) for folder in folders]
    attempts: Any = types.SimpleNamespace(study_runs=study_runs, statuses=[{}, {}])
    attempts.state = lambda number: attempts.statuses[number].get("state", "MISSING")
    attempts.states = lambda: [status.get("state", "not begun") for status in attempts.statuses]
    attempts.unfinished = lambda: [number for number in (0, 1) if attempts.state(number) != "DONE"]
    progress = StudyProgress(attempts, quiet=False, planned_seconds=32.0)
    progress.show()
    attempts.statuses = [status("RUNNING", 0), {}]
    progress.show()
    folders[0].mkdir()
    result = {"steps": 100, "wall_seconds": 7205.0, "compile_seconds": 7200.0}
    run_files.write_result(folders[0], result)
    attempts.statuses, now[0] = [status("DONE", 100), {}], 7205.0
    progress.show()
    attempts.statuses = [status("DONE", 100)] * 2
    progress.show(last=True)
    shown = [
        "0 of 2 runs done; starting …, then about 32 s",
        "0 of 2 runs done, 1 running; compiling …, then about 32 s",
        "1 of 2 runs done; about 5 s to go",
        "2 of 2 runs done",
    ]
    assert capsys.readouterr().err == "".join(f"\r\x1b[2K{line}" for line in shown) + "\n"
