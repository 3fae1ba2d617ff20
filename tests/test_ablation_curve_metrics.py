"""Metrics that follow from a run's curve."""

import pytest

from cnnlab.ablation.plan.curve_metrics import declaration, steps_to_level, with_curve_metric
from cnnlab.ablation.plan.study import RunResult
from cnnlab.metric import Metric
from cnnlab.tasks.classification_metrics import METRICS

KNOWN = {metric.name: metric for metric in METRICS} | {"distance": Metric("distance")}
CURVE = (
    {"step": 10, "train/accuracy": 0.2, "train/loss": 2.0},
    {"step": 10, "validation/accuracy": 0.9},
    {"step": 20, "train/accuracy": 0.6, "train/loss": None},
    {"step": 30, "train/accuracy": 0.8, "train/loss": 0.5},
    {"step": 40, "train/accuracy": 0.7, "train/loss": 0.4},
)


@pytest.mark.parametrize(
    ("metric", "steps"),
    [
        ("train/steps_to_accuracy_0.75", (27.5, True)),
        ("train/steps_to_accuracy_0.1", (10, True)),
        ("train/steps_to_accuracy_0.99", (40, False)),
        ("train/steps_to_loss_1", (10 + 20 * 2 / 3, True)),
        ("validation/steps_to_accuracy_0.5", (10, True)),
        ("test/steps_to_accuracy_0.5", None),
        ("train/steps_to_distance_1", None),
        ("train/accuracy", None),
    ],
)
def test_steps_to_a_level_are_interpolated_between_log_lines(metric, steps):
    assert steps_to_level(metric, CURVE, KNOWN) == (pytest.approx(steps) if steps else None)


def test_a_metric_of_a_curve_is_declared_in_steps_of_which_fewer_are_better():
    assert declaration("steps_to_accuracy_0.75", KNOWN) == Metric("steps_to_accuracy_0.75", "steps", False, log_scale=True)
    assert declaration("steps_to_accuracy_high", KNOWN) is None and declaration("accuracy", KNOWN) is None


def test_only_a_finished_run_has_a_metric_of_its_curve():
    run = RunResult("a", 0, "DONE", "", "", {"test/accuracy": 0.5}, curve=CURVE)
    reached = with_curve_metric("train/steps_to_accuracy_0.1", run, KNOWN)
    assert reached.metrics["train/steps_to_accuracy_0.1"] == 10 and reached.lower_bounds == ()
    assert with_curve_metric("test/accuracy", run, KNOWN) == run
    diverged = RunResult("a", 0, "DIVERGED", "", "", curve=CURVE)
    assert with_curve_metric("train/steps_to_loss_1", diverged, KNOWN) == diverged


def test_a_level_that_was_not_reached_is_a_lower_bound():
    run = RunResult("a", 0, "DONE", "", "", {"test/accuracy": 0.5}, curve=CURVE)
    found = with_curve_metric("train/steps_to_accuracy_0.99", run, KNOWN)
    assert found.metrics["train/steps_to_accuracy_0.99"] == 40 and found.lower_bounds == ("train/steps_to_accuracy_0.99",)
