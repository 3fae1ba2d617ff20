"""Writes the card of a claim: what it says, who says it, what was found here, and how to try it. Imports no jax."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from cnnlab import home
from cnnlab.ablation.analyse import summary, words
from cnnlab.ablation.plan.claim import Claim
from cnnlab.ablation.plan.study import Card, Verdict
from cnnlab.ablation.report import formatting
from cnnlab.ablation.report.bibliography import Work
from cnnlab.ablation.report.cards import numbers
from cnnlab.ablation.report.cards.record import Arm, Record, day
from cnnlab.ablation.report.markdown import escape_markdown
from cnnlab.digests import SHORT

MOST_ARMS = 30
"""Longest table of arms; a search has hundreds."""
BEST_ARMS = 10
"""Arms of a longer one that are shown."""
MOST_BESIDE = 4
"""Parts that stand beside the source's number; the table of parts has them all."""
ROLES = {"decides": "decides", "shown": "only shown", "required": "required"}
RANKED = "by ranks of all runs, those that diverged the worst"
KINDS = {"exact": "exact", "statistical": "statistical", "both": "exact and statistical"}


@dataclasses.dataclass(frozen=True)
class ClaimFile:
    """A file that declares a test of a claim."""

    name: str
    claim: str
    verb: str
    """ablate or measure."""
    question: str
    card: Card
    link: str = ""
    """Its path from the page's folder; empty where it is no file of this repository."""

    @property
    def command(self) -> str:
        """The command that runs the test."""
        return f"{home.COMMAND} {self.verb} --experiment={self.name}"


def line(text: str) -> str:
    """Returns text as one line of Markdown, in which no letter but * is a mark."""
    return escape_markdown(text, keep="*")


def duration(minutes: float) -> str:
    """Returns `about 12 minutes`."""
    if minutes < 1:
        return f"about {max(round(60 * minutes), 1)} s"
    rounded = round(minutes) if minutes < 90 else 0
    return f"about {rounded} minute{'s' * (rounded != 1)}" if rounded else f"about {minutes / 60:.1f} hours"


def decisive(verdict: Verdict) -> Verdict:
    """Returns the part of a claim whose numbers are those of its verdict; the verdict itself for a claim of one part."""
    numbers_of = (verdict.comparison, verdict.effect, verdict.n)
    return next((part for part in _deciding(verdict) if (part.comparison, part.effect, part.n) == numbers_of), verdict)


def result_line(record: Record) -> str:
    """Returns what was found in one line, such as `All 2 parts hold. Plain networks get worse: +2.10 nats [1.87, 2.33], n = 8`.

    It is about the first part with the word of the verdict (a statistical one, unless all are exact), else about the one that
    settles the verdict.
    """
    verdict = record.verdict
    if verdict.verdict == words.NOT_TESTED:
        unmet = [part for part in verdict.parts if part.role == "required" and part.verdict not in words.FOR]
        unmet = unmet or [part for part in verdict.parts if part.verdict == words.NOT_TESTED]
        named = "; ".join((part.says or part.sentence).rstrip(".") for part in unmet)
        return f"Not met: {named}." if named else verdict.sentence
    parts, part = _deciding(verdict), headline(verdict)
    holds = sum(part.verdict in words.FOR for part in parts)
    counted = ""
    if len(parts) > 1:
        # Where none holds the claim has the word of the part already.
        told = f"{words.in_words(part).capitalize()}: " if holds else ""
        counted = f"{holds} of {len(parts)} parts hold. {told}"
        counted = f"{'Both' if holds == 2 else f'All {holds}'} parts hold. " if holds == len(parts) else counted
    return f"{counted}{finding(record, part)}."


def _deciding(verdict: Verdict) -> Sequence[Verdict]:
    """Returns the parts that decide a claim; the verdict itself for a claim of one part."""
    return [part for part in verdict.parts if part.role == "decides"] or [verdict]


def is_whole(claim: Claim, records: Sequence[Record], declared: Sequence[ClaimFile]) -> bool:
    """Returns whether the claim has one test that covers it: one of several, or one of two kinds, has a verdict of its own.

    Args:
        claim: the claim.
        records: tests that were run, of any claim.
        declared: files that declare tests, of any claim.
    """
    tests = {one.name for one in records if one.claim == claim.id} | {one.name for one in declared if one.claim == claim.id}
    if len(tests) > 1 or claim.kind != "both":
        return len(tests) < 2
    kinds = {part.exact for one in records if one.claim == claim.id for part in _deciding(one.verdict)}
    return len(kinds) > 1


