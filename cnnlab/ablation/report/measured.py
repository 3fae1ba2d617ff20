"""Shows what a measurement gave: the table of its numbers and the verdict, for a terminal and as report.md. Imports no jax."""

import math
from collections.abc import Mapping, Sequence

from cnnlab.ablation.analyse import summary, words
from cnnlab.ablation.plan.measurement import Measured
from cnnlab.ablation.plan.study import Verdict
from cnnlab.ablation.report.markdown import escape_markdown
from cnnlab.metric import Metric

VERDICT = "verdict.json"
MOST_CASES = 40
"""Rows of the table of a metric; of more, the first are shown and the number of the others."""


def number_table(measured: Mapping[int, Measured], declared: Metric) -> list[tuple[str, str, str]]:
    """Returns (case, mean, range over the seeds) of one metric; the range is empty where all seeds agree.

    A mean of numbers of which some are lower bounds is one, too: `≥ 600`. Numbers that are not finite are in neither, and are
    counted beside the range.
    """
    cases = dict.fromkeys(case for one in measured.values() for case in one.numbers[declared.name])
    rows = []
    for case in cases:
        found = [one.numbers[declared.name][case] for one in measured.values() if case in one.numbers[declared.name]]
        values = [value for value in found if math.isfinite(value)] or [math.nan]
        low, high = (summary.amount(bound, declared) for bound in (min(values), max(values)))
        lost = sum(not math.isfinite(value) for value in found)
        remarks = [f"{low} to {high}"] * (low != high) + [f"{lost} of {len(found)} not finite"] * bool(lost)
        sign = "≥ " * any(case in one.lower_bounds.get(declared.name, ()) for one in measured.values())
        rows.append((case, f"{sign}{summary.amount(sum(values) / len(values), declared)}", "; ".join(remarks)))
    return rows


def terminal_text(measured: Mapping[int, Measured], metrics: Sequence[Metric], verdict: Verdict, why: str) -> str:
    """Returns the tables of all metrics and the verdict with its parts as a terminal shows them.

    Args:
        measured: {seed: what was measured}.
        metrics: the declarations of its numbers.
        verdict: the verdict with its parts.
        why: why the measurement is exploratory, so that its parts are shown without a verdict; empty where it is not.
    """
    lines = []
    for declared in metrics:
        rows = number_table(measured, declared)
        unit = f" [{declared.shown_unit}]" if declared.shown_unit else ""
        width = max((len(case) for case, _, _ in rows), default=0)
        lines += [f"{declared.label}{unit}"]
        lines += [f"  {case.ljust(width)}  {mean:>12}  {spread}".rstrip() for case, mean, spread in rows[:MOST_CASES]]
        lines += [f"  and {len(rows) - MOST_CASES} more"] if len(rows) > MOST_CASES else []
    seeds = f"{len(measured)} seed{'s' * (len(measured) != 1)}"
    lines += ["", f"mean over {seeds}, and the range where they differ"]
    head = f"{verdict.claim}, no verdict ({why})" if why else f"{verdict.claim}: {words.in_words(verdict)}"
    return "\n".join([*lines, "", head, *(f"  {text}" for text in summary.claim_parts(verdict))])


def markdown_text(
    question: str, metrics: Sequence[Metric], measured: Mapping[int, Measured], verdict: Verdict, why: str
) -> str:
    """Returns the content of report.md: the question, the verdict, and a table for each metric.

    Args:
        question: the question of the measurement.
        metrics: the declarations of its numbers.
        measured: {seed: what was measured}.
        verdict: the verdict with its parts.
        why: why the measurement is exploratory; empty where it is not.
    """
    found = f"**{verdict.claim}: {words.in_words(verdict)}.**"
    head = f"No verdict on {verdict.claim}: {escape_markdown(why)}." if why else found
    lines = [f"# {escape_markdown(question)}", "", head, ""]
    lines += [*(f"- {escape_markdown(text)}" for text in summary.claim_parts(verdict)), ""]
    for declared in metrics:
        unit = f" [{declared.shown_unit}]" if declared.shown_unit else ""
        lines += [
            f"## {escape_markdown(declared.label.capitalize())}{unit}",
            "",
            "| case | mean | range over seeds |",
            "|---|--:|--:|",
        ]
        rows = number_table(measured, declared)
        lines += [f"| {escape_markdown(case)} | {mean} | {spread} |" for case, mean, spread in rows]
        lines += [""]
    return "\n".join(lines)
