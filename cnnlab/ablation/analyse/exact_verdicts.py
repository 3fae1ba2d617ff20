"""Verdict rules of statements that are true or false, and of how often something succeeds.

An exact statement holds in every run to a tolerance, or is refuted by one; no test is made. A success rate is counted over
seeds, with Clopper and Pearson's interval; two rates are compared by Fisher's exact test.
"""

from collections.abc import Sequence

from cnnlab.ablation.analyse import rates, statistics, summary, words
from cnnlab.ablation.analyse.results import Analysis, ArmSummary
from cnnlab.ablation.analyse.rules import Rule, losses, row_of
from cnnlab.ablation.plan.study import Verdict


def identity(claim: str, arm: str, expected: float | str, tolerance: float, says: str) -> Rule:
    """States that a number of every run equals what is expected: exact where all do, refuted where one does not.

    Args:
        claim: its id, such as C1.
        arm: name of the arm as the study has it.
        expected: a number in units of the metric, or the name of another arm, whose number with the same seed is expected.
        tolerance: largest difference that counts as equal, at least 0, in units of the metric.
        says: the claim in a clause.
    """

    def decide(analysis: Analysis) -> Verdict:
        row, *others = rows = [row_of(analysis, name) for name in (arm, expected) if isinstance(name, str)]
        targets = {seed: expected for seed, _ in row.values} if not isinstance(expected, str) else dict(others[0].values)
        gaps = [abs(value - targets[seed]) for seed, value in row.values if seed in targets]
        amount, unit = summary.amount, summary.unit(analysis.declared)
        target = expected if isinstance(expected, str) else f"{amount(expected, analysis.declared)}{unit}"
        title = f"{arm} − {target}"
        if len(gaps) + row.diverged < row.planned:
            missing = f"{says}: {row.planned - len(gaps) - row.diverged} of {row.planned} runs cannot be compared."
            return Verdict(claim, words.NOT_TESTED, None, None, None, len(gaps), missing + losses(rows), comparison=title)
        holds = not row.diverged and all(gap <= tolerance for gap in gaps)
        largest = max(gaps, default=float("inf"))
        sentence = (
            f"{says}: {arm} is {target} in {analysis.metric} up to {largest:.2g} in {len(gaps)} of {row.planned} runs "
            f"(tolerance {tolerance:.2g})."
        )
        word = words.EXACT if holds else words.REFUTED
        return Verdict(claim, word, largest if gaps else None, None, None, len(gaps), sentence, comparison=title, exact=True)

    return Rule(claim, says, decide)


def at_most(claim: str, arm: str, bound: float | str, says: str) -> Rule:
    """States that a number of every run is at most a bound: exact where all are, refuted where one is not.

    Args:
        claim: its id.
        arm: name of the arm as the study has it.
        bound: a number in units of the metric, or the name of another arm, whose number with the same seed is the bound.
        says: the claim in a clause.
    """
    return Rule(claim, says, lambda analysis: _bounded(analysis, claim, arm, bound, says, -1))


def at_least(claim: str, arm: str, bound: float | str, says: str) -> Rule:
    """States that a number of every run is at least a bound: exact where all are, refuted where one is not.

    Args:
        claim: its id.
        arm: name of the arm as the study has it.
        bound: a number in units of the metric, or the name of another arm, whose number with the same seed is the bound.
        says: the claim in a clause.
    """
    return Rule(claim, says, lambda analysis: _bounded(analysis, claim, arm, bound, says, 1))


def _bounded(analysis: Analysis, claim: str, arm: str, bound: float | str, says: str, sign: int) -> Verdict:
    """Returns the verdict on an inequality; `sign` is 1 where the bound is the smallest number, −1 where it is the largest."""
    row, *others = rows = [row_of(analysis, name) for name in (arm, bound) if isinstance(name, str)]
    bounds = {seed: bound for seed, _ in row.values} if not isinstance(bound, str) else dict(others[0].values)
    beyond = [sign * (value - bounds[seed]) for seed, value in row.values if seed in bounds]
    amount, unit = summary.amount, summary.unit(analysis.declared)
    limit = bound if isinstance(bound, str) else f"{amount(bound, analysis.declared)}{unit}"
    title = f"{arm} {'≥' if sign > 0 else '≤'} {limit}"
    if len(beyond) + row.diverged < row.planned or not beyond:
        missing = f"{says}: {row.planned - len(beyond) - row.diverged} of {row.planned} runs cannot be compared."
        return Verdict(claim, words.NOT_TESTED, None, None, None, len(beyond), missing + losses(rows), comparison=title)
    # A number that is too small may be within its bound, or another within it as a bound, and prove nothing.
    unproven = others[0].lower_bounds if sign > 0 and others else row.lower_bounds * (sign < 0)
    if unproven and min(beyond) >= 0:
        missing = f"{says}: {len(unproven)} of {row.planned} numbers are lower bounds, by which {title} is not known."
        return Verdict(claim, words.NOT_TESTED, None, None, None, len(beyond), missing, comparison=title)
    closest = sign * min(sign * value for seed, value in row.values if seed in bounds)
    holds = not row.diverged and min(beyond) >= 0
    sentence = (
        f"{says}: {title} in {analysis.metric} in {sum(one >= 0 for one in beyond)} of {row.planned} runs; "
        f"the {'smallest' if sign > 0 else 'largest'} is {amount(closest, analysis.declared)}{unit}."
    )
    word = words.EXACT if holds else words.REFUTED
    return Verdict(claim, word, closest, None, None, len(beyond), sentence, comparison=title, exact=True)