def headline(verdict: Verdict) -> Verdict:
    """Returns the part that a line about the claim tells of: the first with the claim's word, else the one that settles it."""
    return next((part for part in _deciding(verdict) if part.verdict == verdict.verdict), decisive(verdict))


def finding(record: Record, part: Verdict) -> str:
    """Returns what a part found: `56 plain layers train worse than 20: +2.10 nats [1.87, 2.33], p < 0.001, n = 8`."""
    says, (shown, bounds) = (part.says or record.question).rstrip("."), numbers.effect(record, part)
    p = f", p {'' if (part.p or 0) < 0.001 else '= '}{formatting.p_value(part.p)}" if part.p is not None else ""
    if numbers.is_ranked(part):
        return f"{says}: {RANKED}{p}, n = {part.n}"
    if part.effect is None:
        return f"{says}: {part.verdict}"
    if part.exact:
        return f"{says}: {_exactly(record, part, shown)}"
    found = f"{shown}{'' if bounds == formatting.NOTHING else f' {bounds}'}"
    metric = numbers.metric_of(record, part)
    if part.scale == "plain" and not metric.difference_unit:  # a bare number says nothing without its metric
        found += f" in {numbers.metric_label(part.metric or record.metric, metric)}"
    return f"{says}: {found}{p}, n = {part.n}"


def _exactly(record: Record, part: Verdict, shown: str) -> str:
    """Returns `within 2e−16 in all 20 seeds`, `exactly 14`, or `at most 2 in all 20 seeds (stated: at most 3)`."""
    seeds = f" in all {part.n} seeds" if part.n > 1 else ""
    holds = part.verdict in words.FOR
    for sign, sense in ((" ≤ ", "at most"), (" ≥ ", "at least")):
        if sign in part.comparison:
            stated = f"(stated: {sense} {numbers.bound_of(record, part) or part.comparison.rpartition(sign)[2]})"
            return f"{sense} {shown}{seeds} {stated}" if holds else f"{shown}{' in a seed' if seeds else ''} {stated}"
    expected = numbers.stated_of(record, part) or part.comparison.rpartition(" − ")[2].replace(" points", " %")
    is_zero = re.match(r"[+−]?0(\.0*)?(?![\d.])", expected) is not None
    is_number = re.match(r"[+−]?\d", expected) is not None
    if part.effect == 0:
        return f"exactly{'' if is_zero else f' {expected}' if is_number else f' as {expected}'}{seeds}"
    target = "" if is_zero else f" of {expected}"
    return f"within {shown}{target}{seeds}" if holds else f"off by up to {shown}{f' from {expected}' if target else ''}"


def card(
    claim: Claim,
    records: Sequence[Record],
    declared: Sequence[ClaimFile],
    works: Mapping[str, Work],
    pictures: Mapping[str, str],
) -> str:
    """Returns the card of a claim as Markdown.

    Args:
        claim: the claim.
        records: its tests that were run.
        declared: the files that declare its tests, those that were not run too.
        works: the bibliography by key.
        pictures: {name of a record: name of its figure's files without `-light.svg`}.
    """
    cited = [works[key] for key in claim.sources if key in works]
    against = [works[key] for key in claim.disputed_by if key in works]
    lines = [
        f"# {claim.id}: {line(claim.sentence)}",
        "",
        f"[All claims](README.md) · {claim.chapter} · {KINDS[claim.kind]}",
        "",
        *([f"Stated by {_links(cited)}." + (f" Disputed by {_links(against)}." if against else ""), ""] if cited else []),
    ]
    files = {one.name: one for one in declared}
    several = not is_whole(claim, records, declared)
    for record in records:
        lines += _section(record, files.get(record.name), pictures.get(record.name, ""), several=several)
    for one in declared:
        if one.name not in {record.name for record in records}:
            lines += _not_run(one)
    entries = [works[key].bibtex for key in (*claim.sources, *claim.disputed_by) if key in works]
    lines += ["## References", "", "```bibtex", "\n\n".join(entries), "```", ""] if entries else []
    return "\n".join([*lines, "[Back to all claims](README.md)"]) + "\n"


def _links(works: Sequence[Work]) -> str:
    """Returns the works as links where they have an address: `[He et al. 2016](https://…), Minsky and Papert 1969`."""
    return ", ".join(f"[{line(work.cited)}]({work.link})" if work.link else line(work.cited) for work in works)


