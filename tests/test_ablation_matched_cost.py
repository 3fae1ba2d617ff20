"""Two families of arms at equal cost: interpolation by hand and by numpy, verdicts, and what cannot be compared."""

import dataclasses

import numpy as np
import pytest

from cnnlab.ablation.analyse import matched_cost, verdicts
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.analyse.words import ABSENT, NOT_SHOWN, NOT_TESTED, OPPOSITE, SUPPORTED
from cnnlab.ablation.plan.declaration import describe_rule
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.tasks.classification_metrics import METRICS

FAMILIES = {"b": ("b1", "b2"), "a": ("a1", "a2", "a3")}
COSTS = {"a1": 1_000, "a2": 4_000, "a3": 16_000, "b1": 2_000, "b2": 32_000}
"""Multiply-accumulates: both families cover 2,000 to 16,000."""


def analysis(values: dict[str, list[float | None]], costs: dict[str, int | None] = COSTS) -> Analysis:
    """Analyses runs of {arm: accuracy of seed 0, 1, …}; None is a run that diverged."""
    arms = tuple(Arm(name, {}, macs=costs[name]) for name in values)
    seeds = tuple(range(len(next(iter(values.values())))))
    declared = {metric.name: metric for metric in METRICS}
    study = Study("toy", "toy", {}, "grid", arms, seeds, {}, metric="test/accuracy", metrics=declared)
    outcomes = [
        RunResult(arm, seed, "DONE" if one is not None else "DIVERGED", "", "", {"test/accuracy": one} if one else {})
        for arm, of_arm in values.items()
        for seed, one in enumerate(of_arm)
    ]
    return analyse(study, outcomes)


def lines(slope_of_b: float, above: float, noise: float = 0.002) -> dict[str, list[float | None]]:
    """Accuracies of five seeds that are linear in the logarithm of the cost: of `b` by so much above `a` at a cost of 1."""
    draws = np.random.default_rng(0).normal(scale=noise, size=(5, 5))
    return {
        arm: [0.1 + above * (arm[0] == "b") + (slope_of_b if arm[0] == "b" else 0.05) * np.log(cost) + one for one in row]
        for (arm, cost), row in zip(COSTS.items(), draws, strict=True)
    }


def test_weights_are_those_of_numpys_interpolation_averaged_over_the_logarithm():
    costs, values = [9.0, 1.0, 4.0, 2.5], [0.7, 0.1, 0.5, 0.2]
    order = np.argsort(costs)
    fine = np.linspace(np.log(2.0), np.log(8.0), 200_001)
    interpolated = np.interp(fine, np.log(costs)[order], np.asarray(values)[order])
    found = matched_cost.interpolation_weights(costs, 2.0, 8.0)
    np.testing.assert_allclose(found @ values, np.trapezoid(interpolated, fine) / (fine[-1] - fine[0]), rtol=1e-8)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(matched_cost.interpolation_weights(costs, 2.0, 2.0) @ values, interpolated[0], rtol=1e-12)
    np.testing.assert_array_equal(matched_cost.interpolation_weights(costs, 4.0, 4.0), [0.0, 0.0, 1.0, 0.0])


def test_by_hand():
    exact = matched_cost.interpolation_weights([1_000, 4_000, 16_000], 2_000, 16_000)
    # In units of log 2 the arms lie at 0, 2, 4 and the range is 1 to 4: areas 1/4, 3/4 + 1 and 1, of 3.
    np.testing.assert_allclose(exact, np.array([0.25, 1.75, 1.0]) / 3, rtol=1e-12)


