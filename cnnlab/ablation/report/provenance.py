"""What a report says beside its numbers: what was asked, what an effect is called, where the numbers come from."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab.ablation.analyse.results import Analysis, Effect
from cnnlab.ablation.plan.levels import shown
from cnnlab.ablation.plan.study import RunResult, Study

SPELT_OUT = 12
"""Levels of a factor that are named one by one."""


def effect_name(effect: Effect, study: Study) -> str:
    """`norm: none against batch`, or `norm × activation: none, tanh`."""
    if len(effect.factors) == 1:
        first = study.factors.get(effect.factors[0], ("",))[:1]
        return f"{effect.factors[0]}: {effect.levels[0]}" + (f" against {first[0]}" if first and first[0] else "")
    return f"{' × '.join(effect.factors)}: {', '.join(effect.levels)}"


def question_facts(study: Study, analysis: Analysis) -> list[tuple[str, str]]:
    """(what, text) of the study's plan."""
    common = shlex.join(f"--{knob}={value}" for knob, value in study.knobs.items())
    senses = {True: ", higher is better", False: ", lower is better", None: ""}
    facts = [
        ("Claim", study.claim),
        ("Experiment", f"{study.experiment} {common}".strip()),
        ("Design", f"{study.design.replace('_', ' ')}, {len(study.arms)} arm{'s' * (len(study.arms) != 1)}"),
        ("Metric", f"{analysis.metric}{senses[analysis.higher_is_better]}"),
        ("Seeds", f"{len(study.seeds)}: {', '.join(map(str, study.seeds))}" if study.seeds else "none"),
        ("Precision", study.precision),
        ("Run flags", " ".join(study.flags)),
        ("Pruning", describe_rungs(study)),
    ]
    factors = [(f"Factor {knob}", _levels(levels)) for knob, levels in study.factors.items()]
    return [(name, text) for name, text in (*facts, *factors) if text]


def describe_rungs(study: Study) -> str:
    """Where worse arms are stopped early, or nothing."""
    if study.pruning is None:
        return ""
    *steps, last = (f"{rung:,}" for rung in study.pruning.rungs)
    return (
        f"{study.pruning.method}: at step {', '.join(steps)} of {last} about 1 in {study.pruning.factor} goes on, "
        f"by {study.pruning.metric}; {study.baseline.name} and controls are not pruned"
    )


def _levels(levels: Sequence[str]) -> str:
    """All of a few; of many, as a random search has, their number and their ends or the first of them."""
    different = list(dict.fromkeys(levels))
    if len(different) <= SPELT_OUT:
        return ", ".join(map(shown, different))
    try:
        ends = min(different, key=float), max(different, key=float)
    except ValueError:
        return f"{', '.join(map(shown, different[:SPELT_OUT]))} and {len(different) - SPELT_OUT} more"
    return f"{len(different)} values from {ends[0]} to {ends[1]}"


def provenance(outcomes: Sequence[RunResult]) -> list[tuple[str, str]]:
    """(what, text) of where the numbers come from; where runs disagree, every text with its number of runs."""
    counted: dict[str, dict[str, int]] = {}
    for recorded in [outcome.provenance for outcome in outcomes if outcome.provenance]:
        for name, text in _facts(recorded):
            counted.setdefault(name, {}).setdefault(text, 0)
            counted[name][text] += 1
    lines = [
        (name, next(iter(texts)) if len(texts) == 1 else "; ".join(f"{text} ({number} runs)" for text, number in texts.items()))
        for name, texts in counted.items()
    ]
    return lines or [("Runs", "nothing is recorded of any")]


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
