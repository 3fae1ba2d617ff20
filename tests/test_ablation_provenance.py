"""A claim that is tested by code with uncommitted changes is announced as such before anything runs."""

import pathlib

import pytest

from cnnlab.ablation import commands
from cnnlab.ablation.plan.check import Estimate
from cnnlab.ablation.plan.study import Arm, Study

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("claim", "has_changes", "warns"), [("C7", True, True), ("C7", False, False), ("C7", None, False), ("", True, False)]
)
def test_a_study_of_a_claim_warns_of_uncommitted_changes(
    claim: str, has_changes: bool | None, warns: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(commands, "code_revision", lambda: (COMMIT, has_changes))
    arm = Arm("baseline", {}, parameters=10, macs=10, steps=5)
    study = Study(name="s", experiment="e", knobs={}, design="grid", arms=(arm,), seeds=(0,), factors={}, claim=claim)
    lines = commands.describe_study(study, Estimate(1, 1, 2.0, 3, 4), pathlib.Path("runs/s")).splitlines()
    expected = "WARNING: the verdict on C7 will be recorded as of commit 0123456789ab and changes; commit first."
    assert [line for line in lines if "WARNING" in line] == ([expected] if warns else [])
