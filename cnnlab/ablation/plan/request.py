"""What the command line asks of a study: what to vary, and by which design. Imports no jax."""

import dataclasses
from collections.abc import Mapping

from cnnlab.ablation.plan import designs
from cnnlab.ablation.plan.levels import Levels, parse_vary
from cnnlab.ablation.plan.study import Arm, Design, StudySpec
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved
from cnnlab.values import Count, Entries

CONTROLS = ("shuffle_labels", "shuffle_pixels", "random_parameters")
"""Values of the knob `control` of a recipe, each of which makes an arm that must fail."""


@dataclasses.dataclass(frozen=True)
class DesignRequest:
    """What to vary, and which arms there are.

    Attributes:
        vary: KNOB:LEVEL,LEVEL with the baseline's level first, or KNOB:log(LOW,HIGH), uniform, integer, choice.
        design: which arms there are; grid: every combination of the levels.
        toggle: knobs that leave_one_out and add_one_in switch off and on, each KNOB or KNOB:OFF_VALUE.
        trials: arms of the random design.
        controls: arms that must fail: shuffle_labels, shuffle_pixels, random_parameters.
    """

    vary: Entries = ()
    design: Design = "grid"
    toggle: tuple[str, ...] = ()
    trials: Count = 20
    controls: tuple[str, ...] = ()

    def arms(self, common: Resolved, seed: int) -> tuple[Arm, ...]:
        """Baseline first, negative controls last."""
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
        """An arm for each of the controls."""
        wrong = [control for control in self.controls if control not in CONTROLS]
        if wrong:
            raise UsageError(f"--controls={wrong[0]}: unknown. It takes some of: {', '.join(CONTROLS)}.")
        if self.controls and "control" not in common.knobs:
            raise UsageError("--controls: this experiment has no knob `control`, so no arm that must fail can be made of it.")
        return [Arm(f"control: {name}", {**baseline.knobs, "control": name}, control=True) for name in self.controls]


def _own_levels(common: Resolved, factors: Mapping[str, Levels]) -> dict[str, str]:
    """The experiment's own values of the factors."""
    own = {}
    for name in factors:
        knobs = [knob for path, knob in common.knobs.items() if path == name or path.endswith(f".{name}")]
        if len(knobs) != 1:
            raise UsageError(f"--vary={name}: {'no such knob' if not knobs else 'several knobs have this name'}.")
        own[name] = designs.level_of(knobs[0])
    return own


def requested_design(asked: DesignRequest, study: StudySpec | None) -> DesignRequest:
    """What the command line asks, or what the experiment declares where it asks nothing."""
    if asked.vary or asked.toggle:
        return asked
    if study is None:
        raise UsageError(
            "ablate what? Give --vary=KNOB:LEVEL,LEVEL (several times), or --design=leave_one_out --toggle=KNOB,KNOB.\n"
            "This experiment declares no study of its own."
        )
    return dataclasses.replace(
        asked, vary=study.vary, toggle=study.toggle, design=study.design, controls=asked.controls or study.controls
    )