def _section(record: Record, file: ClaimFile | None, picture: str, *, several: bool) -> list[str]:
    """Returns what a card says about one test."""
    verdict, depth = record.verdict, "###" if several else "##"
    setting = verdict.scope or record.card.scope
    scope = f" Scope: {line(setting)}." if setting else ""
    head = [f"## {line(record.question)}", ""] if several else [line(record.question), ""]
    return [
        *head,
        f"**{words.in_words(verdict).capitalize()}. {line(result_line(record))}{scope}**",
        "",
        *_published(record),
        *(_picture(picture, record) if picture else []),
        f"{depth} Parts of the test",
        "",
        *_parts(record),
        "",
        f"{depth} {'Arms' if record.verb == 'ablate' else 'Numbers'}",
        "",
        *_arms(record),
        "",
        f"{depth} Try it",
        "",
        *try_it(record.command, record.card, file.link if file else "", record.seconds),
        "",
        *([f"{depth} What would change our mind", "", line(record.card.would_change), ""] if record.card.would_change else []),
        f"{depth} Declaration and deviations",
        "",
        *_origin(record),
        "",
    ]


def _published(record: Record) -> list[str]:
    """Returns a table with the source's number beside ours: every part that decides."""
    if not record.card.published:
        return []
    parts = _deciding(record.verdict)
    found = [f"{line(finding(record, part))} (*{_word(part)}*)" for part in parts[:MOST_BESIDE]]
    more = len(parts) - len(found)
    rest = f"{more} more part{'s are' if more > 1 else ' is'} below."
    here = "<br>".join([*found, *([rest] if more else [])])
    return ["| in the source | here |", "|---|---|", f"| {line(record.card.published)} | {here} |", ""]


