"""Plans a study from the command line, and writes its report from its runs."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnlab import files, home
from cnnlab import own as own_files
from cnnlab.ablation.analyse import claim_verdict
from cnnlab.ablation.analyse.analysis import Analysis, analyse
from cnnlab.ablation.analyse.comparable import code_warnings, condition_warnings, require_comparable, require_same_conditions
from cnnlab.ablation.plan import check, curve_metrics, designs, pruning
from cnnlab.ablation.plan.declaration import read_declaration
from cnnlab.ablation.plan.request import Comparison, DesignRequest, canonical_arms, requested_design
from cnnlab.ablation.plan.study import Arm, Pruning, RunResult, Study, Verdict, merge_knobs
from cnnlab.ablation.report.findings import findings_line
from cnnlab.ablation.report.hparams import tensorboard_hparams
from cnnlab.ablation.report.text import terminal_table
from cnnlab.ablation.report.write import require_no_fewer_runs, write_report
from cnnlab.ablation.run import runs, today
from cnnlab.core import Experiment, Strategy
from cnnlab.digests import SHORT, json_digest
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.knobs import Resolved
from cnnlab.metric import Metric, name_of
from cnnlab.runs import run_files
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.find import RunFinder
from cnnlab.runs.identity import COUNTING
from cnnlab.runs.run import steps_between_evaluations
from cnnlab.runs.summaries import reported
from cnnlab.values import Duration


def study_from_flags(
    request: DesignRequest,
    experiment: ExperimentFile,
    common: Resolved,
    knobs: Mapping[str, str],
    flags: Sequence[str],
    comparison: Comparison,
    *,
    precision: str,
) -> Study:
    """Returns the study of the command line, or the experiment's own where nothing is to be varied; not planned yet.

    Args:
        request: what to vary; nothing: the experiment's own study.
        experiment: the experiment with the knobs that are varied.
        common: the experiment with the knobs that all arms share.
        knobs: these knobs as on the command line.
        flags: run flags that every run of the study gets, as on the command line.
        comparison: what is compared over which seeds; what it leaves open is that of the experiment's own study, else seeds 0
            to 4 and the task's primary metric on test, or on what is measured without a test split.
        precision: what the networks compute in.
    """
    own = None if request.vary or request.toggle else experiment.study
    if common.values.get("control", "none") != "none":
        raise UsageError(
            f"--control={common.values['control']} would make every arm one that must fail.\n"
            f"For such arms beside the others, give --controls={common.values['control']}."
        )
    request = requested_design(request, own)
    seed = comparison.seed if comparison.seed is not None else own.first_seed if own else 0
    arms = canonical_arms(request, common, seed, pathlib.Path(experiment.path).parent if own else None)
    count = comparison.seeds or (own.seeds if own else 5)
    return Study(
        name=pathlib.Path(experiment.name).stem,
        experiment=experiment.name,
        knobs={name: own_files.canonical(text) for name, text in knobs.items()},
        design=request.design,
        arms=arms,
        seeds=tuple(range(seed, seed + count)),
        factors=designs.varied([arm for arm in arms if not arm.control]),
        metric=comparison.metric or (own.metric if own else _primary_metric(common.call())),
        precision=precision,
        flags=tuple(flags),
        question=own.question if own else "",
        claim=own.claim if own else "",
        allow=own.allow if own else (),
        smallest_effect=own.smallest_effect if own and comparison.metric in (None, own.metric) else None,
    )


def plan_study(
    study: Study, experiment: ExperimentFile, strategy: Strategy, above: pathlib.Path, *, allow: Sequence[str] = ()
) -> tuple[Study, list[check.CheckedArm]]:
    """Returns the study with every arm checked, measured, grouped, and with a folder for its runs.

    Args:
        study: the study as designed.
        experiment: the experiment with the knobs that the arms set.
        strategy: the devices that it will run on.
        above: the folder that holds the folders of runs and of the study.
        allow: differences between arms that do not matter (comparable.KINDS).
    """
    found = check.check_arms(study, lambda arm: experiment.resolve(merge_knobs(study.knobs, arm)), strategy)
    require_same_conditions(
        {one.arm.name: check.conditions_of(one) for one in found if not one.arm.control},
        allow=allowed_differences(study, allow),
    )
    groups = check.group_arms(found, precision=study.precision)
    finder = RunFinder(above, experiment, study.precision)
    arms = tuple(
        dataclasses.replace(arm, **check.describe_arm(one), folder=finder.folder_of(one.resolved))
        for arm, one in zip(groups, found, strict=True)
    )
    found = [dataclasses.replace(one, arm=arm) for one, arm in zip(found, arms, strict=True)]
    _require_same_runs(found, study, experiment, strategy, above, allow)
    declared: dict[str, Metric] = {}
    for one in found:  # arms may have different tasks; where two declare the same name, the baseline's counts
        declared = {metric.name: metric for metric in one.experiment.task.metrics} | declared
    if study.metric.partition("/")[0] not in found[0].experiment.data.sizes:
        raise UsageError(
            f"--metric={study.metric}: expected SPLIT/NAME, such as {_primary_metric(found[0].experiment)} or train/loss."
        )
    if follows := curve_metrics.declaration(name_of(study.metric), declared):
        declared[follows.name] = follows
    if name_of(study.metric) not in declared:
        names = list(declared)
        raise UsageError(
            f"--metric={study.metric}: the task has no such number.{did_you_mean(name_of(study.metric), names)} "
            f"It declares: {', '.join(names)}."
        )
    return dataclasses.replace(study, arms=arms, metrics=declared), found


def require_compared(study: Study, verdict: Callable[..., Verdict] | None) -> None:
    """Raises UsageError where a part of a claim compares a number that the tasks of the planned study do not declare."""
    parts = [rule for _, rule in getattr(verdict, "roles", [("decides", verdict)])]
    named = [name for part in parts for name in (getattr(part, "metric", ""), getattr(part, "chosen_by", "")) if name]
    for metric in named:
        if "/" not in metric or name_of(metric) not in study.metrics:
            known = list(study.metrics)
            raise UsageError(
                f"the verdict on {study.claim} compares {metric}, which is no SPLIT/NAME of the task."
                f"{did_you_mean(name_of(metric), known)} The task declares: {', '.join(known)}. Correct the study's file."
            )


def _require_same_runs(
    found: Sequence[check.CheckedArm],
    study: Study,
    experiment: ExperimentFile,
    strategy: Strategy,
    above: pathlib.Path,
    allow: Sequence[str],
) -> None:
    """Raises an error where runs that are there already have other code, data or initial weights than new ones would have."""
    cells: list[today.Cell] = []
    for one in found:
        spec = today.spec_today(
            experiment, one.resolved.values, study.precision, strategy=strategy.name, devices=len(strategy.devices)
        )
        cells += [(above / one.arm.folder / f"seed_{seed}", seed, spec, one.experiment) for seed in study.seeds]
    given = {name.lstrip("-"): value for name, _, value in (word.partition("=") for word in study.flags)}
    flags = {name: given.get(name) for name in COUNTING if name != "log_every" or compares_logs(study)}
    today.require_same_runs(cells, allow, remedy="move their folders away to train them again", flags=flags)


def compares_logs(study: Study, metric: str | None = None) -> bool:
    """Returns whether numbers of training are compared, which depend on the interval between log lines.

    Parts of a claim may compare them beside the study's metric.
    """
    return bool(study.declaration) or (metric or study.metric).startswith("train/")


def add_rungs(
    study: Study,
    found: Sequence[check.CheckedArm],
    method: str,
    eval_every: Duration | None,
    *,
    factor: int,
    start: Duration | None = None,
) -> Study:
    """Returns the study with rungs at which its worse arms stop. Raises UsageError where arms cannot be compared at rungs.

    Args:
        study: the study as planned.
        found: its arms as checked.
        method: asha or halving; none: the study as it is.
        eval_every: duration between evaluations; None: the default of a run.
        factor: about one arm in so many continues.
        start: the first rung; None: as in pruning.first_rung.
    """
    if method == "none":
        if start:
            raise UsageError(
                f"--prune_from={start} sets where pruning begins, but nothing is pruned. Add --prune=asha or --prune=halving."
            )
        return study
    names = pruning.prunable_arms(study)
    experiments = [one.experiment for one in found if one.arm.name in names]
    if len(experiments) < 2:
        raise UsageError(
            f"--prune={method} chooses between arms, and beside its baseline and controls the study has {len(experiments)}.\n"
            "Expected at least 2. Vary more, or leave --prune out."
        )
    first = experiments[0]
    if any("validation" not in experiment.data.sizes for experiment in experiments):
        raise UsageError(
            f"--prune={method} compares arms by the validation split, and {first.data.name} has none here.\n"
            "Give --validation=SHARE of the training examples; the test split has no part in pruning."
        )
    lengths = {(experiment.steps, steps_between_evaluations(experiment, eval_every)) for experiment in experiments}
    if len(lengths) > 1:
        differing = "; ".join(f"{steps:,} steps, evaluated every {every:,}" for steps, every in sorted(lengths))
        raise UsageError(
            f"--prune={method} compares arms at the same steps, and theirs differ: {differing}.\n"
            "Vary neither duration nor batch size, and give --steps and --eval_every in steps."
        )
    steps, every = lengths.pop()
    wanted = start.steps(size=first.data.sizes["train"], batch_size=first.data.batch_size) if start else None
    rungs = pruning.rungs(steps, pruning.first_rung(steps, every, factor, len(names), wanted), factor)
    metric = f"validation/{first.task.primary_metric.name}"
    return dataclasses.replace(
        study, pruning=Pruning(method, rungs, factor, metric, first.task.primary_metric.require_sense(f"--prune={method}"))
    )


def estimate_remaining(study: Study, found: Sequence[check.CheckedArm], folder: pathlib.Path) -> check.Estimate:
    """Estimates the cost of the runs that are not finished."""
    everything = list(runs.study_runs(study, folder))
    statuses = [cell.status for cell in everything]
    due = {arm.name: 0 for arm in study.arms}
    for cell, status, target in zip(everything, statuses, runs.Targets(study, everything).by(statuses), strict=True):
        due[cell.arm.name] += pruning.is_due(status, target)
    names = pruning.prunable_arms(study)
    share = dict.fromkeys(names, pruning.expected_share(study.pruning, len(names))) if study.pruning else None
    return check.estimate(found, due, share)


def study_digest(study: Study) -> str:
    """Returns eight hex digits of the compared arms and the declaration; the number of seeds does not change them.

    An exploratory study of a claim has a folder of its own for each metric and choice of seeds, so none replaces another.
    """
    content: list[Any] = [
        study.experiment,
        dict(study.knobs),
        [[arm.name, dict(arm.knobs)] for arm in study.arms],
        study.precision,
    ]
    content += [dataclasses.asdict(study.pruning)] if study.pruning else []
    content += [study.declaration] if study.declaration else []
    content += [["exploratory", study.metric, list(study.seeds)]] if study.exploratory else []
    return json_digest(content)[:SHORT]


def write_study_report(
    study: Study,
    folder: pathlib.Path,
    *,
    allow: Sequence[str] = (),
    metric: str | None = None,
    verdict: Callable[..., Verdict] | None = None,
    to: pathlib.Path | None = None,
    overwrite: bool = False,
) -> str:
    """Writes the report of the finished runs, and returns the text for the terminal.

    Args:
        study: the study as planned.
        folder: folder of the study.
        allow: differences between runs that do not matter (comparable.KINDS).
        metric: the compared metric; None: the study's own.
        verdict: the rule that decides a claim from the analysis; the verdict is written to verdict.json.
        to: folder of the report; None: the study's own.
        overwrite: whether the report may replace one of more finished runs.
    """
    outcomes = runs.read_results(study, folder)
    to = to or folder
    if not overwrite:
        require_no_fewer_runs(to, outcomes)
    # A repetition (`reproduce`) has the declaration's digest, not the declaration: its verdict could not be traced.
    is_declared = not study.declaration or (read_declaration(folder) or {}).get("digest") == study.declaration
    if study.exploratory or not is_declared or metric not in (None, study.metric):
        verdict = None
    compared = {arm.name for arm in study.arms if not arm.control}
    ours = [outcome for outcome in outcomes if outcome.arm in compared]
    require_comparable(ours, allow=allowed_differences(study, allow), logged=compares_logs(study, metric))
    analysis = _with_warnings(analyse(study, outcomes, metric=metric), outcomes)
    if study.exploratory:
        analysis = dataclasses.replace(analysis, warnings=(f"{study.exploratory}. No verdict.", *analysis.warnings))
    verdict = None if analysis.folds else verdict  # its rules take the runs for independent
    files.make_folder(to)
    tensorboard_hparams(to / "tensorboard", study, outcomes)
    if verdict:
        look = functools.cache(lambda other: analyse(study, outcomes, metric=other))  # several parts may ask for one metric
        found = claim_verdict.with_controls(claim_verdict.judged(verdict, analysis, look), analysis)
        sentence = " ".join([found.sentence, *code_warnings(outcomes)])
        found = dataclasses.replace(found, claim=found.claim or study.claim, sentence=sentence, declaration=study.declaration)
        files.write_record(to / "verdict.json", dataclasses.asdict(found))
        analysis = dataclasses.replace(analysis, verdict=found)
    return _write_report(to, study, outcomes, analysis)


def _with_warnings(analysis: Analysis, outcomes: Sequence[RunResult]) -> Analysis:
    """Returns the analysis with a warning where its runs differ in code, or in what they were trained on and with."""
    return dataclasses.replace(analysis, warnings=(*analysis.warnings, *code_warnings(outcomes), *condition_warnings(outcomes)))


def allowed_differences(study: Study, allow: Sequence[str]) -> set[str]:
    """Returns the differences between runs that the command line, the study or its factors permit."""
    varied = {knob.rpartition(".")[2] for knob in study.factors}
    return {*allow, *study.allow, *(["steps"] if varied & {"duration", "batch_size"} else [])}


def _write_report(folder: pathlib.Path, study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Writes the report's files; returns the table and where they lie."""
    names = ", ".join(path.name for path in write_report(folder, study, outcomes, analysis))
    shown = "".join(f"\n\n{part}" for part in (findings_line(outcomes), f"  in {folder} ({names})") if part)
    return f"{terminal_table(study, analysis)}{shown}"


