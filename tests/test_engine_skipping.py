"""Steps that are not finite are left out whole, and counted exactly as often as one was injected."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.core import Batch, Experiment, Feed
from cnnlab.engine import skipping
from cnnlab.engine.batched import batch_programs, select_member, stack_members
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program, stack_steps
from cnnlab.engine.skipping import LeftOut
from cnnlab.runs import run_files
from tests.commands import Here
from tests.toys import chase, gap, run, with_bad_steps

BAD = {2: np.nan, 3: np.inf, 4: -np.inf, 7: np.nan}
"""{step: what the images of the last example of its batch are multiplied by}."""


@functools.cache
def guarded(strategy: str = "jit", devices: int = 1, accumulate: int = 1) -> Any:
    """The chase of ten steps with bad ones among them, compiled to leave them out."""
    experiment = with_bad_steps(chase(steps=10), BAD)
    data = dataclasses.replace(experiment.data, accumulate=accumulate)
    experiment = dataclasses.replace(experiment, data=data)
    return build_program(experiment, STRATEGIES[strategy](pick_devices(devices)), precision="f32", skip_nonfinite=True)


@functools.cache
def without_steps(left_out: tuple[int, ...], steps: int) -> Any:
    """The host state of the plain program in f32 after the other steps alone, each at its own number."""
    experiment = with_bad_steps(chase(steps=steps), {})
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state, feeds = program.init(0), experiment.data.train(0, 0)
    for step in range(steps):
        placed = program.strategy.shard_batch(stack_steps([next(feeds)]))
        if step in left_out:
            state = dataclasses.replace(state, step=state.step + 1)
        else:
            state, _ = program.phase_steps[0](state, program.step_inputs("train"), placed)
    return program.strategy.to_host(state)


@pytest.mark.parametrize(
    ("strategy", "devices", "accumulate", "dispatch"),
    [
        ("jit", 1, 1, 1),
        ("pmap", 4, 1, 4),
        pytest.param("fsdp", 4, 1, 1, marks=pytest.mark.slow),
        pytest.param("jit", 4, 2, 8, marks=pytest.mark.slow),
        pytest.param("pmap", 2, 2, 1, marks=pytest.mark.slow),
    ],
)
def test_a_step_that_is_not_finite_is_left_out_whole_and_counted(strategy: str, devices: int, accumulate: int, dispatch: int):
    from cnnlab.engine import train

    program, parts = guarded(strategy, devices, accumulate), []
    state, step = train.fit(
        program,
        program.init(0),
        seed=0,
        step=0,
        stop=10,
        intervals=train.Intervals(log=10, evaluate=10, save=10, steps_per_dispatch=dispatch),
        pending_stats=[],
        on_log=lambda step, stats: parts.extend(stats),
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, stats: None,
        should_stop=lambda: False,
    )
    left_out, kept = LeftOut().after(parts)
    assert (left_out.total, left_out.in_a_row, left_out.longest) == (len(BAD), 0, 3)
    merged = train.merge(kept)["sums"]
    assert skipping.KEY not in merged and np.isfinite(list(merged.values())).all()
    assert merged["hunter_count"] == (10 - len(BAD)) * 16, "the statistics are those of the steps that were taken"
    host = program.strategy.to_host(state)
    assert step == host.step == 10
    if accumulate == 1:  # parts draw their own noise
        assert gap(host, without_steps(tuple(BAD), 10)) < 1e-5


def test_one_of_two_batched_runs_leaves_a_step_out_and_the_other_takes_it():
    program = guarded()
    batched = batch_programs([program, program])
    feeds = [next(with_bad_steps(chase(), bad).data.train(0, 0)) for bad in ({}, {0: np.nan})]
    feed = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *feeds)  # 2 of [B, …] -> [B, 2, …]
    state = stack_members([program.init(0), program.init(0)])
    before = program.strategy.to_host(program.init(0))
    after, stats = batched.phase_steps[0](
        state, batched.step_inputs("train"), batched.strategy.shard_batch(stack_steps([feed]))
    )
    assert np.asarray(stats["sums"][skipping.KEY]).tolist() == [[0.0], [1.0]]
    moved, kept = (batched.strategy.to_host(select_member(after, member)) for member in range(2))
    assert gap(dataclasses.replace(kept, step=before.step), before) == 0.0 and kept.step == moved.step == 1
    assert gap(moved.params, before.params) > 0.01


def test_a_program_that_leaves_nothing_out_has_no_such_statistics():
    _, _, _, saved = run(chase(steps=10))
    assert all(skipping.KEY not in part["sums"] for _, parts in saved.values() for part in parts)


def test_rows_of_steps_are_counted_over_dispatches_logs_and_resumption():
    def part(*flags: int) -> dict[str, Any]:
        return {"sums": {skipping.KEY: np.array(flags, np.float32), "loss": np.arange(float(len(flags)))}, "rows": {}}

    resumed = {"sums": {"loss": np.array([5.0])}, "rows": {}}
    left_out, kept = LeftOut(4, 2).after([resumed, part(1, 0), part(1, 1), part(1)])
    assert left_out == LeftOut(8, 3, 3) and [one["sums"]["loss"].tolist() for one in kept] == [[5.0], [1.0]]
    assert left_out.after([]) == (left_out, [])
    assert LeftOut(8, 3).after([part(1)])[0].longest == 4, "a row goes on where the run was stopped"


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[int, float]], None]:
    """A function that makes the batches of some steps not finite, in every run that follows."""
    from cnnlab.runs import run as runs

    real = runs.call

    def inject(bad: Mapping[int, float]) -> None:
        def call(resolved: Any) -> Experiment:
            experiment: Experiment = real(resolved)
            data = experiment.data

            def train(seed: int, step: int) -> Iterator[Feed]:
                for number, feed in enumerate(data.train(seed, step), step):
                    yield {**feed, "factor": np.full(data.batch_size, bad.get(number, 1.0), np.float32)}

            def prepare(inputs: Any, resident: Any, feed: Mapping[str, jax.Array], key: jax.Array | None) -> Batch:
                rest = {name: value for name, value in feed.items() if name != "factor"}
                batch = data.preparation(inputs, resident, rest, key)
                factor = jnp.reshape(feed.get("factor", jnp.float32(1)), (-1, 1, 1, 1))  # [B] or [] -> [B or 1, 1, 1, 1]
                return {**batch, "image": batch["image"] * factor}

            return dataclasses.replace(experiment, data=dataclasses.replace(data, train=train, preparation=prepare))

        monkeypatch.setattr(runs, "call", call)

    return inject


WORDS = ["--experiment=linear_digits", "--steps=12", "--log_every=2 steps", "--eval_every=4 steps", "--devices=1"]
WORDS += ["--log_level=warning", "--gradient_norms"]


def test_the_count_is_logged_kept_and_said_and_a_resumed_run_has_the_same(
    injected: Callable[[Mapping[int, float]], None], here: Here, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    injected({2: np.nan, 3: np.inf, 4: np.nan, 9: np.nan})  # steps 2 and 3 are all of a log
    code, out, err = here(*WORDS, "--skip_nonfinite=3", "--workdir=whole")
    assert code == 0, err
    assert (run_files.read(tmp_path / "whole", "result.json") or {})["curves"] == [], "six records decide nothing"
    assert "12 steps in" in out and "4 steps of them left out, whose loss or gradients were not finite" in out
    assert "step 4: 2 steps left out, not finite; 2 in all" in caplog.text
    assert (run_files.read(tmp_path / "whole", "result.json") or {})["skipped_steps"] == 4
    records = {record["step"]: record for record in run_files.read_metrics(tmp_path / "whole") if "skipped_steps" in record}
    assert [record["skipped_steps"] for record in records.values()] == [0, 2, 3, 3, 4, 4]
    assert "train/loss" not in records[4] and records[6]["train/loss"] > 0 and records[6]["gradient_norm/classifier"] > 0
    assert here(*WORDS, "--skip_nonfinite=3", "--workdir=parts", "--stop_after=3")[0] == 0
    assert here("train", "--workdir=parts", "--devices=1", "--log_level=warning")[0] == 0, (
        "a run that goes on leaves out what it left out"
    )
    one, other = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts"))
    assert one == other
    digests = [(run_files.read(tmp_path / name, "result.json") or {})["state_digest"] for name in ("whole", "parts")]
    assert digests[0] == digests[1]


def test_more_in_a_row_than_may_be_end_the_run_as_diverged(
    injected: Callable[[Mapping[int, float]], None], here: Here, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    injected({5: np.nan, 6: np.nan, 7: np.nan})
    code, _, _ = here(*WORDS, "--skip_nonfinite=2", "--workdir=run", "--save_every=2 steps")
    assert code == 4
    assert "of 3 steps in a row are not finite, and --skip_nonfinite=2 allows 2, at step 8: training diverged" in caplog.text
    status = run_files.read_status(tmp_path / "run")
    assert status["state"] == "DIVERGED" and status["checkpoint"] == 6
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["flags"]["skip_nonfinite"] == "2"
