"""A study on a private Ray: killed workers cost time, not runs, and nothing stays behind."""

import importlib.util
import os
import pathlib
import re
import signal
import sys
import time
from typing import Any

import pytest
from commands import finish, launch, start
from test_ablation_scheduler import STUDY, assert_each_step_once, found_statuses, is_alive, wait_until

from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.ablation.run.ray import (
    Supervisor,
    _check_room,
    _Cluster,
    _explained,
    _memory_share,
    _why_full,
    actor_class,
    run_on_ray,
)
from cnnlab.ablation.run.scheduler import Scheduling
from cnnlab.errors import UsageError
from cnnlab.runs import writers

WORDS = [*STUDY, "--vary=optimizer.lr:0.1,0.01", "--pause=0.2", "--save_every=2 steps", "--jobs=2"]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='Ray is an extra: pip install "ray>=2.50,<3" (pyproject.toml)'
)


def at_work(folder: pathlib.Path, last: int) -> dict[str, int]:
    """{run: process} of the runs in the midst of it, at a step from 5 to `last`."""
    found = found_statuses(folder).items()
    return {run: int(s["process"].split()[1]) for run, s in found if s["state"] == "RUNNING" and 5 <= s["step"] <= last}


def parent_of(process: int) -> int:
    return int(pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def descendants(process: int) -> set[int]:
    """Returns everything that a living process started, and what that started."""
    parents = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = parent_of(int(entry.name))
        except FileNotFoundError:
            continue
    found, new = set(), {process}
    while new:
        found |= new
        new = {child for child, parent in parents.items() if parent in new} - found
    return found - {process}


def assert_all_gone(processes: set[int]) -> None:
    for _ in range(300):
        if not any(is_alive(process) for process in processes):
            return
        time.sleep(0.1)
    raise AssertionError([pathlib.Path(f"/proc/{p}/cmdline").read_text(encoding="utf-8") for p in processes if is_alive(p)])


def curves(folder: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """{run: its log without times}."""
    return {
        str(path.parent.relative_to(folder / "runs")): [
            {name: value for name, value in record.items() if name.startswith(("train/", "validation/", "test/", "step"))}
            for record in writers.read_metrics(path)
        ]
        for path in folder.glob("runs/misbehaving-*/seed_*/metrics.jsonl")
    }


@needs_ray
@pytest.mark.slow
def test_killed_ray_worker_and_killed_run_are_begun_again_once_with_the_same_result(tmp_path: pathlib.Path):
    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    disturbed.mkdir()
    calm.mkdir()
    words = [*WORDS, "--seeds=1", "--steps=60"]
    launcher = start(*words, "--max_attempts=2", "--launcher=ray", cwd=disturbed)
    both = wait_until(lambda: found if len(found := at_work(disturbed, last=50)) == 2 else None, launcher)
    everything = descendants(launcher.pid)
    (lost, orphan), (killed, process) = both.items()
    assert orphan in everything, "the run is trained below the launcher's own Ray"
    os.kill(parent_of(orphan), signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    code, out, err = finish(launcher)
    assert code == 0, out + err
    assert "A Ray worker was lost; its run goes on from a checkpoint" in err
    assert re.search(r"FAILED .*: .* ended without an error message: killed by SIGKILL.*\n  it is tried again", err), err
    assert "did not start" not in err, "the run of a lost worker is no stranger's"
    found = found_statuses(disturbed)
    assert {run: (s["state"], s["attempt"]) for run, s in found.items()} == {lost: ("DONE", 2), killed: ("DONE", 2)}
    assert_each_step_once(disturbed, runs=2, steps=60)
    assert_all_gone(everything)

    code, out, err = launch(
        *[word for word in words if not word.startswith(("--pause", "--jobs"))], "--pause=0", "--jobs=1", cwd=calm
    )
    assert code == 0, out + err
    assert sorted(curves(calm).values(), key=str) == sorted(curves(disturbed).values(), key=str)


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_end_of_the_launcher_leaves_a_checkpoint_and_no_process(tmp_path: pathlib.Path, number: signal.Signals):
    launcher = start(*WORDS, "--seeds=1", "--steps=200", "--launcher=ray", cwd=tmp_path)
    both = wait_until(lambda: found if len(found := at_work(tmp_path, last=150)) == 2 else None, launcher)
    everything = descendants(launcher.pid)
    if number == signal.SIGINT:  # as a terminal sends it
        os.killpg(launcher.pid, number)
        code, out, err = finish(launcher, seconds=120)
        assert code == 130, out + err
        assert "2 preempted. The same command goes on" in err
        assert_all_gone(everything)
    else:  # Ray's own agents notice it up to a minute later
        ours = {*both.values(), *map(parent_of, both.values())}
        launcher.kill()
        launcher.communicate()
        assert_all_gone(ours)
    found = found_statuses(tmp_path).values()
    assert [(status["state"], status["step"] >= 5) for status in found] == [("PREEMPTED", True)] * 2


STUB = Study(name="stub", experiment="none", knobs={}, design="grid", arms=(Arm("a", {}),), seeds=(0,), factors={})


@needs_ray
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_cups": 1}, "--launcher_options: Invalid option keyword num_cups"),
        ({"num_cpus": "two"}, "--launcher_options: The type of keyword 'num_cpus'"),
        ({"address": "127.0.0.1:1"}, "--launcher_options=address=127.0.0.1:1: [Errno 111] Connection refused\nGive auto"),
        ({"address": "nowhere"}, "--launcher_options=address=nowhere: this is no address.\nGive auto, or HOST:PORT"),
    ],
)
def test_wrong_option_is_named(tmp_path: pathlib.Path, options: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=re.escape(words)):
        run_on_ray(STUB, tmp_path, lambda numbers: [], Scheduling(), options=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_cpus": 3}, "--launcher_options=num_cpus=3: Ray finds 2 on this machine, so no worker could ever start"),
        ({"num_gpus": 0.5}, "--launcher_options=num_gpus=0.5: Ray finds 0 on this machine"),
    ],
)
def test_worker_that_no_place_can_hold_is_refused(options: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=re.escape(words)):
        _check_room(options, {"CPU": 2.0, "memory": 1e9})
    _check_room({"num_cpus": 2, "memory": 1000}, {"CPU": 2.0, "memory": 1e9})


