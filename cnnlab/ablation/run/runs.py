"""Reads and writes the runs of a study on disk: the folder of each, and how it ended. Imports no jax."""

import dataclasses
import os
import pathlib
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab import files, home
from cnnlab.ablation.plan import curve_metrics, pruning
from cnnlab.ablation.plan.pruning import FINISHED
from cnnlab.ablation.plan.study import Arm, RunResult, Study, merge_knobs, metrics_from_json
from cnnlab.errors import DamagedFile, UsageError
from cnnlab.runs import run_files, writers
from cnnlab.runs.lock import Busy, locked
from cnnlab.runs.run_files import STUDY
from cnnlab.values import OF_RUN

RECORDED = (
    "sources",
    "attempts",
    "commit",
    "uncommitted_changes",
    "steps",
    "data",
    "versions",
    "devices",
    "host",
    "platform",
    "flags",
)


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    arm: Arm
    seed: int
    folder: pathlib.Path

    @property
    def status(self) -> dict[str, Any]:
        """The content of status.json; {} where the run was never begun.

        A run that is DONE and whose results are lost or damaged is PREEMPTED: its worker measures it again.
        """
        return run_files.status_of(self.folder)

    @property
    def state(self) -> str:
        """The state as in status.json; MISSING where the run was never begun."""
        return self.status.get("state", "MISSING")

    def is_dead(self) -> bool:
        """Returns whether its state is RUNNING and nothing trains it: its process is gone, here or on another machine."""
        before = self.status
        if before.get("state") != "RUNNING" or not (self.folder / ".lock").exists():
            return before.get("state") == "RUNNING"
        try:
            with locked(self.folder):
                return self.status == before  # else it went on to another state before the lock was tried
        except Busy:
            return False

    def record(self, state: str, message: str, *, attempt: int, process: str) -> bool:
        """Writes how the run ended, in place of a process that can no longer do so itself.

        A finished run, or one that another process trains, is left alone; returns whether anything was written.
        """
        files.make_folder(self.folder)
        try:
            with locked(self.folder):
                status = self.status
                if status.get("state") in FINISHED:
                    return False
                content = {"step": 0, **status, "state": state, "message": message}
                content |= {"attempt": attempt, "process": process, "time": time.time()}
                files.write_record(self.folder / run_files.STATUS, content)
                return True
        except Busy:
            return False


class Targets:
    """The step to which each run of a study is to be trained now; None, always where nothing is pruned, is its end."""

    def __init__(self, study: Study, everything: Sequence[StudyRun]) -> None:
        self.study_runs = everything
        self._study = study
        self._scores: list[dict[int, float | None]] = [{} for _ in everything]

    def by(self, statuses: Sequence[Mapping[str, Any]]) -> list[int | None]:
        """Returns the targets that follow from the contents of status.json, one a run in order, and the scores at the rungs."""
        plan = self._study.pruning
        if plan is None:
            return [None] * len(self.study_runs)
        runs: dict[str, list[pruning.RungScores]] = {name: [] for name in pruning.prunable_arms(self._study)}
        for study_run, status, scores in zip(self.study_runs, statuses, self._scores, strict=True):
            if study_run.arm.name in runs:
                step = status.get("step", 0)
                if any(rung <= step and rung not in scores for rung in plan.rungs[:-1]):
                    scores |= pruning.scores_in(writers.read_metrics(study_run.folder / "metrics.jsonl"), plan)
                runs[study_run.arm.name].append(pruning.RungScores(status.get("state", "MISSING"), step, scores))
        aims = pruning.targets(plan, runs)
        return [aims.get(study_run.arm.name) for study_run in self.study_runs]


