"""The text of a report beside its numbers: the design of the study, names of effects, where the numbers come from."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import own
from cnnlab.ablation.analyse import summary
from cnnlab.ablation.analyse.results import Analysis, Effect
from cnnlab.ablation.plan.levels import shown
from cnnlab.ablation.plan.study import BASELINE, RunResult, Study

SPELT_OUT = 12
"""Levels of a factor that are named one by one."""


def effect_name(effect: Effect, study: Study) -> str:
    """Returns `norm: none against batch`, or `norm × activation: none, tanh`."""
    if len(effect.factors) == 1:
        first = study.factors.get(effect.factors[0], ("",))[:1]
        return f"{effect.factors[0]}: {effect.levels[0]}" + (f" against {first[0]}" if first and first[0] else "")
    return f"{' × '.join(effect.factors)}: {', '.join(effect.levels)}"


def describe_baseline(study: Study) -> str:
    """Returns `baseline (lr=0.1)`, or `baseline NAME (lr=0.1)`: the baseline with its values of the varied knobs."""
    if not study.arms:
        return BASELINE
    name = study.baseline.name
    known = BASELINE if name == BASELINE else f"{BASELINE} {name}"
    settings = _baseline_settings(study)
    return f"{known} ({settings})" if settings and settings != name else known


def _baseline_settings(study: Study) -> str:
    """Returns the baseline's values of the varied knobs; empty where nothing is varied, or too many knobs are."""
    if not study.arms or len(study.factors) > SPELT_OUT:
        return ""
    return ", ".join(
        f"{knob.rpartition('.')[2]}={shown(own.short(study.level(study.baseline, knob)))}" for knob in study.factors
    )


def describe_design(study: Study, analysis: Analysis) -> list[tuple[str, str]]:
    """Returns (heading, text) of the study's design."""
    common = shlex.join(f"--{knob}={value}" for knob, value in study.knobs.items())
    senses = {True: ", higher is better", False: ", lower is better", None: ""}
    facts = [
        ("Claim", "" if study.exploratory else study.claim),
        ("Declaration", study.declaration or study.exploratory),
        ("Experiment", f"{study.experiment} {common}".strip()),
        ("Design", f"{study.design.replace('_', ' ')}, {len(study.arms)} arm{'s' * (len(study.arms) != 1)}"),
        ("Baseline", _baseline_settings(study) or (study.baseline.name if study.arms else "")),
        ("Compared metric", f"{analysis.metric}{senses[analysis.higher_is_better]}"),
        ("Smallest effect of interest", _smallest(analysis)),
        ("Seeds per arm", f"{len(study.seeds)} ({', '.join(map(str, study.seeds))})" if study.seeds else "none"),
        ("Precision", study.precision),
        ("Run flags", " ".join(study.flags)),
        ("Pruning", describe_rungs(study)),
    ]
    factors = [(f"Values of {knob}", _levels(levels)) for knob, levels in study.factors.items()]
    return [(name, text) for name, text in (*facts, *factors) if text]


def describe_scope(outcomes: Sequence[RunResult]) -> list[tuple[str, str]]:
    """Returns (heading, text) of the data and the length of training, beyond which no verdict of a study holds."""
    facts = dict(provenance(outcomes))
    clocks = [[record["epoch"] for record in one.curve if record.get("epoch")] for one in outcomes]
    lasts = {f"{max(clock):.3g}" for clock in clocks if clock}
    after = f" ({lasts.pop()} epochs)" if len(lasts) == 1 else ""
    found = [("Data", facts.get("Data", "")), ("Steps", f"{steps}{after}" if (steps := facts.get("Steps")) else "")]
    return [(name, text) for name, text in found if text]


def _smallest(analysis: Analysis) -> str:
    """Returns the smallest effect of interest with its unit; empty where none is declared."""
    if analysis.smallest_effect is None:
        return ""
    return f"{summary.amount(analysis.smallest_effect, analysis.declared)}{summary.unit(analysis.declared)}"


def describe_rungs(study: Study) -> str:
    """Returns at which steps worse arms are stopped early; empty where none are."""
    if study.pruning is None:
        return ""
    *steps, last = (f"{rung:,}" for rung in study.pruning.rungs)
    return (
        f"{study.pruning.method}: at step {', '.join(steps)} of {last} about 1 arm in {study.pruning.factor} continues, "
        f"ranked by {study.pruning.metric}; the baseline and negative controls are not pruned"
    )


def _levels(levels: Sequence[str]) -> str:
    """Returns all levels where they are few; of many, as in a random search, their number and range, or the first of them."""
    different = list(dict.fromkeys(levels))
    if len(different) <= SPELT_OUT:
        return ", ".join(map(shown, different))
    try:
        ends = min(different, key=float), max(different, key=float)
    except ValueError:
        return f"{', '.join(map(shown, different[:SPELT_OUT]))} and {len(different) - SPELT_OUT} more"
    return f"{len(different)} values from {ends[0]} to {ends[1]}"


def provenance(outcomes: Sequence[RunResult]) -> list[tuple[str, str]]:
    """Returns (heading, text) about the origin of the numbers; where runs disagree, every text with its number of runs."""
    counted: dict[str, dict[str, int]] = {}
    for recorded in [outcome.provenance for outcome in outcomes if outcome.provenance]:
        for name, text in _facts(recorded):
            counted.setdefault(name, {}).setdefault(text, 0)
            counted[name][text] += 1
    lines = [
        (name, next(iter(texts)) if len(texts) == 1 else "; ".join(f"{text} ({number} runs)" for text, number in texts.items()))
        for name, texts in counted.items()
    ]
    return lines or [("Runs", "no run has recorded where its numbers come from")]


def _facts(recorded: Mapping[str, Any]) -> list[tuple[str, str]]:
    get = recorded.get
    data, versions = get("data") or {}, get("versions") or {}
    sizes = ", ".join(f"{size:,} {split}" for split, size in (data.get("sizes") or {}).items())
    devices = get("devices") or []
    kinds = {device: list(devices).count(device) for device in devices}
    changed = " with uncommitted changes" if get("uncommitted_changes") else ""
    counted = [
        ("Commit", f"{get('commit') or ''}{changed}"),
        ("Data", ", ".join(filter(None, [str(data.get("name") or ""), sizes]))),
        ("Data fingerprint", str(data.get("fingerprint") or "")),
        ("Steps", f"{get('steps'):,}" if isinstance(get("steps"), int) else ""),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Devices", ", ".join(f"{number} × {kind}" for kind, number in kinds.items())),
        ("Host", str(get("host") or "")),
        ("Platform", str(get("platform") or "")),
    ]
    return [(name, text) for name, text in counted if text]
