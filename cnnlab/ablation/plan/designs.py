"""Makes the arms of a study from factors and their levels, by a design. Imports no jax.

A *factor* is a knob that is varied, a *level* one of its values, as text like on the command line. A *component* is a knob
that can be switched off: without dropout, without normalisation. In every design the baseline comes first (in `random` and
the designs that search it is the experiment as it stands), and every arm states the level of every factor, the baseline too.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence

from cnnlab import own
from cnnlab.ablation.plan.levels import FORMS, Distribution, Levels, distinct, key, shown, unwrapped
from cnnlab.ablation.plan.study import BASELINE, Arm
from cnnlab.digests import digest
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.knobs import Knob, Resolved, matching
from cnnlab.values import Range

GRID_LEVELS = 3
"""Levels of each factor in the grid of `grid_and_random`."""
DRAWN_PER_POINT = 4
"""Random trials for each point of that grid, from which sets of as many trials as it has points are drawn."""
POINT, TRIAL = "point ", "trial "
"""Prefixes of the names of arms of a grid over distributions, and of arms drawn at random."""
GRID = "grid "
"""Prefix of the names of arms of several grids, such as `grid 3 point 7: …`."""
SEARCHES = 8
"""Grids, and random searches, of `grids_and_random`."""
SEARCH_LEVELS = 2
"""Levels of each factor in a grid of `grids_and_random`."""

# Factors ---------------------------------------------------------------------------------------------------------------


def grid(factors: Mapping[str, Levels]) -> tuple[Arm, ...]:
    """Returns an arm for every combination of the levels; the last factor changes fastest."""
    levels = _only_levels(factors, "grid")
    return _against_first([dict(zip(levels, row, strict=True)) for row in itertools.product(*levels.values())])


def zip_levels(factors: Mapping[str, Levels]) -> tuple[Arm, ...]:
    """Returns the arm of the first levels of all factors, then that of the second levels, …: factors change together.

    A level may occur twice, with other levels of the other factors.
    """
    levels = _only_levels(factors, "zip", again=True)
    if len({len(texts) for texts in levels.values()}) > 1:
        counts = ", ".join(f"{knob} has {len(texts)}" for knob, texts in levels.items())
        raise UsageError(
            f"zip goes through the levels of all factors together, and {counts}.\n"
            "Expected as many of each. Add or remove some, or take another design."
        )
    settings = [dict(zip(levels, row, strict=True)) for row in zip(*levels.values(), strict=True)]
    distinct("zip", tuple(map(_settings, settings)))
    return _against_first(settings)


def one_factor_at_a_time(factors: Mapping[str, Levels]) -> tuple[Arm, ...]:
    """Returns the baseline, then an arm for every other level of every factor, the other factors at the baseline's."""
    levels = _only_levels(factors, "one_factor_at_a_time")
    first = {knob: texts[0] for knob, texts in levels.items()}
    return _against_first([first, *({**first, knob: text} for knob, texts in levels.items() for text in texts[1:])])


def random(factors: Mapping[str, Levels], trials: int, seed: int, baseline: Mapping[str, str] | None = None) -> tuple[Arm, ...]:
    """Returns arms drawn at random, each level of each factor independently (Bergstra and Bengio 2012).

    A trial depends on the seed, its number and nothing else: more trials leave the first ones as they are, and another
    factor leaves the levels of the others.

    Args:
        factors: levels of each factor; a list is drawn from as a choice.
        trials: how many arms to draw.
        seed: seed of the draws; the runs have seeds of their own.
        baseline: {knob: level} of an arm that comes first, such as the experiment's own; none: there are only trials.
    """
    _require_factors(factors)
    if trials < 1:
        raise UsageError(f"a random design of {trials} trials has no arms.\nExpected at least 1. Give more trials.")
    for knob, levels in factors.items():
        if not isinstance(levels, Distribution):
            distinct(f"--vary={knob}", levels)
    first = [] if baseline is None else [Arm(BASELINE, dict(baseline))]
    drawn = [{knob: _drawn(levels, seed, number, knob) for knob, levels in factors.items()} for number in range(1, trials + 1)]
    return (*first, *(_trial(number, knobs) for number, knobs in enumerate(drawn, start=1)))


