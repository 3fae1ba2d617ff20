"""Designs: from factors and their levels to the arms of a study. Pure data, without jax.

A *factor* is a knob that is varied, a *level* one of its values, as text like on the command line. A *component* is a knob
that can be switched off: without dropout, without normalisation. In every design but `random` the baseline comes first, and
every arm says the level of every factor, the baseline too.
"""

import dataclasses
import hashlib
import importlib
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from cnnlab.ablation.study import BASELINE, Arm
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.knobs import Knob, Resolved
from cnnlab.values import Range

FORMS = {
    "uniform": "uniform(LOW,HIGH)",
    "log": "log(LOW,HIGH)",
    "integer": "integer(LOW,HIGH)",
    "choice": "choice(LEVEL,LEVEL,…)",
}
"""The distributions of --vary, and how they are written."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Where a level is drawn from. `log` is uniform in the logarithm; both ends of `integer` belong to it."""

    kind: Literal["uniform", "log", "integer", "choice"]
    low: float = 0.0
    high: float = 1.0
    options: tuple[str, ...] = ()
    """Of a choice, each as likely as the others."""

    def at(self, share: float) -> str:
        """The level below which `share`, in [0, 1), of the distribution lies (its inverse distribution function)."""
        if self.kind == "choice":
            return self.options[int(share * len(self.options))]
        if self.kind == "integer":
            return str(int(self.low) + int(share * (int(self.high) - int(self.low) + 1)))
        if self.kind == "log":
            low, high = math.log(self.low), math.log(self.high)
            return self.text(math.exp(low + share * (high - low)))
        return self.text(self.low + share * (self.high - self.low))

    def text(self, value: float) -> str:
        """A number drawn elsewhere, in the six digits that a person wants to read unless rounding leaves the range."""
        value = min(max(value, self.low), self.high)
        return short if self.low <= float(short := f"{value:.6g}") <= self.high else repr(value)

    def __str__(self) -> str:
        inner = ",".join(map(_shown, self.options)) if self.kind == "choice" else f"{self.low:g},{self.high:g}"
        return f"{self.kind}({inner})"


Levels = tuple[str, ...] | Distribution
"""What a factor takes: some texts, in grid, zip and one_factor_at_a_time the baseline's first; or a distribution."""


# Reading ---------------------------------------------------------------------------------------------------------------


def parse_vary(texts: Sequence[str]) -> dict[str, Levels]:
    """{knob: levels} of `norm:batch,none`, `lr:log(1e-4,1)` or `model.widths:(64,32),(128,)`, in the order given.

    A level with commas stands in brackets; `()` is the empty list. Raises UsageError for a text that is not so, an empty
    level, a level or a knob given twice, and a distribution that cannot be.
    """
    factors: dict[str, Levels] = {}
    for text in texts:
        knob, colon, rest = (part.strip() for part in text.partition(":"))
        if not colon or not re.fullmatch(r"[A-Za-z_][\w.]*", knob):
            raise UsageError(
                f"--vary={text} is not KNOB:LEVELS.\nExpected for example --vary=norm:batch,none or --vary='lr:log(1e-4,1)'."
            )
        if knob in factors:
            raise UsageError(
                f"--vary names {knob} twice.\nExpected each knob once. Give all its levels in one --vary={knob}:…."
            )
        factors[knob] = _read_levels(f"--vary={text}", rest)
    return factors


def _read_levels(where: str, text: str) -> Levels:
    """What stands after the knob's colon; `where` begins the error."""
    parts = _split(where, text)
    calls = [re.fullmatch(r"(\w+)\((.*)\)", part) for part in parts]
    known = [call for call in calls if call and call[1] in FORMS]
    if known and len(parts) > 1:
        raise UsageError(
            f"{where}: a distribution stands beside other levels.\n"
            f"Expected either {FORMS[known[0][1]]} alone or a list of levels."
        )
    if known:
        return _read_distribution(where, known[0][1], known[0][2])
    if len(parts) == 1 and calls[0] and all(_number_or_none(part) is not None for part in calls[0][2].split(",")):
        guess = did_you_mean(calls[0][1], list(FORMS))
        raise UsageError(f"{where}: no distribution {calls[0][1]}.{guess}\nExpected one of {', '.join(FORMS.values())}.")
    return _distinct(where, tuple(_unwrapped(part) for part in parts))


