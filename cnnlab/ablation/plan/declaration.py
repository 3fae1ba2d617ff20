"""The declaration of a claim's study: what its file says before the first run, and where a command differs from that.

A study that differs is exploratory: it is reported as any other, but it gets no verdict on the claim and never reaches the page
of claims.
"""

import ast
import dataclasses
import functools
import inspect
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnlab import files
from cnnlab.ablation.plan.measurement import read_measurement
from cnnlab.ablation.plan.request import DesignRequest, canonical_arms, requested_design
from cnnlab.ablation.plan.study import Card, Study
from cnnlab.digests import SHORT, json_digest
from cnnlab.errors import UsageError
from cnnlab.runs import revision
from cnnlab.runs.experiments import ExperimentFile, MeasurementFile
from cnnlab.runs.identity import COUNTING, own_parts
from cnnlab.sources import code_digest, differing_files

log = logging.getLogger("cnnlab")

DECLARATION = "declaration.json"
ADVICE = "Restore it from a copy: without it the study's verdict cannot be traced to what was declared."
MOST_NAMED = 4
"""Arms, files or knobs that a text names one by one."""


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What the file of a claim declares. A margin and its source stand with the part of the test that they belong to."""

    claim: str
    question: str
    experiment: str
    """Name of the experiment, or of its file."""
    source: str
    """Digest of the code of the experiment's file, without comments, docstrings and the words of the claim's card."""
    arms: Mapping[str, Mapping[str, str]]
    """{name: knobs}, the baseline first, negative controls last."""
    metric: str
    seeds: tuple[int, ...]
    parts: tuple[Mapping[str, Any], ...]
    """The tests that decide the claim, each with its arguments (`describe_rule`)."""
    smallest_effect: float | None
    """Smallest effect of interest, in units of the metric; None: none is declared."""
    inputs: tuple[str, ...]
    """Knobs that the command line fills in."""

    @property
    def digest(self) -> str:
        """Its digest: two studies with the same one make the same test."""
        return json_digest(dataclasses.asdict(self))


def declared_by(experiment: ExperimentFile) -> Declaration | None:
    """Returns the declaration of an experiment's file; None where it declares no study of a claim."""
    spec = experiment.study
    if not getattr(spec, "claim", ""):
        return None
    common = experiment.resolve({})
    arms = canonical_arms(requested_design(DesignRequest(), spec), common, spec.first_seed, experiment.path.parent)
    rule = describe_rule(spec.verdict) if spec.verdict else {}
    return Declaration(
        claim=spec.claim,
        question=spec.question,
        experiment=experiment.title,
        source=code_digest(_without_cards(experiment.source)),
        arms={arm.name: dict(arm.knobs) for arm in arms},
        metric=spec.metric,
        seeds=tuple(range(spec.first_seed, spec.first_seed + spec.seeds)),
        parts=tuple(rule.get("rules", [rule] if rule else [])),
        smallest_effect=spec.smallest_effect,
        inputs=spec.inputs,
    )


