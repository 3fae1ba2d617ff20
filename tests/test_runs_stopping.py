"""Signals at any moment of a run: the status says the truth, the process leaves in time, and the same command goes on.

A signal is sent from inside of a function that the moment consists of, so nothing here depends on time.
"""

import collections
import contextlib
import json
import os
import pathlib
import signal
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from cnnlab import figures
from cnnlab.cli import supervise
from cnnlab.engine import train
from cnnlab.engine.agreed_stop import AgreedStop
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.errors import Preempted
from cnnlab.runs import recorder, run, run_files, stopping
from cnnlab.runs.folder import RunSpec
from tests.commands import Here, finish, launch, start

WORDS = ["--experiment=linear_digits", "--steps=4", "--log_every=2 steps", "--save_every=2 steps", "--devices=1"]
WORDS += ["--log_level=warning"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The run that no signal interrupted."""
    from cnnlab.cli.main import main

    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*WORDS, f"--workdir={folder}"]) == 0
    return folder


def signalled(owner: Any, name: str, number: int, patched: pytest.MonkeyPatch) -> None:
    """Sends a signal to this process when a function is called for the first time, before it does anything."""
    real, sent = getattr(owner, name), []

    def call(*arguments: Any, **more: Any) -> Any:
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return real(*arguments, **more)

    patched.setattr(owner, name, call)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("owner", "name", "number", "state", "step"),
    [
        pytest.param(recorder, "record_attempt", signal.SIGTERM, "PREEMPTED", 0, id="start", marks=SLOW),
        pytest.param(recorder, "restore_or_init", signal.SIGUSR2, "PREEMPTED", 0, id="restore"),
        pytest.param(train, "_fetch", signal.SIGINT, "PREEMPTED", 1, id="compile", marks=SLOW),
        pytest.param(recorder.RunRecorder, "on_log", signal.SIGTERM, "PREEMPTED", 2, id="log", marks=SLOW),
        pytest.param(Checkpoints, "save", signal.SIGUSR2, "PREEMPTED", 2, id="save", marks=SLOW),
        pytest.param(Checkpoints, "close", signal.SIGTERM, "PREEMPTED", 4, id="last save", marks=SLOW),
        pytest.param(figures, "save", signal.SIGINT, "DONE", 4, id="figures", marks=SLOW),
        pytest.param(run_files, "write_result", signal.SIGTERM, "DONE", 4, id="result", marks=SLOW),
    ],
)
def test_a_signal_at_any_moment_leaves_the_truth_and_the_same_command_goes_on(
    owner: Any,
    name: str,
    number: int,
    state: str,
    step: int,
    whole: pathlib.Path,
    here: Here,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    with monkeypatch.context() as patched:
        signalled(owner, name, number, patched)
        code, _, err = here(*WORDS, "--workdir=run")
    assert code == 75 and "same command" in err and "Traceback" not in err, err
    folder = tmp_path / "run"
    status = run_files.read_status(folder)
    assert (status["state"], status["step"]) == (state, step)
    saved = sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    assert status["checkpoint"] == saved[-1] == step, "what it says is saved is there"
    assert here(*WORDS, "--workdir=run")[0] == 0
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    one, other = (run_files.read(run, "result.json") or {} for run in (folder, whole))
    assert one["state_digest"] == other["state_digest"] and one["metrics"] == other["metrics"]


class Left(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("stop_after", "said"),
    [(None, ""), (3, ""), (2, "stopped by --stop_after after 2 steps"), (1, "beyond --stop_after=1 before, with 2 steps")],
)
def test_a_run_at_or_beyond_the_step_at_which_it_shall_stop_was_stopped_by_no_signal(
    stop_after: int | None, said: str, tmp_path: pathlib.Path
):
    program: Any = types.SimpleNamespace(experiment=types.SimpleNamespace(steps=4))
    checkpoints: Any = types.SimpleNamespace(close=lambda: None, steps=lambda: [2])
    spec = RunSpec("digits", {}, "f32", source="", stop_after=stop_after)
    opened = recorder.RunRecorder(program, tmp_path, spec, 0, checkpoints, saved=2)
    with contextlib.nullcontext() if said else pytest.raises(Preempted, match="stopped by a signal at step 2"):
        assert said in run.format_result(spec, 0, opened.finish(None, 2, []))  # type: ignore[arg-type]
        assert run_files.read_status(tmp_path)["state"] == "STOPPED"


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        if threading.current_thread() is threading.main_thread():
            raise Left

    monkeypatch.setattr(stopping.os, "_exit", leave)
    return codes


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((signal.SIGTERM,), []),
        ((signal.SIGUSR2,), []),
        ((signal.SIGUSR2, signal.SIGTERM), []),  # Slurm's warning, then its request: the checkpoint is still being written
        ((signal.SIGTERM, signal.SIGUSR2), []),
        ((signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM), [128 + signal.SIGTERM]),
        ((signal.SIGTERM, signal.SIGINT), [128 + signal.SIGINT]),
    ],
)
def test_a_second_request_leaves_at_once_with_a_status_and_a_warning_is_none(
    numbers: tuple[int, ...], expected: list[int], left: list[int]
):
    handlers, reasons = [signal.getsignal(number) for number in numbers], []
    with stopping.stop_signals(600) as should_stop:
        stopping.before_leaving(should_stop, lambda reason, state: reasons.append(reason))
        assert not should_stop()
        with contextlib.suppress(Left):
            for number in numbers:
                os.kill(os.getpid(), number)
        assert should_stop()
    assert left == expected and [reason.startswith("stopped by a second SIG") for reason in reasons] == [True] * len(expected)
    assert [signal.getsignal(number) for number in numbers] == handlers, "the handlers that there were are back"


class Process:
    """Stands for a process that another one supervises, and keeps the signals that it gets."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.returncode: int | None = None

    def poll(self) -> None:
        return None

    def send_signal(self, number: int) -> None:
        self.got.append(number)


def test_a_parent_passes_a_warning_on_once_and_kills_at_a_second_request():
    process = Process()
    child = supervise.Child(0, process, True, collections.deque(), [])  # type: ignore[arg-type]
    with supervise._passing_signals_on([child]) as received:
        for number in (signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert process.got == [signal.SIGTERM], "the request after the warning asks for nothing new"
        os.kill(os.getpid(), signal.SIGTERM)
    assert process.got == [signal.SIGTERM, signal.SIGKILL] and len(received) == 3


def test_a_parent_ends_with_75_where_its_processes_outlast_the_grace_or_lose_one(capsys: pytest.CaptureFixture[str]):
    process = Process()
    child = supervise.Child(1, process, False, collections.deque(), [])  # type: ignore[arg-type]
    assert supervise._first_bad([child], [signal.SIGTERM], 0.01) is child
    said = "process 1 did not end within --grace_s=20 seconds of SIGTERM"
    assert supervise._explain(child, [child], "a:1", 20, [signal.SIGTERM]) == (75, said)
    assert f"{said}. All processes" in capsys.readouterr().err
    process.returncode = -signal.SIGABRT
    assert [supervise._explain(child, [child], "a:1", 20, given)[0] for given in ([signal.SIGTERM], [])] == [75, 1]


def test_what_does_not_end_within_the_grace_is_left_with_a_status(left: list[int], capsys: pytest.CaptureFixture[str]):
    reasons, written = [], threading.Event()

    def broken(reason: str, state: str) -> None:
        raise OSError("the disk is full")

    def write(reason: str, state: str) -> None:
        reasons.append((reason, state))
        written.set()

    with stopping.stop_signals(0.01) as should_stop:
        stopping.before_leaving(should_stop, broken)
        stopping.before_leaving(should_stop, write)
        os.kill(os.getpid(), signal.SIGTERM)
        assert written.wait(60)
    assert left == [75]
    assert reasons == [("stopped by SIGTERM: the step at hand did not end within --grace_s=0.01 seconds", "PREEMPTED")]
    assert "goes on from the newest checkpoint" in capsys.readouterr().err


class Agreed(AgreedStop):
    """What several processes agree by, without the others."""

    def take_part(self, on_notice: Callable[[], None]) -> None:
        self.on_notice, self.asked = on_notice, threading.Event()

    def request(self, signal_name: str) -> None:
        self.reason = self.reason or f"{signal_name} to process 0 of 2"
        self.asked.set()


@pytest.mark.parametrize("is_own", [True, False])
def test_the_grace_of_each_process_begins_with_a_signal_to_any_of_them(
    is_own: bool, left: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stopping, "silent_processes", lambda: "process 1 of 2 shows no sign of life")
    handlers, reasons, written = signal.getsignal(signal.SIGUSR2), [], threading.Event()
    request = stopping.GroupRequest(0.02, agreed := Agreed())
    try:
        request.on_leaving.append(lambda *found: (reasons.append(found), written.set()))
        if is_own:
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGTERM)  # a second one is for the parent
        else:
            agreed.reason = "SIGTERM to process 1 of 2"
            agreed.on_notice()
        assert agreed.asked.wait(60) and written.wait(60) and not request(), "all stop where they agree, not at once"
    finally:
        request.close()
    ((reason, state),) = reasons
    assert reason.startswith(
        f"stopped by {'SIGUSR2 to process 0' if is_own else 'SIGTERM to process 1'} of 2: the step at hand"
    )
    assert reason.endswith("--grace_s=0.02 seconds; process 1 of 2 shows no sign of life") and state == "PREEMPTED"
    assert left == [75] and signal.getsignal(signal.SIGUSR2) == handlers


def test_a_process_without_a_step_ends_with_a_status_and_one_with_steps_shows_them(
    left: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(stopping, "BEAT_SECONDS", 0.005)
    (heartbeat := tmp_path / "worker_0.json").touch()
    os.utime(heartbeat, (0, 0))
    found, written = [], threading.Event()
    with stopping.stop_signals(600) as request:
        request.on_leaving.append(lambda *reason: (found.append(reason), written.set()))
        with stopping.watched(request, None):
            assert not request()
        with stopping.watched(request, None, heartbeat):
            until = time.monotonic() + 60
            while heartbeat.stat().st_mtime == 0 and time.monotonic() < until:
                request()
        assert heartbeat.stat().st_mtime > 0 and not left, "without a limit nothing ends"
        with stopping.watched(request, 0.02):  # type: ignore[arg-type]
            assert written.wait(60)
    assert (
        left[0] == 1 and found[0][1] == "FAILED" and "the process made no step for 0 s (--step_timeout), after" in found[0][0]
    )
    assert "The same command goes on from the newest checkpoint" in capsys.readouterr().err


def stuck(body: str) -> str:
    """The text of an experiment whose fourth batch runs `body` where STUCK is in the environment."""
    return f'''"""An experiment that is sent signals."""
import dataclasses, os, signal, time
from functools import partial

from cnnlab.core import Experiment
from cnnlab.data.images import PIPELINES
from cnnlab.models import MODELS
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.recipes.classification import classification
from cnnlab.values import Choice, Duration


def experiment(*, model: Choice[MODELS] = "linear", data: Choice[PIPELINES] = "images",
               optimizer: Choice[OPTIMIZERS] = "sgd", duration: Duration = Duration(6, "steps")) -> Experiment:
    """A linear classifier of the digits.

    Args:
        model: network.
        data: images.
        optimizer: rule.
        duration: length.
    """
    made = classification(model=model, data=data, loss=cross_entropy, optimizer=optimizer, duration=duration)

    def feeds(seed, step):
        for number, feed in enumerate(made.data.train(seed, step), step):
            if number == 3 and "STUCK" in os.environ:
                {body}
            yield feed

    return dataclasses.replace(made, data=dataclasses.replace(made.data, train=feeds))
'''


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)", 143, "second SIGTERM"),
        ("os.kill(os.getpid(), signal.SIGUSR2); time.sleep(600)", 75, "--grace_s=1"),
    ],
)
def test_a_process_that_is_stuck_leaves_with_the_truth_and_goes_on(
    body: str, code: int, text: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own.py").write_text(stuck(body), encoding="utf-8")
    words = ["--experiment=own.py", "--workdir=run", "--save_every=2 steps", "--grace_s=1"]
    with monkeypatch.context() as patched:
        patched.setenv("STUCK", "1")
        found, _, err = finish(start(*words, cwd=tmp_path), seconds=120)
    assert found == code and "Traceback" not in err, err
    status = json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "PREEMPTED" and text in status["message"]
    assert status["step"] == status["checkpoint"] in (0, 2), "step 2 where its checkpoint had reached the disk"
    found, _, err = launch(*words, cwd=tmp_path)
    assert found == 0 and run_files.read_status(tmp_path / "run")["state"] == "DONE", err
