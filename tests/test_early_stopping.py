"""Early stopping: when it ends training, what is reported, and that a resumed run equals an uninterrupted one."""

import json
import pathlib

import pytest

from cnnlab.runs.early_stopping import EarlyStopping, reported_step


def after(values: list[float], *, patience: int = 2, higher_is_better: bool = True) -> EarlyStopping:
    early = EarlyStopping(patience, "accuracy", higher_is_better)
    for number, value in enumerate(values, start=1):
        early = early.after(10 * number, {"accuracy": value})
    return early


@pytest.mark.parametrize(
    ("values", "higher_is_better", "best_step", "waited", "is_over"),
    [
        ([0.5], True, 10, 0, False),
        ([0.5, 0.6, 0.7], True, 30, 0, False),
        ([0.5, 0.7, 0.6], True, 20, 1, False),
        ([0.5, 0.7, 0.7, 0.7], True, 20, 2, True),  # a tie is no improvement
        ([0.5, 0.4, 0.7, 0.6], True, 30, 1, False),  # an improvement starts the count anew
        ([0.5, 0.7, 0.6], False, 10, 2, True),
        ([0.0, -1.0, -1.0], True, 10, 2, True),
    ],
)
def test_training_ends_after_validations_without_an_improvement(
    values: list[float], higher_is_better: bool, best_step: int, waited: int, is_over: bool
):
    early = after(values, higher_is_better=higher_is_better)
    assert (early.best_step, early.step, early.waited, early.is_over) == (best_step, 10 * len(values), waited, is_over)


def test_the_notes_of_a_checkpoint_bring_it_back():
    early = after([0.5, 0.7, 0.6])
    notes = json.loads(json.dumps({"early_stopping": early.notes()}))
    assert EarlyStopping(2, "accuracy", True, **notes["early_stopping"]) == early and reported_step(notes) == 20
    assert reported_step(None) is reported_step({}) is reported_step({"early_stopping": after([]).notes()}) is None


def test_the_remark_says_which_weights_are_reported():
    assert after([0.5, 0.7, 0.6, 0.6]).remark() == (
        "early stopping: reported are the weights of step 20, of the best validation accuracy (0.7) "
        "and no better one in the 2 validations after it; training ended early, at step 40."
    )
    assert "ended early" not in after([0.5, 0.7]).remark() and after([]).remark() == ""


COMMAND = ["--experiment=mlp_digits", "--widths=8", "--steps=40", "--eval_every=4 steps", "--save_every=3 steps"]


@pytest.mark.slow
def test_a_run_that_does_not_improve_ends_early_with_its_best_weights_and_is_the_same_when_resumed(
    here, tmp_path: pathlib.Path
):
    # A rate that moves nothing: the first validation stays the best.
    still = [*COMMAND, "--early_stopping=2", "--lr=1e-9"]
    code, out, err = here(*still, "--workdir=whole")
    assert code == 0 and "early stopping: reported are the weights of step 4" in out, err
    assert here(*still, "--workdir=parts", "--stop_after=9")[0] == 0 and here(*still, "--workdir=parts")[0] == 0
    whole, parts = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts"))
    assert (whole["steps"], whole["reported_step"]) == (12, 4)
    for name in ("metrics", "remark", "steps", "reported_step", "params_digest", "state_digest"):
        assert whole[name] == parts[name]
    assert json.loads((tmp_path / "whole" / "status.json").read_text())["state"] == "DONE"
    code, out, _ = here("evaluate", "--workdir=whole")
    assert code == 0 and "step 4\n" in out and f"{whole['metrics']['test/accuracy']:.6g}" in out


def test_early_stopping_needs_a_validation_split(here):
    code, _, err = here(*COMMAND, "--early_stopping=2", "--validation=0")
    assert code == 2 and "no validation split" in err and "--validation=0.1" in err
