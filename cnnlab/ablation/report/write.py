"""Writes the report of a study: report.html to read, report.md for a page, arms.csv for programs, arms.tex for a paper."""

import pathlib
from collections.abc import Sequence

from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report.hparams import tensorboard_hparams
from cnnlab.ablation.report.page import page
from cnnlab.ablation.report.text import arms_csv, arms_tex, markdown, terminal_table
from cnnlab.files import write_text

__all__ = ["tensorboard_hparams", "terminal_table", "write_report"]


def write_report(folder: pathlib.Path, study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> list[pathlib.Path]:
    """Writes report.html, report.md, arms.csv and arms.tex; each appears whole or not at all. Returns their paths."""
    contents = {
        "report.html": page(study, outcomes, analysis),
        "report.md": markdown(study, outcomes, analysis),
        "arms.csv": arms_csv(study, analysis),
        "arms.tex": arms_tex(study, analysis),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        write_text(folder / name, text)
    return [folder / name for name in contents]
