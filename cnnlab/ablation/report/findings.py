"""What the curves of the runs show (runs/curve_reading.py), arm by arm: in how many runs each finding was made."""

import collections
import dataclasses
from collections.abc import Sequence

from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.ablation.report.formatting import in_planned_order
from cnnlab.ablation.report.html import cell, escape, section, table
from cnnlab.text import counted

OPEN_ROWS = 24
"""Rows that are shown without a click."""
TITLE = "What the curves show"
HEADS = ("arm", "finding", "runs", "first of them")
NOTE = (
    "What each run says of its own curves: in how many of an arm's finished runs each finding was made, and the sentence of "
    "the first of them. An arm without a row has none."
)


@dataclasses.dataclass(frozen=True)
class ArmFinding:
    """A finding that at least one run of an arm made."""

    arm: str
    kind: str
    """Such as over-fitting (curve_reading.Finding)."""
    runs: int
    """Number of the arm's runs that made it."""
    done: int
    """Number of the arm's runs that are done."""
    seed: int
    """Seed of the first run that made it."""
    text: str
    """The sentence of that run, with its numbers."""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The cells of its row in a table with the columns of HEADS."""
        return self.arm, self.kind, f"{self.runs} of {self.done}", f"seed {self.seed}: {self.text}"


def arm_findings(study: Study, outcomes: Sequence[RunResult]) -> list[ArmFinding]:
    """Returns the findings of every arm as planned, those of most runs first; [] where no run made any."""
    done: collections.Counter[str] = collections.Counter()
    made: dict[str, dict[str, list[tuple[int, str]]]] = {}  # {arm: {kind: [(seed, sentence)]}}
    for outcome in in_planned_order(study, outcomes):
        done[outcome.arm] += outcome.state == "DONE"
        for finding in outcome.findings:
            kind, _, text = finding.partition(": ")
            made.setdefault(outcome.arm, {}).setdefault(kind, []).append((outcome.seed, text))
    return [
        ArmFinding(arm, kind, len(runs), done[arm], *runs[0])
        for arm, kinds in made.items()
        for kind, runs in sorted(kinds.items(), key=lambda one: -len(one[1]))
    ]


def findings_section(study: Study, outcomes: Sequence[RunResult]) -> str:
    """Returns the table of findings as a section of the page; empty where there are none."""
    found = arm_findings(study, outcomes)
    if not found:
        return ""
    kinds = ("left name", "left", "", "left wide")
    heads = [
        f'<th scope="col" class="{kind}">{escape(head.capitalize())}</th>' for head, kind in zip(HEADS, kinds, strict=True)
    ]
    rows = [
        "".join(cell(escape(text), kind=kind) for text, kind in zip(finding.cells, kinds, strict=True)) for finding in found
    ]
    shown = " open" if len(found) <= OPEN_ROWS else ""
    summary = f"<summary>{counted(len(found), 'finding')}</summary>"
    body = table(heads, ["".join(f"<tr>{row}</tr>" for row in rows)])
    return section(TITLE, f"<details{shown}>{summary}{body}</details>", escape(NOTE))


def findings_line(outcomes: Sequence[RunResult]) -> str:
    """Returns `what the curves of 10 runs show: over-fitting in 3, plateau in 1`; empty where no run made a finding."""
    kinds = collections.Counter(kind for one in outcomes for kind in {text.partition(": ")[0] for text in one.findings})
    done = counted(sum(outcome.state == "DONE" for outcome in outcomes), "run")
    named = ", ".join(f"{kind} in {count}" for kind, count in kinds.most_common())
    return f"what the curves of {done} show: {named}" if named else ""