def test_of_lines_the_difference_is_that_in_the_middle_of_the_logarithms_and_at_a_cost_that_at_it():
    rule = matched_cost.at_matched_cost("C38", FAMILIES, "better", "b is better")
    found = rule(analysis(lines(0.05, 0.03)))
    assert found.verdict == SUPPORTED and found.n == 5 and found.p is not None and found.p < 0.01
    assert found.effect == pytest.approx(0.03, abs=0.002)
    assert found.comparison == "b − a at 2,000 to 16,000 multiply-accumulates"
    middle = 0.03 + 0.02 * np.log(np.sqrt(2_000 * 16_000))
    assert rule(analysis(lines(0.07, 0.03, 0.0001))).effect == pytest.approx(middle, abs=1e-3)
    at = matched_cost.at_matched_cost("C38", FAMILIES, "better", "b is better", at=8_000)
    assert at(analysis(lines(0.07, 0.03, 0.0001))).effect == pytest.approx(0.03 + 0.02 * np.log(8_000), abs=1e-3)


def test_opposite_absent_and_not_shown_are_told_apart():
    def word(above: float, noise: float = 0.002, smallest: float | None = None) -> str:
        rule = matched_cost.at_matched_cost("C38", FAMILIES, "better", "b is better", smallest=smallest)
        return rule(analysis(lines(0.05, above, noise))).verdict

    assert word(-0.03) == OPPOSITE and word(0.0, 0.02) == NOT_SHOWN and word(0.002, smallest=0.02) == ABSENT


def test_two_arms_are_compared_as_contrast_compares_them():
    values = {name: lines(0.05, 0.03)[name] for name in ("a1", "b1")}
    costs: dict[str, int | None] = {"a1": 7, "b1": 7}
    rule = matched_cost.at_matched_cost("C38", {"b": ("b1",), "a": ("a1",)}, "better", "b is better")
    mine = rule(analysis(values, costs))
    other = verdicts.contrast("C38", "b1", "better", "b is better", against="a1")(analysis(values, costs))
    assert (mine.effect, mine.p, mine.interval, mine.verdict) == (other.effect, other.p, other.interval, other.verdict)


def test_where_runs_diverged_nothing_is_shown():
    values = lines(0.05, 0.03)
    values["b2"][3] = None
    found = matched_cost.at_matched_cost("C38", FAMILIES, "better", "b is better")(analysis(values))
    assert found.verdict == NOT_SHOWN and found.n == 4 and "1 of 5 runs of b2 diverged" in found.sentence


@pytest.mark.parametrize(
    ("changed", "at", "message"),
    [
        (
            {"b1": 64_000},
            None,
            "b is better: the families have no cost in common: b 32,000 to 64,000; a 1,000 to 16,000.",
        ),
        ({}, 1_500, "b is better: the families do not all cover 1,500: b 2,000 to 32,000; a 1,000 to 16,000."),
        ({"b1": 32_000}, None, "b is better: two arms of b have the same cost."),
        ({"a2": None}, None, "b is better: the multiply-accumulates of 'a2' are not known."),
    ],
)
def test_costs_that_do_not_fit_test_nothing(changed: dict[str, int | None], at: float | None, message: str):
    rule = matched_cost.at_matched_cost("C38", FAMILIES, "better", "b is better", at=at)
    found = rule(analysis(lines(0.05, 0.03), {**COSTS, **changed}))
    assert found.verdict == NOT_TESTED and found.sentence == message and found.n == 0


def test_other_costs_are_parameters_and_seconds():
    found = analysis(lines(0.05, 0.03))
    rows = tuple(dataclasses.replace(row, seconds=float(row.macs or 0), parameters=row.macs, macs=None) for row in found.rows)
    results = [
        matched_cost.at_matched_cost("C38", FAMILIES, "better", "b is better", cost=cost)(dataclasses.replace(found, rows=rows))
        for cost in ("parameters", "seconds")
    ]
    assert results[0].effect == results[1].effect == pytest.approx(0.03, abs=0.002)


def test_the_declaration_holds_the_families_and_the_cost():
    rule = matched_cost.at_matched_cost("C38", FAMILIES, "better", "b is better", smallest=0.01)
    described = describe_rule(rule)
    assert described["test"] == "at_matched_cost" and described["cost"] == "macs" and described["smallest"] == 0.01
    assert described["families"] == {"b": ["b1", "b2"], "a": ["a1", "a2", "a3"]} and described["expected"] == "better"
