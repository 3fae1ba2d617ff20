"""Shows a random search: every arm as a line through its factors, and a rough estimate of which factors mattered."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan import pruning
from cnnlab.ablation.plan.levels import number_or_none
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report import formatting, svg
from cnnlab.ablation.report.html import escape, section
from cnnlab.metric import Metric

FEWEST = 10
"""Fewest arms from which a random forest estimates the importance of factors."""
FOLDS, TREES, REPEATS = 5, 100, 10
HEIGHT = 260
"""Height of the parallel coordinates, in pixels."""


@dataclasses.dataclass(frozen=True)
class Factor:
    """A varied knob as numbers."""

    knob: str
    values: np.ndarray
    """f64 [N] of N arms: the number, its decimal logarithm where `log`, or the place of a word among `words`."""
    words: tuple[str, ...] = ()
    log: bool = False


def factors(study: Study, arms: Sequence[str]) -> list[Factor]:
    """Returns what varies between these arms. Numbers that span more than two decades are taken in logarithms."""
    by_name = {arm.name: arm for arm in study.arms}
    found = []
    for knob, levels in study.factors.items():
        texts = [study.level(by_name[arm], knob) for arm in arms]
        if len(set(texts)) < 2:
            continue
        numbers = [number_or_none(text) for text in texts]
        if all(number is not None for number in numbers):
            values = np.array(numbers, np.float64)
            log = bool(values.min() > 0 and values.max() > 100 * values.min())
            found.append(Factor(knob, np.log10(values) if log else values, log=log))
        else:
            words = tuple(level for level in dict.fromkeys([*levels, *sorted(texts)]) if level in texts)
            found.append(Factor(knob, np.array([words.index(text) for text in texts], np.float64), words=words))
    return found


def importance(found: Sequence[Factor], quality: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns (share of the variance that involves each factor [factors], share that the forest explains).

    Permutation importance of a random forest (Breiman, "Random Forests", 2001, section 10), on the arms that the forest
    was not grown on: five folds. Half the squared error that is added when a factor is shuffled, over the variance, which
    estimates the total index of Sobol. Both may be below 0, which is 0 and noise.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    table = np.stack([factor.values for factor in found], axis=1)
    lost, errors = np.zeros(len(found)), 0.0
    for grown, held in KFold(FOLDS, shuffle=True, random_state=0).split(table):
        trees = RandomForestRegressor(TREES, random_state=0).fit(table[grown], quality[grown])
        shuffled = permutation_importance(
            trees, table[held], quality[held], scoring="neg_mean_squared_error", n_repeats=REPEATS, random_state=0
        )
        lost += shuffled.importances_mean * len(held)
        errors += float(np.sum((trees.predict(table[held]) - quality[held]) ** 2))
    variance = float(np.sum((quality - quality.mean()) ** 2))
    return lost / (2 * variance), 1 - errors / variance


def random_search(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Returns the section of a random search; empty for another design.

    Where arms were pruned, few of them have a final metric, and these are the best ones: all are shown by their metric at the
    first rung.
    """
    known = {arm.name for arm in study.arms}
    rows = [row for row in formatting.arms_and_controls(study, analysis)[0] if row.arm in known]
    means = {row.arm: row.mean for row in rows if row.mean is not None and formatting.finite(row.mean)}
    scale, higher = formatting.scale_of(analysis), analysis.higher_is_better
    name, note = (
        formatting.metric_heading(analysis, scale),
        "Every line is an arm: it passes through the values of its factors and ends at its mean.",
    )
    if study.pruning:
        means, higher, rung = pruning.at_first_rung(study, outcomes), study.pruning.higher_is_better, study.pruning.rungs[0]
        alike = formatting.short_metric(study.pruning.metric) == formatting.short_metric(analysis.metric)
        scale, name = scale if alike else formatting.Scale(Metric(""), decimals=4), f"at step {rung:,}"
        note = "Every line is an arm: it passes through the values of its factors and ends at its mean "
        note += f"{study.pruning.metric} {name}, before any was pruned."
    found = (
        factors(study, list(means))
        if study.design in ("random", "grid_and_random", "grids_and_random") and len(means) > 1
        else []
    )
    if not found:
        return ""
    quality = np.array(list(means.values()), np.float64)
    lines = _parallel(list(means), found, quality, name, scale, higher_is_better=higher)
    return section("Random search", lines + _importance(found, quality), note)