def _split(where: str, text: str) -> list[str]:
    """The parts between the commas that are outside of all brackets; none may be empty."""
    parts, awaited = [""], ""
    for letter in text:
        if letter in "([":
            awaited += ")]"["([".index(letter)]
        elif letter in ")]":
            if not awaited.endswith(letter):
                awaited += letter
                break
            awaited = awaited[:-1]
        if letter == "," and not awaited:
            parts.append("")
        else:
            parts[-1] += letter
    if awaited:
        raise UsageError(f"{where}: the brackets do not match.\nExpected levels such as (64,32),(128,): close each that opens.")
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise UsageError(
            f"{where}: {'no levels' if len(parts) == 1 else 'an empty level'}.\n"
            "Expected levels separated by single commas, such as batch,none; write () for an empty list."
        )
    return parts


def _unwrapped(level: str) -> str:
    """`(64,32)` -> `64,32`, `(128,)` -> `128`, `()` -> ``; brackets that do not enclose the whole level are its own."""
    depths = list(itertools.accumulate((letter == "(") - (letter == ")") for letter in level))
    whole = level.startswith("(") and not level.startswith("(?") and 0 in depths and depths.index(0) == len(level) - 1
    return level[1:-1].strip().removesuffix(",") if whole else level


def _shown(level: str) -> str:
    """The level as one writes it among others."""
    return f"({level})" if not level or ("," in level and not re.fullmatch(r"\[.*\]", level)) else level


def _read_distribution(where: str, kind: Any, text: str) -> Distribution:
    """The distribution whose arguments `text` holds."""
    if kind == "choice":
        options = _distinct(where, tuple(_unwrapped(part) for part in _split(where, text)))
        return Distribution(kind, options=options)
    given = text.split(",")
    numbers = [number for part in given if (number := _number_or_none(part)) is not None]
    whole = kind != "integer" or all(number == int(number) for number in numbers)
    if not len(given) == len(numbers) == 2 or not whole:
        what = "two whole numbers" if kind == "integer" else "two finite numbers"
        raise UsageError(f"{where}: {kind} takes {what}, got ({text}).\nExpected {FORMS[kind]}, such as {_EXAMPLES[kind]}.")
    low, high = numbers
    if low >= high:
        raise UsageError(f"{where}: low {low:g} is not below high {high:g}.\nExpected {FORMS[kind]} with LOW < HIGH.")
    if kind == "log" and low <= 0:
        raise UsageError(
            f"{where}: the logarithm of low {low:g} does not exist.\n"
            f"Expected LOW > 0. Raise it, or take uniform({low:g},{high:g})."
        )
    return Distribution(kind, low, high)


_EXAMPLES = {"uniform": "uniform(0,0.6)", "log": "log(1e-4,1)", "integer": "integer(8,64)"}