def grid_and_random(factors: Mapping[str, Levels], seed: int, baseline: Mapping[str, str]) -> tuple[Arm, ...]:
    """Returns a grid and random trials over the same distributions; `BestOf` compares what each finds.

    The grid has GRID_LEVELS levels of each factor, the middles of as many parts of its distribution that are equally likely
    (of log(1e-4,1): 10^(−10/3), 10^−2 and 10^(−2/3)), and all of their combinations.

    Args:
        factors: each a distribution.
        seed: seed of the trials.
        baseline: {knob: level} of the arm that comes first and is no part of either, such as the experiment's own.
    """
    points = _grid_over(factors, dict.fromkeys(factors, 0.5), GRID_LEVELS, "grid_and_random")
    first, *trials = random(factors, DRAWN_PER_POINT * len(points), seed, baseline)
    numbered = enumerate(points, start=1)
    return (first, *(Arm(f"{POINT}{number}: {_settings(knobs)}", knobs) for number, knobs in numbered), *trials)


def grids_and_random(factors: Mapping[str, Levels], seed: int, baseline: Mapping[str, str]) -> tuple[Arm, ...]:
    """Returns SEARCHES grids with random offsets and as many random searches of as many trials, for `BetweenSearches`.

    The distribution of a factor is divided into SEARCH_LEVELS parts that are equally likely. A grid has a level in each part,
    at a place within it that is drawn for the grid and the factor, and all combinations of these levels. The first trials, as
    many as a grid has points, are the first random search, the next ones the second, and so on.

    Args:
        factors: each a distribution.
        seed: seed of the offsets and the trials.
        baseline: {knob: level} of the arm that comes first and is no part of a search, such as the experiment's own.
    """
    points = []
    for number in range(1, SEARCHES + 1):
        offsets = {knob: _share(seed, number, f"offset {knob}") for knob in factors}
        grid_points = _grid_over(factors, offsets, SEARCH_LEVELS, "grids_and_random")
        points += [
            Arm(f"{GRID}{number} {POINT}{place}: {_settings(knobs)}", knobs) for place, knobs in enumerate(grid_points, start=1)
        ]
    first, *trials = random(factors, len(points), seed, baseline)
    return (first, *points, *trials)


def _grid_over(factors: Mapping[str, Levels], offsets: Mapping[str, float], count: int, design: str) -> list[dict[str, str]]:
    """Returns the points {knob: level} of a grid over distributions.

    Args:
        factors: each a distribution.
        offsets: for each factor the place of its levels, in [0, 1), within the parts of the distribution.
        count: number of parts that are equally likely, hence of levels, of each factor.
        design: name of the design, for errors.
    """
    _require_factors(factors)
    levels = {}
    for knob, distribution in factors.items():
        if not isinstance(distribution, Distribution):
            raise UsageError(
                f"--vary={knob}:{','.join(map(shown, distribution))}: the design {design} compares a grid over "
                "distributions with draws from them, and this is a list of levels.\n"
                f"Expected one of {', '.join(FORMS.values())}. Write a distribution, or take the design grid or random."
            )
        levels[knob] = [distribution.at((part + offsets[knob]) / count) for part in range(count)]
        if len(set(levels[knob])) < count:
            raise UsageError(
                f"--vary={knob}:{distribution}: the grid of {design} has {count} levels of each factor, and "
                f"here they would be {', '.join(map(shown, levels[knob]))}.\n"
                f"Expected a distribution over {count} values at least. Widen it, or leave the factor out."
            )
    return [dict(zip(levels, row, strict=True)) for row in itertools.product(*levels.values())]


def _share(seed: int, number: int, name: str) -> float:
    """Draws a number in [0, 1) by 53 bits of SHA-256, which no version of any library changes."""
    bits = bytes.fromhex(digest([f"{seed} {number} {name}"]))
    return (int.from_bytes(bits[:8], "big") >> 11) * 2.0**-53


def _drawn(levels: Levels, seed: int, number: int, knob: str) -> str:
    """Draws a level."""
    distribution = levels if isinstance(levels, Distribution) else Distribution("choice", options=levels)
    return distribution.at(_share(seed, number, knob))


def _trial(number: int, knobs: Mapping[str, str]) -> Arm:
    return Arm(f"{TRIAL}{number}: {_settings(knobs)}", knobs)


