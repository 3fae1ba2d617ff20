"""Makes an analysis of what a measurement gave, so that the rules of verdicts read it as that of a study. Imports no jax."""

from collections.abc import Mapping

from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.errors import UsageError, did_you_mean


def analyse_measured(measurement: Measurement, measured: Mapping[int, Measured], metric: str = "") -> Analysis:
    """Returns the analysis of one metric, in which every case is an arm and every seed a run that is done.

    Args:
        measurement: what was measured.
        measured: {seed: its numbers}.
        metric: name of a declared metric; empty: the first.
    """
    declared = {one.name: one for one in measurement.metrics}
    metric = metric or measurement.metrics[0].name
    if metric not in declared:
        raise UsageError(
            f"the verdict of {measurement.claim} compares {metric}, which the measurement does not declare."
            f"{did_you_mean(metric, list(declared))} It declares: {', '.join(declared)}."
        )
    cases = dict.fromkeys(case for one in measured.values() for case in one.numbers[metric])
    study = Study(
        name=measurement.claim,
        experiment="",
        knobs={},
        design="declared",
        arms=tuple(Arm(case, {}) for case in cases),
        seeds=tuple(measured),
        factors={},
        metric=metric,
        metrics={metric: declared[metric]},
    )
    outcomes = [
        RunResult(
            case, seed, "DONE", "", "", {metric: number}, lower_bounds=(metric,) * (case in one.lower_bounds.get(metric, ()))
        )
        for seed, one in measured.items()
        for case, number in one.numbers[metric].items()
    ]
    return analyse(study, outcomes)
