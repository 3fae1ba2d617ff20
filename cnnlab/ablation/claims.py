"""The page of claims: what became of each, from the verdict.json files of studies. Imports no jax."""

import dataclasses
import os
import pathlib
import re
import shlex
import time
from collections.abc import Sequence

from cnnlab import write
from cnnlab.ablation import cells, conclusions, telling
from cnnlab.ablation.results import Interval
from cnnlab.ablation.study import Study, Verdict
from cnnlab.errors import UsageError

VERDICT = "verdict.json"
SECTIONS = ("Arms", "Negative controls")
"""Of a study's report.md, what the page shows."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, what became of it, and by which runs."""

    verdict: Verdict
    study: Study
    folder: pathlib.Path
    """Of the study."""
    tables: str
    """Those of its report.md."""
    commits: tuple[str, ...]
    """That its finished runs were made from; with ` and changes` where these were not committed."""
    date: str
    """Of its last run, UTC, such as 2026-11-21."""

    @property
    def command(self) -> str:
        """What one types to run the study again."""
        study = self.study
        given = [f"--experiment={study.experiment}", *(f"--{name}={value}" for name, value in study.knobs.items())]
        given += [f"--seed={study.seeds[0]}"] if study.seeds[0] else []
        return shlex.join(["python", "launch.py", "ablate", *given, f"--seeds={len(study.seeds)}", *study.flags])


def collect(folders: Sequence[pathlib.Path]) -> list[Claim]:
    """The claims whose verdict.json lies in or below the folders, by the number of the claim, then by experiment.

    Raises UsageError where a folder is not there, and where there is no verdict in any.
    """
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise UsageError(f"{missing[0]}: there is no such folder. Give those that `launch.py ablate` named, or runs.")
    found = {path.resolve(): path.parent for folder in folders for path in sorted(folder.rglob(VERDICT))}
    if not found:
        raise UsageError(
            f"there is no {VERDICT} in {', '.join(map(str, folders))}.\n"
            "`launch.py ablate` writes it for an experiment whose study declares a verdict, such as c07_plain_vs_residual."
        )
    return sorted(map(read, found.values()), key=lambda claim: (_number(claim.verdict.claim), claim.study.name))


def read(folder: pathlib.Path) -> Claim:
    """The claim of a study's folder."""
    study = cells.load(folder)
    content = write.read_json(folder / VERDICT)
    if content is None:
        raise UsageError(
            f"{folder / VERDICT} is not JSON.\nWrite it again with `launch.py ablate`, which repeats no finished run."
        )
    verdict = Verdict(**{**content, "interval": tuple(content["interval"]) if content["interval"] else None})
    report = folder / "report.md"
    commits, last = [], 0.0
    for cell in cells.cells(study, folder):
        if cell.state == "DONE":
            run, status = (write.read_json(cell.folder / name) or {} for name in ("run.json", "status.json"))
            commits.append(f"{str(run.get('commit'))[:12]}{' and changes' if run.get('uncommitted_changes') else ''}")
            last = max(last, status.get("time", 0.0))
    return Claim(
        verdict,
        study,
        folder,
        tables=_tables(report.read_text(encoding="utf-8")) if report.exists() else "",
        commits=tuple(dict.fromkeys(commits)),
        date=time.strftime("%Y-%m-%d", time.gmtime(last)) if last else telling.NOTHING,
    )


def _number(claim: str) -> tuple[int, str]:
    """C7 before C13."""
    digits = re.search(r"\d+", claim)
    return (int(digits[0]) if digits else 0, claim)


def _tables(report: str) -> str:
    """The tables of SECTIONS, without their heads."""
    parts = re.split(r"^## (.+)\n", report, flags=re.MULTILINE)
    return "\n\n".join(text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True) if name in SECTIONS)


def page(claims: Sequence[Claim]) -> str:
    """The claims as Markdown: one table of all, then a section for each."""
    heads = ("claim", "what it says", "verdict", "effect", "95 % interval", "p", "n", "experiment", "command")
    lines = [
        "# Claims",
        "",
        "What became of claims of the literature in the studies of this repository, each at the size that its command says. "
        "The test was declared in the experiment's file before the runs; a claim is undecided where it does not decide.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'|'.join('---' for _ in heads)}|",
        *(f"| {' | '.join(_summary(claim))} |" for claim in claims),
        "",
        "Written by `python launch.py claims FOLDER …` from the folders of the studies.",
    ]
    for claim in claims:
        lines += ["", *_section(claim)]
    return "\n".join(lines) + "\n"


def _summary(claim: Claim) -> list[str]:
    """A row of the table of all."""
    verdict, metric = claim.verdict, claim.study.metric
    interval = conclusions.span(Interval(*verdict.interval), metric).strip() if verdict.interval else telling.NOTHING
    unit = "points" if conclusions.in_points(metric) else f"in {metric}"
    effect = telling.NOTHING if verdict.effect is None else f"{conclusions.amount(verdict.effect, metric)} {unit}"
    texts = [verdict.claim, claim.study.question, f"**{verdict.verdict}**", effect, interval]
    texts += [telling.p_value(verdict.p), str(verdict.n)]
    return [*(_cell(text) for text in texts), f"`{claim.study.experiment}`", f"`{claim.command}`"]


def _section(claim: Claim) -> list[str]:
    """The claim with its arms and where the numbers come from."""
    study = claim.study
    return [
        f"## {claim.verdict.claim}: {_cell(study.question)}",
        "",
        f"**{claim.verdict.verdict.capitalize()}.** {_cell(claim.verdict.sentence)}",
        "",
        *([claim.tables, ""] if claim.tables else []),
        f"Run {claim.date} from commit {', '.join(claim.commits) or telling.NOTHING}, {len(study.seeds)} seeds an arm:",
        "",
        f"    {claim.command}",
    ]


def _cell(text: str) -> str:
    """One line, in which nothing but ** is a mark of Markdown or of HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`_|\[\]])", r"\\\1", text)


def write_page(folders: Sequence[pathlib.Path], target: pathlib.Path) -> str:
    """Writes README.md in `target` from the studies in or below the folders; returns what a terminal shows of it."""
    claims = collect(folders)
    target.mkdir(parents=True, exist_ok=True)
    path = target / "README.md"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(page(claims), encoding="utf-8")
    os.replace(temporary, path)
    width = max(len(claim.verdict.claim) for claim in claims)
    rows = [f"{c.verdict.claim.ljust(width)}  {c.verdict.verdict.ljust(9)}  {c.study.question}" for c in claims]
    return "\n".join([*rows, "", f"  in {path}"])