def test_a_machine_without_ray_gets_an_error_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=re.escape('Ray is not installed. pip install "ray>=2.50,<3"')):
        actor_class({})


def test_a_worker_that_waits_says_what_no_node_has():
    nodes = [{"CPU": 4.0, "memory": 1e9}, {"CPU": 2.0, "GPU": 1.0}]
    assert _why_full({"num_gpus": 1}, nodes) == "Ray workers wait: every place with num_cpus=1, num_gpus=1 is taken."
    said = _why_full({"num_cpus": 4, "num_gpus": 1}, nodes)
    assert said.startswith("Ray workers wait: no node has num_cpus=4, num_gpus=1 (at most CPU 4, GPU 1).")


def test_a_cluster_that_refuses_a_token_or_is_lost_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    refused = RuntimeError("Failed to connect to Ray cluster at 192.0.2.2:6379")
    assert "Where it asks for a token, there is none here:\ncopy ~/.ray/auth_token of its head" in _explained(refused)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    assert "Where it asks for a token, the one here is another" in _explained(refused)
    assert _explained(ValueError("no such host")).startswith("no such host\nGive auto, or HOST:PORT")

    monkeypatch.setattr("cnnlab.ablation.run.ray.CHECK_SECONDS", 0.0)
    cluster = _Cluster("127.0.0.1:1", {})
    assert [cluster.is_lost() for _ in range(5)] == [False, False, False, True, True]


def test_a_folder_that_a_node_cannot_use_is_said_with_the_node(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # which it changes
    for place, log in ((tmp_path / "missing", "worker_0.txt"), (tmp_path, "missing/worker_0.txt")):
        code, how = Supervisor(str(place), ["true"], log, {}).wait()
        assert code == 1 and re.match(r"it cannot start on \S+: .*missing", how), how


def test_workers_that_share_an_accelerator_share_its_memory():
    assert _memory_share({"num_gpus": 0.5}) == {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}
    assert _memory_share({"num_gpus": 1}) == _memory_share({}) == {}
