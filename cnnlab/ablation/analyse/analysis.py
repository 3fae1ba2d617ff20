"""Statistics of a study: `analyse` turns the results of its runs into an `Analysis`, which the report shows.

The plan of the analysis is fixed before a number is seen: paired differences to the baseline over the seeds that both
finished, Student's t for the verdict, Holm over all planned arms; from six pairs on the sign flips must agree. The ranks and
the bootstrap are reported too, to show whether t's assumption matters, and an interval over seeds and test examples. Where runs
diverged or failed, those that finished prove no arm better (statistics.withheld). Folds of cross-validation are compared by t
with a corrected variance alone (folds.py). Negative controls are not in that family:
their verdict follows from the plain p.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab.ablation.analyse import folds, rates, statistics, summary, two_way
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Contrast, Effect
from cnnlab.ablation.plan import pruning
from cnnlab.ablation.plan.study import Arm, RunResult, Study, find_declaration
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.metric import Metric, name_of

Values = Mapping[int, float]
"""{seed: metric} of an arm's runs that are done and whose metric is finite, in the study's order of seeds."""


@dataclasses.dataclass(frozen=True)
class Method:
    """How arms are compared with the baseline."""

    higher_is_better: bool | None
    alpha: float
    resamples: int
    smallest: float | None
    """Smallest effect of interest; None: none is declared."""
    overlap: float = 0.0
    """How far runs share training examples (statistics)."""


def analyse(
    study: Study,
    outcomes: Sequence[RunResult],
    *,
    metric: str | None = None,
    alpha: float = 0.05,
    resamples: int = statistics.RESAMPLES,
) -> Analysis:
    """Returns the analysis of the study's arms; whether the runs are comparable is not checked here.

    Args:
        study: the study as planned.
        outcomes: the results of its runs.
        metric: SPLIT/NAME, the study's own by default. Its unit and sense are those of its declaration (find_declaration).
        alpha: level of the verdicts, and 1 − the confidence of the intervals.
        resamples: number of resamples of the bootstrap, and of the sign flips where there are more than these.

    Raises UsageError where no finished run has the metric.
    """
    metric = metric or study.metric
    known = find_declaration(study, outcomes, metric)
    declared = known or Metric(name_of(metric))
    planned = set(itertools.product((arm.name for arm in study.arms), study.seeds))
    cells = {(outcome.arm, outcome.seed): outcome for outcome in outcomes if (outcome.arm, outcome.seed) in planned}
    _require_metric(metric, [outcome for outcome in cells.values() if outcome.state == "DONE"])

    values = {arm.name: _values(study, arm, cells, metric) for arm in study.arms}
    shared = folds.count_of(cells.values())
    smallest = study.smallest_effect if metric == study.metric and shared is None else None
    method = Method(declared.higher_is_better, alpha, resamples, smallest, folds.overlap_of(shared))
    examples = {
        arm: two_way.numbers_of({seed: cells[arm, seed].correct for seed in found}, found, metric)
        for arm, found in values.items()
    }
    alone = [_row(study, arm, cells, values[arm.name], declared, metric, method) for arm in study.arms]
    lost = {row.arm: row.lost for row in alone}
    contrasts = _contrasts(study, cells, values, lost, examples, method)
    rows = tuple(dataclasses.replace(row, contrast=contrasts.get(row.arm), examples=examples[row.arm]) for row in alone)
    effects, complete_seeds = _effects(study, values, lost, method)
    controls = frozenset(arm.name for arm in study.arms[1:] if arm.control)
    warnings = folds.remarks(shared, study.seeds) + summary.pruning(study, cells.values())
    warnings += summary.warnings(study, rows, effects, complete_seeds, metric, declared, alpha)
    warnings += summary.outcome_warnings(study, outcomes, cells)
    warnings += summary.lower_bounds(rows)
    warnings += [] if known else [summary.undeclared(metric)]
    sentence = summary.sentence(rows, controls, metric, declared, smallest)
    return Analysis(metric, declared, rows, effects, sentence, tuple(warnings), smallest_effect=smallest, folds=shared)


def _require_metric(metric: str, done: Sequence[RunResult]) -> None:
    known = sorted({name for outcome in done for name in outcome.metrics})
    if done and metric not in known:
        raise UsageError(
            f"No finished run has the metric {metric}.{did_you_mean(metric, known)} There are: {', '.join(known)}."
        )


def _values(study: Study, arm: Arm, cells: Mapping[tuple[str, int], RunResult], metric: str) -> Values:
    found = {}
    for seed in study.seeds:
        cell = cells.get((arm.name, seed))
        value = cell.metrics.get(metric) if cell and cell.state == "DONE" else None
        if value is not None and math.isfinite(value):
            found[seed] = float(value)
    return found


def _contrasts(
    study: Study,
    cells: Mapping[tuple[str, int], RunResult],
    values: Mapping[str, Values],
    lost: Mapping[str, int],
    examples: Mapping[str, Mapping[int, np.ndarray]],
    method: Method,
) -> dict[str, Contrast]:
    """Returns {arm: contrast} of every arm that shares a seed with the baseline; `lost` as for `_effects`."""
    baseline = values[study.baseline.name]
    shared = {arm.name: [seed for seed in baseline if seed in values[arm.name]] for arm in study.arms[1:]}
    pairs = {name: ([values[name][s] for s in seeds], [baseline[s] for s in seeds]) for name, seeds in shared.items()}
    differences = {name: statistics.paired_differences(*pair) for name, pair in pairs.items()}
    family = [arm.name for arm in study.arms[1:] if not arm.control]
    how: Any = {"higher_is_better": method.higher_is_better, "alpha": method.alpha, "overlap": method.overlap}
    decided = statistics.verdicts([pairs[name] for name in family], **how)
    decisions = dict(zip(family, decided, strict=True))
    for arm in study.arms[1:]:
        if arm.control:
            # A family of its own: the plain p.
            [(p, _, verdict)] = statistics.verdicts([pairs[arm.name]], **how)
            decisions[arm.name] = (p, None, verdict)
    found = {}
    for name, seeds in shared.items():
        if not seeds:
            continue
        contrast = _contrast(differences[name], decisions[name], method, arms=len(family) if name in family else 1)
        word = statistics.withheld(contrast.verdict, lost[name], lost[study.baseline.name])
        table = two_way.paired([examples[name], examples[study.baseline.name]], (1, -1))
        found[name] = dataclasses.replace(
            contrast,
            mcnemar_p=_mcnemar(cells, study.baseline.name, name, seeds[0]),
            verdict=word,
            withheld=word != contrast.verdict,
            two_way=None if table is None or method.overlap else two_way.interval(table, method.alpha),
        )
    return found


def _contrast(
    differences: np.ndarray, decision: tuple[float | None, float | None, str], method: Method, *, arms: int
) -> Contrast:
    """Returns the contrast of an arm in a family of so many, from the test of the runs that finished."""
    p, p_holm, verdict = decision
    alpha, resamples = method.alpha, method.resamples
    # Folds are not independent, as the tests beside t and the bootstrap take them to be.
    p_signs = None if method.overlap else statistics.p_of_sign_flips(differences, resamples)
    corrected, needed, disagree = p if p_holm is None else p_holm, None, False
    if verdict == "undecided" and statistics.varies(differences):
        if method.smallest is not None:
            needed = statistics.seeds_needed(method.smallest / float(np.std(differences, ddof=1)), alpha / arms)
        if statistics.can_flip(differences) and corrected is not None and p is not None and p_signs is not None:
            # Either t has decided and the flips have not, or the flips would decide and t would not, both without a correction.
            disagree = corrected < alpha or p_signs < alpha <= p
    return Contrast(
        n=len(differences),
        difference=float(np.mean(differences)),
        interval=statistics.student_interval(differences, alpha, method.overlap),
        bootstrap=None if method.overlap else statistics.bootstrap_interval(differences, alpha, resamples),
        p_t=p,
        p_signs=p_signs,
        p_wilcoxon=None if method.overlap else statistics.p_of_ranks(differences),
        p_holm=p_holm,
        effect_size=statistics.effect_size(differences),
        seeds_needed=needed,
        mcnemar_p=None,
        verdict=verdict,
        disagree=disagree,
    )


def _mcnemar(cells: Mapping[tuple[str, int], RunResult], baseline: str, arm: str, seed: int) -> float | None:
    ours, theirs = cells[arm, seed].correct, cells[baseline, seed].correct
    return None if ours is None or theirs is None else rates.p_of_mcnemar(ours, theirs)


def _row(
    study: Study,
    arm: Arm,
    cells: Mapping[tuple[str, int], RunResult],
    values: Values,
    declared: Metric,
    metric: str,
    method: Method,
) -> ArmSummary:
    """Returns the numbers of one arm alone, without its contrast to the baseline."""
    runs = [cells[arm.name, seed] for seed in study.seeds if (arm.name, seed) in cells]
    states = [run.state for run in runs]
    numbers = np.asarray(list(values.values()), np.float64)
    numbers = statistics.with_ties(numbers, float(np.max(np.abs(numbers), initial=0)))
    times = [run.step_seconds for run in runs if run.state == "DONE" and run.step_seconds is not None]
    done, diverged, failed = (states.count(state) for state in ("DONE", "DIVERGED", "FAILED"))
    pruned = pruning.pruned_summary(runs, study.pruning)
    return ArmSummary(
        arm=arm.name,
        planned=len(study.seeds),
        done=done,
        diverged=diverged,
        failed=failed,
        missing=len(study.seeds) - done - diverged - failed - (pruned.runs if pruned else 0),
        values=tuple(values.items()),
        mean=float(np.mean(numbers)) if len(numbers) else None,
        sd=statistics.deviation(numbers),
        interval=statistics.mean_interval(numbers, method.alpha, method.overlap, bounds=declared.bounds),
        bootstrap=None if method.overlap else statistics.bootstrap_interval(numbers, method.alpha, method.resamples),
        test_se=_sampling_error(declared, metric, numbers, [run for run in runs if run.seed in values]),
        seconds=float(np.median(times)) * (arm.steps or runs[0].provenance.get("steps", 0)) if times else None,
        contrast=None,
        pruned=pruned,
        control=arm.control,
        parameters=arm.parameters,
        macs=arm.macs,
        diverged_seeds=tuple(run.seed for run in runs if run.state == "DIVERGED"),
        lower_bounds=tuple(run.seed for run in runs if run.seed in values and metric in run.lower_bounds),
    )


def _sampling_error(declared: Metric, metric: str, values: np.ndarray, runs: Sequence[RunResult]) -> float | None:
    """Returns the standard error of one run's proportion, such as the accuracy, from the number of examples of its split."""
    if not runs or not declared.is_proportion:
        return None
    split, share = metric.split("/")[0], float(np.mean(values))
    examples = ((runs[0].provenance.get("data") or {}).get("sizes") or {}).get(split)
    if not examples and split == "test":
        examples = 0 if runs[0].correct is None else len(runs[0].correct)
    return math.sqrt(share * (1 - share) / examples) if examples and 0 <= share <= 1 else None


