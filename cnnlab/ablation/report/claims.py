"""Writes the page of claims and their verdicts from the verdict.json files of studies. Imports no jax.

A record of each claim is kept beside the page. The claim's row and section are written from it when the page is made again from
the folders of other studies, since the folders of its own study may be gone by then.
"""

import dataclasses
import logging
import pathlib
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cnnlab import files
from cnnlab.ablation.analyse import claim_verdict, summary, words
from cnnlab.ablation.analyse.results import Interval
from cnnlab.ablation.plan.declaration import DECLARATION, read_declaration
from cnnlab.ablation.plan.study import Study, StudySpec, Verdict, find_declaration
from cnnlab.ablation.report import formatting
from cnnlab.ablation.report.deviations import deviations
from cnnlab.ablation.report.markdown import escape_markdown
from cnnlab.ablation.run import runs
from cnnlab.digests import SHORT
from cnnlab.errors import UsageError
from cnnlab.metric import Metric, name_of
from cnnlab.runs import run_files

log = logging.getLogger("cnnlab")

VERDICT = "verdict.json"
SECTIONS = ("Arms", "Negative controls")
"""Sections of a study's report.md that the page shows."""
MOST_ARMS = 30
"""Longest table that the page shows; a search has hundreds of arms."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, its verdict, and the runs that the verdict rests on. The content of its record."""

    verdict: Verdict
    question: str
    experiment: str
    """The experiment as on the command line."""
    command: str
    """The command that runs the study again."""
    metric: str
    """SPLIT/NAME of the compared metric."""
    declared: Metric
    """The metric's declaration."""
    seeds: int
    """Seeds per arm."""
    tables: str
    """The tables of its report.md."""
    commits: tuple[str, ...]
    """Commits of the code of its finished runs; with ` and changes` where there were uncommitted changes."""
    finished: float | None
    """The time at which its last run ended, in seconds since 1970; None where none is done."""
    declaration: Mapping[str, Any] | None = None
    """`digest`, `commit` and `time` of the declaration; None for a study of a version that kept none."""
    deviations: tuple[str, ...] = ()
    """Where the study departed from its declaration."""
    baseline: str = ""
    """What varies, as the baseline has it, such as `activation=relu, lr=0.02`; empty where that is not known."""
    reworded: bool = False
    """Whether the roles of its parts and the words were declared after its runs."""

    @property
    def key(self) -> str:
        """Claim and experiment, such as C7-c07_plain_vs_residual; where two studies have the same key, `rank` decides."""
        return f"{self.verdict.claim}-{pathlib.Path(self.experiment).stem}"

    @property
    def date(self) -> str:
        """The day of its last run, UTC, such as 2026-11-21."""
        return formatting.NOTHING if self.finished is None else _day(self.finished)

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Of two with the same key the higher one counts: the declared one, then the later one; of two that were made before
        declarations were kept, the one of more seeds."""
        return self.declaration is not None, 0 if self.declaration else self.seeds, self.finished or 0.0


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def collect_claims(folders: Sequence[pathlib.Path]) -> list[Claim]:
    """Returns the claims whose verdict.json lies in or below the folders, by the number of the claim, then by experiment.

    Exploratory studies are left out. Where one experiment has several studies of one claim, `Claim.rank` decides. Raises
    UsageError where a folder is not there, and where there is no verdict in any.
    """
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise UsageError(f"{missing[0]}: there is no such folder. Give the folders that `launch.py ablate` printed, or runs.")
    found = {path.resolve(): path.parent for folder in folders for path in sorted(folder.rglob(VERDICT))}
    exploring = {path.parent: text for folder in folders for path in sorted(folder.rglob(runs.STUDY)) if (text := _why(path))}
    found = {path: folder for path, folder in found.items() if folder not in exploring}
    for folder, text in exploring.items():
        log.info("left out: %s is %s", folder, text)
    if not found and exploring:
        folder, text = next(iter(exploring.items()))
        raise UsageError(
            f"{folder} is {text}, so it has no verdict for the page.\n"
            "Run the study as its file declares it: `launch.py ablate --experiment=NAME` without other flags."
        )
    if not found:
        raise UsageError(
            f"there is no {VERDICT} in {', '.join(map(str, folders))}.\n"
            "`launch.py ablate` writes it for an experiment whose study declares a verdict, such as c07_plain_vs_residual."
        )
    return in_order(map(read_claim, found.values()))


def _why(path: pathlib.Path) -> str:
    """Returns why the study of a study.json is exploratory; empty where it is not."""
    return str((files.read_json(path) or {}).get("exploratory", ""))


def in_order(claims: Iterable[Claim]) -> list[Claim]:
    """Sorts claims by number, then by experiment; of those with the same key it keeps one (`Claim.rank`)."""
    last = {claim.key: claim for claim in sorted(claims, key=lambda claim: claim.rank)}
    return sorted(last.values(), key=lambda claim: (_number(claim.verdict.claim), claim.experiment))


def read_published(target: pathlib.Path) -> list[Claim]:
    """Returns the claims of the records beside a page."""
    return [_from_json(path) for path in sorted(target.glob("*.json"))]


def _from_json(path: pathlib.Path) -> Claim:
    content = files.read_json(path) or {}
    try:
        verdict = Verdict.from_json(content["verdict"])
        declared = Metric(**content["declared"])
        lists = {name: tuple(content.get(name, ())) for name in ("commits", "deviations")}
        return Claim(**{**content, **lists, "verdict": verdict, "declared": declared})
    except (KeyError, TypeError):
        raise UsageError(
            f"{path} is no record of a claim.\nExpected what `launch.py claims` writes there. Remove the file, and name the "
            "study's folder again if it still exists."
        ) from None


def in_todays_words(claim: Claim, declared: StudySpec | None) -> Claim:
    """Returns a claim with a verdict in today's words, and the name of its baseline, where its record lacks them.

    Args:
        claim: as read from a study's folder or from a record.
        declared: the study that its experiment declares today; None where there is none.
    """
    rule = declared.verdict if declared else None
    verdict = claim_verdict.of_record(claim.verdict, rule, claim.declared)
    baseline = claim.baseline or (_first_levels(declared.vary) if declared else "")
    return dataclasses.replace(claim, verdict=verdict, baseline=baseline, reworded=claim.reworded or verdict != claim.verdict)


def _first_levels(vary: Sequence[str]) -> str:
    """Returns `activation=relu, lr=0.02` from `activation:relu,tanh` and `lr:0.02,0.1`; nothing where levels are drawn."""
    named = []
    for text in vary:
        knob, _, levels = text.partition(":")
        first = re.match(r"\([^)]*\)|[^,(]+(?=,|$)", levels)
        if first is None:
            return ""
        named.append(f"{knob}={first[0]}")
    return ", ".join(named)


def _command(study: Study) -> str:
    """Returns the command that runs the study again.

    What a declaration fixes needs no flag. A path on this machine is replaced by FOLDER, an own experiment by its file's name.
    """
    name = pathlib.Path(study.experiment).name
    given = [f"--experiment={name}", *(f"--{name}={value}" for name, value in study.knobs.items())]
    if not study.declaration:
        given += [f"--seed={study.seeds[0]}"] if study.seeds[0] else []
        given += [f"--seeds={len(study.seeds)}", f"--metric={study.metric}"]
    words = ["python", "launch.py", "ablate", *given, *study.flags]
    return shlex.join(re.sub(r"(?<=[=:])(?:/|[A-Za-z]:[\\/]).*", "FOLDER", word) for word in words)


def read_claim(folder: pathlib.Path) -> Claim:
    """Reads the claim of a study's folder."""
    study = runs.load_study(folder)
    run_files.require_undamaged(study_run.folder for study_run in runs.study_runs(study, folder))
    content = files.read_record(folder / VERDICT, advice="`launch.py report` writes it again.")
    if content is None:
        raise UsageError(
            f"{folder / VERDICT} is not JSON.\nWrite it again with `launch.py ablate`, which repeats no finished run."
        )
    verdict = Verdict.from_json(content)
    declaration = read_declaration(folder)
    if verdict.declaration != (declaration or {}).get("digest", ""):
        raise UsageError(
            f"{folder / VERDICT} and {DECLARATION} beside it do not belong together.\n"
            "Restore the two from one copy, or run the study again in another folder."
        )
    report = folder / "report.md"
    commits, last = [], 0.0
    for study_run in runs.study_runs(study, folder):
        if study_run.state == "DONE":
            run, status = (run_files.read(study_run.folder, name) or {} for name in (run_files.RUN, run_files.STATUS))
            commits.append(f"{str(run.get('commit'))[:12]}{' and changes' if run.get('uncommitted_changes') else ''}")
            last = max(last, status.get("time", 0.0))
    return Claim(
        verdict,
        study.question,
        study.experiment,
        _command(study),
        study.metric,
        find_declaration(study, runs.read_results(study, folder), study.metric) or Metric(name_of(study.metric)),
        len(study.seeds),
        tables=_tables(report.read_text(encoding="utf-8")) if report.exists() else "",
        commits=tuple(dict.fromkeys(commits)),
        finished=last or None,
        declaration={name: declaration[name] for name in ("digest", "commit", "time")} if declaration else None,
        deviations=deviations(declaration, list(runs.study_runs(study, folder))) if declaration else (),
        baseline=", ".join(f"{knob}={study.level(study.baseline, knob)}" for knob in study.factors),
    )


