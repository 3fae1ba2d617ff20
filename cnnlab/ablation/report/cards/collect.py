"""Makes the records of claims from the folders of studies and measurements. Imports no jax."""

import dataclasses
import logging
import math
import pathlib
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cnnlab import files, home
from cnnlab.ablation.plan.claim import number_of
from cnnlab.ablation.plan.declaration import DECLARATION, read_declaration
from cnnlab.ablation.plan.measurement import MEASUREMENT, read_measurement
from cnnlab.ablation.plan.pruning import FINISHED
from cnnlab.ablation.plan.study import Card, RunResult, Study, Verdict, find_declaration, metrics_from_json
from cnnlab.ablation.report.cards.means import curve_point, numbers_of
from cnnlab.ablation.report.cards.record import Arm, Record
from cnnlab.ablation.report.deviations import deviations, measured_deviations
from cnnlab.ablation.report.measured import VERDICT
from cnnlab.ablation.run import runs
from cnnlab.ablation.run.measure import measured_seeds
from cnnlab.errors import UsageError
from cnnlab.metric import Metric, name_of
from cnnlab.runs import run_files
from cnnlab.runs.revision import describe_commit
from cnnlab.text import without_own_paths

log = logging.getLogger("cnnlab")

CardOf = Callable[[str], Card | None]
"""Returns the card that the file of a named experiment gives today."""
REPORTED = ("parameters", "macs")
"""Costs of an arm that its record keeps."""


def collect_records(folders: Sequence[pathlib.Path], card_of: CardOf) -> list[Record]:
    """Returns the records of the claims whose verdict.json lies in or below the folders, by claim, then by name.

    Args:
        folders: folders of studies and measurements, or above them.
        card_of: returns the card that an experiment's file gives today; None where that is not known, so that the one that
            was kept with the declaration is taken.

    Left out are exploratory tests, studies that are not finished, and tests without a declaration, to which their verdict could
    not be traced. Of several tests of one file the last counts. Raises UsageError where a folder is not there, and where
    nothing can be recorded.
    """
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise UsageError(f"{missing[0]}: no such folder. Give the folders that `{home.COMMAND} ablate` printed, or runs.")
    found = {path.resolve(): path.parent for folder in folders for path in sorted(folder.rglob(VERDICT))}
    reasons = {folder: text for folder in _tests(folders, found.values()) if (text := _why_not(folder))}
    for folder, text in reasons.items():
        log.info("left out: %s, which %s", folder, text)
    records = [_read(folder, card_of) for folder in found.values() if folder not in reasons]
    if not records and reasons:
        folder, text = next(iter(reasons.items()))
        raise UsageError(
            f"{folder} {text}, so it has no verdict for the page.\n"
            f"Run it as its file declares it: `{home.COMMAND} ablate --experiment=NAME`, or `measure`, without other flags."
        )
    if not records:
        raise UsageError(
            f"there is no {VERDICT} in {', '.join(map(str, folders))}.\n`{home.COMMAND} ablate` and `measure` write it for an "
            "experiment that declares a claim, such as c07_plain_vs_residual."
        )
    return in_order(records)


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sorts records by the number of their claims, then by name; of those of one name it keeps the last that was run."""
    last = {record.name: record for record in sorted(records, key=lambda record: record.finished or 0.0)}
    return sorted(last.values(), key=lambda record: (number_of(record.claim), record.name))


def _tests(folders: Sequence[pathlib.Path], with_verdict: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the folders of studies and measurements, those without a verdict too."""
    begun = [path.parent for folder in folders for name in (runs.STUDY, MEASUREMENT) for path in sorted(folder.rglob(name))]
    return list(dict.fromkeys([*with_verdict, *begun]))


def _why_not(folder: pathlib.Path) -> str:
    """Returns why a folder's test has no place on the page, as a predicate; empty where it has one or no verdict yet."""
    content = files.read_record(folder / runs.STUDY) or read_measurement(folder) or {}
    if text := content.get("exploratory", ""):
        return f"is {text}"
    if not (folder / VERDICT).exists():
        return ""
    if read_declaration(folder) is None:
        return f"has no {DECLARATION}, to which its verdict could be traced"
    if (folder / runs.STUDY).exists():
        return _unfinished(folder)
    return ""


