"""Studies by metrics of any unit and sense: table, sentence, curve and verdict follow the declaration; old studies load."""

import dataclasses
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from cnnlab.ablation import commands
from cnnlab.ablation.analyse import search_verdict, verdicts
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.ablation.report.csv_tables import arms_csv
from cnnlab.ablation.report.page import page
from cnnlab.ablation.report.text import arms_tex, markdown, terminal_table
from cnnlab.ablation.run import runs
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric, name_of
from cnnlab.values import Duration

ERROR = Metric("error", SHARE, higher_is_better=False)
DISTANCE = Metric("code_distance", "nats")
VALUES = {"baseline": [0.10, 0.11, 0.09, 0.12], "a": [0.15, 0.165, 0.14, 0.168], "b": [0.08, 0.088, 0.07, 0.102]}


def results(metric: str, *, declared: tuple[Metric, ...] = ()) -> tuple[Study, list[RunResult]]:
    """A study of three arms with four seeds, and its runs with their curves."""
    arms = tuple(Arm(name, {}) for name in VALUES)
    study = Study("toy", "toy", {}, "grid", arms, (0, 1, 2, 3), {}, metric=metric)
    outcomes = [
        RunResult(
            arm,
            seed,
            "DONE",
            "",
            "",
            {metric: value},
            declared={one.name: one for one in declared},
            curve=tuple({"step": step, f"validation/{name_of(metric)}": value + 0.2 / step} for step in (1, 2, 4, 8)),
        )
        for arm, values in VALUES.items()
        for seed, value in enumerate(values)
    ]
    return study, outcomes


def analysed(metric: str, *declared: Metric) -> tuple[Study, list[RunResult], Analysis]:
    study, outcomes = results(metric, declared=declared)
    return study, outcomes, analyse(study, outcomes)


def test_an_error_rate_is_in_percent_and_points_everywhere_and_less_is_better():
    study, outcomes, analysis = analysed("test/error", ERROR)
    assert [row.contrast.verdict for row in analysis.rows[1:]] == ["worse", "better"]
    assert "a is worse than the baseline by 5.07 points [" in analysis.sentence
    table = terminal_table(study, analysis)
    assert "error, %" in table and "difference, points" in table and "10.5 ± 1.3" in table
    assert "error, %" in markdown(study, outcomes, analysis) and r"error [\%]" in arms_tex(study, analysis)
    html = page(study, outcomes, analysis)
    assert "Error, %" in html and "validation/error, %" in html and "Arms to its left are better" in html
    assert "0.105" in arms_csv(study, analysis), "numbers for other programs stay shares"


def test_of_a_metric_without_a_sense_arms_differ_and_none_is_better():
    study, outcomes, analysis = analysed("test/code_distance", DISTANCE)
    assert analysis.higher_is_better is None
    assert [row.contrast.verdict for row in analysis.rows[1:]] == ["differs", "differs"]
    assert "a differs from the baseline by +0.0507 nats [" in analysis.sentence
    assert "b differs from the baseline by −0.02 nats [" in analysis.sentence
    table, html = terminal_table(study, analysis), page(study, outcomes, analysis)
    assert "code distance, nats" in table and "difference, nats" in table and "Code distance, nats" in html
    assert "validation/code_distance, nats" in html and "differs" in html
    for text in (table, markdown(study, outcomes, analysis), arms_csv(study, analysis), arms_tex(study, analysis), html):
        words = text.partition("<style>")[0] + text.partition("</style>")[2]
        assert not {"better", "worse"} & {word.strip(".,;|()<>/\"'") for word in words.split()}


def test_a_control_cannot_fail_by_a_metric_without_a_sense():
    study, outcomes = results("test/code_distance", declared=(DISTANCE,))
    arms = (*study.arms[:2], dataclasses.replace(study.arms[2], control=True))
    analysis = analyse(dataclasses.replace(study, arms=arms), outcomes)
    assert any("code_distance cannot show whether they failed" in warning for warning in analysis.warnings)


def test_a_verdict_on_a_metric_without_a_sense_is_on_its_direction():
    *_, analysis = analysed("test/code_distance", DISTANCE)
    assert verdicts.contrast("C1", "a", "higher", "it is farther")(analysis).verdict == "supported at small scale"
    assert verdicts.contrast("C1", "b", "higher", "it is farther")(analysis).verdict == "opposite"
    assert "in test/code_distance (p = " in verdicts.contrast("C1", "a", "higher", "it is farther")(analysis).sentence
    for judge in (
        verdicts.contrast("C1", "a", "better", "it helps"),
        verdicts.bounded("C1", "a", "not worse", 0.1, "it is as good"),
        verdicts.interaction("C1", ("a", "b"), ("baseline", "b"), "better", "it helps more"),
        search_verdict.BestOf("C1", "a", "base", "test/code_distance", "it is better"),
    ):
        with pytest.raises(UsageError, match="the verdict of C1 needs a metric of which more, or less, is better"):
            three = Analysis(analysis.metric, DISTANCE, (*analysis.rows, _renamed(analysis, "a2")), (), "", ())
            judge(three, lambda _, found=three: found) if isinstance(judge, search_verdict.BestOf) else judge(analysis)