def success_rate(claim: str, arm: str, level: float, more_than: float, says: str) -> Rule:
    """Tests that more than a share of the seeds reach a level, by Clopper and Pearson's interval of the rate.

    Args:
        claim: its id.
        arm: name of the arm as the study has it.
        level: number of the metric that is a success, or a better one; a run that diverged is none.
        more_than: share of the seeds in [0, 1] that the claim says is exceeded.
        says: the claim in a clause.
    """

    def decide(analysis: Analysis) -> Verdict:
        row, title = row_of(analysis, arm), f"rate of {arm}"
        if row.unknown:
            return _untested(claim, says, title, [row])
        successes, trials = _successes(claim, analysis, row, level)
        found = rates.clopper_pearson(successes, trials, words.ALPHA)
        word = words.SUPPORTED if found.low > more_than else words.OPPOSITE if found.high < more_than else words.NOT_SHOWN
        reached = f"{summary.amount(level, analysis.declared)}{summary.unit(analysis.declared)} in {analysis.metric}"
        sentence = (
            f"{says}: {successes} of {trials} runs of {arm} reach {reached}, a rate in [{found.low:.2f}, {found.high:.2f}] "
            f"against {more_than:.2g}."
        )
        p = rates.p_of_rate(successes, trials, more_than)
        rate = successes / trials if trials else None
        bounds = (found.low, found.high)
        return Verdict(claim, word, rate, bounds, p, trials, sentence, comparison=title, scale="rate")

    return Rule(claim, says, decide)


def more_often(claim: str, arm: str, against: str, level: float, says: str) -> Rule:
    """Tests that an arm reaches a level in more seeds than another, by Fisher's exact test.

    Args:
        claim: its id.
        arm: name of the arm that the claim says succeeds more often.
        against: name of the other arm.
        level: number of the metric that is a success, or a better one; a run that diverged is none.
        says: the claim in a clause.
    """

    def decide(analysis: Analysis) -> Verdict:
        rows, title = [row_of(analysis, name) for name in (arm, against)], f"{arm} − {against}"
        if any(row.unknown for row in rows):
            return _untested(claim, says, title, rows)
        ours, theirs = (_successes(claim, analysis, row, level) for row in rows)
        p = rates.p_of_fisher(ours, theirs)
        effect = ours[0] / max(ours[1], 1) - theirs[0] / max(theirs[1], 1)
        word = words.NOT_SHOWN if p >= words.ALPHA else words.SUPPORTED if effect > 0 else words.OPPOSITE
        reached = f"{summary.amount(level, analysis.declared)}{summary.unit(analysis.declared)} in {analysis.metric}"
        sentence = (
            f"{says}: {ours[0]} of {ours[1]} runs of {arm} reach {reached}, {theirs[0]} of {theirs[1]} of {against} "
            f"(p = {p:.2g} by Fisher's exact test)."
        )
        return Verdict(claim, word, effect, None, p, ours[1], sentence, comparison=title, scale="rate")

    return Rule(claim, says, decide)


def _untested(claim: str, says: str, title: str, rows: Sequence[ArmSummary]) -> Verdict:
    """Returns the verdict on rates of arms with runs of which it is not known whether they would have succeeded."""
    sentence = f"{says}: {title} is not known.{losses(rows)}"
    return Verdict(claim, words.NOT_TESTED, None, None, None, 0, sentence, comparison=title, scale="rate")


def _successes(claim: str, analysis: Analysis, row: ArmSummary, level: float) -> tuple[int, int]:
    """Returns (runs that reach the level, all runs) of an arm whose runs are all done or diverged."""
    sign = 1 if analysis.declared.require_sense(f"the verdict of {claim}") else -1
    reached = sum(sign * value >= sign * level - statistics.RESOLUTION * abs(level) for _, value in row.values)
    return reached, row.done + row.diverged
