"""The verdict rule of two families of arms at equal cost: networks of several sizes that no size makes equally expensive.

The metric of a family at a cost between those of its arms is interpolated linearly in the logarithm of the cost, seed by seed.
Over all costs that both families cover, or at one of them, that is a weighted sum of the arms' numbers whose weights depend on
costs alone, so that it is tested as a difference of two arms is.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from cnnlab.ablation.analyse import words
from cnnlab.ablation.analyse.comparison import compare_combination
from cnnlab.ablation.analyse.results import Analysis, ArmSummary
from cnnlab.ablation.analyse.rules import Direction, Hypothesis, Rule, row_of
from cnnlab.ablation.plan.study import Verdict
from cnnlab.errors import UsageError

Cost = Literal["macs", "parameters", "seconds"]
"""Multiply-accumulates of one example's forward pass, trained numbers, or the time of the steps of training."""
NAMES = {"macs": "multiply-accumulates", "parameters": "parameters", "seconds": "seconds of training"}


def at_matched_cost(
    claim: str,
    families: Mapping[str, Sequence[str]],
    expected: Direction,
    says: str,
    *,
    cost: Cost = "macs",
    at: float | None = None,
    smallest: float | None = None,
) -> Rule:
    """Tests that a family of arms is better, or worse, than another at equal cost, by a paired test without a correction.

    Args:
        claim: its id, such as C38.
        families: {name: names of its arms} of the family that the claim is about, then of the one that it is compared with.
        expected: the direction in which the first differs from the second.
        says: the claim in a clause, with which the sentence begins.
        cost: what is made equal.
        at: the cost at which they are compared; None: the mean over all costs that both cover, equal weight to equal ratios.
        smallest: smallest effect of interest, as in `verdicts.contrast`.

    Where a cost is not known, or the families have none in common, the part is not tested.
    """

    def hypothesis(analysis: Analysis) -> Hypothesis:
        upwards = expected in ("better", "higher")
        if expected in ("better", "worse"):
            upwards = upwards == analysis.declared.require_sense(f"the verdict of {claim}")
        return Hypothesis(1 if upwards else -1, smallest=smallest)

    def decide(analysis: Analysis) -> Verdict:
        rows = [[row_of(analysis, arm) for arm in arms] for arms in families.values()]
        try:
            costs = [[_cost(row, cost) for row in of_family] for of_family in rows]
            low, high = shared_range(dict(zip(families, costs, strict=True)), at)
        except UsageError as error:
            return Verdict(claim, words.NOT_TESTED, None, None, None, 0, f"{says}: {error}", comparison=" − ".join(families))
        where = _amount(low) if low == high else f"{_amount(low)} to {_amount(high)}"
        ours, theirs = (interpolation_weights(of_family, low, high) for of_family in costs)
        title = f"{' − '.join(families)} at {where} {NAMES[cost]}"
        weights = [*ours, *(-theirs)]
        return compare_combination(analysis, claim, says, title, [*rows[0], *rows[1]], weights, hypothesis(analysis))

    return Rule(claim, says, decide)


def _cost(row: ArmSummary, cost: Cost) -> float:
    """Returns what an arm costs; raises UsageError where that is not known."""
    found = {"macs": row.macs, "parameters": row.parameters, "seconds": row.seconds}[cost]
    if not found:
        raise UsageError(f"the {NAMES[cost]} of {row.arm!r} are not known.")
    return float(found)


def _amount(cost: float) -> str:
    """Returns a cost of three digits: `1,890,000`, `12.3`."""
    return f"{float(f'{cost:.3g}'):,.0f}" if cost >= 100 else f"{cost:.3g}"


def shared_range(costs: Mapping[str, Sequence[float]], at: float | None) -> tuple[float, float]:
    """Returns the lowest and the highest cost that all families cover; the cost `at` twice, where one is given.

    Args:
        costs: {family: costs of its arms}.
        at: the cost at which they are compared, or None.

    Raises UsageError where there is none, where `at` lies outside, and where two arms of a family have the same cost.
    """
    covered = "; ".join(f"{name} {_amount(min(each))} to {_amount(max(each))}" for name, each in costs.items())
    if again := [name for name, each in costs.items() if len(set(each)) < len(each)]:
        raise UsageError(f"two arms of {again[0]} have the same cost.")
    low, high = max(map(min, costs.values())), min(map(max, costs.values()))
    if low > high or (at is not None and not low <= at <= high):
        wanted = "have no cost in common" if at is None else f"do not all cover {_amount(at)}"
        raise UsageError(f"the families {wanted}: {covered}.")
    return (low, high) if at is None else (at, at)


def interpolation_weights(costs: Sequence[float], low: float, high: float) -> np.ndarray:
    """Returns f64 [arms] w with Σ w y = the mean over log cost in [low, high] of what interpolates y linearly in log cost.

    Args:
        costs: costs of the arms, above 0, all different.
        low: where the range begins, not below the lowest cost.
        high: where it ends, not above the highest; equal to `low` the value there.
    """
    logs, (begin, end) = np.log(np.asarray(costs, np.float64)), np.log([low, high])
    order = np.argsort(logs)
    knots = np.unique([begin, *logs[(begin < logs) & (logs < end)], end])
    # What interpolates the numbers 0, …, 1, …, 0 is the hat of an arm: [arms, knots].
    hats = np.stack([np.interp(knots, logs[order], one[order]) for one in np.eye(len(logs))])
    found: np.ndarray = hats[:, 0] if len(knots) == 1 else np.trapezoid(hats, knots, axis=1) / (end - begin)
    return found