def _settings(knobs: Mapping[str, str]) -> str:
    return ", ".join(f"{knob}={shown(level)}" for knob, level in knobs.items())


def _against_first(settings: Sequence[Mapping[str, str]]) -> tuple[Arm, ...]:
    """Returns arms named by what differs from the first of the settings."""
    first = settings[0]
    others = [{knob: level for knob, level in knobs.items() if level != first[knob]} for knobs in settings[1:]]
    return (
        Arm(BASELINE, first),
        *(Arm(_settings(other), knobs) for other, knobs in zip(others, settings[1:], strict=True)),
    )


def _require_factors(factors: Mapping[str, Levels]) -> None:
    if not factors:
        raise UsageError(
            "there is nothing to vary.\nExpected at least one factor. Add --vary=KNOB:LEVELS, as in --vary=norm:batch,none."
        )


def _only_levels(factors: Mapping[str, Levels], design: str, *, again: bool = False) -> dict[str, tuple[str, ...]]:
    """The factors of a design that goes through levels, or UsageError for a distribution and, unless `again`, a level twice."""
    _require_factors(factors)
    levels = {}
    for knob, values in factors.items():
        if isinstance(values, Distribution):
            listed = ",".join(map(shown, values.options)) or ",".join(values.at(share) for share in (0.0, 0.5, 1 - 2.0**-53))
            raise UsageError(
                f"--vary={knob}:{values}: the design {design} goes through levels, and this is a distribution.\n"
                f"Expected a list. Write for example --vary={knob}:{listed}, or take the design random."
            )
        if not values:
            raise UsageError(f"--vary={knob}: no levels.\nExpected at least one, the baseline's first.")
        levels[knob] = values if again else distinct(f"--vary={knob}", values)
    return levels


def varied(arms: Sequence[Arm]) -> dict[str, tuple[str, ...]]:
    """{knob: its levels in the order in which the arms first take them} of the knobs that every arm sets."""
    knobs = [knob for knob in arms[0].knobs if all(knob in arm.knobs for arm in arms)]
    return {knob: tuple(dict.fromkeys(arm.knobs[knob] for arm in arms)) for knob in knobs}


# Components ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Component:
    """A knob that can be switched off."""

    name: str
    """As the person wrote it."""
    path: str
    """Path of its knob."""
    on: Mapping[str, str]
    """{path: level}: the experiment's value, and those of the knobs below it, which a bare name would set back."""
    off: Mapping[str, str]


def leave_one_out(components: Sequence[str], resolved: Resolved) -> tuple[Arm, ...]:
    """Everything as the experiment has it, then without each of the components.

    Args:
        components: names of knobs, each with a value that means off (`read_components`).
        resolved: the experiment's knobs.
    """
    found = read_components(components, resolved)
    return _switched(found, {component.name: True for component in found})


def add_one_in(components: Sequence[str], resolved: Resolved) -> tuple[Arm, ...]:
    """Nothing of the components, then each of them alone at the experiment's own value.

    Args:
        components: names of knobs, each with a value that means off (`read_components`).
        resolved: the experiment's knobs.
    """
    found = read_components(components, resolved)
    return _switched(found, {component.name: False for component in found})


def _switched(components: Sequence[Component], first: Mapping[str, bool]) -> tuple[Arm, ...]:
    """The arm `first` {name: whether it is on}, then one arm for each component with that one the other way round."""
    arms = [Arm(BASELINE, _levels_of(components, first))]
    for component in components:
        setting = {**first, component.name: not first[component.name]}
        knobs = _levels_of(components, setting)
        arms.append(Arm(_settings({component.name: own.short(knobs[component.path])}), knobs))
    return tuple(arms)


def _levels_of(components: Sequence[Component], setting: Mapping[str, bool]) -> dict[str, str]:
    return {path: level for part in components for path, level in (part.on if setting[part.name] else part.off).items()}