def report_runs(
    folders: Sequence[pathlib.Path], *, allow: Sequence[str], metric: str | None, to: str | None, overwrite: bool = False
) -> str:
    """Writes the report of any runs to `to`, as a study with the settings found as arms; returns the text for the terminal."""
    found = [run for folder in folders for run in runs_below(folder)]
    if not found:
        raise UsageError(f"there is no run in {', '.join(map(str, folders))}. Give folders with a run.json below them.")
    kinds = {run["experiment"] for _, run in found}
    if len(kinds) > 1:
        raise UsageError(f"these are runs of {' and '.join(sorted(kinds))}; a report compares runs of one experiment.")
    given = [{**run["knobs"], "precision": run["flags"]["precision"]} for _, run in found]  # a flag that makes another run
    settings = {json.dumps(one, sort_keys=True): one for one in given}
    paths = sorted({path for knobs in settings.values() for path in knobs})
    varied = [path for path in paths if len({json.dumps(knobs.get(path)) for knobs in settings.values()}) > 1]
    named = {key: {path: str(knobs[path]) for path in varied if path in knobs} for key, knobs in settings.items()}
    arms = tuple(Arm(_setting(levels) if number else "baseline", levels) for number, levels in enumerate(named.values()))
    by_key = dict(zip(named, arms, strict=True))
    outcomes = []
    for (folder, run), one in zip(found, given, strict=True):
        arm = by_key[json.dumps(one, sort_keys=True)]
        outcomes.append(runs.read_result(arm.name, run["flags"]["seed"], folder, f"{home.COMMAND} reproduce {folder}"))
    first = found[0][1]
    compared = metric or _first_metric(outcomes)
    study = Study(
        name=pathlib.Path(first["experiment"]).stem,
        experiment=first["experiment"],
        knobs={},
        design="declared",
        arms=arms,
        seeds=tuple(sorted({outcome.seed for outcome in outcomes})),
        factors={path: tuple(dict.fromkeys(levels.get(path, "") for levels in named.values())) for path in varied},
        metric=compared,
        metrics={name: metric for outcome in reversed(outcomes) for name, metric in outcome.declared.items()},
        precision=first["flags"]["precision"],
    )
    require_comparable(outcomes, allow=allow, logged=compares_logs(study))
    # Reports of other runs have other folders, so that one does not replace another.
    compared_runs = "\n".join(sorted(str(folder.absolute()) for folder, _ in found))
    target = pathlib.Path(to or f"runs/report-{hashlib.sha256(compared_runs.encode()).hexdigest()[:8]}")
    if not overwrite:
        require_no_fewer_runs(target, outcomes)
    return _write_report(target, study, outcomes, _with_warnings(analyse(study, outcomes), outcomes))


def _setting(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{path.rpartition('.')[2]}={level}" for path, level in levels.items())


def runs_below(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """Returns (folder, run.json) of every run at or below a folder; raises DamagedFile for one whose run.json is lost."""
    names = (run_files.RUN, run_files.RESULT, run_files.METRICS)
    places = sorted({path.parent for name in names for path in folder.rglob(name)})
    return [(place, run_files.read_run(place)) for place in places]


def _primary_metric(experiment: Experiment) -> str:
    """Returns SPLIT/NAME of a task's primary metric on the split whose numbers are the results."""
    return f"{experiment.data.report_split}/{experiment.task.primary_metric.name}"


def _first_metric(outcomes: Sequence[RunResult]) -> str:
    """Returns the primary metric of the first run that is done: the first one in result.json."""
    results = [reported(outcome.metrics) for outcome in outcomes if outcome.metrics]
    names = [f"{split}/{name}" for split, numbers in results for name in numbers]
    if not names:
        run_files.require_undamaged(pathlib.Path(outcome.folder) for outcome in outcomes)
        raise UsageError("none of these runs is done, so there is nothing to report.")
    return names[0]
