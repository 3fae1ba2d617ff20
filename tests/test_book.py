"""The book: its chapters name what there is, its links lead somewhere, a new reader finds what is asked."""

import pathlib
import re
import sys

import pytest
from pages import DOCS, PAGES, ROOT

sys.path.append(str(DOCS / "_book"))

import api_pages
import blocks
import experiment_pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_pages_that_are_there(page: pathlib.Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    made = {"experiments/index.md", "api/index.md"}
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http") and target not in made:
            assert (page.parent / target).exists(), f"{page.name} leads to {target}"


def test_chapters_name_systems_experiments_and_claims_that_there_are():
    for page in sorted((DOCS / "course").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        filled = blocks.filled(text, "../")
        assert "<!--" not in filled and len(filled) > len(text), page.name
    with pytest.raises(blocks.MissingEntry, match="resnet19"):
        blocks.filled("<!-- systems: resnet19 -->", "")
    with pytest.raises(blocks.MissingEntry, match="C99"):
        blocks.filled("<!-- claims: C99 -->", "")


def test_every_claim_stands_in_a_chapter():
    named = {
        name for page in (DOCS / "course").glob("*.md") for name in re.findall(r"\bC\d+\b", page.read_text(encoding="utf-8"))
    }
    listed = re.findall(r'<a name="(c\d+)">', (DOCS / "claims" / "README.md").read_text(encoding="utf-8"))
    assert {one.upper() for one in listed} <= named


def anchors(page: pathlib.Path) -> dict[str, str]:
    """{anchor as GitHub and the book make it: heading} of a page; the empty anchor is its title."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {"": headings[0], **{re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-"): one for one in headings}}


CLICKS = {
    "how to train on own images": (("own data",), "Own data"),
    "how to read a report": (("reading a report",), "Reading a report"),
    "what was found about batch norm": (("claims", "Batch normalisation .*"), "C6: Batch normalisation .*"),
    "how to add a loss": (("a loss",), "A loss"),
    "what each experiment reaches": (("results",), "Results"),
    "how to segment own images": (("segmentation",), "Segmentation.*"),
}
"""{what a new reader looks for: (links to follow from the front page, by their texts; the heading where it is answered)}."""


@pytest.mark.parametrize("question", CLICKS)
def test_a_new_reader_finds_it_from_the_front_page(question: str):
    clicks, heading = CLICKS[question]
    page, anchor = ROOT / "README.md", ""
    for click in clicks:
        links = re.findall(r"(?<!!)\[([^\[\]]+)\]\(([^)#\s]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))
        found = [(target, part) for text, target, part in links if re.fullmatch(click, text)]
        assert found, f"{page.name} has no link {click!r}"
        page, anchor = (page.parent / found[0][0]).resolve() if found[0][0] else page, found[0][1]
    assert len(clicks) <= 3 and re.fullmatch(heading, anchors(page)[anchor]), anchors(page)


def test_the_gallery_has_a_command_for_every_picture_and_none_is_large():
    _, *sections = re.split(r"^## ", (DOCS / "gallery.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(sections) >= 12
    for section in sections:
        pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", section)
        assert pictures and re.search(r"--experiment=|launch\.py", section), section
        assert re.search(r"\]\([\w/]+\.md[^)]*\)", section), f"no page beside: {section}"
        for alternative, name in pictures:
            assert alternative and (DOCS / name).stat().st_size <= 150_000, name


def test_pages_of_experiments_and_reference_are_made_from_sources():
    pages, reference = experiment_pages.pages(), api_pages.pages()
    assert "Caffe" in reference["models.lenet"] and "def classification(" in reference["recipes.classification"]
    assert "experiments/lenet5_digits.py" in pages["lenet5_digits"] and "[c35_shared_convolutions]" in pages["index"]
