"""Writes the report of a study: report.html to read, report.md for a page, two CSV files for programs, arms.tex for a paper."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

from cnnlab import files, home
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report.csv_tables import arms_csv, runs_csv
from cnnlab.ablation.report.hparams import tensorboard_hparams
from cnnlab.ablation.report.page import page
from cnnlab.ablation.report.text import arms_tex, markdown, terminal_table
from cnnlab.errors import DataError, UsageError
from cnnlab.runs import run_files

__all__ = ["require_no_fewer_runs", "tensorboard_hparams", "terminal_table", "write_report"]

RECORD = "report.json"
"""The file that holds which finished runs a report rests on."""


def write_report(folder: pathlib.Path, study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> list[pathlib.Path]:
    """Writes report.html, report.md, arms.csv, arms.tex and runs.csv; each appears whole or not at all. Returns their paths."""
    contents = {
        "report.html": page(study, outcomes, analysis),
        "report.md": markdown(study, outcomes, analysis),
        "arms.csv": arms_csv(study, analysis),
        "arms.tex": arms_tex(study, analysis),
        "runs.csv": runs_csv(study, outcomes, analysis),
    }
    files.make_folder(folder)
    for name, text in contents.items():
        files.write_text(folder / name, text)
    files.write_record(folder / RECORD, {"metric": analysis.metric, "runs": _finished(outcomes)})
    return [folder / name for name in contents]


def require_no_fewer_runs(folder: pathlib.Path, outcomes: Sequence[RunResult]) -> None:
    """Raises UsageError where the folder has a report of more finished runs than there are now.

    Where files of the runs are damaged it is a DataError, which names them.
    """
    now = _finished(outcomes)
    before, lost = _runs_before(folder)
    if before <= len(now):
        return
    lost = [run for run in lost if run not in now]
    named = f" Missing: {'; '.join(lost[:5])}{' …' if len(lost) > 5 else ''}." if lost else ""
    try:
        run_files.require_undamaged(pathlib.Path(outcome.folder) for outcome in outcomes)
    except DataError as error:
        kept = f"The report in {folder}, of {before} finished runs, is left as it is; `report … --overwrite` replaces it."
        raise DataError(f"{error}\n{kept}") from None
    raise UsageError(
        f"the report in {folder} rests on {before} finished runs, and only {len(now)} can be read now, so it is left as it is."
        f"{named}\nRestore the runs or train them again, give another folder by --workdir, or replace the report by "
        f"`{home.COMMAND} report … --overwrite`."
    )


def _finished(outcomes: Sequence[RunResult]) -> list[str]:
    """Returns the finished runs as they are named to a person."""
    return [f"{outcome.arm}, seed {outcome.seed}" for outcome in outcomes if outcome.state == "DONE"]


def _runs_before(folder: pathlib.Path) -> tuple[int, list[str]]:
    """Returns (number of finished runs of the report in a folder, their names where these are recorded)."""
    content: dict[str, Any] | None = files.read_record(folder / RECORD, advice="Remove it: the next report writes it again.")
    if content is not None:
        return len(content["runs"]), content["runs"]
    table = folder / "arms.csv"  # a report of an older version
    if not table.is_file() or not (folder / "report.html").is_file():
        return 0, []
    with open(table, encoding="utf-8", newline="") as file:
        return sum(int(row.get("done") or 0) for row in csv.DictReader(file)), []