def _number(claim: str) -> tuple[int, str]:
    """Returns a key that sorts C7 before C13."""
    digits = re.search(r"\d+", claim)
    return (int(digits[0]) if digits else 0, claim)


def _tables(report: str) -> str:
    """Returns the tables of SECTIONS without headings; for a table of many arms, only their number."""
    parts = re.split(r"^## (.+)\n", report, flags=re.MULTILINE)
    shown = []
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        count = len(re.findall(r"^\|", text, flags=re.MULTILINE)) - 2
        if name in SECTIONS:
            shown.append(text.strip() if count <= MOST_ARMS else f"{count} arms, which the study's report.md lists.")
    return "\n\n".join(shown)


def page(claims: Sequence[Claim]) -> str:
    """Returns the claims as Markdown: one table with a row for each part of each claim, then a section for each claim."""
    heads = ["claim", "part", "verdict", "comparison", "effect", "95 % interval", "p", "seeds", "experiment"]
    lines = [
        "# Claims",
        "",
        "Claims of the literature, tested by studies of this repository. A verdict holds for the network, data and length of "
        "training of its study, which are often much smaller than in the paper; the command in its section runs it again. "
        "Each section says when and at which commit the test was declared, and where the study departed from it.",
        "",
        *(f"- *{word}*: {meaning}" for word, meaning in words.WORDS.items()),
        "",
        "The first row of a claim is the verdict on the whole. Its parts follow, each with a test of its own without a "
        "correction (p < 0.05, two-sided). All parts that decide must hold; a part that is *only shown* decides nothing, and "
        "where what is *required* does not hold the claim is not tested. The baseline is named in each section.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'|'.join('---' for _ in heads)}|",
        *(f"| {' | '.join(row)} |" for claim in claims for row in _summary(claim)),
        "",
        "Written by `python launch.py claims FOLDER …` from the folders of studies, and from the records beside this page for "
        "studies that are not named.",
    ]
    for claim in claims:
        lines += ["", *_section(claim)]
    return "\n".join(lines) + "\n"