def _picture(picture: str, record: Record) -> list[str]:
    """Returns the figure, of which GitHub shows the light or the dark file."""
    return [
        "<picture>",
        f'  <source media="(prefers-color-scheme: dark)" srcset="figures/{picture}-dark.svg">',
        f'  <img alt="{escape_markdown(record.question)}" src="figures/{picture}-light.svg" width="960">',
        "</picture>",
        "",
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Returns a table of Markdown whose first `left` columns are aligned left, the others right."""
    rule = ["---" if i < left else "--:" for i in range(len(heads))]
    return [f"| {' | '.join(heads)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(map(line, row))} |" for row in rows)]


def _parts(record: Record) -> list[str]:
    """Returns the table of the parts: role, statement, comparison, effect, interval, p, seeds, verdict."""
    rows = []
    for part in record.verdict.parts or (record.verdict,):
        metric, name = numbers.metric_of(record, part), part.metric or record.metric
        shown, bounds = numbers.effect(record, part)
        p = "exact" if part.exact else formatting.p_value(part.p)
        compared = f"{_comparison(record, part)} in {numbers.metric_label(name, metric)}"
        conditions = numbers.conditions(record, part)
        if not part.exact:
            compared += {True: " (higher is better)", False: " (lower is better)", None: ""}[metric.higher_is_better]
        compared += f"; {conditions}" if conditions else ""
        compared += f"; {RANKED}" if numbers.is_ranked(part) else ""
        rows.append(
            [
                ROLES[part.role],
                part.says or record.question,
                compared,
                shown,
                bounds,
                p,
                str(part.n or "–"),
                _word(part),
            ]
        )
    heads = ["role", "statement", "comparison", "effect", "95 % interval", "p", "n", "verdict"]
    note = (
        "All parts that decide must hold. A part that is only shown decides nothing; where what is required does not hold, "
        "the claim is not tested. Each p is that of one two-sided test, without a correction; n counts paired seeds. The "
        "effect of an exact part is the largest difference from the stated number, or the number closest to the bound."
    )
    open_ = [part for part in record.verdict.parts or (record.verdict,) if part.verdict not in words.FOR]
    said = [f"- {_word(part).capitalize()}{', only shown' * (part.role == 'shown')}: {line(part.sentence)}" for part in open_]
    return [*_table(heads, rows, left=3), "", note, *(["", *said] if said else [])]


def _word(part: Verdict) -> str:
    """Returns the word of a part's verdict; what is required is not met rather than refuted."""
    return "not met" if part.role == "required" and part.verdict not in words.FOR else words.in_words(part)


def _comparison(record: Record, part: Verdict) -> str:
    """Returns what a part compares; an identity as an equation, a bound with all its digits."""
    if bound := numbers.bound_of(record, part):
        return re.sub(r"(?<= [≤≥] ).*", bound, part.comparison)
    arm, minus, expected = part.comparison.rpartition(" − ")
    stated = numbers.stated_of(record, part) or expected.replace(" points", " %")
    return f"{arm} = {stated}" if part.exact and minus else part.comparison or formatting.NOTHING


def _arms(record: Record) -> list[str]:
    """Returns tables of the arms or cases with mean and interval of each metric; metrics of the same arms share a table."""
    named = f" The baseline is {line(record.baseline)}." if record.baseline else ""
    mean = "Mean over seeds with its 95 % interval (Student's t)." if len(record.seeds) > 1 else "One seed."
    lines = [f"{mean}{named}"]
    groups: dict[tuple[str, ...], list[str]] = {}
    for metric in record.compared:
        groups.setdefault(tuple(arm.name for arm in record.arms if metric in arm.numbers), []).append(metric)
    for names, metrics in groups.items():
        lines += ["", *_arms_table(record, [arm for arm in record.arms if arm.name in names], metrics)]
    return lines


def _arms_table(record: Record, arms: Sequence[Arm], metrics: Sequence[str]) -> list[str]:
    """Returns one table of arms; of more than MOST_ARMS the first ones."""
    costs = [name for name in ("parameters", "macs") if len({getattr(arm, name) for arm in arms} - {None}) > 1]
    heads = [
        "arm" if record.verb == "ablate" else "case",
        *(line(numbers.metric_label(name, record.metrics[name])) for name in metrics),
        "n",
        *({"parameters": "parameters", "macs": "MACs"}[name] for name in costs),
    ]
    shown, more = arms, []
    if len(arms) > MOST_ARMS:
        first, sign = metrics[0], -1 if record.metrics[metrics[0]].higher_is_better else 1
        finite = [arm for arm in arms if arm.numbers[first].mean is not None]
        shown = sorted(finite, key=lambda arm: sign * (arm.numbers[first].mean or 0.0))[:BEST_ARMS]
        more = ["", f"These are the best {len(shown)}; {len(arms) - len(shown)} more are in the record."]
    return [*_table(heads, [_arm(record, arm, metrics, costs) for arm in shown]), *more]


def _arm(record: Record, arm: Arm, shown: Sequence[str], costs: Sequence[str]) -> list[str]:
    """Returns the row of one arm."""
    name = f"{arm.name} (must fail)" if arm.control else arm.name
    cells = [
        numbers.with_interval(arm.numbers[metric], record.metrics[metric]) if metric in arm.numbers else formatting.NOTHING
        for metric in shown
    ]
    n = max((one.n for one in arm.numbers.values()), default=0)
    lost = f"{f', {arm.diverged} diverged' if arm.diverged else ''}"
    return [name, *cells, f"{n}{'' if n == arm.planned else f' of {arm.planned}'}{lost}"] + [
        formatting.count(getattr(arm, cost)) for cost in costs
    ]


def try_it(command: str, said: Card, link: str, seconds: float | None = None) -> list[str]:
    """Returns the command, how long it takes, and a version for class.

    Args:
        command: the command.
        said: the card of its file.
        link: path of the file; empty where it is no file of this repository.
        seconds: time that the recorded runs took, added up.
    """
    lines = ["```sh", command, "```", ""]
    if seconds:
        lines += [f"The recorded runs took {duration(seconds / 60)} in all."]
    else:
        lines += ["How long it takes has not been measured."]
    if said.quick:
        lines += [f"For class, in about a minute and without a verdict: the same with `{said.quick}`."]
    lines += [f"The test is declared in [{link.rpartition('/')[2]}]({link})."] if link else []
    return lines


def _origin(record: Record) -> list[str]:
    """Returns lines that say where the test was declared, where it ran, and how it departs from that and from the source."""
    made = record.declaration
    at = f"at commit {made['commit'][:12]}" if made["commit"] else "in no git repository"
    ran = f"run on {day(record.finished)} from commit {', '.join(record.commits) or formatting.NOTHING}"
    seeds = f"{len(record.seeds)} seed{'s' * (len(record.seeds) != 1)}"
    lines = [f"- Declared on {day(made['time'])} {at} (declaration {made['digest'][:SHORT]}); {ran}, with {seeds}."]
    lines += [f"- {line(text)}" for text in _remarks(record.verdict)]
    lines += [f"- Departure from the declaration: {line(text)}" for text in record.deviations]
    lines += [] if record.deviations else ["- No departures from the declaration."]
    return lines + ([f"- Deviation from the source: {line(record.card.deviations)}"] if record.card.deviations else [])


def _remarks(verdict: Verdict) -> list[str]:
    """Returns what the sentence of a verdict says beside its parts and its scope, such as that the code of runs differs."""
    rest = summary.claim_parts(verdict)[len(verdict.parts) :] if verdict.parts else []
    texts = [text.removeprefix(f"Scope: {verdict.scope}.").strip() for text in rest]
    return [text for text in texts if text]


def _not_run(file: ClaimFile) -> list[str]:
    """Returns what a card says about a test that is declared and was not run."""
    return [f"## {line(file.question)}", "", "**Declared, not run yet.**", "", *try_it(file.command, file.card, file.link), ""]
