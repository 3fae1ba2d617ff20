"""The tables of a study for other programs: arms.csv and runs.csv.

A cell holds one value. Numbers are as measured: shares of one, not percent, in full precision; what does not exist is empty.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cnnlab.ablation.analyse.results import Analysis, Interval
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report import formatting

COLUMNS = (
    "arm",
    "control",
    "planned",
    "done",
    "diverged",
    "failed",
    "missing",
    "pruned",
    "pruned_at",
    "pruned_score",
    "metric",
    "n",
    "mean",
    "sd",
    "mean_low",
    "mean_high",
    "mean_bootstrap_low",
    "mean_bootstrap_high",
    "test_se",
    "pairs",
    "difference",
    "difference_low",
    "difference_high",
    "difference_bootstrap_low",
    "difference_bootstrap_high",
    "difference_two_way_low",
    "difference_two_way_high",
    "p_t",
    "p_signs",
    "p_wilcoxon",
    "p_holm",
    "effect_size",
    "seeds_needed",
    "mcnemar_p",
    "verdict",
    "seconds",
    "parameters",
    "macs",
)
"""The columns of arms.csv; `n` is the number of values of the metric, `done` the number of finished runs."""
RUN_COLUMNS = ("arm", "seed", "state", "metric", "value", "folder")
"""The columns of runs.csv beside those of the knobs, which follow the seed."""


def arms_csv(study: Study, analysis: Analysis) -> str:
    """Returns the table of arms: a line for every arm, one value in each cell."""
    return csv_table(COLUMNS, _arm_lines(study, analysis))


def csv_table(columns: Sequence[str], lines: Iterable[Mapping[str, object]]) -> str:
    """Returns lines {column: value} as CSV with a header; a column that a line lacks is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _arm_lines(study: Study, analysis: Analysis) -> Iterator[dict[str, object]]:
    arms = {arm.name: arm for arm in study.arms}
    for row in analysis.rows:
        arm, contrast = arms.get(row.arm), row.contrast
        plain = ("planned", "done", "diverged", "failed", "missing", "mean", "sd", "test_se", "seconds")
        cells: dict[str, object] = {"arm": row.arm, **{name: getattr(row, name) for name in plain}}
        cells |= _ends("mean_", row.interval) | _ends("mean_bootstrap_", row.bootstrap)
        verdict = formatting.verdict(row, study)
        cells |= {"metric": analysis.metric, "n": len(row.values), "verdict": "" if verdict == formatting.NOTHING else verdict}
        if arm is not None:
            cells |= {"control": int(arm.control), "parameters": arm.parameters, "macs": arm.macs}
        if row.pruned is not None:
            cells |= {"pruned": row.pruned.runs, "pruned_at": row.pruned.step, "pruned_score": row.pruned.score}
        if contrast is not None:
            cells |= _ends("difference_", contrast.interval) | _ends("difference_bootstrap_", contrast.bootstrap)
            cells |= _ends("difference_two_way_", contrast.two_way)
            tests = (
                "difference",
                "p_t",
                "p_signs",
                "p_wilcoxon",
                "p_holm",
                "effect_size",
                "seeds_needed",
                "mcnemar_p",
            )
            cells |= {"pairs": contrast.n, **{name: getattr(contrast, name) for name in tests}}
        yield cells


def _ends(prefix: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{prefix}low": interval.low, f"{prefix}high": interval.high}


def runs_csv(study: Study, outcomes: Sequence[RunResult], analysis: Analysis) -> str:
    """Returns the long table of runs: a line for every run and metric.

    A run without metrics has one line, in which the value of the compared metric is empty. Knobs that vary between the arms
    have columns of their own; a knob that is named as another column gets `knob.` before its name.
    """
    arms = {arm.name: arm for arm in study.arms}
    knobs = dict.fromkeys([*study.factors, *(knob for arm in study.arms for knob in arm.knobs)])
    varied = [knob for knob in knobs if len({study.level(arm, knob) for arm in study.arms}) > 1]
    heads = {knob: f"knob.{knob}" if knob in RUN_COLUMNS else knob for knob in varied}
    columns = (*RUN_COLUMNS[:2], *heads.values(), *RUN_COLUMNS[2:])
    lines: list[dict[str, object]] = []
    for outcome in formatting.in_planned_order(study, outcomes):
        cells: dict[str, object] = {name: getattr(outcome, name) for name in ("arm", "seed", "state", "folder")}
        if (arm := arms.get(outcome.arm)) is not None:
            cells |= {head: study.level(arm, knob) for knob, head in heads.items()}
        metrics: Mapping[str, float | None] = outcome.metrics or {analysis.metric: None}
        lines += [{**cells, "metric": name, "value": value} for name, value in metrics.items()]
    return csv_table(columns, lines)