def _parallel(
    arms: Sequence[str],
    found: Sequence[Factor],
    quality: np.ndarray,
    name: str,
    scale: formatting.Scale,
    *,
    higher_is_better: bool | None,
) -> str:
    """Draws parallel coordinates, the best arms last and in the strongest colour; `name` is that of the quality."""
    columns = [*found, Factor(name, quality * scale.factor)]
    axes = [svg.Axis.around(factor.values.tolist(), space=0.04) for factor in columns]
    rules = "".join(_rule(factor, axis, i / len(found)) for i, (factor, axis) in enumerate(zip(columns, axes, strict=True)))
    order = np.argsort(-quality if higher_is_better is False else quality, kind="stable")
    lines = ""
    for rank, arm in enumerate(order):
        places = [
            (i / len(found), axis.share(factor.values[arm])) for i, (factor, axis) in enumerate(zip(columns, axes, strict=True))
        ]
        style = f"stroke:color-mix(in oklab, var(--low), var(--high) {rank / max(1, len(order) - 1):.0%})"
        title = f"{arms[arm]}: {scale.value(quality[arm])}"
        lines += f'<path d="{svg.path(places)}" style="{style}"><title>{escape(title)}</title></path>'
    body = svg.stretched(f'<g class="lines">{lines}</g>') + rules
    picture = svg.fluid(body, height=HEIGHT, title=f"Parallel coordinates of {len(arms)} arms")
    low, high = ("lowest", "highest") if higher_is_better is None else ("worst", "best")
    ramp = f'<p class="note">{low} <span class="ramp"></span> {high}, by rank</p>'
    width = 110 * len(columns)
    return f'<div class="scroll"><div class="parallel" style="min-width:{width}px">{picture}</div></div>{ramp}'


def _rule(factor: Factor, axis: svg.Axis, across: float) -> str:
    """Draws a vertical axis with its name above and its values beside it."""
    side = "start" if across == 0 else "end" if across == 1 else "middle"
    name = formatting.truncate(factor.knob.rsplit(".", 1)[-1] + (" (log)" if factor.log else ""), 18)
    parts = f'<line class="stroke" x1="{across:.2%}" x2="{across:.2%}" y1="0" y2="{HEIGHT}"/>'
    parts += f'<text class="title {side}" x="{across:.2%}" y="-14">{escape(name)}</text>'
    anchor, beside = ("end", -6) if across == 1 else ("start", 6)
    for tick in range(len(factor.words)) if factor.words else axis.ticks(4):
        word = factor.words[int(tick)] if factor.words else formatting.tick(10**tick if factor.log else tick)
        text = f'<text class="{anchor} halo" x="{beside}" y="4">{escape(formatting.truncate(word, 14))}</text>'
        parts += f'<svg x="{across:.2%}" y="{HEIGHT * (1 - axis.share(tick)):.1f}" class="place">{text}</svg>'
    return parts


def _importance(found: Sequence[Factor], quality: np.ndarray) -> str:
    """Draws bars of permutation importance, with a note on how far they can be trusted."""
    head = "<h3>Which factors mattered</h3>"
    if len(quality) < FEWEST or not np.ptp(quality):
        lack = f"Not estimated: this needs at least {FEWEST} arms that differ, and there are {len(quality)}."
        return f'{head}<p class="note">{lack}</p>'
    lost, explained = importance(found, quality)
    trust = (
        f"it explains {explained:.0%} of the variance of arms it has not seen"
        if explained > 0
        else "here it predicts unseen arms no better than their mean does, so the bars mean nothing"
    )
    note = (
        f"Rough: permutation importance of a random forest over n = {len(quality)} arms, as the share of the variance that "
        f"involves a factor; {trust}. Factors that span more than two decades are taken in logarithms."
    )
    most = max(float(lost.max()), 1e-9)
    bars = "".join(
        f'<span>{escape(found[i].knob)}</span><span><i style="width:{max(0.0, lost[i]) / most:.1%}"></i></span>'
        f"<span>{formatting.format_number(100 * min(max(0.0, lost[i]), 1.0), '.0f')} %</span>"
        for i in np.argsort(-lost, kind="stable")
    )
    return f'{head}<p class="note">{note}</p><div class="bars">{bars}</div>'
