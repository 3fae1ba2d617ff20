"""Reads the design of a study from the command line: what to vary, and by which design. Imports no jax."""

import dataclasses
from collections.abc import Mapping

from cnnlab.ablation.plan import designs
from cnnlab.ablation.plan.levels import Levels, parse_vary
from cnnlab.ablation.plan.study import Arm, Design, StudySpec
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved, matching
from cnnlab.values import Count, Entries

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
        elif self.design == "grid_and_random":
            arms = designs.grid_and_random(factors, seed, _own_levels(common, factors))
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