def _factorial(study: Study) -> tuple[dict[str, tuple[str, ...]], dict[tuple[str, ...], str]] | None:
    """Returns ({factor: levels}, {level of each factor: arm}) if the arms without controls are all combinations, once each."""
    factors = {knob: tuple(levels) for knob, levels in study.factors.items() if len(levels) > 1}
    arms = [arm for arm in study.arms if not arm.control]
    if len(factors) < 2 or any(knob not in arm.knobs for arm in arms for knob in factors):
        return None
    # The combinations of a random search are beyond counting: they are listed only where there are as many arms.
    if math.prod(map(len, factors.values())) != len(arms):
        return None
    named = {tuple(arm.knobs[knob] for knob in factors): arm.name for arm in arms}
    return (factors, named) if set(named) == set(itertools.product(*factors.values())) else None


def _effects(
    study: Study, values: Mapping[str, Values], lost: Mapping[str, int], method: Method
) -> tuple[tuple[Effect, ...], int]:
    """Returns (main effects, then two-way interactions; number of seeds). A seed is a block that is complete or left out.

    `lost` counts the runs of each arm that have no number.
    """
    found = _factorial(study)
    if found is None:
        return (), 0
    factors, arms = found
    seeds = [seed for seed in study.seeds if all(seed in values[arm] for arm in arms.values())]
    if not seeds:
        return (), 0
    sizes = [len(levels) for levels in factors.values()]
    ordered = [[values[arms[key]][seed] for seed in seeds] for key in itertools.product(*factors.values())]
    table = np.asarray(ordered, np.float64).reshape(*sizes, len(seeds))
    changes = [[(axis, level) for level in range(1, size)] for axis, size in enumerate(sizes)]
    named: list[tuple[tuple[int, int], ...]] = [(change,) for several in changes for change in several]
    named += [pair for one, other in itertools.combinations(changes, 2) for pair in itertools.product(one, other)]
    samples = [statistics.factorial_contrast(table, against_first) for against_first in named]
    plain = [statistics.p_of_t(sample, method.overlap) for sample in samples]
    knobs, levels = list(factors), list(factors.values())
    lost_at = {place: lost[arms[key]] for key, place in zip(itertools.product(*levels), np.ndindex(*sizes), strict=True)}
    effects = tuple(
        Effect(
            factors=tuple(knobs[axis] for axis, _ in against_first),
            levels=tuple(levels[axis][level] for axis, level in against_first),
            estimate=float(np.mean(sample)),
            interval=statistics.student_interval(sample, method.alpha, method.overlap),
            p=p,
            p_holm=p_holm,
            verdict=_effect_verdict(against_first, sample, p_holm, lost_at, method),
        )
        for against_first, sample, p, p_holm in zip(named, samples, plain, statistics.holm(plain), strict=True)
    )
    return effects, len(seeds)


def _effect_verdict(
    against_first: Sequence[tuple[int, int]],
    sample: np.ndarray,
    p: float | None,
    lost_at: Mapping[tuple[int, ...], int],
    method: Method,
) -> str:
    """Returns the word for an effect f64 [S] with its corrected p; `lost_at` counts the lost runs by the place of their arm."""
    word = statistics.verdict(float(np.mean(sample)), p, higher_is_better=method.higher_is_better, alpha=method.alpha)
    lost = {1: 0, 0: 0, -1: 0}  # of the arms that the effect adds, leaves out and takes away
    for place, count in lost_at.items():
        lost[math.prod((place[axis] == level) - (place[axis] == 0) for axis, level in against_first)] += count
    return statistics.withheld(statistics.confirmed(word, sample, method.alpha), lost[1], lost[-1])
