"""Describes an analysis in words: one sentence with the result, and the warnings."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from cnnlab.ablation.analyse import statistics, words
from cnnlab.ablation.analyse.results import ArmSummary, Contrast, Effect, Interval
from cnnlab.ablation.plan.study import Arm, RunResult, Study, Verdict
from cnnlab.metric import Metric

NAMED_DECIDED = 6
"""Arms that are better or worse and that the sentence spells out; of the others it gives the number."""
NAMED_UNDECIDED = 4
"""Undecided arms that the sentence spells out; of the others it gives the number."""


def amount(value: float, metric: Metric) -> str:
    """Returns a difference as a number: `2.10` (points) of a share of 0.021, `0.0213` of another metric; with a true minus."""
    return (f"{100 * value:.2f}" if metric.is_share else f"{value:.3g}").replace("-", "−")


def signed(value: float, metric: Metric) -> str:
    """Returns a difference as a number with its sign: `+2.10`."""
    shown = amount(value, metric)
    return shown if value < 0 else f"+{shown}"


def unit(metric: Metric) -> str:
    """Returns the unit after a difference: ` points`, ` nats`, or nothing."""
    return f" {metric.difference_unit}" if metric.difference_unit else ""


def sense(metric: Metric) -> str:
    """Returns `, where more is better`; nothing where the metric has no sense."""
    return "" if metric.higher_is_better is None else f", where {'more' if metric.higher_is_better else 'less'} is better"


def undeclared(metric: str) -> str:
    """Returns the warning about a metric that is declared nowhere."""
    return (
        f"The unit of {metric} and whether more of it is better are not known: these runs were made before tasks declared "
        "their metrics. Arms can differ, and none is better or worse."
    )


def span(interval: Interval | None, metric: Metric) -> str:
    """Returns ` [1.40, 2.80]`, or nothing."""
    return f" [{amount(interval.low, metric)}, {amount(interval.high, metric)}]" if interval else ""


def seeds(count: int) -> str:
    """Returns `1 paired seed` or `5 paired seeds`."""
    return f"{count} paired seed{'s' if count > 1 else ''}"


def seeds_that_decide(needed: int | None, count: int, effect: str) -> str:
    """Returns a clause about how many seeds decide an effect that was declared, such as `an effect of 0.50 points`.

    Args:
        needed: the number of seeds; None: too many to run.
        count: the number that there is.
        effect: what they decide.
    """
    if needed is None:
        return f"no feasible number of seeds would decide {effect}"
    if needed <= count:
        return f"{count} seeds are enough to decide {effect} (power 0.8)"
    return f"about {needed:,} seeds would decide {effect} (power 0.8)"


def sentence(
    rows: Sequence[ArmSummary], controls: frozenset[str], metric: str, declared: Metric, smallest: float | None = None
) -> str:
    """Returns the verdict on each arm that is no control: first the decided ones, then the undecided ones."""
    baseline, *others = [row for row in rows if row.arm not in controls]
    if not others:
        return "Nothing to compare: the study has no arm beside its baseline that is not a control."
    if not baseline.values:
        return f"No verdict: {baseline.arm}, which the others are compared with, has no finished run with a finite {metric}."
    decided = [row for row in others if row.contrast and row.contrast.verdict != "undecided"]
    compared = [row for row in others if row.contrast and row not in decided]
    alone = [row.arm for row in others if not row.contrast and not row.pruned]
    pruned = sum(not row.contrast and row.pruned is not None for row in others)
    parts = [_decided(row.arm, row.contrast, baseline.arm, declared) for row in decided[:NAMED_DECIDED] if row.contrast]
    rest = Counter(row.contrast.verdict for row in decided[NAMED_DECIDED:] if row.contrast)
    parts += [_others(word, count) for word, count in rest.items()]
    parts += [
        _survivors(row, baseline) or _undecided(row.arm, row.contrast, baseline.arm, declared, smallest)
        for row in compared[:NAMED_UNDECIDED]
        if row.contrast
    ]
    if more := len(compared[NAMED_UNDECIDED:]):
        parts.append(f"{more} more {'arms are' if more > 1 else 'arm is'} undecided")
    if pruned:
        parts.append(f"{pruned} {'arms were' if pruned > 1 else 'arm was'} pruned")
    if alone:
        named = [*alone[:NAMED_UNDECIDED], *([f"{len(alone) - NAMED_UNDECIDED} more arms"] if alone[NAMED_UNDECIDED:] else [])]
        parts.append(f"{', '.join(named)}: not compared, since no seed is finished both there and in {baseline.arm}")
    return "; ".join(parts) + "."


def _others(word: str, count: int) -> str:
    """Returns `2 more arms are worse` or `1 more arm differs`: decided arms that are not named."""
    if word == "differs":
        return f"{count} more arms differ" if count > 1 else f"{count} more arm differs"
    return f"{count} more {'arms are' if count > 1 else 'arm is'} {word}"


def _decided(arm: str, contrast: Contrast, baseline: str, metric: Metric) -> str:
    interval, size = contrast.interval, contrast.difference
    if contrast.verdict == "differs":
        relation = f"differs from the {_noun(baseline)} by {'+' if size > 0 else ''}{amount(size, metric)}"
    else:
        relation = f"is {contrast.verdict} than the {_noun(baseline)} by {amount(abs(size), metric)}"
        if interval and size < 0:
            interval = Interval(-interval.high, -interval.low)
    tested = f"p = {contrast.p_holm:.2g} after Holm, {seeds(contrast.n)}"
    if contrast.two_way and includes(contrast.two_way, 0.0):
        tested += f"; {sampling_remark(contrast.two_way, metric)}"
    return f"{arm} {relation}{unit(metric)}{span(interval, metric)} ({tested})"


def includes(interval: Interval, value: float) -> bool:
    """Returns whether a value lies in an interval."""
    return interval.low <= value <= interval.high


def sampling_remark(interval: Interval, metric: Metric) -> str:
    """Returns a clause about an interval that includes 0, or the margin, only with the sampling of the test examples."""
    return f"with the test set's sampling{span(interval, metric)}, so that other test examples could show the opposite"


def _survivors(row: ArmSummary, baseline: ArmSummary) -> str:
    """Returns why an arm has no verdict where the test found a difference among the runs that finished; else nothing."""
    if row.contrast is None or not row.contrast.withheld:
        return ""
    lost = [
        f"{one.lost} of {one.planned} runs of {one.arm} diverged or failed{' or have no finite number' * bool(one.not_finite)}"
        for one in (row, baseline)
        if one.lost
    ]
    reason = "a comparison of the survivors alone is not reported as a verdict"
    return f"{row.arm} has no verdict ({'; '.join(lost)}; {reason})" if lost else ""


def _undecided(arm: str, contrast: Contrast, baseline: str, metric: Metric, smallest: float | None) -> str:
    difference = amount(contrast.difference, metric)
    if contrast.n == 1:
        return f"{arm} is undecided ({difference}{unit(metric)} in the one paired seed; one seed cannot decide)"
    if contrast.p_t is None:
        return (
            f"{arm} is undecided (the same {difference}{unit(metric)} in each of {seeds(contrast.n)}, so that t is undefined)"
        )
    if contrast.effect_size is None:
        return f"{arm} is undecided (equal to the {_noun(baseline)} in each of {seeds(contrast.n)})"
    reasons = [f"{difference}{span(contrast.interval, metric)}{unit(metric)}"]
    reasons += [disagreement(contrast)] if contrast.disagree else []
    if smallest is not None:
        effect = f"an effect of {amount(smallest, metric)}{unit(metric)}"
        reasons.append(seeds_that_decide(contrast.seeds_needed, contrast.n, effect))
    return f"{arm} is undecided ({'; '.join(reasons)})"


def disagreement(contrast: Contrast) -> str:
    """Returns `t and sign flips disagree: p = 0.031 and 0.062`: why an arm is undecided."""
    return f"t and sign flips disagree: p = {contrast.p_t:.2g} and {contrast.p_signs:.2g}"


def claim_parts(verdict: Verdict) -> list[str]:
    """Returns the verdict on each part of a claim: `[not shown] …`; the sentence alone for a claim of one part."""
    if verdict.parts:
        roles = {"shown": ", only shown", "required": ", required"}
        said = [f"[{words.in_words(part)}{roles.get(part.role, '')}] {part.sentence}" for part in verdict.parts]
        rest = verdict.sentence.rpartition(verdict.parts[-1].sentence)[2].strip()
        return [*said, *([rest] if rest else [])]
    return [verdict.sentence]


def _noun(baseline: str) -> str:
    return "baseline" if baseline == "baseline" else f"baseline {baseline}"


def warnings(
    study: Study,
    rows: Sequence[ArmSummary],
    effects: Sequence[Effect],
    complete_seeds: int,
    metric: str,
    declared: Metric,
    alpha: float,
) -> list[str]:
    """Returns the warnings about arms, then about the study; outcome_warnings returns those about runs."""
    found = [line for row in rows for line in (*_losses(row, metric), *_pairing(row, rows[0]))]
    found += control_warnings(study, rows, declared, alpha)
    found += _skewed(rows, declared)
    pairs = [row.contrast.n for row in rows if row.contrast]
    if pairs and 2.0 ** (1 - min(pairs)) > alpha:
        found.append(
            f"Few seeds: with {seeds(min(pairs))} the sign-flip test cannot give p below {2.0 ** (1 - min(pairs)):.2g}, so "
            "the verdicts rest on the t-test's assumption that the differences are normally distributed."
        )
    if effects and complete_seeds < len(study.seeds):
        found.append(
            f"Effects are estimated from the {complete_seeds} of {len(study.seeds)} seeds for which every arm has finished."
        )
    return found


def _skewed(rows: Sequence[ArmSummary], metric: Metric) -> Iterable[str]:
    """Yields a warning about each arm whose differences t suits badly, and would suit on a logarithmic scale."""
    baseline = dict(rows[0].values)
    for row in rows[1:] if not metric.is_share else ():
        shared = [(value, baseline[seed]) for seed, value in row.values if seed in baseline]
        # [S, 2] -> [2, S]
        ours, theirs = np.asarray(shared, np.float64).reshape(-1, 2).T
        if how := statistics.skew_that_logarithms_mend(ours, theirs):
            yield (
                f"{row.arm} against {rows[0].arm}: {how}, which t suits badly; their logarithms are free of that: "
                'a part of a claim compares them with scale="log".'
            )


def pruning(study: Study, outcomes: Collection[RunResult]) -> list[str]:
    """Returns how many runs were stopped early and where, the steps that were taken, and the metric of the ranking."""
    if study.pruning is None:
        return []
    lengths = {arm.name: arm.steps or 0 for arm in study.arms}
    taken, rungs = 0, Counter[int]()
    for run in outcomes:
        reached = int(max((record["step"] for record in run.curve), default=0))
        taken += lengths[run.arm] if run.state == "DONE" else reached
        rungs.update([reached] if run.state == "PRUNED" else [])
    done, planned = sum(run.state == "DONE" for run in outcomes), len(lengths) * len(study.seeds)
    share = taken / max(sum(lengths.values()) * len(study.seeds), 1)
    where = ", ".join(f"{count} at step {rung:,}" for rung, count in sorted(rungs.items()))
    return [
        f"Pruned by {study.pruning.method}: {done} of {planned} runs done, {rungs.total()} pruned"
        f"{f' ({where})' if where else ''}, after {share:.0%} of the steps of the full study. Arms were ranked by "
        f"{study.pruning.metric}, which is shown beside the step; the test split was not used. Means are over finished runs."
    ]


def _losses(row: ArmSummary, metric: str) -> Iterable[str]:
    """Yields a warning about runs that are not in the row's numbers."""
    lost = {"diverged": row.diverged, "failed": row.failed, "missing or unfinished": row.missing}
    if any(lost.values()):
        counts = ", ".join(f"{count} {state}" for state, count in lost.items() if count)
        survivors = (
            "; its numbers are those of the remaining runs, so it looks better than it is"
            if row.diverged + row.failed and row.values
            else ""
        )
        yield f"{row.arm}: of {row.planned} runs {counts}{survivors}."
    if row.not_finite:
        left_out = f"{row.not_finite} of {row.done} finished runs left out"
        yield f"{row.arm}: {left_out}, since {metric} is absent or not finite there."