def _unfinished(folder: pathlib.Path) -> str:
    """Returns how many runs of a study are still to be trained, as a predicate: a verdict without them is none of the test."""
    study_runs = list(runs.study_runs(runs.load_study(folder), folder))
    run_files.require_undamaged(one.folder for one in study_runs)
    left = sum(one.state not in (*FINISHED, "FAILED") for one in study_runs)
    return f"has {left} of {len(study_runs)} runs that are not finished" if left else ""


def _read(folder: pathlib.Path, card_of: CardOf) -> Record:
    """Returns the record of one folder."""
    content = files.read_record(folder / VERDICT, advice=f"`{home.COMMAND} report` or `measure` writes it again.")
    if content is None:
        raise UsageError(
            f"{folder / VERDICT} is not JSON.\nWrite it again with `{home.COMMAND} ablate`, which repeats no finished run."
        )
    verdict, declaration = Verdict.from_json(content), read_declaration(folder) or {}
    if verdict.declaration != declaration.get("digest", ""):
        raise UsageError(
            f"{folder / VERDICT} and {DECLARATION} beside it do not belong together.\n"
            "Restore the two from one copy, or run the test again in another folder."
        )
    if (folder / MEASUREMENT).exists():
        return _of_measurement(folder, verdict, declaration, card_of)
    return _of_study(folder, verdict, declaration, card_of)


def _of_study(folder: pathlib.Path, verdict: Verdict, declaration: Mapping[str, Any], card_of: CardOf) -> Record:
    """Returns the record of a study."""
    study = runs.load_study(folder)
    study_runs = list(runs.study_runs(study, folder))
    run_files.require_undamaged(study_run.folder for study_run in study_runs)
    outcomes = runs.read_results(study, folder)
    card = card_of(study.experiment) or _kept_card(declaration)
    kept = dict.fromkeys(filter(None, [study.metric, *(part.metric for part in verdict.parts), card.figure.metric]))
    metrics = {name: find_declaration(study, outcomes, name) or Metric(name_of(name)) for name in kept}
    commits, last = _origin(study_runs)
    return Record(
        name=pathlib.Path(study.experiment).stem,
        verb="ablate",
        question=study.question,
        experiment=pathlib.Path(study.experiment).name,
        command=_command(study),
        verdict=verdict,
        metric=study.metric,
        metrics=metrics,
        arms=tuple(_arm(study, arm, [one for one in outcomes if one.arm == arm.name], metrics) for arm in study.arms),
        seeds=study.seeds,
        parts=tuple(declaration["declared"]["parts"]),
        declaration={name: declaration[name] for name in ("digest", "commit", "time")},
        commits=commits,
        finished=last,
        seconds=_seconds(study_runs),
        deviations=deviations(declaration, study_runs),
        baseline=", ".join(f"{knob}={study.level(study.baseline, knob) or '()'}" for knob in study.factors),
        card=card,
    )


def _kept_card(declaration: Mapping[str, Any]) -> Card:
    """Returns the card that was kept with the declaration; an empty one where none was."""
    return Card.from_json(declaration["card"]) if "card" in declaration else Card()


def _origin(study_runs: Sequence[runs.StudyRun]) -> tuple[tuple[str, ...], float | None]:
    """Returns (commits of the runs that are done, time at which the last one ended)."""
    commits, last = [], 0.0
    for study_run in study_runs:
        if study_run.state == "DONE":
            run, status = (run_files.read(study_run.folder, name) or {} for name in (run_files.RUN, run_files.STATUS))
            commits.append(describe_commit(run))
            last = max(last, status.get("time", 0.0))
    return tuple(dict.fromkeys(commits)), last or None


def _seconds(study_runs: Sequence[runs.StudyRun]) -> float | None:
    """Returns how long the processes that trained the runs were at it, added up; None where it was not recorded.

    Runs that one program trains side by side take the same time, which counts once.
    """
    spans: dict[str, list[tuple[float, float]]] = {}  # {process: (begin, end) of its runs}
    for study_run in study_runs:
        result, status = (run_files.read(study_run.folder, name) or {} for name in (run_files.RESULT, run_files.STATUS))
        if "wall_seconds" in result and "time" in status:
            end = float(status["time"])
            spans.setdefault(str(status.get("process")), []).append((end - result["wall_seconds"], end))
    total = 0.0
    for of_process in spans.values():
        last = -math.inf
        for begin, end in sorted(of_process):
            total += max(end - max(begin, last), 0.0)
            last = max(last, end)
    return total or None