def _number_or_none(text: str) -> float | None:
    """A finite number, or None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _key(level: str) -> float | str:
    """Equal for levels that are the same setting, such as 0.1 and 1e-1."""
    number = _number_or_none(level)
    return level if number is None else number


def _distinct(where: str, levels: tuple[str, ...]) -> tuple[str, ...]:
    """The levels, or UsageError where one stands there twice: two arms would be the same runs."""
    seen: dict[float | str, str] = {}
    for level in levels:
        if _key(level) in seen:
            raise UsageError(f"{where}: the level {_shown(level)} stands there twice.\nExpected each level once. Remove one.")
        seen[_key(level)] = level
    return levels


# Factors ---------------------------------------------------------------------------------------------------------------


def grid(factors: Mapping[str, Levels]) -> tuple[Arm, ...]:
    """Every combination of the levels; the last factor changes fastest."""
    levels = _only_levels(factors, "grid")
    return _against_first([dict(zip(levels, row, strict=True)) for row in itertools.product(*levels.values())])


def zip_levels(factors: Mapping[str, Levels]) -> tuple[Arm, ...]:
    """The first level of every factor, then the second of every factor, …: factors that change together."""
    levels = _only_levels(factors, "zip")
    if len({len(texts) for texts in levels.values()}) > 1:
        counts = ", ".join(f"{knob} has {len(texts)}" for knob, texts in levels.items())
        raise UsageError(
            f"zip goes through the levels of all factors together, and {counts}.\n"
            "Expected as many of each. Add or remove some, or take another design."
        )
    return _against_first([dict(zip(levels, row, strict=True)) for row in zip(*levels.values(), strict=True)])


def one_factor_at_a_time(factors: Mapping[str, Levels]) -> tuple[Arm, ...]:
    """The baseline, then every other level of every factor with the other factors at the baseline's."""
    levels = _only_levels(factors, "one_factor_at_a_time")
    first = {knob: texts[0] for knob, texts in levels.items()}
    return _against_first([first, *({**first, knob: text} for knob, texts in levels.items() for text in texts[1:])])


def random(factors: Mapping[str, Levels], trials: int, seed: int, baseline: Mapping[str, str] | None = None) -> tuple[Arm, ...]:
    """Arms drawn at random, each level of each factor independently (Bergstra and Bengio 2012).

    A trial depends on the seed, its number and nothing else: more trials leave the first ones as they are, and another
    factor leaves the levels of the others.

    Args:
        factors: of these, levels in a list are drawn as from a choice.
        trials: how many arms to draw.
        seed: of the draws; the runs have seeds of their own.
        baseline: {knob: level} of an arm that comes first, such as the experiment's own; none: there are only trials.
    """
    _require_factors(factors)
    if trials < 1:
        raise UsageError(f"a random design of {trials} trials has no arms.\nExpected at least 1. Give more trials.")
    first = [] if baseline is None else [Arm(BASELINE, dict(baseline))]
    drawn = [{knob: _drawn(levels, seed, number, knob) for knob, levels in factors.items()} for number in range(1, trials + 1)]
    return (*first, *(_trial(number, knobs) for number, knobs in enumerate(drawn, start=1)))


def _drawn(levels: Levels, seed: int, number: int, knob: str) -> str:
    """A level by 53 bits of SHA-256, which no version of any library will change."""
    bits = hashlib.sha256(f"{seed} {number} {knob}".encode()).digest()
    distribution = levels if isinstance(levels, Distribution) else Distribution("choice", options=levels)
    return distribution.at((int.from_bytes(bits[:8], "big") >> 11) * 2.0**-53)


def _trial(number: int, knobs: Mapping[str, str]) -> Arm:
    return Arm(f"trial {number}: {_settings(knobs)}", knobs)


def _settings(knobs: Mapping[str, str]) -> str:
    return ", ".join(f"{knob}={_shown(level)}" for knob, level in knobs.items())


def _against_first(settings: Sequence[Mapping[str, str]]) -> tuple[Arm, ...]:
    """Arms named by what differs from the first of the settings."""
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