def this_process() -> str:
    """Returns the name of this process, as in a status.json."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def write_worker_status(status_file: pathlib.Path | None, training: Sequence[StudyRun], *, ended: int) -> None:
    """Writes what this worker trains, for the scheduler, which has to find out how it ended.

    Args:
        status_file: the worker's own file; None: there is no scheduler, and nothing is written.
        training: the runs that it is about to train.
        ended: how many runs it trained before, whether they finished or failed.
    """
    if status_file is not None:
        content = {"process": this_process(), "runs": [str(study_run.folder) for study_run in training], "ended": ended}
        files.write_json(status_file, {**(files.read_json(status_file) or {}), **content})


def save_study(study: Study, folder: pathlib.Path) -> Study:
    """Writes study.json; returns the study as it is recorded there."""
    files.make_folder(folder)
    study = dataclasses.replace(study, above=str(folder.absolute().parent))
    files.write_record(folder / STUDY, dataclasses.asdict(study))
    return study


def write_owner(folder: pathlib.Path) -> None:
    """Writes which process works on the study and by which command, so that others can name it and go on."""
    command = home.this_command()
    files.write_record(folder / run_files.STATUS, {"process": this_process(), "time": time.time(), "command": command})


def load_study(folder: pathlib.Path) -> Study:
    """Returns the study of a folder; raises UsageError where there is none, DamagedFile where its study.json is damaged."""
    content = run_files.read(folder, STUDY)
    if content is None:
        raise UsageError(f"{folder} is not a study: it has no {STUDY}.\nGive the folder that `{home.COMMAND} ablate` named.")
    try:
        return Study.from_json(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(folder / STUDY, f"it does not describe a study ({error})", run_files.ADVICE[STUDY]) from error


def study_runs(study: Study, folder: pathlib.Path) -> Iterator[StudyRun]:
    """Yields every run, seed by seed, so that pairs come early; `folder` is the study's own.

    The runs lie beside the study; where it was moved without them, they are where they were when it was planned.
    """
    places = {}
    for arm in study.arms:
        beside = folder.parent / arm.folder
        before = pathlib.Path(study.above) / arm.folder
        places[arm.name] = before if study.above and not beside.exists() and before.exists() else beside
    for seed in study.seeds:
        for arm in study.arms:
            yield StudyRun(arm, seed, places[arm.name] / f"seed_{seed}")


def run_command(study: Study, study_run: StudyRun) -> str:
    """Returns the command that trains one run alone."""
    knobs = {**merge_knobs(study.knobs, study_run.arm), "seed": str(study_run.seed), "workdir": str(study_run.folder)}
    given = [f"--experiment={study.experiment}", *(f"--{name}={value}" for name, value in knobs.items()), *study.flags]
    return shlex.join([*home.WORDS, "train", *given])


def read_results(study: Study, folder: pathlib.Path) -> list[RunResult]:
    """Returns the result of every run."""
    found = [
        read_result(study_run.arm.name, study_run.seed, study_run.folder, run_command(study, study_run))
        for study_run in study_runs(study, folder)
    ]
    found = [curve_metrics.with_curve_metric(study.metric, one, study.metrics) for one in found]
    return pruning.mark_pruned(study, found)


def read_result(arm: str, seed: int, folder: pathlib.Path, command: str) -> RunResult:
    """Returns the result of the run in a folder; one with damaged files has FAILED, and its message names them."""
    status: dict[str, Any] = {}
    run: dict[str, Any] = {}
    result: dict[str, Any] = {}
    damaged = run_files.damages(folder)
    if damaged:
        status = {"state": "FAILED", "message": "; ".join(f"{damage.path} is damaged: {damage.reason}" for damage in damaged)}
    else:
        status = run_files.read(folder, run_files.STATUS) or {}
        run = run_files.read(folder, run_files.RUN) or {}
        result = (run_files.read(folder, run_files.RESULT) or {}) if status.get("state") == "DONE" else {}
    curve = tuple(writers.read_metrics(folder / run_files.METRICS)) if (folder / run_files.METRICS).is_file() else ()
    trained = next((record for record in reversed(curve) if "train/loss" in record), {}) if result else {}
    measured = result.get("metrics", {})  # with train/ where nothing is held out
    logged = {
        name: value
        for name, value in trained.items()
        if name.startswith("train/") and value is not None and name not in measured
    }
    return RunResult(
        arm=arm,
        seed=seed,
        state=status.get("state", "MISSING"),
        folder=str(folder),
        command=command,
        metrics=measured | logged,
        declared=metrics_from_json(result.get("declared", {})),
        curve=curve,
        wall_seconds=result.get("wall_seconds"),
        step_seconds=result.get("step_seconds"),
        message=status.get("message", ""),
        findings=tuple(result.get("curves", ())),
        attempts=status.get("attempt", 0),
        correct=_correct(folder) if result else None,
        provenance={name: run[name] for name in RECORDED if name in run} | _folds(run.get("knobs", {})),
    )


def _folds(knobs: Mapping[str, Any]) -> dict[str, int]:
    """Returns {"folds": K} where the seed of a run decides which of K folds it holds out, by its knobs; else {}."""
    return {"folds": knobs["data.folds"]} if knobs.get("data.folds") and knobs.get("data.fold") == OF_RUN else {}


def _correct(folder: pathlib.Path) -> np.ndarray | None:
    """Returns bool [N]: whether the label of each test example was predicted; None where the run predicts no labels."""
    rows = run_files.read_rows(folder)
    if rows is None or not {"index", "label", "prediction"} <= set(rows):
        return None
    order = np.argsort(rows["index"], kind="stable")
    return (rows["label"] == rows["prediction"])[order]