def _renamed(analysis: Analysis, name: str):
    return dataclasses.replace(analysis.rows[1], arm=name)


def test_runs_without_declarations_have_an_unknown_sense_and_the_report_says_so():
    study, _, analysis = analysed("test/frechet")
    assert [row.contrast.verdict for row in analysis.rows[1:]] == ["differs", "differs"]
    assert sum("whether more of it is better are not known" in warning for warning in analysis.warnings) == 1
    assert not any("not known" in warning for warning in analysed("test/code_distance", DISTANCE)[2].warnings)
    assert "0.105" in terminal_table(study, analysis)


def test_a_study_that_was_planned_before_metrics_were_declared_knows_the_sense_of_its_own():
    study, outcomes = results("test/accuracy")
    content = json.loads(json.dumps(dataclasses.asdict(study)))
    del content["metrics"]
    old = Study.from_json({**content, "higher_is_better": True})
    assert old.metrics == {"accuracy": Metric("accuracy", higher_is_better=True)}
    analysis = analyse(old, outcomes)
    assert [row.contrast.verdict for row in analysis.rows[1:]] == ["better", "worse"]
    assert not any("not known" in warning for warning in analysis.warnings)


def test_a_study_is_written_and_read_with_its_declarations(tmp_path: pathlib.Path):
    study = dataclasses.replace(results("test/error")[0], metrics={"error": ERROR, "code_distance": DISTANCE})
    saved = runs.save_study(study, tmp_path)
    assert saved == dataclasses.replace(study, above=str(tmp_path.parent)) and runs.load_study(tmp_path) == saved


def test_a_run_brings_its_declarations_and_which_examples_were_right(tmp_path: pathlib.Path):
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "status.json").write_text(json.dumps({"state": "DONE"}), encoding="utf-8")
    content = {"metrics": {"test/error": 0.25}, "declared": {"error": dataclasses.asdict(ERROR)}}
    (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    np.savez(tmp_path / "test_rows.npz", index=[2, 0, 1], label=[1, 2, 3], prediction=[1, 2, 4])
    found = runs.read_result("a", 0, tmp_path, "")
    assert found.declared == {"error": ERROR}
    assert found.correct.dtype == bool and found.correct.tolist() == [True, False, True]


def planned(*metrics: Metric):
    """A study of three arms whose checked experiments have a task with these metrics, as far as pruning looks at it."""
    task = SimpleNamespace(metrics=metrics, primary_metric=metrics[0])
    data = SimpleNamespace(name="toy", sizes={"train": 64, "validation": 16, "test": 16}, batch_size=16)
    experiment = SimpleNamespace(task=task, data=data, steps=90)
    study = dataclasses.replace(results("test/error")[0], arms=tuple(Arm(name, {}) for name in ("baseline", "a", "b", "c")))
    return study, [SimpleNamespace(arm=arm, experiment=experiment) for arm in study.arms]


def test_pruning_by_a_metric_without_a_sense_is_refused():
    study, found = planned(ERROR)
    rule = commands.add_rungs(study, found, "asha", Duration(10, "steps"), factor=3).pruning
    assert (rule.metric, rule.higher_is_better) == ("validation/error", False)
    with pytest.raises(UsageError, match=r"--prune=asha needs a metric(.|\n)*code_distance is declared without a sense"):
        commands.add_rungs(*planned(DISTANCE), "asha", Duration(10, "steps"), factor=3)


def test_a_part_that_compares_no_metric_of_the_task_is_refused_before_the_runs():
    study, _ = results("test/error")
    study = Study(**{**vars(study), "metrics": {"error": ERROR, "loss": Metric("loss", higher_is_better=False)}, "claim": "C1"})
    fine = every(
        verdicts.contrast("C1", "a", "worse", "x"), verdicts.on("train/loss", verdicts.contrast("C1", "a", "worse", "y"))
    )
    commands.require_compared(study, fine)
    commands.require_compared(study, None)
    for metric, message in (("test/los", "Did you mean loss"), ("loss", "is no SPLIT/NAME")):
        with pytest.raises(UsageError, match=message):
            commands.require_compared(study, every(verdicts.on(metric, verdicts.contrast("C1", "a", "worse", "x"))))
