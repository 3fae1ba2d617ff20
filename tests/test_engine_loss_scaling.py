"""Loss scaling in float16: its arithmetic, what an overflow changes, and that a resumed run has the same scale."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.core import TrainState
from cnnlab.engine import loss_scaling, train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.engine.skipping import LeftOut
from cnnlab.runs import run_files
from tests.commands import Here
from tests.test_engine_skipping import injected, with_bad_steps, without_steps
from tests.toys import chase, gap, run

__all__ = ["injected"]

OVERFLOW = 2.0**15
"""Factor by which an image of size 3 leaves the range of float16, and not that of f32."""


def test_the_scale_doubles_after_a_period_halves_at_an_overflow_and_stays_in_its_bounds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loss_scaling, "PERIOD", 3)
    state = TrainState(jnp.int32(0), jnp.uint32(0), {}, {}, {}, {}, {}, loss_scaling.initial("f16"))
    assert loss_scaling.initial("bf16") == loss_scaling.initial("f32") == {}, "only float16 lacks the range"
    scales = []
    for is_finite in (1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1):
        state = loss_scaling.adjusted(state, jnp.bool_(is_finite))
        scales.append(float(state.loss_scale["scale"]) / loss_scaling.INITIAL)
    assert scales == [1, 1, 2, 2, 2, 1, 1, 1, 0.5, 0.25, 0.25, 0.25, 0.5]
    for is_finite, bound in ((False, loss_scaling.SMALLEST), (True, loss_scaling.LARGEST)):
        for _ in range(80):
            state = loss_scaling.adjusted(state, jnp.bool_(is_finite))
        assert float(state.loss_scale["scale"]) == bound


def test_without_an_overflow_the_scale_changes_no_bit_and_training_is_that_in_f32_up_to_rounding(
    monkeypatch: pytest.MonkeyPatch,
):
    states, logged = [], []
    for scale in (1.0, 2.0**8):
        monkeypatch.setattr(loss_scaling, "INITIAL", scale)
        state, _, curve, saved = run(chase(steps=20), precision="f16")
        assert float(state.loss_scale["scale"]) == scale and int(state.loss_scale["good_steps"]) == 20
        assert LeftOut().after([part for _, parts in saved.values() for part in parts])[0].total == 0
        states.append(dataclasses.replace(state, loss_scale={}))
        logged.append(curve)
    assert gap(*states) == 0.0 and logged[0] == logged[1]
    plain, *_ = run(chase(steps=20))
    assert plain.loss_scale == {}
    np.testing.assert_allclose(states[0].params["scout"]["at"], plain.params["scout"]["at"], atol=0.01)
    np.testing.assert_allclose(states[0].params["hunter"]["at"], plain.params["hunter"]["at"], atol=0.02)


def trained(strategy: str, devices: int, accumulate: int, bad: Mapping[int, float]) -> tuple[TrainState, LeftOut, Any]:
    """(host state, steps left out, merged sums of the others) of eight steps in float16, some of which overflow."""
    experiment = with_bad_steps(chase(steps=8), bad)
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, accumulate=accumulate))
    program, parts = build_program(experiment, STRATEGIES[strategy](pick_devices(devices)), precision="f16"), []
    state, _ = train.fit(
        program,
        program.init(0),
        seed=0,
        step=0,
        stop=8,
        intervals=train.Intervals(log=8, evaluate=8, save=8, steps_per_dispatch=4),
        pending_stats=[],
        on_log=lambda step, stats: parts.extend(stats),
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, stats: None,
        should_stop=lambda: False,
    )
    left_out, kept = LeftOut().after(parts)
    return program.strategy.to_host(state), left_out, train.merge(kept)["sums"]


@pytest.mark.parametrize(
    ("strategy", "devices", "accumulate"),
    [
        ("pmap", 4, 1),
        pytest.param("jit", 1, 1, marks=pytest.mark.slow),
        pytest.param("fsdp", 4, 2, marks=pytest.mark.slow),
        pytest.param("pmap", 2, 2, marks=pytest.mark.slow),
    ],
)
def test_a_planted_overflow_leaves_its_step_out_and_halves_the_scale(
    strategy: str, devices: int, accumulate: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loss_scaling, "INITIAL", 2.0**8)
    state, left_out, sums = trained(strategy, devices, accumulate, {2: OVERFLOW, 6: OVERFLOW})
    assert left_out == LeftOut(total=2, in_a_row=0, longest=1, scale=2.0**6)
    assert float(state.loss_scale["scale"]) == 2.0**6 and int(state.loss_scale["good_steps"]) == 1
    assert loss_scaling.KEY not in sums and sums["hunter_count"] == 6 * 16
    assert all(np.isfinite(leaf).all() for leaf in (state.params["scout"]["at"], state.params["hunter"]["at"]))
    # Up to rounding; with the two steps the parameters would lie 0.2 away.
    assert gap(state.params, without_steps((2, 6), 8).params) < 0.02, "it is where f32 is without these steps"


WORDS = ["--experiment=linear_digits", "--devices=1", "--precision=f16", "--log_level=warning"]


def test_a_resumed_run_has_the_scale_of_an_uninterrupted_one_and_it_is_logged_and_said(
    injected: Callable[[Mapping[int, float]], None], here: Here, tmp_path: pathlib.Path
):
    injected({2: 2.0**20, 5: 2.0**20})
    words = [*WORDS, "--steps=8", "--log_every=2 steps", "--eval_every=4 steps"]
    code, out, err = here(*words, "--workdir=whole")
    assert code == 0, err
    assert "2 steps of them left out, whose loss or gradients were not finite, loss scale 16,384 at the end" in out
    assert here(*words, "--workdir=parts", "--stop_after=3")[0] == 0
    assert here("train", "--workdir=parts", "--devices=1", "--log_level=warning")[0] == 0
    one, other = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts"))
    assert one == other
    records = [record for record in run_files.read_metrics(tmp_path / "whole") if "loss_scale" in record]
    assert [record["loss_scale"] for record in records] == [2.0**16, 2.0**15, 2.0**15, 2.0**14]
    whole, parts = (run_files.read(tmp_path / name, "result.json") or {} for name in ("whole", "parts"))
    assert whole["state_digest"] == parts["state_digest"] and whole["loss_scale"] == parts["loss_scale"] == 2.0**14


@pytest.mark.slow
def test_a_scale_that_collapses_is_said_and_ends_the_run(
    injected: Callable[[Mapping[int, float]], None], here: Here, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    injected(dict.fromkeys(range(1, 40), np.nan))
    assert here(*WORDS, "--steps=40", "--workdir=run", "--log_every=20 steps", "--eval_every=40 steps")[0] == 4
    assert "the loss scale fell to 1: activations or gradients overflow float16" in caplog.text
    assert "of 39 steps in a row are not finite in float16, even with a loss scale of 1, at step 40" in caplog.text