def _summary(claim: Claim) -> list[list[str]]:
    """Returns the claim's rows in the table of all claims: one for the whole, then one for each part."""
    verdict = claim.verdict
    experiment = f"`{claim.experiment}`"
    if not verdict.parts:
        return [[_line(verdict.claim), _line(claim.question), f"**{verdict.verdict}**", *_numbers(claim, verdict), experiment]]
    rows = [[_line(verdict.claim), _line(claim.question), f"**{verdict.verdict}**", *[""] * 4, str(claim.seeds), experiment]]
    roles = {"shown": " (only shown)", "required": " (required)"}
    return rows + [
        ["", _line(part.says or part.sentence), f"{part.verdict}{roles.get(part.role, '')}", *_numbers(claim, part), ""]
        for part in verdict.parts
    ]


def _numbers(claim: Claim, part: Verdict) -> list[str]:
    """Returns the cells comparison, effect, interval, p and seeds of a part."""
    declared, texts = claim.declared, [part.comparison or _comparison(claim, part)]
    if part.effect is None:
        texts += [formatting.NOTHING] * 2
    elif part.scale == "plain":
        interval = summary.span(Interval(*part.interval), declared).strip() if part.interval else formatting.NOTHING
        sense = {True: " (higher is better)", False: " (lower is better)", None: ""}[declared.higher_is_better]
        unit = f"{'points of' if declared.is_share else 'in'} {claim.metric}{sense}"
        texts += [f"{summary.amount(part.effect, declared)} {unit}", interval]
    else:
        kind = {"log": "ratio of", "logit": "odds ratio of", "rate": "rate of successes in"}[part.scale]
        interval = "[{:.3g}, {:.3g}]".format(*part.interval) if part.interval else formatting.NOTHING
        texts += [f"{part.effect:.3g}, {kind} {claim.metric}", interval]
    return [_line(text) for text in (*texts, formatting.p_value(part.p), str(part.n) if part.n else formatting.NOTHING)]