def _only_levels(factors: Mapping[str, Levels], design: str) -> dict[str, tuple[str, ...]]:
    """The factors of a design that goes through levels, or UsageError for a distribution."""
    _require_factors(factors)
    levels = {}
    for knob, values in factors.items():
        if isinstance(values, Distribution):
            listed = ",".join(map(_shown, values.options)) or ",".join(values.at(share) for share in (0.0, 0.5, 1 - 2.0**-53))
            raise UsageError(
                f"--vary={knob}:{values}: the design {design} goes through levels, and this is a distribution.\n"
                f"Expected a list. Write for example --vary={knob}:{listed}, or take the design random."
            )
        if not values:
            raise UsageError(f"--vary={knob}: no levels.\nExpected at least one, the baseline's first.")
        levels[knob] = _distinct(f"--vary={knob}", values)
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
    """Of its knob."""
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
        arms.append(Arm(_settings({component.name: knobs[component.path]}), knobs))
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
    off = _unwrapped(off) if colon else _off(name, knob)
    on = level_of(knob)
    if _key(on) == _key(off):
        raise UsageError(
            f"the component {name} is off already in the experiment: --{knob.path}={_shown(on)}.\n"
            f"Expected one that is on. Give the value that means on as a knob, --{knob.path}=ON_VALUE, or leave it out."
        )
    below = {path: level_of(other) for path, other in resolved.knobs.items() if path.startswith(f"{knob.path}.")}
    return Component(name, knob.path, on={knob.path: on, **below}, off={knob.path: off})


def _knob_named(name: str, resolved: Resolved) -> Knob:
    """The knob of that path, or the only one that ends so."""
    paths = [name] if name in resolved.knobs else [path for path in resolved.knobs if path.endswith(f".{name}")]
    if len(paths) > 1:
        raise UsageError(f"the component {name} could be {' or '.join(f'--{path}' for path in paths)}.\nWrite the whole name.")
    if not paths:
        last_names = [path.rsplit(".", 1)[-1] for path in resolved.knobs]
        guess = did_you_mean(name, [*resolved.knobs, *last_names])
        raise UsageError(f"no knob {name!r} to switch off.{guess}\nExpected one of: {', '.join(resolved.knobs)}.")
    return resolved.knobs[paths[0]]


def _off(name: str, knob: Knob) -> str:
    """The value that switches a knob off, by what it takes."""
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
        f"nothing says what switches {name} off: --{knob.path} takes {knob.kind}.\n"
        f"Expected component:off_value. Write {name}:OFF_VALUE with the value that means off."
    )


def _range(kind: str) -> Range | None:
    """The numbers that a knob of this kind takes, as knobs.describe_type words them; None for what is no number."""
    number = r"(-?[\d.e+-]+|-?inf)"
    if kind in ("int", "float", "int finite", "float finite"):
        return Range()
    if match := re.fullmatch(rf"(?:int|float) finite and (>=?) {number}", kind):
        return Range(float(match[2]), open_low=match[1] == ">")
    if match := re.fullmatch(rf"(?:int|float) in ([(\[]){number}, {number}([)\]])", kind):
        return Range(float(match[2]), float(match[3]), open_low=match[1] == "(", open_high=match[4] == ")")
    return None


def level_of(knob: Knob) -> str:
    """A resolved knob's value as text, which gives that value again."""
    if isinstance(knob.value, list):
        return ",".join(map(str, knob.value))
    if isinstance(knob.value, bool):
        return str(knob.value).lower()
    return "none" if knob.value is None else str(knob.value)


# Search ----------------------------------------------------------------------------------------------------------------


def rungs(max_steps: int, min_steps: int, eta: int) -> tuple[int, ...]:
    """The steps after which the better 1/eta goes on: min_steps, min_steps · eta, …, max_steps.

    Of successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) and of its asynchronous form, ASHA (Li et al.
    2020, arXiv 1810.05934): rung k has min_steps · eta^k.

    Deviation: the last rung is max_steps itself, where the paper's is the largest of the series below it, so that what
    comes through has been trained in full whatever the numbers are.
    """
    if eta < 2:
        raise UsageError(f"eta {eta} leaves nothing out.\nExpected a whole number >= 2: one in so many goes on. Take 3 or 4.")
    if not 1 <= min_steps <= max_steps:
        raise UsageError(
            f"the first rung is {min_steps} steps, the whole training {max_steps}.\nExpected 1 <= min_steps <= max_steps."
        )
    found = [min_steps]
    while found[-1] * eta <= max_steps:
        found.append(found[-1] * eta)
    return (*found[:-1], max_steps) if len(found) > 1 else tuple(dict.fromkeys((min_steps, max_steps)))


