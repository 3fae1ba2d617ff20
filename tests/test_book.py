"""The book: its chapters name what there is, its commands are understood, its links lead somewhere."""

import pathlib
import re
import shlex
import sys

import pytest
from commands import Here

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_book"))

import api_pages  # noqa: E402
import blocks  # noqa: E402
import experiment_pages  # noqa: E402

PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(DOCS / "course").glob("*.md")])
PLACES = (
    "PATH",
    "RUN",
    "DIR",
    "FOLDER",
    "FILE",
    "…",
    "NAME",
    "EXPERIMENT",
    "WEIGHTS",
    "VERB",
    "ANNOTATIONS",
    "PHOTO",
    "IMAGE",
    ".py",
)
"""What stands for something of the reader's own; tests/test_own_guide.py runs the commands with files of own.md."""
CODE = re.compile(r"```(?:bash|sh)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^python launch\.py (.*)$", re.MULTILINE)


def commands(page: pathlib.Path) -> list[list[str]]:
    """The words after `launch.py` of the commands in a page's code that need nothing of the reader's own."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = [shlex.split(line, comments=True) for line in COMMAND.findall("\n".join(CODE.findall(text)))]
    return [words for words in found if not any(place in word for place in PLACES for word in words)]


def tried() -> dict[str, tuple[str, list[str]]]:
    """{command: (page, words)} of all pages, each command once."""
    return {shlex.join(words): (page.name, words) for page in PAGES for words in commands(page)}


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


@pytest.mark.slow
@pytest.mark.parametrize("command", tried())
def test_commands_of_the_pages_are_understood(command: str, here: Here):
    """Every flag and knob of a command is known and has a value that it takes: --help resolves them all."""
    page, words = tried()[command]
    words = [word for word in words if word != "--help" and not word.startswith("--fake_devices")]
    code, out, err = here(*words, "--help")
    assert code == 0 and out, f"{page}: {command}\n{err}"


def test_pages_of_experiments_and_reference_are_made_from_sources():
    pages, reference = experiment_pages.pages(), api_pages.pages()
    assert "Caffe" in reference["models.lenet"] and "def classification(" in reference["recipes.classification"]
    assert "experiments/lenet5_digits.py" in pages["lenet5_digits"] and "[c35_shared_convolutions]" in pages["index"]
