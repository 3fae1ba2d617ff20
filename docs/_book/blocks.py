"""What chapters leave open: systems, experiments and claims, from sources and records when the book is built.

A chapter names what it wants in a comment, such as `<!-- claims: C16 C17 -->`; a reader of the file sees the prose alone.
"""

import functools
import pathlib
import re
from collections.abc import Callable, Sequence

from cnnlab.runs.catalogue import catalogue

DOCS = pathlib.Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
MARK = re.compile(r"<!-- (systems|experiments|claims|file): (.+?) -->", re.DOTALL)
ROW = re.compile(r"^\|(.*)\|$")
SHORT = {"autoencoders": "autoencoders", "variational": "variational autoencoders", "adversarial": "adversarial pairs"}
"""{word before a colon: title of the catalogue}, for names that several families have."""


class MissingEntry(Exception):
    """A chapter names what is not there."""


def filled(text: str, up: str) -> str:
    """Returns a chapter with its tables.

    Args:
        text: the chapter.
        up: path from its folder to docs/, such as `../`.
    """
    makers: dict[str, Callable[[Sequence[str], str], str]] = {
        "systems": systems,
        "experiments": experiments,
        "claims": claims,
        "file": file,
    }
    return MARK.sub(lambda found: makers[found[1]](found[2].split(), up), text)


def systems(names: Sequence[str], up: str) -> str:
    """Returns the table of networks: their names for --model, and what they are, as `launch.py list` says."""
    known = _catalogue()
    everything = {
        name: text
        for title, options in known.items()
        if title not in ("experiments", "data sets")
        for name, text in options.items()
    }
    lines = ["| `--model` | what it is |", "|---|---|"]
    for given in names:
        family, _, name = given.rpartition(":")
        options = known[SHORT[family]] if family else everything
        if name not in options:
            raise MissingEntry(f"no network {given!r} in the catalogue")
        lines.append(f"| `{name}` | {options[name]} |")
    return "\n".join(lines)


@functools.cache
def _catalogue() -> dict[str, dict[str, str]]:
    return catalogue()


def experiments(names: Sequence[str], up: str) -> str:
    """Returns a list of experiments: what each is, with a link to its file, what it reached, and its command."""
    rows = {cells[0].strip("` "): cells for cells in _rows(RESULTS)}
    lines = []
    for name in names:
        if name not in rows:
            raise MissingEntry(f"no experiment {name!r} in {RESULTS.name}")
        _, what, result, _, published, command = rows[name]
        result = result.removeprefix("earlier: ")
        beside = f" Published: {published}." if published != "–" else ""
        lines += [f"- [`{name}`]({up}experiments/{name}.md): {what}. **{result}.**{beside}", "", f"    {command}", ""]
    return "\n".join(lines)


def claims(ids: Sequence[str], up: str) -> str:
    """Returns a list of claims: the sentence with a link to its card, and the verdicts with what they rest on."""
    found: dict[str, list[list[str]]] = {}
    for cells in _rows(DOCS / "claims" / "README.md"):
        if len(cells) == 5 and (named := re.search(r"C\d+", cells[0])):
            found[now := named[0]] = [cells]
        elif len(cells) == 5 and found and not cells[0]:
            found[now].append(cells)
    lines = []
    for name in ids:
        if name not in found:
            raise MissingEntry(f"no claim {name!r} in claims/README.md")
        first, *below = found[name]
        sentence = re.sub(r"^\[(.*)\]\(.*\)$", r"\1", first[1])
        link = f"[{name}]({up}claims/c{int(name[1:]):02d}.md)"
        verdicts = [f"{cells[3]} {cells[4]}".strip() for cells in (first, *below) if cells[3]]
        link = link if verdicts and "planned" not in verdicts[0] else name
        lines.append(f"- {link} **{sentence}.**")
        lines += [f"    - {text}" for text in verdicts]
    return "\n".join(lines)


def file(names: Sequence[str], up: str) -> str:
    """Returns a page of the project's folder, with links as they are from docs/."""
    text = (ROOT / names[0]).read_text(encoding="utf-8").replace("](docs/", "](")
    text = text.replace("](CONTRIBUTING.md)", "](contributing.md)").replace("](CHANGELOG.md)", "](changelog.md)")
    return text.replace("[CITATION.cff](CITATION.cff)", "`CITATION.cff`")


def _rows(page: pathlib.Path) -> list[list[str]]:
    """Returns the cells of all rows of tables in a page; a cell may hold an escaped bar."""
    found = [ROW.match(line) for line in page.read_text(encoding="utf-8").splitlines()]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", match[1])] for match in found if match]


RESULTS = DOCS / "results.md"
"""The page with the table of results."""