def promoted(scores: Mapping[str, float | None], eta: int, higher_is_better: bool) -> set[str]:
    """Of the trials that have come to a rung so far, the best 1/eta: those that may go to the next.

    The rule of ASHA (Li et al. 2020, arXiv 1810.05934, algorithm 2): asked each time a worker is free; those of them that
    have not gone on yet are promoted, and where there are none a new trial begins at the bottom. Asked once, when all
    trials are there, it is successive halving.

    Args:
        scores: {trial: its score at this rung}, in the order of arrival, which decides between equals; None or a number
            that is not finite (it diverged) counts as a trial and never goes on.
        eta: one in so many goes on, rounded down.
        higher_is_better: whether a larger score is better.
    """
    if eta < 2:
        raise UsageError(f"eta {eta} leaves nothing out.\nExpected a whole number >= 2: one in so many goes on. Take 3 or 4.")
    finite = {trial: score for trial, score in scores.items() if score is not None and math.isfinite(score)}
    ranked = sorted(finite, key=lambda trial: -finite[trial] if higher_is_better else finite[trial])
    return set(ranked[: len(scores) // eta])


class OptunaProposer:
    """Trials one after the other from optuna's tree-structured Parzen estimator (Bergstra et al. 2011)."""

    def __init__(self, factors: Mapping[str, Levels], study: Any, distributions: Mapping[str, Any]) -> None:
        self._factors, self._study, self._distributions = factors, study, distributions
        self._waiting: dict[str, Any] = {}

    def ask(self) -> Arm:
        """The next trial; several may be asked for before the first is told."""
        trial = self._study.ask(self._distributions)
        arm = _trial(trial.number + 1, {knob: self._text(knob, value) for knob, value in trial.params.items()})
        self._waiting[arm.name] = trial
        return arm

    def tell(self, name: str, score: float | None) -> None:
        """What came of the arm of that name; None or a number that is not finite: it failed."""
        if name not in self._waiting:
            raise UsageError(f"no trial {name!r} waits for a score.\nExpected one of: {', '.join(self._waiting) or 'none'}.")
        trial = self._waiting.pop(name)
        if score is None or not math.isfinite(score):
            self._study.tell(trial, state=importlib.import_module("optuna").trial.TrialState.FAIL)
        else:
            self._study.tell(trial, score)

    def _text(self, knob: str, value: Any) -> str:
        levels = self._factors[knob]
        return levels.text(value) if isinstance(levels, Distribution) and isinstance(value, float) else str(value)


def optuna_proposer(factors: Mapping[str, Levels], seed: int, *, higher_is_better: bool = True) -> OptunaProposer:
    """Trials that follow from what earlier ones scored, by `ask` and `tell`; needs optuna.

    Args:
        factors: distributions, or lists of levels as choices.
        seed: the same questions and answers in the same order give the same trials.
        higher_is_better: whether a larger score is better.
    """
    _require_factors(factors)
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise UsageError(
            "this search is made by optuna, which is not installed.\n"
            "Install it (pip install optuna), or take the design random."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = optuna.distributions

    def translated(levels: Levels) -> Any:
        if not isinstance(levels, Distribution):
            return kinds.CategoricalDistribution(levels)
        if levels.kind == "choice":
            return kinds.CategoricalDistribution(levels.options)
        if levels.kind == "integer":
            return kinds.IntDistribution(int(levels.low), int(levels.high))
        return kinds.FloatDistribution(levels.low, levels.high, log=levels.kind == "log")

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed), direction="maximize" if higher_is_better else "minimize"
    )
    return OptunaProposer(factors, study, {knob: translated(levels) for knob, levels in factors.items()})


DESIGNS: dict[str, Callable[..., tuple[Arm, ...]]] = {
    "grid": grid,
    "zip": zip_levels,
    "one_factor_at_a_time": one_factor_at_a_time,
    "leave_one_out": leave_one_out,
    "add_one_in": add_one_in,
    "random": random,
}
"""By name: the first three and `random` take factors, the other two components."""
