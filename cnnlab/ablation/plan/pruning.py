"""Decides which arms of a study continue: successive halving, and ASHA, its asynchronous form. Pure functions.

A rung is a number of steps at which arms are compared; about the best 1/factor of them continues to the next rung, and the
others stop there, with a checkpoint. Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943, figure 3)
waits until all arms have reached a rung; ASHA (Li et al. 2020, arXiv 1810.05934, algorithm 2) decides among those that have
reached it, so that no worker waits, and promotes some arms that would not be among the best in the end. The score of an arm is
the mean over its seeds of one metric on the validation split. The baseline and negative controls are never pruned.

Which arms go on follows from the folders of the runs alone, so any worker can compute it at any time, also after a restart.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.study import Pruned, Pruning, RunResult, Study
from cnnlab.errors import UsageError

FINISHED = ("DONE", "DIVERGED")
"""States of runs that would end the same way if repeated."""
MOST_RUNGS = 3
"""Most rungs before the last one, where the command line does not give the first."""


@dataclasses.dataclass(frozen=True)
class RungScores:
    """The progress and the scores of a run."""

    state: str
    step: int
    scores: Mapping[int, float | None]
    """{rung: score there}; None where that was not finite."""


def rungs(max_steps: int, min_steps: int, factor: int) -> tuple[int, ...]:
    """Returns the steps after which the better 1/factor goes on: min_steps, min_steps · factor, …, max_steps.

    Deviation: the last rung is max_steps itself, where the papers' is the largest of the series below it, so that what
    is promoted every time has been trained in full whatever the numbers are. A rung that is nearer to the end than a factor of
    sqrt(factor) is left out.
    """
    if factor < 2:
        raise UsageError(
            f"--prune_factor={factor} leaves nothing out.\nExpected a whole number >= 2: one in so many continues."
        )
    if not 1 <= min_steps < max_steps:
        raise UsageError(
            f"the first rung is at step {min_steps:,}, the whole training has {max_steps:,}, so nothing could be pruned.\n"
            "Give an earlier --prune_from, a shorter --eval_every (a rung is an evaluation), or train for longer."
        )
    found = [min_steps]
    while found[-1] * factor * math.sqrt(factor) <= max_steps:
        found.append(found[-1] * factor)
    return (*found, max_steps)


def first_rung(steps: int, evaluate: int, factor: int, arms: int, wanted: int | None = None) -> int:
    """Returns the step of the first rung: `wanted`, rounded up to an evaluation, so that there is a score.

    By default steps / factor^k, where k is as often as `arms` can be divided by the factor, from 1 to MOST_RUNGS.

    Args:
        steps: steps of the whole training.
        evaluate: steps between evaluations.
        factor: one arm in so many continues; `rungs` refuses one below 2.
        arms: number of arms that may be pruned.
        wanted: the step on the command line; None: the default.
    """
    times = next((k for k in range(MOST_RUNGS, 1, -1) if factor**k <= arms), 1)
    return math.ceil((wanted or steps / max(factor, 2) ** times) / evaluate) * evaluate


def promoted(scores: Mapping[str, float], factor: int, higher_is_better: bool, *, at_least: int = 0) -> set[str]:
    """Returns the arms that may go to the next rung: the best 1/factor, rounded down, of those that have reached this one.

    Applied each time a worker is free it is ASHA's rule; applied once, when all have reached the rung, successive halving's.

    Args:
        scores: {arm: its score at this rung}; of equals the first goes on. A score that is not finite (the arm diverged)
            counts as one that has reached the rung, and never goes on.
        factor: one in so many goes on.
        higher_is_better: whether a larger score is better.
        at_least: so many go on, where so many scores are finite.
    """
    finite = {arm: score for arm, score in scores.items() if math.isfinite(score)}
    ranked = sorted(finite, key=lambda arm: -finite[arm] if higher_is_better else finite[arm])
    return set(ranked[: max(len(scores) // factor, at_least)])


def targets(pruning: Pruning, runs: Mapping[str, Sequence[RungScores]]) -> dict[str, int]:
    """Returns {arm: the step to which it is to be trained now}, which is the first rung at least.

    An arm that went on stays so, also where later ones beat it. Once all that can come to a rung have come, the best of them
    goes on even where they are fewer than the factor, so that the study always has an arm that was trained in full.

    Args:
        pruning: the rungs, and the metric that is compared.
        runs: {arm that may be pruned: its runs}, in the order in which equals go on.
    """
    found = dict.fromkeys(runs, pruning.rungs[0])
    here, complete = list(runs), True
    for rung, following in itertools.pairwise(pruning.rungs):
        scores = {arm: score for arm in here if (score := mean_at(runs[arm], rung)) is not None}
        complete = complete and len(scores) == len(here)
        chosen: set[str] = set()
        if complete or pruning.method == "asha":
            chosen = promoted(scores, pruning.factor, pruning.higher_is_better, at_least=int(complete))
        here = [arm for arm in here if arm in chosen or any(run.step > rung for run in runs[arm])]
        found |= dict.fromkeys(here, following)
    return found


def mean_at(runs: Sequence[RungScores], rung: int) -> float | None:
    """Returns an arm's score at a rung: NaN where a run has no finite one, None until all its runs have reached it."""
    scores = [_at(run, rung) for run in runs]
    known = [score for score in scores if score is not None]
    return statistics.fmean(known) if len(known) == len(scores) else None


