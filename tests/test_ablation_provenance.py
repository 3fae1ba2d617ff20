"""What the runs of a study do not share is said: uncommitted changes, code that changed on the way, other devices."""

import json
import pathlib
from typing import Any

import pytest

from cnnlab.ablation import commands
from cnnlab.ablation.analyse import verdicts
from cnnlab.ablation.analyse.analysis import Analysis
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.ablation.report.text import terminal_table
from cnnlab.errors import UsageError
from cnnlab.metric import Metric


def finished(arm: str, seed: int, attempts: list[dict[str, Any]], **more: Any) -> RunResult:
    """A finished run whose run.json has these attempts."""
    shared = {"sources": {"a.py": "1"}, "flags": {"strategy": "jit", "devices": 1}, "devices": ["cpu: cpu"], "steps": 5}
    data = {"name": "d", "fingerprint": "f", "sizes": {"test": 10}}
    provenance = {**shared, "data": data, "attempts": attempts, **more}
    value = 0.5 + 0.01 * seed + 0.2 * (arm == "other") * (1 + 0.1 * seed)
    return RunResult(arm, seed, "DONE", "runs/x", "python", {"test/accuracy": value}, provenance=provenance)


PLAIN = {"strategy": "jit", "devices": ["cpu: cpu"], "versions": {"jax": "1"}, "allowed": []}
CHANGED = {**PLAIN, "allowed": ["code"], "sources": {"a.py": "2"}}
WENT_ON = "1 run went on with a change that --allow accepted (run.json says which)."
ALIKE = "strategy jit in 5, pmap in 1; devices 1 × cpu: cpu in 5, 2 × cpu: cpu in 1; jax 1 in 5, 2 in 1"
ELSEWHERE = {**PLAIN, "strategy": "pmap", "devices": 2 * ["cpu: cpu"], "versions": {"jax": "2"}}
OTHER_CODE = {**PLAIN, "sources": {"a.py": "3"}}
MIXED: dict[str, tuple[list[dict[str, Any]], list[str], tuple[str, ...]]] = {
    "the same": ([PLAIN], [], ()),
    "changed on its way": ([PLAIN, CHANGED], [WENT_ON], ("code",)),
    "other code": ([OTHER_CODE], ["The runs differ in code (2 versions), which --allow=code accepts."], ("code",)),
    "elsewhere": ([ELSEWHERE], [f"The runs were not trained alike: {ALIKE}."], ()),
}
"""{case: (attempts of one of six runs, what is said, what has to be allowed)}."""


@pytest.mark.parametrize("case", MIXED)
def test_runs_of_mixed_code_or_devices_are_said_in_the_report_and_code_in_the_verdict(
    case: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    attempts, said, allow = MIXED[case]
    outcomes = [finished(arm, seed, [PLAIN]) for arm in ("baseline", "other") for seed in range(3)]
    outcomes[-1] = finished("other", 2, attempts)
    arms = tuple(Arm(name, {}, parameters=10, macs=10, steps=5) for name in ("baseline", "other"))
    accuracy = {"accuracy": Metric("accuracy", higher_is_better=True)}
    study = Study("s", "e", {}, "grid", arms, (0, 1, 2), {}, metric="test/accuracy", metrics=accuracy, claim="C1")
    shown: list[Analysis] = []
    monkeypatch.setattr(commands.runs, "read_results", lambda study, folder: outcomes)
    monkeypatch.setattr(commands, "tensorboard_hparams", lambda *_: None)
    monkeypatch.setattr(commands, "_write_report", lambda to, study, outcomes, analysis: str(shown.append(analysis)))
    rule = verdicts.contrast("C1", "other", "better", "the other is better")
    if allow:
        with pytest.raises(UsageError, match="differ in more than their arms"):
            commands.write_study_report(study, tmp_path, verdict=rule)
    commands.write_study_report(study, tmp_path, verdict=rule, allow=allow)
    (analysis,) = shown
    assert [line for line in analysis.warnings if line in said] == said
    assert case != "the same" or not any("code" in line or "alike" in line for line in analysis.warnings)
    sentence = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))["sentence"]
    assert all((line in sentence) is bool(allow) for line in said)
    assert all(line.rstrip(".")[:60] in terminal_table(study, analysis) for line in said)
