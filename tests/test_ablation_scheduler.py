"""Studies in processes of this machine: whatever dies, every run is trained once, and a person learns what happened."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from commands import finish, launch, read, start

from cnnlab import files
from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.ablation.run import local, runs, scheduler, worker
from cnnlab.ablation.run.local import run_locally, slot_environment
from cnnlab.ablation.run.scheduler import Scheduling
from cnnlab.cli.main import main
from cnnlab.runs import writers
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.lock import locked

TESTS = pathlib.Path(__file__).resolve().parent


def study_of(folder: pathlib.Path, behaviour: dict[str, Any], arms: int = 3) -> Study:
    """A saved study of arms a0, a1, … whose stub workers follow behaviour.json."""
    made = tuple(Arm(f"arm {number}", {}, folder=f"a{number}", group=number) for number in range(arms))
    study = Study(name="stub", experiment="none", knobs={}, design="grid", arms=made, seeds=(0,), factors={})
    runs.save_study(study, folder)
    (folder / "behaviour.json").write_text(json.dumps(behaviour), encoding="utf-8")
    return study


def run(study: Study, folder: pathlib.Path, **more: Any) -> int:
    """Runs it with stub workers."""

    def command(numbers: Any) -> list[str]:
        words = [f"--workdir={folder}", f"--runs={','.join(map(str, numbers))}"]
        return [sys.executable, str(TESTS / "stub_worker.py"), *words]

    return run_locally(study, folder, command, Scheduling(**more))


def statuses(study: Study, folder: pathlib.Path) -> list[tuple[str, int]]:
    """(state, attempt) of every run."""
    return [(cell.state, cell.status.get("attempt", 0)) for cell in runs.study_runs(study, folder)]


def test_one_killed_and_one_failing_run_leave_the_others_done_and_are_alone_repeated(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "study"
    study = study_of(folder, {"a0": ["kill", "good"], "a1": ["crash", "good"], "a3": ["fail", "good"]}, arms=5)
    assert run(study, folder) == 1
    assert statuses(study, folder) == [("FAILED", 1), ("FAILED", 1), ("DONE", 1), ("FAILED", 1), ("DONE", 1)]
    said = capsys.readouterr().err
    assert re.search(
        r"FAILED +arm 0, seed 0 +step 1, attempt 1 +its process ended without an error message: killed by SIGKILL", said
    )
    assert re.search(r"FAILED +arm 3, seed 0 +step 1, attempt 1 +as requested", said)
    assert "2 of 5 runs done, 3 failed. The same command goes on" in said
    assert run(study, folder) == 0
    assert statuses(study, folder) == [("DONE", 2), ("DONE", 2), ("DONE", 1), ("DONE", 2), ("DONE", 1)]


def test_a_run_that_always_fails_is_begun_max_attempts_times(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "study"
    study = study_of(folder, {"a0": ["fail"], "a1": ["crash"], "a2": ["kill", "good"], "a3": ["memory"]}, arms=4)
    assert run(study, folder, max_attempts=2) == 1
    assert statuses(study, folder) == [("FAILED", 2), ("FAILED", 2), ("DONE", 2), ("FAILED", 1)]
    assert capsys.readouterr().err.count("it is tried again") == 3, "what lacks memory is not"


def test_fail_fast_leaves_the_rest_alone(tmp_path: pathlib.Path):
    folder = tmp_path / "study"
    study = study_of(folder, {"a0": ["fail"], "a1": ["slow"], "a2": ["slow"]})
    assert run(study, folder, fail_fast=True) == 1
    found = statuses(study, folder)
    assert found[0] == ("FAILED", 1) and found[1][0] in ("MISSING", "PREEMPTED") and found[2] == ("MISSING", 0)


def test_a_worker_that_never_trains_ends_the_study_with_its_log(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "study"
    study = study_of(folder, {"worker": "broken"})
    assert run(study, folder, jobs=2) == 1
    said = capsys.readouterr().err
    assert "a worker ended before it trained anything: exit code 1\n  no such library" in said
    assert "0 of 3 runs done, 3 not begun" in said


def test_a_run_left_by_a_process_that_is_gone_is_taken_over(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "study"
    study = study_of(folder, {})
    left = list(runs.study_runs(study, folder))[1].folder
    left.mkdir(parents=True)
    (left / ".lock").touch()
    gone = {"state": "RUNNING", "attempt": 3, "process": "process 1 on another", "step": 7, "steps": 9}
    files.write_json(left / "status.json", gone)
    assert run(study, folder) == 0
    assert statuses(study, folder) == [("DONE", 1), ("DONE", 4), ("DONE", 1)]
    assert "arm 1, seed 0 was left at step 7 by process 1 on another; it is taken over" in capsys.readouterr().err


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "study"
    study = study_of(folder, {})
    other = next(runs.study_runs(study, folder)).folder
    other.mkdir(parents=True)
    begun = threading.Event()

    def train() -> None:
        status = {"attempt": 1, "process": "process 1 on another", "step": 1}
        with locked(other):
            files.write_json(other / "status.json", {"state": "RUNNING", **status})
            begun.set()
            time.sleep(2)
            files.write_json(other / "result.json", {})
            files.write_json(other / "status.json", {"state": "DONE", **status})

    thread = threading.Thread(target=train)
    thread.start()
    begun.wait()
    assert run(study, folder) == 0
    thread.join()
    assert statuses(study, folder) == [("DONE", 1)] * 3
    assert (
        "arm 0, seed 0 is being trained by process 1 on another, which this launcher did not start" in capsys.readouterr().err
    )


def test_what_is_finished_is_not_begun_again(tmp_path: pathlib.Path):
    folder = tmp_path / "study"
    study = study_of(folder, {})
    assert run(study, folder) == 0
    begun = sorted((folder / "logs").glob("worker_*.txt"))
    assert run(study, folder) == 0
    assert statuses(study, folder) == [("DONE", 1)] * 3
    assert len(begun) == 1 and sorted((folder / "logs").glob("worker_*.txt")) == begun, "no worker was started"


class Clock:
    """Time that passes while the scheduler sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Hanging:
    """A worker that trains its first run to a step and hangs, or that takes a hundred steps and is done."""

    def __init__(self, run: runs.StudyRun, status_file: pathlib.Path, *, hangs: bool, number: int) -> None:
        self.log, self.run, self.status_file, self.left = status_file.with_suffix(".txt"), run, status_file, 100
        self.hangs, self.code, self.process = hangs, None, f"process {number} on here"
        content = {"process": self.process, "runs": [str(run.folder)], "ended": 0}
        files.write_json(status_file, {**(files.read_json(status_file) or {}), **content})
        files.make_folder(run.folder)
        self.write("RUNNING", 3)

    def write(self, state: str, step: int) -> None:
        attempt = self.run.status.get("attempt", 0) + (self.run.status.get("process") != self.process)
        content = {"state": state, "attempt": attempt, "process": self.process, "step": step, "checkpoint": step}
        files.write_json(self.run.folder / "status.json", content)

    def poll(self) -> int | None:
        if self.code is None and not self.hangs:
            self.left -= 1
            os.utime(self.status_file, (0, self.left))
            if not self.left:
                files.write_json(self.run.folder / "result.json", {})
                self.write("DONE", 9)
                files.write_json(self.status_file, {"process": self.process, "runs": [], "ended": 1})
                self.code = 0
        return self.code

    def is_running(self) -> bool:
        return self.code is None

    def how(self) -> str:
        return "killed by SIGKILL, as the system does when memory runs out"

    def waits(self) -> str:
        return ""

    def is_lost(self) -> bool:
        return False

    def end(self, *, now: bool) -> None:
        self.code = -signal.SIGKILL if now else self.code