def _comparison(claim: Claim, part: Verdict) -> str:
    """Returns what an effect compares, such as `activation=tanh − baseline`, from the sentence that states it."""
    if part.effect is None:
        return formatting.NOTHING
    signed = summary.signed(part.effect, claim.declared)
    before, equals, _ = part.sentence.partition(f" = {signed} ")
    return before.partition(": ")[2] if equals else formatting.NOTHING


def _section(claim: Claim) -> list[str]:
    """Returns the claim's section: verdict, parts, baseline, arms, commits and command."""
    first, *others = summary.claim_parts(claim.verdict)
    verdict = f"**{claim.verdict.verdict.capitalize()}.**"
    parts = [f"{verdict} {_line(first)}"] if not others else [verdict, "", *(f"- {_line(part)}" for part in (first, *others))]
    after = (
        "These runs were made before verdicts had parts with roles: words, roles and margins are those that the experiment "
        "declares today, applied to the recorded numbers. The p in a sentence is that of the record."
    )
    return [
        f"## {claim.verdict.claim}: {_line(claim.question)}",
        "",
        *parts,
        "",
        *([f"The baseline is {_line(claim.baseline)}.", ""] if claim.baseline else []),
        *([claim.tables, ""] if claim.tables else []),
        *([after, ""] if claim.reworded else []),
        *_origin(claim),
        "",
        f"    {claim.command}",
    ]


def _origin(claim: Claim) -> list[str]:
    """Returns lines that say where the test was declared, where it ran, and how the two differ."""
    ran = f"un on {claim.date} from commit {', '.join(claim.commits) or formatting.NOTHING}, with {claim.seeds} seeds per arm"
    if claim.declaration is None:
        return [f"Declared before declarations were kept; r{ran}:"]
    made = claim.declaration
    at = f"at commit {made['commit'][:12]}" if made["commit"] else "in no git repository"
    lines = [f"Declared on {_day(made['time'])} {at} (declaration {made['digest'][:SHORT]}). R{ran}."]
    lines += ["", *(f"- Deviation: {_line(text)}" for text in claim.deviations)] if claim.deviations else ["No deviations."]
    return [*lines, "", "The same test again:"]


def _line(text: str) -> str:
    """Returns the text as one line of Markdown, in which no letter but * is a mark."""
    return escape_markdown(text, keep="*")


def write_page(
    folders: Sequence[pathlib.Path],
    target: pathlib.Path,
    declared: Callable[[str], StudySpec | None] = lambda experiment: None,
) -> str:
    """Writes README.md in `target`, and a record of each claim; returns what a terminal shows of it.

    The claims are those of the studies in or below the folders, and those that earlier pages in `target` recorded; a record
    stays where it ranks above the study (`Claim.rank`).

    Args:
        folders: folders of studies, or above them; none: the page is written again from its records.
        target: folder of the page and its records.
        declared: returns the study that an experiment declares today, which old records are judged by.
    """
    published = read_published(target)
    found = collect_claims(folders) if folders else []
    files.make_folder(target)
    claims = in_order([*published, *found])
    for claim in found:
        if any(claim is one for one in claims):
            files.write_json(target / f"{claim.key}.json", dataclasses.asdict(claim))
        else:
            log.warning("%s: the record of more seeds, or of a declared study, stays on the page", claim.key)
    path = target / "README.md"
    claims = [
        in_todays_words(claim, declared(claim.experiment)) if claim_verdict.is_old(claim.verdict) else claim for claim in claims
    ]
    files.write_text(path, page(claims))
    longest = max(len(claim.verdict.verdict) for claim in claims)
    width = max(len(claim.verdict.claim) for claim in claims)
    rows = [f"{c.verdict.claim.ljust(width)}  {c.verdict.verdict.ljust(longest)}  {c.question}" for c in claims]
    return "\n".join([*rows, "", f"  in {path}"])
