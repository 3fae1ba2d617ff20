"""Writes the index of the claims, by chapter, and what a terminal shows of it. Imports no jax."""

from collections import Counter
from collections.abc import Sequence

from cnnlab import home
from cnnlab.ablation.analyse import words
from cnnlab.ablation.plan.claim import Claim
from cnnlab.ablation.report.cards.card import KINDS, ClaimFile, is_whole, line, result_line
from cnnlab.ablation.report.cards.record import Record, day
from cnnlab.text import counted

PLANNED = "planned"
NOT_RUN = "declared, not run yet"
ORDER = {"exact": 0, "both": 1, "statistical": 2}
"""Exact claims come first in a chapter."""

Row = tuple[str, str, str]
"""(question of the test, word of the verdict, result in a line)."""


def rows_of(claim: Claim, records: Sequence[Record], declared: Sequence[ClaimFile]) -> list[Row]:
    """Returns the claim's rows: one for each test, those that were run first; one for a claim without a test."""
    run = [record for record in records if record.claim == claim.id]
    due = [one for one in declared if one.claim == claim.id and one.name not in {record.name for record in run}]
    rows = [(record.question, record.verdict.verdict, line(result_line(record))) for record in run]
    rows += [(one.question, NOT_RUN, f"`{one.command}`") for one in due]
    return rows or [("", PLANNED, "")]


def index(claims: Sequence[Claim], chapters: Sequence[str], records: Sequence[Record], declared: Sequence[ClaimFile]) -> str:
    """Returns the index as Markdown: a legend of the words, then the claims of each chapter, the exact ones first."""
    rows = {claim.id: rows_of(claim, records, declared) for claim in claims}
    found = Counter(word for of_claim in rows.values() for _, word, _ in of_claim)
    last = max((record.finished for record in records if record.finished), default=None)
    present = [chapter for chapter in chapters if any(claim.chapter == chapter for claim in claims)]
    counted_words = [f"{found[word]} {word}" for word in (*words.WORDS, NOT_RUN, PLANNED) if found[word]]
    lines = [
        "# Claims",
        "",
        f"{len(claims)} claims of the literature on convolutional networks and what tests of them found here. Each test was "
        "declared in a file, with its margins and seeds, before it ran; the card of a claim says where, shows the source's "
        "number beside ours, and has the command that gives the same verdict again.",
        "",
        f"Verdicts: {'; '.join(counted_words)}. Last run: {day(last)}.",
        "",
        f"Chapters: {' · '.join(f'[{name}](#{anchor(name)})' for name in present)}.",
        "",
        "| word | meaning |",
        "|---|---|",
        *(f"| {word} | {meaning} |" for word, meaning in words.WORDS.items()),
        f"| {NOT_RUN} | the test is in a file of `experiments/claims`, which runs it |",
        f"| {PLANNED} | no test has been written |",
        "",
        "An *exact* claim is true or false and needs no statistics; a *statistical* one is decided by a test over seeds. A "
        "test that covers a part of its claim has a row of its own, and its verdict is on that part alone.",
    ]
    for chapter in present:
        here = sorted((one for one in claims if one.chapter == chapter), key=lambda one: (ORDER[one.kind], one.number))
        lines += ["", f"## {chapter}", "", "| | claim | kind | verdict | result |", "|---|---|---|---|---|"]
        for claim in here:
            lines += _rows(claim, rows[claim.id], whole=is_whole(claim, records, declared))
    lines += ["", f"Written by `{home.COMMAND} claims FOLDER …` from the records in [records](records)."]
    return "\n".join(lines) + "\n"


def anchor(chapter: str) -> str:
    """Returns the anchor that a chapter's heading has: `gans-and-pixelcnn`."""
    return chapter.lower().replace(" ", "-")


def _rows(claim: Claim, rows: Sequence[Row], *, whole: bool) -> list[str]:
    """Returns the rows of one claim in the table of its chapter: one, or one for the claim and one for each of its tests."""
    has_card = rows[0][1] != PLANNED
    name = f'<a name="{claim.id.lower()}"></a>{f"[{claim.id}]({claim.page})" if has_card else claim.id}'
    sentence = f"[{line(claim.sentence)}]({claim.page})" if has_card else line(claim.sentence)
    cells = [[f"*{line(question)}*", "", word, result] for question, word, result in rows]
    first = [name, sentence, KINDS[claim.kind], *(cells[0][2:] if whole or not has_card else ("", ""))]
    below = [] if whole or not has_card else [["", *one] for one in cells]
    return [f"| {' | '.join([*one[:3], _strong(one[3]), one[4]])} |" for one in (first, *below)]


def _strong(word: str) -> str:
    """Returns the word of a verdict in bold; others as they are."""
    return f"**{word}**" if word in words.WORDS else word


def terminal_text(claims: Sequence[Claim], records: Sequence[Record], declared: Sequence[ClaimFile]) -> str:
    """Returns the claims that were tested, each with its verdict, and the number of the others."""
    rows = {claim.id: rows_of(claim, records, declared) for claim in claims}
    said = {claim.id: claim.sentence for claim in claims if is_whole(claim, records, declared)}
    width = max((len(record.claim) for record in records), default=0)
    longest = max((len(record.verdict.verdict) for record in records), default=0)
    lines = [
        f"{record.claim.ljust(width)}  {record.verdict.verdict.ljust(longest)}  {said.get(record.claim, record.question)}"
        for record in records
    ]
    due = sum(word == NOT_RUN for of_claim in rows.values() for _, word, _ in of_claim)
    planned = sum(of_claim[0][1] == PLANNED for of_claim in rows.values())
    texts = ((due, f"{counted(due, 'test')} declared and not run yet"), (planned, f"{counted(planned, 'claim')} planned"))
    rest = ", ".join(text for count, text in texts if count)
    return "\n".join([*lines, "", *([f"  {rest}"] if rest else [])])
