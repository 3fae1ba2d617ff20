"""Writes the page of claims: records, figures, a card for each claim that has a test, and the index. Imports no jax."""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence

from cnnlab import files
from cnnlab.ablation.analyse import words
from cnnlab.ablation.plan.claim import OWN, Claim
from cnnlab.ablation.plan.study import Card
from cnnlab.ablation.report.bibliography import Work
from cnnlab.ablation.report.cards import canvas
from cnnlab.ablation.report.cards.card import ClaimFile, card, headline, is_whole
from cnnlab.ablation.report.cards.collect import collect_records, in_order
from cnnlab.ablation.report.cards.figure import draw
from cnnlab.ablation.report.cards.index import index, terminal_text
from cnnlab.ablation.report.cards.record import Record, read_records, write_records

log = logging.getLogger("cnnlab")

FIGURES = "figures"
"""Folder of the figures, beside the page."""
PAGE = "README.md"


def write_page(
    folders: Sequence[pathlib.Path],
    target: pathlib.Path,
    *,
    claims: Sequence[Claim] = (),
    chapters: Sequence[str] = (),
    declared: Sequence[ClaimFile] = (),
    works: Mapping[str, Work] | None = None,
) -> str:
    """Writes the page of claims in `target`; returns what a terminal shows of it.

    The tests are those in or below the folders, and those of the records in `target`; the last run of a file counts.

    Args:
        folders: folders of studies and measurements, or above them; none: the page is written again from its records.
        target: folder of the page.
        claims: the catalogue of claims.
        chapters: its chapters in their order.
        declared: the files that declare tests of claims.
        works: the bibliography by key.
    """
    by_name = {one.name: one for one in declared}
    published = read_records(target)
    found = collect_records(folders, lambda name: _card_of(name, by_name)) if folders else []
    records = in_order([*published, *found])
    for one in found:
        if one not in records:
            log.warning("%s: a later run of it is on the page already and stays there", one.name)
    write_records(target, [record for record in records if record in found])
    # The words of a card are those of its file today; its numbers are those of the record.
    records = [_with_card(record, by_name) for record in records]
    catalogue = [*claims, *_others(records, claims)]
    _remove_old(target)
    pictures = _write_figures(target, records, catalogue, declared)
    for claim in catalogue:
        tests = [record for record in records if record.claim == claim.id]
        due = [one for one in declared if one.claim == claim.id]
        if tests or due:
            files.write_text(target / claim.page, card(claim, tests, due, works or {}, pictures))
    files.write_text(target / PAGE, index(catalogue, [*chapters, OWN], records, declared))
    return f"{terminal_text(catalogue, records, declared)}\n  in {target / PAGE}"


def _card_of(name: str, declared: Mapping[str, ClaimFile]) -> Card | None:
    """Returns the card of a file; None where the file is not known."""
    file = declared.get(name)
    return file.card if file else None


def _with_card(record: Record, declared: Mapping[str, ClaimFile]) -> Record:
    """Returns the record with the card that its file gives today, where that draws a metric which the record has."""
    file = declared.get(record.name)
    if file is None or (file.card.figure.metric or record.metric) not in record.metrics:
        return record
    return dataclasses.replace(record, card=file.card)


def _others(records: Sequence[Record], claims: Sequence[Claim]) -> list[Claim]:
    """Returns claims that the catalogue lacks, each with its question for a sentence."""
    known = {claim.id for claim in claims}
    found: dict[str, Claim] = {}
    for record in records:
        if record.claim not in known:
            exact = all(part.exact for part in record.verdict.parts or (record.verdict,))
            found.setdefault(record.claim, Claim(record.claim, record.question, OWN, "exact" if exact else "statistical"))
    return list(found.values())


def _remove_old(target: pathlib.Path) -> None:
    """Removes cards and figures that an earlier page had, so that none stays whose record is gone."""
    for path in [*target.glob("c[0-9]*.md"), *(target / FIGURES).glob("*.svg")]:
        path.unlink()


def _write_figures(
    target: pathlib.Path, records: Sequence[Record], claims: Sequence[Claim], declared: Sequence[ClaimFile]
) -> dict[str, str]:
    """Writes the figures of the records, light and dark; returns {name of a record: that of its figure}.

    The title is the claim's sentence, or what the test shows of it where the test covers a part of the claim.
    """
    by_id = {claim.id: claim for claim in claims}
    drawn = {}
    for record in records:
        claim = by_id[record.claim]
        says = "" if is_whole(claim, records, declared) else record.card.figure.title or headline(record.verdict).says
        title = says or claim.sentence
        setting = record.verdict.scope or record.card.scope
        scope = f" Scope: {setting}." if setting else ""
        title = title if record.verdict.verdict in words.FOR else f"Claim: {title}"
        subtitle = f"{record.claim}, {words.in_words(record.verdict)}.{scope}"
        for theme in (canvas.LIGHT, canvas.DARK):
            picture = draw(record, theme, title=title, subtitle=subtitle)
            if picture:
                files.make_folder(target / FIGURES)
                files.write_text(target / FIGURES / f"{record.name}-{theme.name}.svg", picture)
                drawn[record.name] = record.name
    return drawn
