"""Writes numbers, metrics and effects of a record as a person reads them. Imports no jax."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cnnlab.ablation.plan.study import Verdict
from cnnlab.ablation.report import formatting
from cnnlab.ablation.report.cards.record import Numbers, Record
from cnnlab.metric import Metric

SPLITS = {"test": "test", "train": "training", "validation": "validation"}


def metric_label(name: str, metric: Metric) -> str:
    """Returns `test accuracy, %` for test/accuracy: the name of an axis or the heading of a column."""
    split, _, _ = name.rpartition("/")
    return ", ".join(filter(None, (f"{SPLITS.get(split, split)} {metric.label}".strip(), metric.shown_unit)))


def decimals_of(spreads: Iterable[float]) -> int | None:
    """Returns how many decimals show the smallest of some spreads with two digits; None without a spread above 0."""
    found = [spread for spread in spreads if spread > 0 and math.isfinite(spread)]
    return 1 - math.floor(math.log10(min(found))) if found else None


def number(value: float | None, metric: Metric, decimals: int | None = None, *, sign: bool = False) -> str:
    """Returns a number in the unit that is shown, with a true minus: `98.61` for a share of 0.9861, `61,706` for a count.

    Args:
        value: the number; None: a dash.
        metric: its declaration.
        decimals: how many are shown; None: four significant digits, a whole number as it is.
        sign: whether a positive number has its sign, as a difference has.
    """
    if value is None or not math.isfinite(value):
        return formatting.NOTHING
    shown, plus = value * metric.factor, "+" if sign else ""
    if shown and abs(shown) < 1e-3:
        style = f"{plus}.2g"
    elif decimals is not None and abs(shown) < 1e6:
        style = f"{plus},.{min(max(decimals, 0), 2 if metric.is_share else 4)}f"
    else:
        style = f"{plus},.0f" if abs(shown) < 1e7 and float(shown).is_integer() else f"{plus}.4g"
    return format(shown, style).replace("-", "−")


def spread(found: Numbers, metric: Metric) -> float:
    """Returns half the width of an interval in the unit that is shown; 0 where there is none."""
    return metric.factor * (found.interval[1] - found.interval[0]) / 2 if found.interval else 0.0


def with_interval(found: Numbers, metric: Metric, *, least: int | None = None) -> str:
    """Returns `98.61 [98.49, 98.73]`, or the mean alone; `≥ 600` where numbers are lower bounds.

    Args:
        found: the numbers of an arm.
        metric: their declaration.
        least: decimals where there is no interval that asks for more; None: four significant digits.
    """
    decimals, sign = decimals_of([spread(found, metric)]), "≥ " if found.lower_bounds else ""
    if decimals is None or found.interval is None:
        return f"{sign}{number(found.mean, metric, least)}"
    low, high = (number(end, metric, decimals) for end in found.interval)
    return f"{sign}{number(found.mean, metric, decimals)} [{low}, {high}]"


def metric_of(record: Record, part: Verdict) -> Metric:
    """Returns the declaration of the metric that a part compares."""
    return record.metrics[part.metric or record.metric]


def level(value: float, metric: Metric) -> str:
    """Returns a number with its unit: `61.93 %` of a share, which a difference has in points."""
    return f"{number(value, metric)}{f' {metric.shown_unit}' if metric.shown_unit else ''}"


def is_bound(part: Verdict) -> bool:
    """Returns whether a part states an inequality, so that its effect is a number and no difference."""
    return " ≤ " in part.comparison or " ≥ " in part.comparison


def bound_of(record: Record, part: Verdict) -> str:
    """Returns the declared bound of an inequality with its unit; empty where it is the number of another arm, or none."""
    bound = declared_part(record, part).get("bound")
    return level(float(bound), metric_of(record, part)) if isinstance(bound, int | float) and is_bound(part) else ""


def stated_of(record: Record, part: Verdict) -> str:
    """Returns the number that an identity states, with its unit; empty where it is the number of another arm, or none."""
    expected = declared_part(record, part).get("expected")
    return level(float(expected), metric_of(record, part)) if isinstance(expected, int | float) else ""


def declared_part(record: Record, part: Verdict) -> Mapping[str, Any]:
    """Returns what the declaration says of a part; {} where it cannot be found."""
    same = [one for one in record.parts if one.get("says") == part.says and one.get("role", part.role) == part.role]
    return (same or [{}])[0]


def is_lower_bound(record: Record, part: Verdict) -> bool:
    """Returns whether a ratio is only a lower bound: numbers of its first arm are, and none of its second arm."""
    arms = {arm.name: arm.numbers.get(part.metric or record.metric) for arm in record.arms}
    first, other = (arms.get(name) for name in part.comparison.partition(" / ")[::2])
    return bool(first and first.lower_bounds and other and not other.lower_bounds)


def is_ranked(part: Verdict) -> bool:
    """Returns whether the ranks of all runs decided a part, so that it has no effect: runs diverged."""
    return part.effect is None and part.p is not None and part.n > 0


def effect(record: Record, part: Verdict) -> tuple[str, str]:
    """Returns (effect with its unit, 95 % interval) of a part: `+2.10 nats`, `[1.87, 2.33]`; dashes for what is not there."""
    metric = metric_of(record, part)
    if part.effect is None:
        return formatting.NOTHING, formatting.NOTHING
    if part.scale == "rate" and part.interval is None and " − " in part.comparison:
        return f"{100 * part.effect:+.0f} % of the runs".replace("-", "−"), formatting.NOTHING
    if part.scale == "rate":
        bounds = "[{:.0f}, {:.0f}] %".format(*(100 * end for end in part.interval)) if part.interval else formatting.NOTHING
        return f"{100 * part.effect:.0f} % of the runs", bounds
    if part.scale != "plain":
        bounds = "[{:.3g}, {:.3g}]".format(*part.interval) if part.interval else formatting.NOTHING
        sign = "≥ " if is_lower_bound(record, part) else ""
        return f"{'ratio' if part.scale == 'log' else 'odds ratio'} {sign}{part.effect:.3g}", bounds
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    if part.exact and is_bound(part):
        return level(part.effect, metric), formatting.NOTHING
    if part.exact:
        return f"{number(part.effect, metric)}{unit}", formatting.NOTHING
    half = (part.interval[1] - part.interval[0]) / 2 * metric.factor if part.interval else 0.0
    decimals = decimals_of([half])
    bounds = formatting.NOTHING
    if part.interval:
        bounds = f"[{', '.join(number(end, metric, decimals, sign=True) for end in part.interval)}]"
    return f"{number(part.effect, metric, decimals, sign=True)}{unit}", bounds


def conditions(record: Record, part: Verdict) -> str:
    """Returns what a part declares beside its comparison: `margin 0.30 points (a quarter of the gap); sign flips decide`."""
    declared, metric = declared_part(record, part), metric_of(record, part)

    def amount(name: str) -> str:
        value, unit = float(declared[name]), f" {metric.difference_unit}" if metric.difference_unit else ""
        unit = unit.removesuffix("s") if abs(value * metric.factor) == 1 else unit
        if declared.get("scale", "plain") != "plain":
            return f"a factor of {math.exp(value):.3g}"
        return f"{number(value, metric)}{unit}"

    found = [f"margin {amount('margin')}"] if isinstance(declared.get("margin"), int | float) else []
    found += [f"smallest effect of interest {amount('smallest')}"] if declared.get("smallest") is not None else []
    found += [f"tolerance {amount('tolerance')}"] if declared.get("tolerance") else []
    found += [f"a success is {level(declared['level'], metric)} or better"] if "level" in declared else []
    found += [f"stated: more than {100 * declared['more_than']:.0f} %"] if "more_than" in declared else []
    found += ["sign flips decide"] if declared.get("decided_by") == "signs" else []
    because = f" ({declared['source']})" if declared.get("source") and found else ""
    return f"{'; '.join(found)}{because}"
