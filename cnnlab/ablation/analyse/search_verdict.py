"""The verdict rules that compare what two searches find: the best of n trials of one with the best of n of the other."""

import dataclasses
import re
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
        chosen = self.chosen(look)
        ours, theirs = ([row.arm for row in analysis.rows if row.arm.startswith(name)] for name in (self.ours, self.theirs))
        size = len(theirs)
        if not size or len(ours) < 2 * size:
            raise UsageError(
                f"the verdict of {self.claim} compares {len(ours)} arms {self.ours!r} with {size} arms {self.theirs!r}.\n"
                "Expected at least twice as many of the first as of the second, such as those of the design grid_and_random."
            )
        if untested := self.untested(analysis, chosen, [*ours, *theirs]):
            return untested
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

    def chosen(self, look: Look | None) -> Analysis:
        """Returns the analysis by which a search chooses; raises UsageError where it is not given."""
        if look is None:
            raise UsageError(f"the verdict of {self.claim} chooses by {self.chosen_by}. Give the analysis of that number too.")
        return look(self.chosen_by)

    def untested(self, analysis: Analysis, chosen: Analysis, arms: Sequence[str]) -> Verdict | None:
        """Returns the verdict `not tested` where runs of these arms failed, are missing, or have no finite number."""
        rows = [row for each in (analysis, chosen) for row in each.rows]
        lost = list(dict.fromkeys(row.arm for row in rows if row.arm in {*arms} and row.unknown))
        if not lost:
            return None
        sentence = (
            f"{self.says}: not tested, since {len(lost)} arms have runs that failed, are missing or have no finite number, "
            f"{lost[0]} among them."
        )
        return Verdict(self.claim, words.NOT_TESTED, None, None, None, 0, sentence, says=self.says)

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


@dataclasses.dataclass(frozen=True)
class BetweenSearches(BestOf):
    """Tests that searches of one kind find better arms than as many of another, each search anew: random ones against grids.

    A search is one observation: the arm that it chooses by one number, such as validation/loss, evaluated by the study's metric
    on a logarithmic scale and averaged over seeds. The grids have offsets of their own, so that the verdict is about grids of
    this size over these distributions, and not about one grid. Searches are paired by number, which is arbitrary: the paired
    t-test, with which the sign flips must agree, then tests independent differences. As `ours` it takes the prefix of the names
    of a pool, in which the first n arms are the first search, the next n the second, …; `theirs` begins the names of the
    grids' arms, before the number of the grid.

    A run that diverged is never chosen where another one is, and worth as little as the worst run of the study.
    """

    def __call__(self, analysis: Analysis, look: Look | None = None) -> Verdict:
        """Returns the verdict; `look` gives the analysis of the same runs by the metric `chosen_by`."""
        chosen = self.chosen(look)
        pool = [row.arm for row in analysis.rows if row.arm.startswith(self.ours)]
        grids: dict[str, list[str]] = {}
        for row in analysis.rows:
            if named := re.match(rf"{re.escape(self.theirs)}(\d+) ", row.arm):
                grids.setdefault(named[1], []).append(row.arm)
        sizes = {len(points) for points in grids.values()}
        if len(grids) < statistics.FEWEST_FLIPS or len(sizes) != 1 or len(pool) != len(grids) * (size := sizes.pop()):
            raise UsageError(
                f"the verdict of {self.claim} compares {len(pool)} arms {self.ours!r} with {len(grids)} grids.\n"
                f"Expected at least {statistics.FEWEST_FLIPS} grids of one size and as many arms of the pool as they have "
                "points, such as those of the design grids_and_random."
            )
        if untested := self.untested(analysis, chosen, [*pool, *(arm for points in grids.values() for arm in points)]):
            return untested
        searches = [pool[size * number : size * (number + 1)] for number in range(len(grids))]
        ours, theirs = ([self._worth(analysis, chosen, arms) for arms in kind] for kind in (searches, grids.values()))
        differences = statistics.paired_differences(ours, theirs)
        interval = statistics.student_interval(differences, words.ALPHA)
        p = statistics.decisive_p(ours, theirs, "t")
        advantage = float(np.mean(differences)) * (1 if analysis.higher_is_better else -1)
        word = words.NOT_SHOWN if p is None or p >= words.ALPHA else words.SUPPORTED if advantage > 0 else words.OPPOSITE
        ratio = float(np.exp(np.mean(differences)))
        bounds = (float(np.exp(interval.low)), float(np.exp(interval.high))) if interval else None
        title = f"the best of {size} “{self.ours.strip()}” arms / the best of {size} “{self.theirs.strip()}” arms"
        span = f" [{bounds[0]:.3g}, {bounds[1]:.3g}]" if bounds else ""
        tested = "no p" if p is None else f"p = {p:.2g}"
        sentence = (
            f"{self.says}: {title} = {ratio:.3g}{span} in {analysis.metric}{summary.sense(analysis.declared)} "
            f"({tested}, {len(grids)} searches of each kind; each best chosen by {self.chosen_by})."
        )
        return Verdict(self.claim, word, ratio, bounds, p, len(grids), sentence, says=self.says, comparison=title, scale="log")

    def _worth(self, analysis: Analysis, chosen: Analysis, arms: Sequence[str]) -> float:
        """Returns the logarithm of what a search finds, the mean over seeds."""
        known, worth = _table(chosen, arms), _table(analysis, arms)
        best = np.argmax(known, axis=1)
        found = np.abs(worth[np.arange(len(best)), best])
        if not np.all(found > 0):
            raise UsageError(
                f"the verdict of {self.claim} compares logarithms, and {analysis.metric} is not above 0 in all runs."
            )
        return float(np.mean(np.log(found)))


def _table(analysis: Analysis, arms: Sequence[str]) -> np.ndarray:
    """Returns f64 [S, arms] of the metric, higher is better; a run without it has the worst value of all runs."""
    sign = 1 if analysis.higher_is_better else -1
    seeds = sorted({seed for row in analysis.rows for seed, _ in row.values})
    worst = min((sign * value for row in analysis.rows for _, value in row.values), default=0.0)
    found = {row.arm: dict(row.values) for row in analysis.rows}
    return np.array([[sign * found[arm][seed] if seed in found[arm] else worst for arm in arms] for seed in seeds], np.float64)