def test_a_worker_that_makes_no_step_is_killed_and_counts_where_it_got_no_further(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder, clock = tmp_path / "study", Clock()
    study = study_of(folder, {}, arms=2)
    monkeypatch.setattr(scheduler, "time", clock)
    started: list[int] = []

    def begin(numbers: Any, slot: int, status_file: pathlib.Path) -> Hanging:
        started.append(numbers[0])
        cell = list(runs.study_runs(study, folder))[numbers[0]]
        return Hanging(cell, status_file, hangs=numbers[0] == 0, number=len(started))

    assert scheduler.run_study(study, folder, begin, Scheduling(2, step_timeout=20.0)) == 1
    assert started == [0, 1, 0], "one that got further goes on, and counts as no failed attempt"
    assert statuses(study, folder) == [("FAILED", 2), ("DONE", 1)], "one that makes steps may take longer than the limit"
    said = capsys.readouterr().err
    assert "its worker made no step for 20 s (--step_timeout) and was killed; arm 0, seed 0 goes on from step 3" in said
    assert "FAILED arm 0, seed 0 at step 3: its worker made no step for 20 s (--step_timeout) and was killed, and the" in said
    assert "memory" not in said and clock.now < 100


@pytest.mark.parametrize(("words", "limit"), [(("--parent=1",), 7), (("--parent=1", "--watched"), None), ((), 7)])
def test_a_worker_keeps_its_step_timeout_unless_its_launcher_watches_it(
    words: tuple[str, ...], limit: int | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    arms = (Arm("baseline", {}, folder="arm"),)
    runs.save_study(Study("toy", "linear_digits", {}, "grid", arms, (0,), {}), tmp_path / "study")
    found: list[RunSpec] = []
    monkeypatch.setattr(local, "bind_to_parent", lambda *_: None)
    monkeypatch.setattr(worker, "resolver", lambda study, loaded, spec: found.append(spec))
    monkeypatch.setattr(worker, "run_worker", lambda *_, **__: None)
    assert main(["work", f"--workdir={tmp_path / 'study'}", "--step_timeout=7", *words]) == 0
    assert found[0].step_timeout == limit


def test_slots_share_the_cores_without_overlap():
    mine = [slot_environment(slot, 3, cores=range(8), accelerators=[]) for slot in range(3)]
    assert mine == [({}, [0, 1]), ({}, [2, 3]), ({}, [4, 5])]
    assert [slot_environment(slot, 3, cores=[4, 6], accelerators=[])[1] for slot in range(3)] == [[4], [6], [4]]
    assert slot_environment(0, 2, cores=[], accelerators=[]) == ({}, [])


def test_slots_get_an_accelerator_each_or_a_share_of_its_memory():
    def found(jobs: int, accelerators: list[str]) -> list[tuple[str, str]]:
        made = [slot_environment(slot, jobs, cores=range(4), accelerators=accelerators)[0] for slot in range(jobs)]
        return [(one["CUDA_VISIBLE_DEVICES"], one["XLA_PYTHON_CLIENT_MEM_FRACTION"]) for one in made]

    assert found(2, ["3", "5"]) == [("3", "0.90"), ("5", "0.90")]
    assert found(3, ["GPU-a", "GPU-b"]) == [("GPU-a", "0.45"), ("GPU-b", "0.45"), ("GPU-a", "0.45")]


STUDY = ["ablate", f"--experiment={TESTS / 'misbehaving.py'}", "--workdir=runs/study", "--log_every=1 steps"]
ATTEMPTS = 1800
"""Looks at a condition, a tenth of a second apart."""


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """The first true value of a condition while the process lives."""
    for _ in range(ATTEMPTS):
        if found := condition():
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("it never happened")


def found_statuses(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """{folder of the run: status} of what was begun."""
    found = {}
    for path in sorted(folder.glob("runs/misbehaving-*/seed_*/status.json")):
        found[str(path.parent.relative_to(folder / "runs"))] = files.read_json(path)
    return found


def running(folder: pathlib.Path, step: int) -> list[int]:
    """Processes of the runs that are at a step or later, and far from their end."""
    found = found_statuses(folder).values()
    return [
        int(status["process"].split()[1]) for status in found if status["state"] == "RUNNING" and step <= status["step"] < 20
    ]


def is_alive(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_each_step_once(folder: pathlib.Path, *, runs: int, steps: int) -> None:
    """No run has a hole or a repetition in its log."""
    logs = sorted(folder.glob("runs/misbehaving-*/seed_*/metrics.jsonl"))
    assert len(logs) == runs
    for log in logs:
        logged = [record["step"] for record in writers.read_metrics(log) if "train/loss" in record]
        assert logged == list(range(1, steps + 1)), log


@pytest.mark.slow
def test_arms_that_raise_die_or_run_out_of_memory_cost_no_other_arm(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    words = [*STUDY, "--vary=behaviour:good,raise,kill,memory,refuse,fine", "--seeds=1", "--jobs=2"]
    code, out, err = launch(*words, cwd=tmp_path)
    assert code == 1, out + err
    found = found_statuses(tmp_path)
    assert sorted(status["state"] for status in found.values()) == ["DONE"] * 2 + ["FAILED"] * 4
    assert {status["attempt"] for status in found.values()} == {1}
    for cause in (
        r"behaviour=raise, seed 0 +step \d, attempt 1 +ValueError: a defect of this arm",
        r"behaviour=kill, seed 0 +step \d, attempt 1 +its process ended without an error message: killed by SIGKILL",
        r"behaviour=memory, seed 0 +step \d, attempt 1 +RuntimeError: RESOURCE_EXHAUSTED",
        r"behaviour=refuse, seed 0 +step 0, attempt 1 +the experiment: .*misbehaving.py:\d+: ValueError: it never could",
    ):
        assert re.search(f"FAILED +{cause}", err), err
    assert "2 of 6 runs done, 4 failed. The same command goes on" in err

    monkeypatch.setenv("MENDED", "1")
    code, out, err = launch(*words, cwd=tmp_path)
    assert code == 0, out + err
    again = found_statuses(tmp_path)
    assert {status["state"] for status in again.values()} == {"DONE"}
    for folder, status in again.items():
        assert status["attempt"] == (1 if found[folder]["state"] == "DONE" else 2)
    assert_each_step_once(tmp_path, runs=6, steps=6)


@pytest.mark.slow
def test_second_launcher_is_refused_and_a_killed_or_interrupted_one_loses_nothing(tmp_path: pathlib.Path):
    words = [*STUDY, "--vary=optimizer.lr:0.1,0.01", "--seeds=2", "--steps=30", "--pause=0.15", "--save_every=2 steps"]
    first = start(*words, cwd=tmp_path)
    (worker,) = wait_until(lambda: running(tmp_path, 3), first)
    code, _, err = launch(*words, cwd=tmp_path)
    assert code == 2 and f"is being trained by process {first.pid} on" in err, err

    (worker,) = wait_until(lambda: running(tmp_path, 3), first)
    os.kill(first.pid, signal.SIGKILL)
    for _ in range(ATTEMPTS):
        if not is_alive(worker):
            break
        time.sleep(0.1)
    assert not is_alive(worker), "a worker outlived its launcher"
    first.communicate()
    assert [status["state"] for status in found_statuses(tmp_path).values()].count("PREEMPTED") == 1

    second = start(*words, cwd=tmp_path)
    (worker,) = wait_until(lambda: running(tmp_path, 12), second)
    second.send_signal(signal.SIGINT)
    code, _, err = finish(second)
    assert code == 130, err
    assert "SIGINT: the workers save their checkpoints" in err
    assert "The same command goes on with what is not done, and repeats nothing that is." in err
    assert not is_alive(worker)
    assert all(status["state"] in ("PREEMPTED", "DONE") for status in found_statuses(tmp_path).values())

    code, out, err = launch(*words, "--jobs=2", cwd=tmp_path)
    assert code == 0, out + err
    found = found_statuses(tmp_path)
    assert len(found) == 4 and {status["state"] for status in found.values()} == {"DONE"}
    assert sum(status["attempt"] - 1 for status in found.values()) == 2, "one more attempt for each interruption"
    assert_each_step_once(tmp_path, runs=4, steps=30)
    assert read(tmp_path / "runs" / "study" / "study.json")["seeds"] == [0, 1]
