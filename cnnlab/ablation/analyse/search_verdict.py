"""The verdict rule that compares what two searches find: the best of n trials of one with the best of n of the other."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cnnlab.ablation.analyse import best_of_n, statistics, summary, words
from cnnlab.ablation.analyse.results import Analysis, Interval
from cnnlab.ablation.analyse.rules import Look
from cnnlab.ablation.plan.study import Verdict
from cnnlab.errors import UsageError


@dataclasses.dataclass(frozen=True)
class BestOf:
    """Tests that a search finds better arms than another of as many trials: the best of n of ours against the best of their n.

    The best is chosen by one number, such as validation/loss, and evaluated by the study's metric, such as test/loss, seed by
    seed, so that luck in the choice pays neither. Ours are a pool of at least 2 n arms: the effect is over all sets of n of it,
    the interval by the bootstrap of seeds and of trials (best_of_n.resampled_advantage), symmetric about the effect. Their arms
    are fixed: the verdict is about this grid, not about all possible grids.

    A run that diverged is never chosen where another one is, and worth as little as the worst run of the study.

    Attributes:
        claim: its id.
        ours: prefix of the names of the pool's arms, such as `trial `.
        theirs: prefix of the names of the other search's arms.
        chosen_by: the number by which a search chooses its best arm.
        says: the claim in a clause.
    """

    claim: str
    ours: str
    theirs: str
    chosen_by: str
    says: str

    def __call__(self, analysis: Analysis, look: Look | None = None) -> Verdict:
        """Returns the verdict; `look` gives the analysis of the same runs by the metric `chosen_by`."""
        if look is None:
            raise UsageError(f"the verdict of {self.claim} chooses by {self.chosen_by}. Give the analysis of that number too.")
        chosen = look(self.chosen_by)
        ours, theirs = ([row.arm for row in analysis.rows if row.arm.startswith(name)] for name in (self.ours, self.theirs))
        size = len(theirs)
        if not size or len(ours) < 2 * size:
            raise UsageError(
                f"the verdict of {self.claim} compares {len(ours)} arms {self.ours!r} with {size} arms {self.theirs!r}.\n"
                "Expected at least twice as many of the first as of the second, such as those of the design grid_and_random."
            )
        lost = [row.arm for row in analysis.rows if row.arm in {*ours, *theirs} and row.done + row.diverged < row.planned]
        if lost:
            sentence = (
                f"{self.says}: not tested, since {len(lost)} arms have runs that failed or are missing, {lost[0]} among them."
            )
            return Verdict(self.claim, words.NOT_TESTED, None, None, None, 0, sentence, says=self.says)
        for each in (chosen, analysis):
            each.declared.require_sense(f"the verdict of {self.claim}")
        known, worth = _table(chosen, ours), _table(analysis, ours)
        other = best_of_n.expected_best(_table(chosen, theirs), _table(analysis, theirs), size)
        samples = best_of_n.resampled_advantage(known, worth, other, size, statistics.RESAMPLES, np.random.default_rng(0))
        effect = float(np.mean(best_of_n.expected_best(known, worth, size) - other))
        spread = np.abs(samples - np.mean(samples))
        half = float(np.quantile(spread, 1 - words.ALPHA))
        p = float((1 + np.sum(spread >= abs(effect))) / (1 + len(spread)))
        word = words.NOT_SHOWN if abs(effect) <= half else words.SUPPORTED if effect > 0 else words.OPPOSITE
        return self._verdict(analysis, word, effect, half, p, (len(known), known.shape[1], size))

    def _verdict(
        self, analysis: Analysis, word: str, advantage: float, half: float, p: float, sizes: tuple[int, int, int]
    ) -> Verdict:
        """Returns the verdict with its sentence; `sizes` are seeds, trials of the pool, trials of a search."""
        seeds, pool, size = sizes
        declared, sign = analysis.declared, 1 if analysis.higher_is_better else -1
        effect, interval = sign * advantage, Interval(sign * advantage - half, sign * advantage + half)
        title = f"the best of {size} “{self.ours.strip()}” arms − the best of {size} “{self.theirs.strip()}” arms"
        amount = f"{summary.signed(effect, declared)}{summary.span(interval, declared)}{summary.unit(declared)}"
        sentence = (
            f"{self.says}: {title} = {amount} in {analysis.metric}{summary.sense(declared)} (p = {p:.2g} by the bootstrap of "
            f"{pool} trials and {seeds} seeds; each best chosen by {self.chosen_by})."
        )
        bounds = (interval.low, interval.high)
        return Verdict(self.claim, word, effect, bounds, p, seeds, sentence, says=self.says, comparison=title)


def _table(analysis: Analysis, arms: Sequence[str]) -> np.ndarray:
    """Returns f64 [S, arms] of the metric, higher is better; a run without it has the worst value of all runs."""
    sign = 1 if analysis.higher_is_better else -1
    seeds = sorted({seed for row in analysis.rows for seed, _ in row.values})
    worst = min((sign * value for row in analysis.rows for _, value in row.values), default=0.0)
    found = {row.arm: dict(row.values) for row in analysis.rows}
    return np.array([[sign * found[arm][seed] if seed in found[arm] else worst for arm in arms] for seed in seeds], np.float64)