def _pairing(row: ArmSummary, baseline: ArmSummary) -> Iterable[str]:
    """Yields warnings about seeds that are not compared, and about comparisons without a spread."""
    contrast = row.contrast
    if row is not baseline and baseline.values and row.values:
        single = sorted({seed for seed, _ in row.values} ^ {seed for seed, _ in baseline.values})
        if single:
            named = ", ".join(map(str, single))
            yield f"{row.arm}: seeds {named} have no partner; compared over the {contrast.n if contrast else 0} that both have."
    if contrast and contrast.n > 1 and contrast.p_t is None:
        yield (
            f"{row.arm}: differs from {baseline.arm} by the same number in all {seeds(contrast.n)}, so that t is undefined and "
            "an exact test decides instead. Do the seeds change anything?"
        )
    elif contrast and contrast.n > 1 and contrast.effect_size is None:
        yield f"{row.arm}: equals {baseline.arm} in all {seeds(contrast.n)}. Does the knob change anything?"


def control_warnings(study: Study, rows: Sequence[ArmSummary], metric: Metric, alpha: float) -> list[str]:
    """Returns warnings about negative controls that did not fail: the study then shows less than it seems to.

    As in a verdict, runs that diverged are the worst ones, so that a control of which enough diverged has failed.
    """
    controls = [(arm, row) for arm, row in zip(study.arms, rows, strict=True) if arm.control]
    if controls and metric.higher_is_better is None:
        return [f"Controls: {metric.name} cannot show whether they failed, since neither more nor less of it is better."]
    left = [(arm, row) for arm, row in controls if not _is_ranked_worse(row, rows[0], metric, alpha)]
    return [line for arm, row in left for line in _control(arm, row)]