def read_components(texts: Sequence[str], resolved: Resolved) -> tuple[Component, ...]:
    """The components that `dropout`, `norm` or `component:off_value` name.

    Without an off value it is: none for a choice or an optional knob that takes it, 0 for a number whose range includes it,
    false for a boolean. Raises UsageError for a knob that has none of these, is off in the experiment already, is unknown,
    stands there twice or lies below another component.
    """
    found = [_read_component(text, resolved) for text in texts]
    if not found:
        raise UsageError("there are no components.\nExpected at least one, such as dropout, norm or weight_decay:0.0001.")
    for number, component in enumerate(found):
        for other in found[:number]:
            if component.path == other.path:
                raise UsageError(f"the component {component.path} stands there twice.\nExpected each once. Remove one.")
            above, below = sorted((component.path, other.path), key=len)
            if below.startswith(f"{above}."):
                raise UsageError(
                    f"--{below} lies below --{above} and is gone where that is off.\n"
                    "Expected components that can be switched apart. Leave one of them out."
                )
    return tuple(found)


def _read_component(text: str, resolved: Resolved) -> Component:
    name, colon, off = (part.strip() for part in text.partition(":"))
    knob = _knob_named(name, resolved)
    if colon and not off:
        raise UsageError(f"the component {text} has no off value after its colon.\nExpected {name}:OFF_VALUE, or {name} alone.")
    off = unwrapped(off) if colon else _off(name, knob)
    on = level_of(knob)
    if key(on) == key(off):
        raise UsageError(
            f"the component {name} is off already in the experiment: --{knob.path}={shown(on)}.\n"
            f"Expected one that is on. Give the value that means on as a knob, --{knob.path}=ON_VALUE, or leave it out."
        )
    below = {path: level_of(other) for path, other in resolved.knobs.items() if path.startswith(f"{knob.path}.")}
    return Component(name, knob.path, on={knob.path: on, **below}, off={knob.path: off})


def _knob_named(name: str, resolved: Resolved) -> Knob:
    """Returns the knob of that path, or the only one whose path it shortens."""
    paths = matching(name, resolved.knobs)
    if len(paths) > 1:
        raise UsageError(f"the component {name} could be {' or '.join(f'--{path}' for path in paths)}.\nWrite the whole name.")
    if not paths:
        last_names = [path.rsplit(".", 1)[-1] for path in resolved.knobs]
        guess = did_you_mean(name, [*resolved.knobs, *last_names])
        raise UsageError(f"no knob {name!r} to switch off.{guess}\nExpected one of: {', '.join(resolved.knobs)}.")
    return resolved.knobs[paths[0]]


def _off(name: str, knob: Knob) -> str:
    """Returns the value that switches a knob off, by what the knob takes."""
    if knob.kind.startswith("one of: "):
        if "none" in knob.kind.removeprefix("one of: ").split(", "):
            return "none"
    elif knob.kind.endswith(" or none"):
        return "none"
    elif knob.kind == "bool":
        return "false"
    elif (numbers := _range(knob.kind)) is not None and 0 in numbers:
        return "0"
    raise UsageError(
        f"no value is known that switches {name} off: --{knob.path} takes {knob.kind}.\n"
        f"Expected component:off_value. Write {name}:OFF_VALUE with the value that means off."
    )


def _range(kind: str) -> Range | None:
    """Returns the numbers that a knob takes, from the words of values.describe_type; None where it takes no numbers."""
    number = r"(-?[\d.e+-]+|-?inf)"
    if kind in ("int", "float", "int finite", "float finite"):
        return Range()
    if match := re.fullmatch(rf"(?:int|float) finite and (>=?) {number}", kind):
        return Range(float(match[2]), open_low=match[1] == ">")
    if match := re.fullmatch(rf"(?:int|float) in ([(\[]){number}, {number}([)\]])", kind):
        return Range(float(match[2]), float(match[3]), open_low=match[1] == "(", open_high=match[4] == ")")
    return None


def level_of(knob: Knob) -> str:
    """Returns a resolved knob's value as text, which gives that value again."""
    if isinstance(knob.value, list):
        return ",".join(map(str, knob.value))
    if isinstance(knob.value, bool):
        return str(knob.value).lower()
    return "none" if knob.value is None else str(knob.value)


DESIGNS: dict[str, Callable[..., tuple[Arm, ...]]] = {
    "grid": grid,
    "zip": zip_levels,
    "one_factor_at_a_time": one_factor_at_a_time,
    "leave_one_out": leave_one_out,
    "add_one_in": add_one_in,
    "random": random,
    "grid_and_random": grid_and_random,
    "grids_and_random": grids_and_random,
}
"""By name: leave_one_out and add_one_in take components, the others factors."""
