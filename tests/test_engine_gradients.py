"""The sizes of gradients and updates: those of the global batch, by player, and only where they are asked for."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from cnnlab.engine import gradients, train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program, init_state, make_train_step, stack_steps
from cnnlab.runs import run_files
from tests.commands import Here
from tests.toys import chase

CHASE = chase()


def program(strategy: str = "jit", devices: int = 1, *, gradient_norms: bool = True) -> Program:
    placed = STRATEGIES[strategy](pick_devices(devices))
    return build_program(CHASE, placed, precision="f32", gradient_norms=gradient_norms)


def stepped(one: Program, steps: int = 2) -> tuple[Any, dict[str, Any]]:
    """(host parameters, merged statistics) after some steps."""
    state, parts, feeds = one.init(0), [], CHASE.data.train(0, 0)
    for _ in range(steps):
        placed = one.strategy.shard_batch(stack_steps([next(feeds)]))
        state, stats = one.phase_steps[0](state, one.step_inputs("train"), placed)
        parts.append(jax.device_get(stats))
    return one.strategy.to_host(state).params, train.merge(parts)


def test_the_sizes_are_those_of_the_step_that_was_taken():
    step = make_train_step(CHASE, precision="f32", turns=("hunter",), gradient_norms=True)
    resident, feed = CHASE.data.resident["train"], next(CHASE.data.train(0, 0))
    state = init_state(CHASE, jax.numpy.uint32(0), CHASE.data.prepare(resident, feed, None))
    after, stats = jax.jit(step)(state, resident, feed)
    _, numbers = gradients.without_gradients(train.merge([jax.tree.map(lambda leaf: np.asarray(leaf)[None], stats)]))
    scout, before, moved = (np.asarray(leaf) for leaf in (
        state.params["scout"]["at"], state.params["hunter"]["at"], after.params["hunter"]["at"]))  # fmt: skip
    assert numbers == {
        "gradient_norm/hunter": pytest.approx(2 * np.linalg.norm(2 * scout - before), rel=1e-5),
        "update_ratio/hunter": pytest.approx(np.linalg.norm(moved - before) / np.linalg.norm(before), rel=1e-4),
    }


def test_means_are_over_turns_and_the_task_does_not_see_these_sums():
    step, other = {"gradient of a": np.array([[2.0, 6.0, 0.5]]), "loss": np.array([3.0])}, {"gradient of a": [[1.0, 3.0, 0.1]]}
    stats, numbers = gradients.without_gradients(train.merge([{"sums": one, "rows": {}} for one in (step, other)]))
    assert stats == {"sums": {"loss": 3.0}, "rows": {}}
    assert numbers == {"gradient_norm/a": 3.0, "update_ratio/a": pytest.approx(0.2)}
    assert gradients.without_gradients({"sums": {"loss": 1.0}, "rows": {}}) == ({"sums": {"loss": 1.0}, "rows": {}}, {})


@pytest.mark.parametrize("strategy", ["pmap", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_they_are_the_same_on_several_devices_and_change_no_training(strategy: str):
    (plain, bare), (one, merged) = stepped(program(gradient_norms=False)), stepped(program())
    split = stepped(program(strategy, 4))[1]
    assert not any(name.startswith(gradients.PREFIX) for name in bare["sums"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, one)
    numbers, again = (gradients.without_gradients(stats)[1] for stats in (merged, split))
    assert list(numbers) == ["gradient_norm/hunter", "gradient_norm/scout", "update_ratio/hunter", "update_ratio/scout"]
    assert again == pytest.approx(numbers, rel=1e-4)
    assert merged["sums"]["gradient of scout"][0] == 4, "two turns a step"


def test_a_run_logs_them_where_it_is_asked_to(here: Here, tmp_path: pathlib.Path):
    words = ["--experiment=linear_digits", "--steps=4", "--log_every=2 steps", "--devices=1", "--log_level=warning"]
    assert here(*words, "--gradient_norms", "--stop_after=3", "--workdir=run")[0] == 0
    assert here("train", "--workdir=run")[0] == 0, "a run that goes on logs what it logged"
    records = [record for record in run_files.read_metrics(tmp_path / "run") if "train/loss" in record]
    assert [record["step"] for record in records] == [2, 4]
    for record in records:
        assert record["gradient_norm/classifier"] > 0 and record["update_ratio/classifier"] > 0
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["flags"]["gradient_norms"] == "True"


@pytest.mark.slow
def test_batched_runs_log_their_own(here: Here, tmp_path: pathlib.Path):
    words = ["ablate", "--experiment=linear_digits", "--vary=lr:0.1,0.01", "--steps=4", "--seeds=1", "--log_every=2 steps"]
    assert here(*words, "--gradient_norms", "--batch_runs=always", "--workdir=study")[0] == 0
    found = [
        [record["gradient_norm/classifier"] for record in run_files.read_metrics(path.parent) if "train/loss" in record]
        for path in sorted(tmp_path.rglob("metrics.jsonl"))
    ]
    assert [len(norms) for norms in found] == [2, 2] and found[0] != found[1]