def _is_ranked_worse(row: ArmSummary, baseline: ArmSummary, metric: Metric, alpha: float) -> bool:
    """Returns whether runs of a control diverged and the ranks of all are worse than those of the baseline."""
    worst = -math.inf if metric.higher_is_better else math.inf
    ours, theirs = ([value for _, value in one.values] + [worst] * one.diverged for one in (row, baseline))
    p = statistics.p_of_worst_ranks(ours, theirs) if row.diverged or baseline.diverged else None
    is_lower = statistics.rank_difference(ours, theirs) < 0
    return p is not None and p < alpha and is_lower == metric.higher_is_better


def _control(arm: Arm, row: ArmSummary) -> Iterable[str]:
    """Yields a warning about a negative control that did not fail."""
    if row.contrast is None:
        yield f"Control {arm.name}: no run to compare, so a leak in the metric or the data would go unnoticed."
    elif row.contrast.verdict != "worse":
        seen = {"better": "is better than the baseline"}.get(row.contrast.verdict, "is not clearly worse than the baseline")
        few = f" ({seeds(row.contrast.n)} may be too few to show it)" if row.contrast.n < 3 else ""
        yield f"Control {arm.name} did not fail: it {seen}{few}. The metric or the data may leak."


def lower_bounds(rows: Sequence[ArmSummary]) -> list[str]:
    """Returns a sentence for each arm whose numbers are lower bounds."""
    return [
        f"{len(row.lower_bounds)} of {row.planned} runs of {row.arm} did not reach the level: they count with their last step, "
        "which is too few."
        for row in rows
        if row.lower_bounds
    ]


def outcome_warnings(study: Study, outcomes: Sequence[RunResult], cells: Mapping[tuple[str, int], RunResult]) -> list[str]:
    """Returns warnings about results that are not of the study, and about code that is not recorded."""
    found = []
    if strangers := len(outcomes) - len(cells):
        found.append(f"{strangers} results left out: not among the planned arms and seeds, or there twice.")
    changed = Counter(
        str(outcome.provenance.get("commit"))[:12]
        for outcome in cells.values()
        if outcome.state == "DONE" and outcome.provenance.get("uncommitted_changes")
    )
    for commit, count in changed.items():
        found.append(f"{count} runs were made with uncommitted changes to commit {commit}, so their code is not recorded.")
    return found
