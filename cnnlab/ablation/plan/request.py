"""What the command line asks of a study: what to vary, what to compare, which arms to stop early. Imports no jax."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Annotated, Literal

from cnnlab import own as own_files
from cnnlab.ablation.plan import designs
from cnnlab.ablation.plan.levels import Levels, parse_vary
from cnnlab.ablation.plan.study import Arm, Design, StudySpec
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved, matching
from cnnlab.values import Count, Duration, Entries, Range, Seed

CONTROLS = ("shuffle_labels", "shuffle_pixels", "random_parameters")
"""Values of the knob `control` of a recipe; each makes an arm that is expected to fail."""


@dataclasses.dataclass(frozen=True)
class DesignRequest:
    """What to vary, and by which design.

    Attributes:
        vary: KNOB:LEVEL,LEVEL with the baseline's level first, or KNOB:log(LOW,HIGH), uniform, integer, choice.
        design: how levels combine to arms; grid: every combination.
        toggle: knobs that leave_one_out switches off and add_one_in switches on, each KNOB or KNOB:OFF_VALUE.
        trials: number of arms in the random design.
        controls: negative controls, arms that are expected to fail: shuffle_labels, shuffle_pixels, random_parameters.
    """

    vary: Entries = ()
    design: Design = "grid"
    toggle: tuple[str, ...] = ()
    trials: Count = 20
    controls: tuple[str, ...] = ()

    def arms(self, common: Resolved, seed: int) -> tuple[Arm, ...]:
        """Returns the arms: baseline first, negative controls last."""
        factors = parse_vary(self.vary)
        if self.design in ("leave_one_out", "add_one_in"):
            if factors:
                raise UsageError(f"--design={self.design} switches the knobs of --toggle; --vary is for other designs.")
            arms = designs.DESIGNS[self.design](self.toggle, common)
        elif self.toggle:
            raise UsageError(f"--toggle is for the designs leave_one_out and add_one_in, not {self.design}. Give --vary.")
        elif self.design == "random":
            arms = designs.random(factors, self.trials, seed, _own_levels(common, factors))
        elif self.design in ("grid_and_random", "grids_and_random"):
            arms = designs.DESIGNS[self.design](factors, seed, _own_levels(common, factors))
        else:
            arms = designs.DESIGNS[self.design](factors)
        return (*arms, *self._negative(arms[0], common))

    def _negative(self, baseline: Arm, common: Resolved) -> list[Arm]:
        """Returns an arm for each of the controls."""
        wrong = [control for control in self.controls if control not in CONTROLS]
        if wrong:
            raise UsageError(f"--controls={wrong[0]}: unknown. It takes some of: {', '.join(CONTROLS)}.")
        if self.controls and "control" not in common.knobs:
            raise UsageError("--controls: this experiment has no knob `control`, so no arm that must fail can be made of it.")
        return [Arm(f"control: {name}", {**baseline.knobs, "control": name}, control=True) for name in self.controls]


@dataclasses.dataclass(frozen=True)
class PruningRequest:
    """Early stopping of worse arms.

    Attributes:
        prune: rule by which worse arms stop early, ranked by the validation metric at certain steps, the rungs.
        prune_from: steps or epochs before the first rung; none: chosen for up to three rungs before the end.
        prune_factor: about one arm in so many continues to the next rung, which has so many times the steps.
    """

    prune: Literal["none", "asha", "halving"] = "none"
    prune_from: Duration | None = None
    prune_factor: Annotated[int, Range(2)] = 3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared, and over which seeds.

    Attributes:
        seed: the first seed of every arm; none: that of the experiment's own study, or 0.
        seeds: number of seeds per arm; none: those of the experiment's own study, or 5.
        metric: the compared metric, SPLIT/NAME; none: the task's primary metric on the test split.
        exploratory: give no verdict on the claim that the experiment declares; its code may then have uncommitted changes.
    """

    seed: Seed | None = None
    seeds: Count | None = None
    metric: str | None = None
    exploratory: bool = False


def _own_levels(common: Resolved, factors: Mapping[str, Levels]) -> dict[str, str]:
    """Returns the experiment's own values of the factors."""
    own = {}
    for name in factors:
        knobs = [common.knobs[path] for path in matching(name, common.knobs)]
        if len(knobs) != 1:
            raise UsageError(f"--vary={name}: {'no such knob' if not knobs else 'several knobs have this name'}.")
        own[name] = designs.level_of(knobs[0])
    return own


def requested_design(request: DesignRequest, study: StudySpec | None) -> DesignRequest:
    """Returns the design of the command line, or the one that the experiment declares where the command line varies nothing."""
    if request.vary or request.toggle:
        return request
    if study is None:
        raise UsageError(
            "ablate what? Give --vary=KNOB:LEVEL,LEVEL (several times), or --design=leave_one_out --toggle=KNOB,KNOB.\n"
            "This experiment declares no study of its own."
        )
    return dataclasses.replace(
        request, vary=study.vary, toggle=study.toggle, design=study.design, controls=request.controls or study.controls
    )


def canonical_arms(request: DesignRequest, common: Resolved, seed: int, folder: pathlib.Path | None) -> tuple[Arm, ...]:
    """Returns the arms of a request. Their names keep the paths as they were written; their knobs take absolute ones.

    Args:
        request: the design.
        common: the experiment with the knobs that all arms share.
        seed: the first seed of every arm, by which random designs draw.
        folder: folder from which relative paths count; None: the working folder.
    """
    return tuple(
        dataclasses.replace(arm, knobs={name: own_files.canonical(level, folder) for name, level in arm.knobs.items()})
        for arm in request.arms(common, seed)
    )