def _without_cards(source: str) -> ast.Module:
    """Returns the code of a file without what `Card(...)` is given: the words of a card are no part of the test."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Card":
            node.args, node.keywords = [], []
    return tree


def describe_rule(rule: Callable[..., Any]) -> dict[str, Any]:
    """Returns {"test": its name, argument: value, …} of a verdict rule: a function made by another one, or a dataclass."""
    if parts := getattr(rule, "roles", None):  # a claim of several parts (claim_verdict.Every)
        setting = {"setting": getattr(rule, "setting", "")}
        return {"test": "every", "rules": [{**describe_rule(one), "role": role, **setting} for role, one in parts]}
    if decide := getattr(rule, "decide", None):  # one part (verdicts.Rule): the arguments are those of its function
        described = describe_rule(decide)
        expected = described.pop("hypothesis", {})
        name = getattr(decide, "__qualname__", type(decide).__name__).partition(".")[0]
        metric = {"metric": other} if (other := getattr(rule, "metric", "")) else {}
        return {
            **expected,
            **described,
            "decided_by": described["test"],
            "test": name,
            "says": getattr(rule, "says", ""),
            **metric,
        }
    if isinstance(rule, functools.partial):
        return {**describe_rule(rule.func), **{name: _plain(value) for name, value in rule.keywords.items()}}
    if dataclasses.is_dataclass(rule):
        values = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
        name = type(rule).__name__
    else:
        values = dict(inspect.getclosurevars(rule).nonlocals) if inspect.isfunction(rule) else {}
        name = getattr(rule, "__qualname__", type(rule).__name__).partition(".")[0]
    return {"test": name, **{key: _plain(value) for key, value in sorted(values.items())}}


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it; a rule in it is described."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return describe_rule(value) if callable(value) or dataclasses.is_dataclass(value) else str(value)


def follow_declaration(
    study: Study, experiment: ExperimentFile, prune: str = "none", *, exploratory: bool = False
) -> tuple[Study, dict[str, Any] | None]:
    """Returns (the study with the declaration that it follows or why it is exploratory, the content of declaration.json).

    The content is None where the study follows no declaration. Raises UsageError where it does and the code is not as a commit
    has it, since the verdict could then be traced to nothing, and where an exploratory study is asked for without a claim.

    Args:
        study: the study of the command line, not planned yet.
        experiment: its experiment.
        prune: the rule by which worse arms are to be stopped early.
        exploratory: whether the person asks for an exploratory study.
    """
    declared = declared_by(experiment)
    if declared is None and exploratory:
        raise UsageError(f"--exploratory: {experiment.title} declares no claim, so its studies get no verdict. Leave it out.")
    if declared is None:
        return study, None
    found = differences(study, declared, experiment)
    found += [f"pruning (declared: none; here: {prune})"] if prune != "none" else []
    if found or exploratory:
        texts = [f"differs from the declaration of {declared.claim} in {', '.join(found)}"] if found else []
        texts += ["as --exploratory asks"] if exploratory else []
        return dataclasses.replace(study, exploratory=f"exploratory: {'; '.join(texts)}"), None
    resolved = experiment.resolve(study.knobs)
    own = [experiment.path, *own_parts(resolved.values)]
    content = _content(declared, own, experiment.sources(resolved) or {}, experiment.study.card)
    return dataclasses.replace(study, declaration=declared.digest), content


def _content(declared: Declaration, own: Sequence[pathlib.Path], sources: Mapping[str, str], card: Card) -> dict[str, Any]:
    """Returns the content of declaration.json; raises UsageError where the code is not as a commit has it.

    Args:
        declared: what the file declares.
        own: the file and others that it needs beside this project's.
        sources: {name: digest} of the code that it depends on.
        card: what the claim's card says; no part of the declaration.
    """
    at = revision.revision_of(own, sources)
    if at.changed:
        raise UsageError(
            f"{_some(at.changed)} {'is' if len(at.changed) == 1 else 'are'} not as the commit {str(at.commit)[:12]} has "
            f"{'it' if len(at.changed) == 1 else 'them'}, so a verdict on {declared.claim} could not be traced: "
            "commit first, or add --exploratory for a study without a verdict."
        )
    return {
        "digest": declared.digest,
        "declared": dataclasses.asdict(declared),
        "time": time.time(),
        "commit": at.commit,
        "repository": "git" if at.commit else "none: git knows no commit of this code, only its digests are recorded",
        "sources": sources,
        "card": dataclasses.asdict(card),
    }


def declare_measurement(file: MeasurementFile) -> Declaration:
    """Returns the declaration of a measurement: its cases are those of its parts, so it declares no arms."""
    measurement = file.measurement
    return Declaration(
        claim=measurement.claim,
        question=measurement.question,
        experiment=file.title,
        source=code_digest(_without_cards(file.source)),
        arms={},
        metric=", ".join(metric.name for metric in measurement.metrics),
        seeds=measurement.all_seeds,
        parts=tuple(describe_rule(measurement.verdict).get("rules", ())),
        smallest_effect=None,
        inputs=(),
    )


def follow_measurement(
    file: MeasurementFile, seeds: tuple[int, ...], *, exploratory: bool = False
) -> tuple[str, dict[str, Any]]:
    """Returns (why a measurement is exploratory, the content of its declaration.json, which an exploratory one lacks: {}).

    Args:
        file: the file of the measurement.
        seeds: the seeds that are asked for.
        exploratory: whether the person asks for an exploratory measurement.
    """
    declared = declare_measurement(file)
    declared_here = f"(declared: {_range(declared.seeds)}; here: {_range(seeds)})"
    texts = [f"differs from the declaration of {declared.claim} in seeds {declared_here}"] if seeds != declared.seeds else []
    texts += ["as --exploratory asks"] if exploratory else []
    if texts:
        return f"exploratory: {'; '.join(texts)}", {}
    return "", _content(declared, [file.path], file.sources, file.measurement.card)


def differences(study: Study, declared: Declaration, experiment: ExperimentFile) -> list[str]:
    """Returns `WHAT (declared: …; here: …)` for everything in which a study differs from the declaration."""
    found = []
    arms = {arm.name: dict(arm.knobs) for arm in study.arms}
    if arms != declared.arms:
        found.append(("arms", _named(declared.arms), _named(arms)))
    elif study.claim != declared.claim:
        found.append(("design", "that of the file", "--vary"))
    if study.metric != declared.metric:
        found.append(("metric", declared.metric, study.metric))
    if study.seeds != declared.seeds:
        found.append(("seeds", _range(declared.seeds), _range(study.seeds)))
    if study.precision != "f32":
        found.append(("precision", "f32", study.precision))
    default, here = experiment.resolve({}).values, experiment.resolve(study.knobs).values
    paths = [path for path in {**default, **here} if not _is_input(path, declared.inputs)]
    changed = [path for path in paths if default.get(path, _ABSENT) != here.get(path, _ABSENT)]
    found += [(path, str(default.get(path, "absent")), str(here.get(path, "absent"))) for path in changed[:MOST_NAMED]]
    found += [(f"{len(changed) - MOST_NAMED} more knobs", "the defaults", "others")] if len(changed) > MOST_NAMED else []
    flags = [flag for flag in study.flags if flag.lstrip("-").partition("=")[0] in COUNTING]
    found += [("run flags", "none", " ".join(flags))] if flags else []
    return [f"{what} (declared: {before}; here: {now})" for what, before, now in found]


def verdict_rule(study: Study, experiment: ExperimentFile) -> Callable[..., Any] | None:
    """Returns the rule by which a study gets its verdict; None where there is none, or where the file declares another today.

    A study of an older version has no declaration: it is compared with what the file declares today, apart from the arms, whose
    knobs may have had other names.
    """
    declared = declared_by(experiment)
    if declared is None or study.exploratory:
        return None
    found: list[str] = []
    if study.declaration and study.declaration != declared.digest:
        found = [f"declaration (the study's: {study.declaration[:SHORT]}; the file's today: {declared.digest[:SHORT]})"]
    elif not study.declaration:
        found = [one for one in differences(study, declared, experiment) if not one.startswith("arms ")]
    if found:
        log.warning("no new verdict on %s: the study differs from what its file declares in %s", study.claim, ", ".join(found))
        return None
    rule: Callable[..., Any] | None = experiment.study.verdict
    return rule


_ABSENT = object()


def _is_input(path: str, inputs: tuple[str, ...]) -> bool:
    """Returns whether a knob, or one that it lies below, is filled in by the command line."""
    return any(path == name or path.startswith(f"{name}.") for name in inputs)


def _named(arms: Mapping[str, Any]) -> str:
    """Returns `2: baseline and lr=0.1`."""
    return f"{len(arms)}: {_some(tuple(arms))}"


def _some(names: tuple[str, ...]) -> str:
    """Returns the names, of many the first ones and the number of the others."""
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return " and ".join(filter(None, ["; ".join(names[:MOST_NAMED]), *more]))


def _range(seeds: tuple[int, ...]) -> str:
    """Returns `15, from 0 to 14`."""
    return f"{len(seeds)}, from {seeds[0]} to {seeds[-1]}"


def keep_declaration(folder: pathlib.Path, study: Study, content: Mapping[str, Any] | None) -> None:
    """Writes declaration.json before the first run of a study; one that is there already is never changed.

    Args:
        folder: folder of the study.
        study: the study as it is about to run.
        content: what `follow_declaration` returned.

    Raises UsageError where the folder holds a study of another declaration, or an exploratory one of the claim.
    """
    there = read_declaration(folder)
    before = files.read_record(folder / "study.json") or {}
    other = there["digest"] if there else before.get("exploratory", "") and "exploratory"
    if other and other != (study.declaration or (study.exploratory and "exploratory")):
        held = f"follows the declaration {other[:SHORT]}" if there else "is exploratory"
        raise UsageError(f"{folder} holds a study that {held}, and this one does not. Give another --workdir.")
    if content is not None and there is None:
        files.make_folder(folder)
        files.write_record(folder / DECLARATION, content)


def keep_measured_declaration(folder: pathlib.Path, content: Mapping[str, Any], why: str, sources: Mapping[str, str]) -> None:
    """Writes declaration.json before the first seed of a measurement; an exploratory one ({}) has none.

    Args:
        folder: folder of the measurement.
        content: what `follow_measurement` returned.
        why: why the measurement is exploratory; empty where it is not.
        sources: {name: digest} of the code that it depends on.

    Raises UsageError where the folder holds a measurement of another declaration, an exploratory one, or one by other code,
    whose seeds do not count as those of this one.
    """
    there, before = read_declaration(folder), read_measurement(folder)
    held = ""
    if there and there["digest"] != content.get("digest"):
        held = f"follows the declaration {there['digest'][:SHORT]}, and this one does not"
    elif before and before.get("exploratory") and not why:
        held = "is exploratory, and this one is not"
    elif before and (changed := differing_files(before["sources"], sources)):
        held = f"was made by other code ({_some(tuple(changed))})"
    if held:
        raise UsageError(f"{folder} holds a measurement that {held}. Give another --workdir.")
    files.make_folder(folder)
    if content and there is None:
        files.write_record(folder / DECLARATION, content)


def read_declaration(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the content of a study's declaration.json; None where there is none."""
    return files.read_record(folder / DECLARATION, advice=ADVICE)
