"""Members of one family that take their steps in one batched program: their files are those of single runs."""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.errors import DivergedError, Preempted
from cnnlab.metric import Metric
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.lock import Busy, locked
from experiments.convnet_digits import experiment

pytestmark = pytest.mark.slow

KNOBS: dict[str, Any] = {"widths": "4,8", "dropout": 0.2, "batch_size": 16, "duration": "24 steps", "average_decay": 0.9}
# Each member draws its own examples.
KNOBS |= {"examples_per_class": 90, "examples_seed": "run", "split_seed": "run"}
RATES = (0.05, 0.01, 0.1)


def resolved(rate: float, **more: Any) -> knobs.Resolved:
    return knobs.resolve(experiment, {**KNOBS, "lr": rate, **more})


def plan(one: knobs.Resolved, **more: Any) -> RunSpec:
    return RunSpec("convnet_digits", one.values, "f32", source="", devices=1, quiet=True, **more)


def members(folder: pathlib.Path, rates: Mapping[int, float] | None = None, **more: Any) -> Iterator[run.RunInputs]:
    """A run for every learning rate, with a seed of its own."""
    compiled = None
    for seed, rate in (rates or dict(enumerate(RATES))).items():
        one = resolved(rate)
        numbers = {"optimizer.lr": rate}
        compiled = compiled.member(one.call(), numbers) if compiled else run.build(one, plan(one), numbers=numbers)
        yield compiled, folder / str(seed), plan(one, **more), seed


def last(folder: pathlib.Path) -> Any:
    """The host state of a run's newest checkpoint."""
    one = resolved(RATES[0])
    program = run.build(one, plan(one))
    found = Checkpoints(folder / "checkpoints", ranked_by=Metric("accuracy", higher_is_better=True)).restore(program.shapes)
    assert found
    return found[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same runs, one after another."""
    folder = tmp_path_factory.mktemp("alone")
    for seed, rate in enumerate(RATES):
        one = resolved(rate)
        run.train_run(run.build(one, plan(one)), folder / str(seed), plan(one), seed, overwrite=False)
    return folder


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("crowd")
    results = run.train_batched(list(members(folder)))
    assert all(isinstance(result, dict) and result["steps"] == 24 for result in results)
    return folder


def gap(one: Any, other: Any) -> float:
    import jax

    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(np.float64(a) - np.float64(b)), initial=0.0)) for a, b in pairs)


@pytest.mark.parametrize("seed", range(len(RATES)))
def test_a_member_of_a_crowd_equals_its_single_run(alone: pathlib.Path, crowd: pathlib.Path, seed: int):
    one, other = last(alone / str(seed)), last(crowd / str(seed))
    assert one.step == other.step == 24 and gap(one.params, other.params) < 1e-5 and gap(one.average, other.average) < 1e-5
    assert {p.name for p in (alone / str(seed)).iterdir()} == {p.name for p in (crowd / str(seed)).iterdir()}
    lines = [
        [json.loads(line) for line in (folder / str(seed) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for folder in (alone, crowd)
    ]
    assert [line.keys() for line in lines[0]] == [line.keys() for line in lines[1]]
    for a, b in zip(*lines, strict=True):
        assert a.pop("check") and b.pop("check")
        assert b == pytest.approx(a, rel=1e-4)


def test_members_differ_from_one_another(crowd: pathlib.Path):
    assert (
        len({json.loads((crowd / str(seed) / "result.json").read_text(encoding="utf-8"))["params_digest"] for seed in range(3)})
        == 3
    )


def test_a_crowd_that_was_stopped_goes_on_to_the_same_end(crowd: pathlib.Path, tmp_path: pathlib.Path):
    assert all(result["stopped"] for result in run.train_batched(list(members(tmp_path, stop_after=13))))
    assert json.loads((tmp_path / "1" / "status.json").read_text(encoding="utf-8"))["state"] == "STOPPED"
    run.train_batched(list(members(tmp_path)))
    for seed in range(len(RATES)):
        assert gap(last(tmp_path / str(seed)), last(crowd / str(seed))) == 0
        assert (tmp_path / str(seed) / "metrics.jsonl").read_text(encoding="utf-8") == (
            crowd / str(seed) / "metrics.jsonl"
        ).read_text(encoding="utf-8")


def test_every_member_of_a_crowd_that_a_signal_stops_names_its_own_checkpoints(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run, "stop_signals", lambda grace: contextlib.nullcontext(lambda: True))
    with pytest.raises(Preempted):
        run.train_batched(list(members(tmp_path)))
    for seed in range(len(RATES)):
        status = json.loads((tmp_path / str(seed) / "status.json").read_text(encoding="utf-8"))
        assert status["state"] == "PREEMPTED" and f"with a checkpoint in {tmp_path / str(seed)}." in status["message"]


def test_members_that_stand_at_different_steps_and_one_that_is_done_all_come_to_their_end(
    crowd: pathlib.Path, tmp_path: pathlib.Path
):
    first, second, third = members(tmp_path)
    run.train_batched([first])
    run.train_batched([(second[0], second[1], plan(resolved(RATES[1]), stop_after=7), 1)])
    results = run.train_batched([first, second, third])
    assert [result["steps"] for result in results] == [24, 24, 24]
    for seed in range(len(RATES)):
        assert gap(last(tmp_path / str(seed)).params, last(crowd / str(seed)).params) < 1e-5


def test_a_member_that_diverges_leaves_the_others_alone(crowd: pathlib.Path, tmp_path: pathlib.Path):
    results = run.train_batched(list(members(tmp_path, {0: RATES[0], 1: 1e30, 2: RATES[2]})))
    assert isinstance(results[1], DivergedError)
    states = [json.loads((tmp_path / str(seed) / "status.json").read_text(encoding="utf-8"))["state"] for seed in range(3)]
    assert states == ["DONE", "DIVERGED", "DONE"]
    for seed in (0, 2):
        assert gap(last(tmp_path / str(seed)), last(crowd / str(seed))) < 1e-5


def test_runs_of_a_crowd_that_cannot_be_trained_together_are_not_failures(tmp_path: pathlib.Path):
    *_, last_one = some = list(members(tmp_path))
    last_one[1].mkdir()
    with locked(last_one[1]), pytest.raises(Busy):
        run.train_batched(some)
    states = [json.loads((tmp_path / str(seed) / "status.json").read_text(encoding="utf-8"))["state"] for seed in range(2)]
    assert states == ["RUNNING", "RUNNING"] and not (last_one[1] / "status.json").exists()
    result = run.train_run(*some[0], overwrite=False)
    assert result["steps"] == 24