def _at(run: RungScores, rung: int) -> float | None:
    """Returns a run's score at a rung; NaN where it will have none: it diverged, failed, or was not evaluated there."""
    if rung in run.scores:
        score = run.scores[rung]
        return math.nan if score is None else score
    # A run that is DONE before the rung was stopped early.
    lost = run.state in ("DIVERGED", "FAILED", "DONE") or (run.state == "STOPPED" and run.step >= rung)
    return math.nan if lost else None


def is_due(status: Mapping[str, Any], target: int | None) -> bool:
    """Returns whether a run with this status.json has to be trained (on) to reach its target; None: its end."""
    if target is not None and status.get("state") == "STOPPED":
        return status.get("step", 0) < target
    return status.get("state") not in FINISHED


def prunable_arms(study: Study) -> list[str]:
    """Returns the names of the arms that may be pruned: all but the baseline and the negative controls."""
    return [arm.name for arm in study.arms[1:] if not arm.control]


def scores_in(records: Iterable[Mapping[str, Any]], pruning: Pruning) -> dict[int, float | None]:
    """Returns {rung: score} from the records of metrics.jsonl."""
    return {
        int(record["step"]): record[pruning.metric]
        for record in records
        if pruning.metric in record and record["step"] in pruning.rungs
    }


def expected_share(pruning: Pruning, arms: int) -> float:
    """Returns the share of the steps of so many arms that successive halving takes (ASHA takes some more)."""
    steps, before, left = 0, 0, arms
    for rung in pruning.rungs:
        steps += left * (rung - before)
        before, left = rung, max(1, left // pruning.factor)
    return steps / (arms * pruning.rungs[-1])


def rung_scores(outcome: RunResult, pruning: Pruning) -> RungScores:
    """Returns the scores of a run that was read for a report."""
    step = max((record["step"] for record in outcome.curve), default=0)
    return RungScores(outcome.state, int(step), scores_in(outcome.curve, pruning))


def mark_pruned(study: Study, outcomes: Sequence[RunResult]) -> list[RunResult]:
    """Returns the results, with the state PRUNED for runs that were stopped at a rung and do not continue."""
    if study.pruning is None:
        return list(outcomes)
    runs: dict[str, list[RungScores]] = {name: [] for name in prunable_arms(study)}
    for outcome in outcomes:
        if outcome.arm in runs:
            runs[outcome.arm].append(rung_scores(outcome, study.pruning))
    aims = targets(study.pruning, runs)

    def is_pruned(outcome: RunResult) -> bool:
        step = max((record["step"] for record in outcome.curve), default=0)
        return outcome.arm in aims and outcome.state == "STOPPED" and step >= aims[outcome.arm]

    return [dataclasses.replace(outcome, state="PRUNED") if is_pruned(outcome) else outcome for outcome in outcomes]


def pruned_summary(runs: Sequence[RunResult], pruning: Pruning | None) -> Pruned | None:
    """Returns where the runs of an arm were stopped early; None where none were."""
    there = [rung_scores(run, pruning) for run in runs if run.state == "PRUNED"] if pruning else []
    if not pruning or not there:
        return None
    rung = max((rung for rung in pruning.rungs if rung <= min(run.step for run in there)), default=0)
    score = mean_at(there, rung)
    return Pruned(len(there), rung, pruning.metric, score if score is not None and math.isfinite(score) else None)


def at_first_rung(study: Study, outcomes: Sequence[RunResult]) -> dict[str, float]:
    """Returns {arm: its mean score at the first rung, which all reached}, without controls and arms without a finite score."""
    if study.pruning is None:
        return {}
    rung, controls, found = study.pruning.rungs[0], {arm.name for arm in study.arms if arm.control}, {}
    for arm in dict.fromkeys(outcome.arm for outcome in outcomes if outcome.arm not in controls):
        score = mean_at([rung_scores(outcome, study.pruning) for outcome in outcomes if outcome.arm == arm], rung)
        if score is not None and math.isfinite(score):
            found[arm] = score
    return found