def _arm(study: Study, arm: Any, outcomes: Sequence[RunResult], metrics: Mapping[str, Metric]) -> Arm:
    """Returns what the record keeps of an arm of a study."""
    done = [outcome for outcome in outcomes if outcome.state == "DONE"]
    return Arm(
        name=arm.name,
        numbers={
            name: dataclasses.replace(
                numbers_of({one.seed: one.metrics.get(name) for one in done}, metric.bounds),
                lower_bounds=sum(name in one.lower_bounds for one in done),
            )
            for name, metric in metrics.items()
        },
        knobs={knob: study.level(arm, knob) for knob in study.factors},
        planned=len(study.seeds),
        diverged=sum(outcome.state == "DIVERGED" for outcome in outcomes),
        control=arm.control,
        **{name: getattr(arm, name) for name in REPORTED},
    )


def _of_measurement(folder: pathlib.Path, verdict: Verdict, declaration: Mapping[str, Any], card_of: CardOf) -> Record:
    """Returns the record of a measurement."""
    content = read_measurement(folder) or {}
    seeds = tuple(declaration["declared"]["seeds"])
    measured = measured_seeds(content, seeds)
    metrics = metrics_from_json({one["name"]: one for one in content["metrics"]})
    cases = dict.fromkeys(case for one in measured.values() for found in one.numbers.values() for case in found)
    arms = []
    for case in cases:
        numbers = {
            name: dataclasses.replace(
                numbers_of({seed: one.numbers[name].get(case) for seed, one in measured.items()}, metric.bounds),
                lower_bounds=sum(case in one.lower_bounds.get(name, ()) for one in measured.values()),
            )
            for name, metric in metrics.items()
            if any(case in one.numbers[name] for one in measured.values())
        }
        arms.append(Arm(case, numbers, planned=len(seeds)))
    every = [content["seeds"][str(seed)] for seed in measured]
    name = pathlib.Path(content["experiment"]).name
    command = [*home.WORDS, "measure", f"--experiment={name}"]
    card = card_of(content["experiment"]) or _kept_card(declaration)
    return Record(
        name=pathlib.Path(name).stem,
        verb="measure",
        question=content["question"],
        experiment=name,
        command=shlex.join(command),
        verdict=verdict,
        metric=next(iter(metrics)),
        metrics=metrics,
        arms=tuple(arms),
        seeds=seeds,
        parts=tuple(declaration["declared"]["parts"]),
        declaration={name: declaration[name] for name in ("digest", "commit", "time")},
        commits=tuple(dict.fromkeys(map(describe_commit, every))),
        finished=max((one["time"] for one in every), default=None),
        seconds=sum(one["seconds"] for one in every),
        deviations=measured_deviations(declaration, content, every),
        curves=_curves([one.curves for one in measured.values()], log=card.figure.log_y),
        card=card,
    )


def _curves(curves: Sequence[Mapping[str, Sequence[tuple[float, float]]]], *, log: bool) -> dict[str, tuple[Any, ...]]:
    """Returns {label: points (x, mean, low, high) over the seeds that have a point there} of the curves of all seeds.

    Args:
        curves: {label: points} of each seed.
        log: whether they are drawn on a logarithmic axis, so that means and intervals are those of logarithms.
    """
    found: dict[str, dict[float, list[float]]] = {}
    for lines in curves:
        for label, points in lines.items():
            for x, y in points:
                found.setdefault(label, {}).setdefault(float(x), []).append(float(y))
    lines_over_seeds = {}
    for label, by_x in found.items():
        found_points = {x: curve_point(values, log=log) for x, values in sorted(by_x.items())}
        lines_over_seeds[label] = tuple((x, *point) for x, point in found_points.items() if point)
    return lines_over_seeds


def _command(study: Study) -> str:
    """Returns the command that runs a study again.

    What its declaration fixes needs no flag. FOLDER replaces the folders of this machine, and an own file is given by its name.
    """
    given = [f"--experiment={pathlib.Path(study.experiment).name}"]
    given += [f"--{name}={value}" for name, value in study.knobs.items()]
    texts = [*home.WORDS, "ablate", *given, *study.flags]
    return shlex.join(map(without_own_paths, texts))
