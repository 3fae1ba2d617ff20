"""Finds every run and study below folders, and puts the runs of a study below it. Imports no jax."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from cnnlab import files, home
from cnnlab.ablation.plan.pruning import FINISHED, is_due
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run import runs
from cnnlab.errors import CnnlabError, DamagedFile, UsageError
from cnnlab.metric import name_of
from cnnlab.overview.rows import Overview, Reader, RunRow, StudyRow, shown_metric
from cnnlab.runs import run_files
from cnnlab.runs.lock import is_held

OF_A_RUN = {run_files.RUN, run_files.STATUS, run_files.RESULT, run_files.METRICS, run_files.ROWS}
"""Files by any of which a folder is a run, unless it is a study."""
SKIPPED = {*run_files.OWN_FOLDERS, "logs"}
"""Folders of a run or a study in which no run lies."""
ENDED = ("finished", "diverged", "pruned")
"""States of runs with which a study has nothing left to do."""


def look(places: Sequence[pathlib.Path], reader: Reader | None = None) -> Overview:
    """Returns every run and study at or below folders; raises UsageError for a folder that is not there.

    The runs of a study lie beside its folder, or where they were when it was planned.

    Args:
        places: the folders.
        reader: what earlier calls have read; None: nothing.
    """
    reader = reader or Reader()
    problems: list[str] = []
    rows: dict[str, RunRow] = {}
    studies: list[tuple[pathlib.Path, str]] = []
    for place in places:
        if not place.is_dir():
            kind = "a file, expected a folder" if place.exists() else "not there"
            raise UsageError(f"{place} is {kind}.\nGive a folder of runs: {home.COMMAND} runs FOLDER")
        run_folders, study_folders = folders_below(place, problems)
        for folder in run_folders:
            rows[os.path.abspath(folder)], found = reader.row(folder, _name(folder, place, len(places)))
            problems += found
        studies += [(folder, _name(folder, place, len(places))) for folder in study_folders]
    study_rows = [row for folder, name in studies if (row := _study_row(folder, name, rows, reader, problems)) is not None]
    inside = {os.path.abspath(run.folder) for study in study_rows for run in study.runs}
    loose = [row for key, row in rows.items() if key not in inside]
    return Overview(", ".join(map(str, places)), tuple(study_rows), tuple(loose), tuple(dict.fromkeys(problems)))


def folders_below(place: pathlib.Path, problems: list[str]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Returns (folders of runs, folders of studies) at or below a folder; what cannot be read is added to `problems`."""
    run_folders, study_folders, seen = [], [], set()
    left = [place]
    while left:
        folder = left.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
            below = [entry for entry in listed if entry.name not in SKIPPED and entry.is_dir()]
            for linked in [entry for entry in below if entry.is_symlink()]:
                real = os.path.realpath(linked.path)
                if real in seen or pathlib.Path(os.path.realpath(folder)).is_relative_to(real):
                    below.remove(linked)  # links in a circle
                seen.add(real)
        except OSError as error:
            problems.append(f"{folder} cannot be read ({error.strerror}).")
            continue
        names = {entry.name for entry in listed}
        if run_files.STUDY in names:
            study_folders.append(folder)
        elif names & OF_A_RUN:
            run_folders.append(folder)
        left += [folder / entry.name for entry in below]
    return sorted(run_folders), sorted(study_folders)


def _name(folder: pathlib.Path, place: pathlib.Path, places: int) -> str:
    """Returns the name of a folder in the overview: its path below the only folder that was asked for, or its whole path."""
    below = str(folder.relative_to(place))
    return below if places == 1 and below != "." else str(folder)


def _study_row(
    folder: pathlib.Path, name: str, rows: dict[str, RunRow], reader: Reader, problems: list[str]
) -> StudyRow | None:
    """Returns the row of a study; None, with a sentence in `problems`, where its study.json is damaged."""
    try:
        study = runs.load_study(folder)
        found = [_run_of_study(one, study, name, rows, reader, problems) for one in runs.study_runs(study, folder)]
        found = _mark_pruned(study, folder, found)
        verdict = files.read_record(folder / "verdict.json") if study.claim else None
    except DamagedFile as damage:
        problems.append(f"{damage.path} is damaged: {damage.reason}.")
        return None
    except (CnnlabError, OSError) as error:
        problems.append(f"{folder} cannot be read ({error}).")
        return None
    status = run_files.read_status(folder)
    states = {run.state for run in found}
    is_finished = states <= set(ENDED)
    return StudyRow(
        folder,
        name,
        "running" if "running" in states or is_held(folder) else "finished" if is_finished else "unfinished",
        study.experiment,
        study.metric,
        tuple(found),
        f"{study.claim} {verdict.get('verdict', '')}".strip() if verdict else "exploratory" if study.exploratory else "",
        max((run.changed for run in found if run.changed is not None), default=status.get("time")),
        "" if is_finished else status.get("command") or f"{home.COMMAND} work --workdir={folder}",
    )


def _run_of_study(
    one: runs.StudyRun, study: Study, name: str, rows: dict[str, RunRow], reader: Reader, problems: list[str]
) -> RunRow:
    """Returns the row of one run of a study, whether it was begun or not."""
    label = f"{one.arm.name}, seed {one.seed}"
    row = rows.get(os.path.abspath(one.folder))
    if row is None and any((one.folder / file).exists() for file in OF_A_RUN):
        row, found = reader.row(one.folder, label)
        problems += found
    if row is None:
        row = RunRow(one.folder, label, "not begun", seed=one.seed, steps=one.arm.steps)
    # What a run of an older version did not record, its study knows.
    declared = {**study.metrics, **row.declared}
    metric = row.metric if row.declared else shown_metric(row.metrics, name_of(study.metric))
    return dataclasses.replace(row, name=label, arm=one.arm.name, studies=(name,), declared=declared, metric=metric)


def _mark_pruned(study: Study, folder: pathlib.Path, found: Sequence[RunRow]) -> list[RunRow]:
    """Returns the rows of a study's runs, in which those that were stopped at a rung and do not continue are pruned."""
    if study.pruning is None:
        return list(found)
    statuses = [{"state": row.recorded or "MISSING", "step": row.step} for row in found]
    targets = runs.Targets(study, list(runs.study_runs(study, folder))).by(statuses)
    return [
        dataclasses.replace(row, state="pruned", command="")
        if row.state == "stopped" and status["state"] not in FINISHED and not is_due(status, target)
        else row
        for row, status, target in zip(found, statuses, targets, strict=True)
    ]
