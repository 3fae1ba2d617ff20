"""The cells of a study on disk: where each run lies, and what became of it. Imports no jax."""

import dataclasses
import os
import pathlib
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab import files
from cnnlab.ablation.plan import pruning
from cnnlab.ablation.plan.pruning import FINISHED
from cnnlab.ablation.plan.study import Arm, RunResult, Study, merge_knobs
from cnnlab.errors import UsageError
from cnnlab.runs import writers

STUDY = "study.json"
RECORDED = ("commit", "uncommitted_changes", "steps", "data", "versions", "devices", "host", "platform", "flags")


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    arm: Arm
    seed: int
    folder: pathlib.Path

    @property
    def status(self) -> dict[str, Any]:
        """The content of status.json; {} where the run was never begun."""
        return files.read_json(self.folder / "status.json") or {}

    @property
    def state(self) -> str:
        """As in status.json; MISSING where the run was never begun."""
        return self.status.get("state", "MISSING")

    def is_dead(self) -> bool:
        """Whether it says RUNNING and nobody trains it: its process is gone, here or on another machine."""
        before = self.status
        if before.get("state") != "RUNNING" or not (self.folder / ".lock").exists():
            return before.get("state") == "RUNNING"
        from cnnlab.runs.folder import Busy, locked  # imports jax, which a worker may do only after it chose its cores

        try:
            with locked(self.folder):
                return self.status == before  # else it went on to another state before the lock was tried
        except Busy:
            return False

    def record(self, state: str, message: str, *, attempt: int, process: str) -> bool:
        """Writes down how a run ended, for a process that can no longer do so itself.

        Nothing is written over a finished run or one that another process trains; returns whether it was written.
        """
        from cnnlab.runs.folder import Busy, locked

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.folder):
                status = self.status
                if status.get("state") in FINISHED:
                    return False
                content = {"step": 0, **status, "state": state, "message": message}
                content |= {"attempt": attempt, "process": process, "time": time.time()}
                files.write_json(self.folder / "status.json", content)
                return True
        except Busy:
            return False


class Targets:
    """To which step every cell of a study is to be trained now; None: to its end. Where nothing is pruned that is all."""

    def __init__(self, study: Study, everything: Sequence[StudyRun]) -> None:
        self.cells = everything
        self._study = study
        self._scores: list[dict[int, float | None]] = [{} for _ in everything]

    def by(self, statuses: Sequence[Mapping[str, Any]]) -> list[int | None]:
        """What follows from the contents of status.json, one for each cell in order, and from the numbers at the rungs."""
        plan = self._study.pruning
        if plan is None:
            return [None] * len(self.cells)
        runs: dict[str, list[pruning.RungScores]] = {name: [] for name in pruning.prunable_arms(self._study)}
        for cell, status, scores in zip(self.cells, statuses, self._scores, strict=True):
            if cell.arm.name in runs:
                step = status.get("step", 0)
                if any(rung <= step and rung not in scores for rung in plan.rungs[:-1]):
                    scores |= pruning.scores_in(writers.read_metrics(cell.folder / "metrics.jsonl"), plan)
                runs[cell.arm.name].append(pruning.RungScores(status.get("state", "MISSING"), step, scores))
        aims = pruning.targets(plan, runs)
        return [aims.get(cell.arm.name) for cell in self.cells]


def this_process() -> str:
    """Whose a status is, in the words that a run uses too."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def write_worker_note(note: pathlib.Path | None, cells: Sequence[StudyRun], *, ended: int) -> None:
    """Writes down what this worker is at, for the launcher that will have to understand how it ended.

    Args:
        note: the worker's own file; None: nobody asked.
        cells: that it is about to train.
        ended: how many it trained before, to whatever end.
    """
    if note is not None:
        content = {"process": this_process(), "cells": [str(cell.folder) for cell in cells], "ended": ended}
        files.write_json(note, {**(files.read_json(note) or {}), **content})


def save_study(study: Study, folder: pathlib.Path) -> None:
    """Writes study.json."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / STUDY, dataclasses.asdict(study))


def write_owner(folder: pathlib.Path) -> None:
    """Says who works on the study, for whoever finds it locked."""
    files.write_json(folder / "status.json", {"process": this_process(), "time": time.time()})


def load_study(folder: pathlib.Path) -> Study:
    """The study of a folder; UsageError where there is none."""
    content = files.read_json(folder / STUDY)
    if content is None:
        raise UsageError(f"{folder} is not a study: it has no {STUDY}.\nGive the folder that `launch.py ablate` named.")
    return Study.from_json(content)


def study_runs(study: Study, folder: pathlib.Path) -> Iterator[StudyRun]:
    """Every cell, seed by seed, so that pairs come early; `folder` is the study's own."""
    for seed in study.seeds:
        for arm in study.arms:
            yield StudyRun(arm, seed, folder.parent / arm.folder / f"seed_{seed}")


def run_command(study: Study, cell: StudyRun) -> str:
    """What one types to run a cell alone."""
    knobs = {**merge_knobs(study.knobs, cell.arm), "seed": str(cell.seed), "workdir": str(cell.folder)}
    given = [f"--experiment={study.experiment}", *(f"--{name}={value}" for name, value in knobs.items()), *study.flags]
    return shlex.join(["python", "launch.py", "train", *given])


def read_results(study: Study, folder: pathlib.Path) -> list[RunResult]:
    """What became of every cell."""
    found = [read_result(cell.arm.name, cell.seed, cell.folder, run_command(study, cell)) for cell in study_runs(study, folder)]
    return pruning.mark_pruned(study, found)


def read_result(arm: str, seed: int, folder: pathlib.Path, command: str) -> RunResult:
    """What became of the run in a folder."""
    status = files.read_json(folder / "status.json") or {"state": "MISSING"}
    result = (files.read_json(folder / "result.json") or {}) if status["state"] == "DONE" else {}
    run = files.read_json(folder / "run.json") or {}
    curve = tuple(writers.read_metrics(folder / "metrics.jsonl"))
    trained = next((record for record in reversed(curve) if "train/loss" in record), {}) if result else {}
    return RunResult(
        arm=arm,
        seed=seed,
        state=status["state"],
        folder=str(folder),
        command=command,
        metrics={
            **result.get("metrics", {}),
            **{name: value for name, value in trained.items() if name.startswith("train/") and value is not None},
        },
        curve=curve,
        wall_seconds=result.get("wall_seconds"),
        message=status.get("message", ""),
        attempts=status.get("attempt", 0),
        correct=_correct(folder / "test_rows.npz") if result else None,
        provenance={name: run[name] for name in RECORDED if name in run},
    )


def _correct(path: pathlib.Path) -> tuple[bool, ...] | None:
    """Of every test example in order, whether its label was predicted; None where the run did not predict labels."""
    if not path.exists():
        return None
    with np.load(path) as rows:
        if not {"index", "label", "prediction"} <= set(rows):
            return None
        order = np.argsort(rows["index"], kind="stable")
        return tuple((rows["label"] == rows["prediction"])[order].tolist())
