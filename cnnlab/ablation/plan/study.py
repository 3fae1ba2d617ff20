"""The types of a study: Arm, Study, RunResult. They hold data only; study.json holds a Study. Imports no jax.

An *arm* is one setting of the knobs, a *run* is an arm with a seed, in a folder of its own that other studies
may share. Seeds are paired: the same seed is the same order of the data in every arm and, where shapes agree, the same
initial weights.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from cnnlab.knobs import merged
from cnnlab.metric import Metric, name_of
from cnnlab.runs.renamed import current_flag

if TYPE_CHECKING:
    import numpy as np

Design = Literal[
    "grid", "zip", "one_factor_at_a_time", "leave_one_out", "add_one_in", "random", "grid_and_random", "grids_and_random"
]
BASELINE = "baseline"
"""Name of the arm that the others are compared with, unless a study names it otherwise."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One setting of the knobs."""

    name: str
    """Names what differs from the baseline, such as `norm=none, activation=tanh`; or `baseline`."""
    knobs: Mapping[str, str]
    """{knob: text} on top of the study's common ones, as on the command line."""
    control: bool = False
    """A negative control: an arm that must fail, so that a leak or a broken metric is seen."""
    parameters: int | None = None
    """Trained numbers of the network; None before the study is planned."""
    macs: int | None = None
    """Multiply-accumulates of one example's forward pass."""
    steps: int | None = None
    """Steps of training."""
    group: int = 0
    """Arms of one group share a compilation."""
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """{path of a knob: value} of the numbers that the compilation of its group takes as arguments."""
    folder: str = ""
    """Folder of its runs, next to the study's own; the run of seed 3 lies in FOLDER/seed_3. Other studies may share it."""


@dataclasses.dataclass(frozen=True)
class Pruning:
    """How arms that do worse are stopped early (see pruning.py)."""

    method: str
    """asha or halving."""
    rungs: tuple[int, ...]
    """Steps at which arms are compared; the last is the end of the training."""
    factor: int
    """About one arm in so many goes on to the next rung."""
    metric: str
    """The metric that is compared there, such as validation/accuracy."""
    higher_is_better: bool


@dataclasses.dataclass(frozen=True)
class Pruned:
    """Where the runs of an arm were stopped early, because others were better."""

    runs: int
    step: int
    """The rung."""
    metric: str
    """The metric that was compared, such as validation/accuracy."""
    score: float | None
    """Its mean over these runs; None where one of them had no finite one."""


