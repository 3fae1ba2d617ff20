"""The types of an analysis, which analysis.py fills and report/ shows. They hold data only."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cnnlab.ablation.plan.study import Pruned, Verdict
from cnnlab.metric import Metric


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval of confidence 1 − alpha: 95 %, unless `analyse` is given another alpha."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Contrast:
    """An arm against the baseline, over the seeds that both finished."""

    n: int
    """Pairs."""
    difference: float
    """Mean of arm − baseline."""
    interval: Interval | None
    """Interval of the difference, by Student's t of the paired differences, not widened for the number of arms; None below two
    pairs and where all pairs differ by the same."""
    bootstrap: Interval | None
    """The same interval by the bootstrap (BCa) over pairs; None below three pairs, and too narrow below about ten."""
    p_t: float | None
    """Paired t-test, two-sided. 1 where all pairs are equal; None below two pairs, and where all pairs differ by the same
    number other than 0: the spread is then 0 and t undefined."""
    p_signs: float | None
    """Exact or sampled sign-flip permutation test of the mean difference, two-sided."""
    p_wilcoxon: float | None
    p_holm: float | None
    """p_t after Holm's correction over all planned arms, those without a p_t among them as if it were 1. Negative controls
    are not among them: None. Where t is undefined since all pairs differ by the same, that of an exact test (p_of_constant)."""
    effect_size: float | None
    """Cohen's d of paired differences: mean / standard deviation; None where that is 0."""
    seeds_needed: int | None
    """Pairs that would decide a difference as large as the smallest effect of interest with power 0.8, if the differences
    spread as observed, at alpha / arms as Holm's first step asks; None where no such effect is declared, where the arm is
    decided, and where a million would not do."""
    mcnemar_p: float | None
    """McNemar's exact test of the first shared seed's two models on the same test examples: the uncertainty from the test set
    alone."""
    verdict: str
    """better or worse in the sense of the metric, or undecided: by p_holm at alpha (a negative control by p_t). Of a metric
    without a sense: differs, or undecided. From six pairs on the sign flips must agree."""
    two_way: Interval | None = None
    """Interval of the difference if the test examples are a sample too (two_way.interval); None where the examples
    are not known one by one."""
    withheld: bool = False
    """Whether the test found a difference among the runs that finished, which is no verdict since others diverged or failed."""
    disagree: bool = False
    """Whether it is undecided since t, after Holm's correction, and the sign flips disagree across alpha."""


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """The numbers of an arm."""

    arm: str
    planned: int
    done: int
    diverged: int
    failed: int
    missing: int
    """Neither done, diverged, failed nor pruned: never begun, running, stopped or pre-empted."""
    values: tuple[tuple[int, float], ...]
    """(seed, metric) of the runs that are done and whose metric is finite."""
    mean: float | None
    sd: float | None
    """Over seeds (n − 1); None below two."""
    interval: Interval | None
    """Interval of the mean, by Student's t; None below two seeds and where all agree."""
    bootstrap: Interval | None
    test_se: float | None
    """Standard error of one run's number that comes from the finite test set, sqrt(p (1 − p) / N), of a proportion such as the
    accuracy; None for other metrics."""
    seconds: float | None
    """Time of the training steps of a run: the median time of a step over its runs, times its steps. Compilation, evaluations
    and checkpoints are not in it; None where no run recorded it."""
    contrast: Contrast | None
    """None for the baseline itself, and where no seed is shared with it."""
    pruned: Pruned | None = None
    """None where no run was stopped early."""
    control: bool = False
    """Whether it is a negative control, which must do worse than the baseline."""
    diverged_seeds: tuple[int, ...] = ()
    """Seeds of the runs that diverged."""
    lower_bounds: tuple[int, ...] = ()
    """Seeds whose number is only a lower bound, since their run did not reach the level that the metric asks for."""
    parameters: int | None = None
    """Trained numbers of the network; None where the study does not know them."""
    macs: int | None = None
    """Multiply-accumulates of one example's forward pass; None where the study does not know them."""
    examples: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """{seed: [N] number of each test example, whose mean is the metric}, such as whether it was classified rightly; {} where
    that is not known."""

    @property
    def not_finite(self) -> int:
        """The runs that are done and whose metric is absent or not finite."""
        return self.done - len(self.values)

    @property
    def lost(self) -> int:
        """The runs that ended without a finite number."""
        return self.diverged + self.failed + self.not_finite

    @property
    def unknown(self) -> int:
        """The planned runs of which nothing is known: they have no finite number, and did not diverge."""
        return self.planned - len(self.values) - self.diverged


@dataclasses.dataclass(frozen=True)
class Effect:
    """A main effect or a two-way interaction in a full factorial."""

    factors: tuple[str, ...]
    """(knob,) or (knob, knob)."""
    levels: tuple[str, ...]
    """The level, or the pair of levels, against the first ones."""
    estimate: float
    """A main effect is the mean over the other factors and over seeds of level − first level, an interaction the
    difference of differences."""
    interval: Interval | None
    p: float | None
    p_holm: float | None
    verdict: str
    """better, worse, differs or undecided by p_holm. As of an arm's contrast the sign flips must agree from six seeds on, and
    runs that finished prove no effect where others, which diverged or failed, could undo it."""


@dataclasses.dataclass(frozen=True)
class Analysis:
    """All numbers of a report."""

    metric: str
    """SPLIT/NAME."""
    declared: Metric
    """The metric's declaration; without unit and sense where it is not known."""
    rows: tuple[ArmSummary, ...]
    """The baseline first, then as planned."""
    effects: tuple[Effect, ...]
    """Empty where the design is no full factorial of two factors or more. Over the seeds that finished every arm."""
    sentence: str
    """The result in one sentence."""
    warnings: tuple[str, ...]
    """Diverged and missing runs, unpaired seeds, few seeds, skewed differences, a control that did not fail."""
    verdict: Verdict | None = None
    """The verdict on the claim that the study tests."""
    smallest_effect: float | None = None
    """Smallest effect of interest, in units of the metric; None: none is declared for it."""
    folds: int | None = None
    """Number of folds of which the seed of a run holds out one, so that runs share training examples; None: no folds."""

    @property
    def higher_is_better(self) -> bool | None:
        """The sense of the metric; None: neither more nor less is better, or it is not known."""
        return self.declared.higher_is_better
