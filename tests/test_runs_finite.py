"""What is not finite ends a run at the next log, evaluation or save, and the checkpoints before it are kept."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from cnnlab.core import Stats, Task, TrainState
from cnnlab.runs import finite, network_file, recorder, run_files, summaries
from tests.commands import Here

REAL = summaries.summarise
FINE = TrainState(
    step=np.int32(4),
    key=np.zeros(2, np.uint32),
    params={"model": {"conv": {"kernel": np.ones((2, 2), np.float32), "bias": np.zeros(2, np.float32)}}},
    model_state={},
    opt_state={"model": (np.float32(np.inf),)},  # an optimiser may keep an infinite smallest loss
    average={},
)


def test_finite_parameters_pass_whatever_the_optimiser_keeps():
    assert finite.bad_leaves(FINE) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_leaf_that_is_not_finite_is_named(value: float):
    kernel = np.ones((2, 2), np.float32)
    kernel[1, 0] = value
    broken = {"model": {"conv": {**FINE.params["model"]["conv"], "kernel": kernel}}}
    assert finite.bad_leaves(dataclasses.replace(FINE, params=broken)) == ["params/model/conv/kernel"]
    assert finite.bad_leaves(dataclasses.replace(FINE, average=broken)) == ["average/model/conv/kernel"]


def test_the_error_says_what_is_not_finite_where_and_which_checkpoint_is_kept():
    text = str(finite.diverged_leaves(["params/a", "params/b"], 4, 0))
    assert text.startswith("params/a, params/b hold numbers that are not finite at step 4") and "no checkpoint yet" in text
    names = [f"train/{letter}" for letter in "abcd"]
    text = str(finite.diverged_metrics(names, 1500, 1200))
    assert text.startswith(
        "train/a, train/b, train/c and 1 more are not finite at step 1500: training diverged.\nTry a smaller --lr"
    )
    assert text.endswith("the last good checkpoint, of step 1,200, is kept.")


WORDS = [
    *("--experiment=linear_digits", "--steps=8", "--eval_every=4 steps", "--save_every=2 steps", "--log_level=warning"),
    "--workdir=run",
]


def replace_everywhere(monkeypatch: pytest.MonkeyPatch, summarise: Callable[[Task, Stats], dict[str, float]]) -> None:
    """Puts another function in the place of `summarise` in every module that summarises the numbers of a run."""
    for module in (network_file, recorder, summaries):
        monkeypatch.setattr(module, "summarise", summarise)


@pytest.mark.parametrize(
    ("log_every", "kind", "call", "message", "kept"),
    [
        (2, "train", 3, "train/loss is not finite at step 6", 4),
        # Noticed by the save before the next log.
        pytest.param(4, "train", 3, "train/loss is not finite at step 6", 4, marks=pytest.mark.slow),
        (2, "validation", 2, "validation/loss is not finite at step 8", 6),
    ],
)
def test_a_metric_that_is_not_finite_is_exit_4_and_the_run_goes_on_from_the_last_good_checkpoint(
    log_every: int,
    kind: str,
    call: int,
    message: str,
    kept: int,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: pathlib.Path,
):
    words, calls = [*WORDS, f"--log_every={log_every} steps"], []

    def summarise(task: Task, stats: Stats) -> dict[str, float]:
        calls.append("validation" if stats["rows"] else "train")
        is_sick = calls[-1] == kind and calls.count(kind) == call
        return REAL(task, stats) | ({"loss": float("nan")} if is_sick else {})

    with monkeypatch.context() as patched:
        replace_everywhere(patched, summarise)
        code, _, err = here(*words)
    assert code == 4 and message in caplog.text and "Traceback" not in err
    assert f"the last good checkpoint, of step {kept}, is kept" in caplog.text and "NaN or Inf" not in caplog.text
    folder = tmp_path / "run"
    assert run_files.read_status(folder)["state"] == "DIVERGED" and run_files.read_status(folder)["checkpoint"] == kept
    assert sorted(int(path.name) for path in (folder / "checkpoints").iterdir())[-1] == kept
    assert here(*words)[0] == 0, "the same command goes on"
    assert [record["step"] for record in run_files.read_metrics(folder)] == sorted([*range(log_every, 9, log_every), 4, 8])


@pytest.mark.slow
def test_a_metric_that_nobody_watches_may_be_undefined(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def summarise(task: Task, stats: Stats) -> dict[str, float]:
        return REAL(task, stats) | ({"top5": float("nan")} if stats["rows"] else {})

    replace_everywhere(monkeypatch, summarise)
    code, _, err = here(*WORDS)
    assert code == 0, err
    assert (
        caplog.text.count("WARNING: validation/top5 cannot be computed") == 1
        and "WARNING: test/top5, validation/top5 cannot" in caplog.text
    )
