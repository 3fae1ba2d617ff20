"""The text of a plan: what a study is about to run. Imports no jax."""

import pathlib
from typing import TYPE_CHECKING

from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.report.provenance import describe_rungs
from cnnlab.digests import SHORT
from cnnlab.text import counted

if TYPE_CHECKING:
    from cnnlab.ablation.plan.check import Estimate

MOST_LISTED, LISTED = 30, 20
"""Arms that are listed one by one, and how many of more than these are."""


def describe_study(study: Study, need: "Estimate", folder: pathlib.Path) -> str:
    """Returns what is about to be run, with a warning where a claim would be tested by code that is not committed."""
    named = study.arms if len(study.arms) <= MOST_LISTED else study.arms[:LISTED]
    width = max(len(arm.name) for arm in named)
    rows = [
        f"  {arm.name.ljust(width)}  {arm.parameters:>11,} parameters  {arm.steps:>7,} steps  compilation {arm.group + 1}"
        for arm in named
    ]
    if more := len(study.arms) - len(named):
        rows.append(f"  … and {more:,} more arms")
    seeds = counted(len(study.seeds), "seed")
    return (
        f"{study.name}, {study.design}: {len(study.arms)} arms x {seeds} = {len(study.arms) * len(study.seeds)} runs, "
        f"compared by {study.metric}\n"
        + "\n".join([*rows, *filter(None, [describe_rungs(study)])])
        + f"\nto do: {need}\nin {folder}"
        + _describe_claim(study)
    )


def _describe_claim(study: Study) -> str:
    """Returns a line that says whether the study is a declared test of its claim; empty where nothing is declared."""
    if study.exploratory:
        return f"\n{study.exploratory}; no verdict"
    return f"\ntests {study.claim} as declared (declaration {study.declaration[:SHORT]})" if study.declaration else ""