@dataclasses.dataclass(frozen=True)
class Study:
    """The arms that are compared and how they are trained. The content of study.json."""

    name: str
    """Name of the study, as in the folder's name."""
    experiment: str
    """The experiment, as given on the command line."""
    knobs: Mapping[str, str]
    """Knobs that all arms share, as given on the command line."""
    design: str
    """One of designs.DESIGNS, or declared."""
    arms: tuple[Arm, ...]
    """The baseline first."""
    seeds: tuple[int, ...]
    factors: Mapping[str, tuple[str, ...]]
    """{knob: its levels, the baseline's first} of what is varied."""
    metric: str = "test/accuracy"
    """The number that is compared, SPLIT/NAME."""
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    """{name: the declaration of a metric} of the tasks of its arms; {} where they are not known."""
    precision: str = "f32"
    flags: tuple[str, ...] = ()
    """Run flags of every run as on the command line, such as `--eval_every=1 epoch`."""
    question: str = ""
    """The question that the study answers, in a sentence."""
    claim: str = ""
    """Id of the claim that the study tests, such as C7."""
    allow: tuple[str, ...] = ()
    """Differences between its runs that belong to its question (comparable.KINDS)."""
    pruning: Pruning | None = None
    """None: every arm is trained to its end."""
    exploratory: str = ""
    """Why the study is no test of the claim that its experiment declares; empty where it is one, or nothing is declared."""
    declaration: str = ""
    """Digest of the declaration that it follows (`Declaration.digest`); empty where there is none."""
    above: str = ""
    """Absolute path of the folder that held the study and its runs when it was planned; empty where that is not recorded."""
    smallest_effect: float | None = None
    """Smallest effect of interest, in units of `metric`; None: none is declared."""

    @property
    def baseline(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    def level(self, arm: Arm, knob: str) -> str:
        """Returns the value of a varied knob in an arm: its own, else the study's, else the baseline's level."""
        levels = self.factors.get(knob, ())
        return str(arm.knobs.get(knob, self.knobs.get(knob, levels[0] if levels else "")))

    @property
    def groups(self) -> tuple[int, ...]:
        """The numbers of its compilations, each once."""
        return tuple(sorted({arm.group for arm in self.arms}))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Study":
        """Returns the study from JSON content that `dataclasses.asdict` made of it."""
        pruning = content.get("pruning")
        content = dict(content)
        # A study that was planned before tasks declared their metrics records only the sense of its own metric.
        higher, name = content.pop("higher_is_better", None), name_of(content["metric"])
        declared = content.get("metrics") or ({name: {"name": name, "higher_is_better": higher}} if higher is not None else {})
        return cls(
            **{
                **content,
                "metrics": metrics_from_json(declared),
                "arms": tuple(Arm(**arm) for arm in content["arms"]),
                "seeds": tuple(content["seeds"]),
                "flags": tuple(map(current_flag, content["flags"])),
                "allow": tuple(content.get("allow", ())),
                "factors": {knob: tuple(levels) for knob, levels in content["factors"].items()},
                "pruning": Pruning(**{**pruning, "rungs": tuple(pruning["rungs"])}) if pruning else None,
            }
        )


def merge_knobs(common: Mapping[str, str], arm: Arm) -> dict[str, str]:
    """Merges the common knobs with the arm's, which override them, written by the last name or the whole path."""
    return merged(common, arm.knobs)


def metrics_from_json(content: Mapping[str, Mapping[str, Any]]) -> dict[str, Metric]:
    """Returns {name: declaration} from JSON content that `dataclasses.asdict` made of the declarations."""
    return {name: Metric(**fields) for name, fields in content.items()}


def find_declaration(study: Study, outcomes: Iterable["RunResult"], metric: str) -> Metric | None:
    """Returns the declaration of a metric: the study's, else the first of a run; None where neither has one.

    Args:
        study: the study as planned or loaded.
        outcomes: its runs; result.json holds what their tasks declare.
        metric: SPLIT/NAME; the declaration is that of the name, whatever the split.
    """
    name = name_of(metric)
    if name in study.metrics:
        return study.metrics[name]
    return next((outcome.declared[name] for outcome in outcomes if name in outcome.declared), None)


@dataclasses.dataclass(frozen=True)
class Figure:
    """What the figure of a claim's card shows.

    With the defaults it has a row for each arm with its interval. With `x` it has lines: in a study over the levels of the knob
    `x`, one for each level of the knob `lines`, or over what its arms cost, macs or parameters; in a measurement those that
    `Measured.curves` holds.
    """

    title: str = ""
    """The title; empty: the claim's sentence, or what the test's first part says where the test covers a part of its claim."""
    x: str = ""
    """The knob of a study, macs or parameters, or the label of a measurement's horizontal axis with its unit."""
    y: str = ""
    """The label of the vertical axis with its unit; empty: the metric's."""
    lines: str = ""
    """The knob of a study of which each level has a line."""
    log_x: bool = False
    log_y: bool = False
    metric: str = ""
    """The metric that is drawn; empty: the one that the study compares, or the measurement's first."""


@dataclasses.dataclass(frozen=True)
class Card:
    """What the card of a claim says beside the verdict of a study or a measurement."""

    published: str = ""
    """The source's number with its setting, in a sentence; empty where the source gives none."""
    would_change: str = ""
    """The result that would change our mind, in a sentence."""
    deviations: str = ""
    """Where the setting differs from the source's, in a sentence or two."""
    scope: str = ""
    """The setting in which the verdict holds, where the rule of the test does not say it."""
    quick: str = ""
    """Flags of a version that takes about a minute, such as `--seeds=2`; empty where the whole takes no longer."""
    figure: Figure = Figure()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Card":
        """Returns the card from JSON content that `dataclasses.asdict` made of it, without words that cards no longer have."""
        known = {field.name: content[field.name] for field in dataclasses.fields(cls) if field.name in content}
        return cls(**{**known, "figure": Figure(**content["figure"])})


@dataclasses.dataclass(frozen=True)
class StudySpec:
    """A study that an experiment's file declares as `study`: `ablate` runs it where the command line varies nothing."""

    question: str
    vary: tuple[str, ...] = ()
    toggle: tuple[str, ...] = ()
    design: Design = "grid"
    seeds: int = 5
    first_seed: int = 0
    metric: str = "test/accuracy"
    controls: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    """Differences between runs that belong to the question, such as steps (comparable.KINDS)."""
    claim: str = ""
    """Id of the claim that it tests."""
    verdict: Callable[[Any], "Verdict"] | None = None
    """Analysis -> verdict."""
    smallest_effect: float | None = None
    """Smallest effect of interest, in units of the metric; None: none is declared. It is the default of every contrast and
    interaction of the verdict that compares plain numbers of this metric, and gives the seeds that an undecided arm needs."""
    inputs: tuple[str, ...] = ()
    """Knobs that the command line fills in, such as the judge of images: the test of the claim is the same with any value."""
    card: Card = Card()
    """What the claim's card says; no part of the declaration."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, or on a part of one. The content of verdict.json."""

    claim: str
    verdict: str
    """One of the words of words.py, such as `supported at small scale`."""
    effect: float | None
    interval: tuple[float, float] | None
    p: float | None
    n: int
    sentence: str
    declaration: str = ""
    """Digest of the declaration that it follows; empty for a study of an older version, which wrote none."""
    says: str = ""
    """The claim in a clause, with which the sentence begins."""
    comparison: str = ""
    """What the effect compares, such as `activation=tanh − baseline`."""
    role: str = "decides"
    """Of a part: decides, shown (never decides), or required (without it the claim is not tested)."""
    scale: str = "plain"
    """plain: the effect is a difference; log: a ratio; logit: an odds ratio; rate: a share of the seeds."""
    exact: bool = False
    """Whether it is decided without a test: true or false."""
    metric: str = ""
    """Name of the number that a part compares, as SPLIT/NAME in a study; empty in a record of an older version."""
    scope: str = ""
    """Of a claim: data, networks and length of training that it was tested on, in a few words."""
    parts: tuple["Verdict", ...] = ()
    """The verdicts on the parts of a claim of several; empty for one part."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Verdict":
        """Returns the verdict from JSON content that `dataclasses.asdict` made of it."""
        interval = content["interval"]
        parts = tuple(cls.from_json(part) for part in content.get("parts", ()))
        return cls(**{**content, "interval": (interval[0], interval[1]) if interval else None, "parts": parts})


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The result of one run of a study, read from the run's folder."""

    arm: str
    seed: int
    state: str
    """DONE, DIVERGED, FAILED, PREEMPTED, STOPPED, PRUNED (stopped by its study), RUNNING, or MISSING (never begun)."""
    folder: str
    command: str
    """The command that trains this run alone."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """{"test/accuracy": …, "test/loss": …, "validation/accuracy": …} of a run that is DONE, and "train/loss" … as last logged;
    else {}."""
    lower_bounds: tuple[str, ...] = ()
    """Names of the metrics whose number is only a lower bound, such as the steps to a level that the run did not reach."""
    declared: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    """{"accuracy": its declaration, …} as in result.json; {} for a run that was made before tasks declared their metrics."""
    curve: tuple[Mapping[str, float], ...] = ()
    """The records of metrics.jsonl: {"step", "epoch", "train/loss", …} and {"step", "epoch", "validation/accuracy", …};
    a number that was not finite is None."""
    wall_seconds: float | None = None
    """Of the whole run: compilation, steps, evaluations and checkpoints."""
    step_seconds: float | None = None
    """Median time of a training step, without compilation; None for a run that was made before it was recorded, or that was
    too short."""
    message: str = ""
    """Why it failed."""
    findings: tuple[str, ...] = ()
    """What its curves show, `KIND: SENTENCE` each, as in result.json."""
    attempts: int = 1
    correct: "np.ndarray | None" = dataclasses.field(default=None, compare=False)
    """bool [N]: whether the test example was classified rightly, in the order of the split; None where this is not known."""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Entries of run.json: `commit`, `uncommitted_changes`, `steps`, `data` {"name", "fingerprint", "sizes"}, `versions`,
    `devices`, `host`, `platform`, `flags`."""
