"""The commands that README and docs show, as the tests take them from the pages."""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(DOCS / "course").glob("*.md")])
GENERATED = ("results.md",)
"""Pages whose commands are the names of experiments, each of which tests/test_experiments.py trains or traces."""
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:    [^\n]*\n)+(?=\n|\Z)")
INLINE = re.compile(r"`(python launch\.py [^`]+)`")
LAUNCH = "python launch.py "
PROGRAM = re.compile(r"(python|pip|ruff|mypy|sphinx-build|srun|sbatch|tmux|gcloud|git|cnnlab|[A-Z_]+=\S+) ")


@dataclasses.dataclass(frozen=True)
class Shown:
    """A command of a page.

    Attributes:
        page: the file below docs/, or in the project's folder, without its ending.
        block: number of the piece of code on that page; pieces of one number follow each other in one folder.
        words: what stands after `launch.py`; for another program, the whole line in one word.
    """

    page: str
    block: int
    words: tuple[str, ...]

    @property
    def verb(self) -> str:
        """The verb, `train` where none is given."""
        if self.words[0].startswith("-"):
            return "train"
        return " ".join(self.words[:2]) if self.words[:2] in (("runs", "compare"), ("runs", "clean")) else self.words[0]

    @property
    def experiment(self) -> str:
        """The name after --experiment; empty where there is none."""
        return next((word.partition("=")[2] for word in self.words if word.startswith("--experiment=")), "")

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def pieces(text: str) -> Iterator[list[str]]:
    """Yields the lines of every piece of code of a page that is a shell's: fenced, indented, and within a sentence."""
    text = text.replace("\\\n", " ")
    for language, code in FENCED.findall(text):
        if language in ("bash", "sh"):
            yield code.splitlines()
    prose = FENCED.sub("", text)
    for found in INDENTED.findall(prose):
        yield [line.strip() for line in found.splitlines() if PROGRAM.match(line.strip())]
    yield from ([line.replace("\n", " ")] for line in INLINE.findall(prose))


def shown(page: pathlib.Path) -> tuple[list[Shown], list[str]]:
    """Returns (the commands of launch.py, the lines of other programs) of a page."""
    found, others = [], []
    name = page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).with_suffix("").as_posix()
    for number, lines in enumerate(pieces(page.read_text(encoding="utf-8"))):
        for line in (part.strip() for whole in lines for part in re.split(r" && (?=python launch)", whole)):
            if line.startswith(LAUNCH):
                found.append(Shown(name, number, tuple(shlex.split(line.removeprefix(LAUNCH), comments=True))))
            elif line and not line.startswith("#"):
                others.append(line)
    return found, others


def all_shown() -> list[Shown]:
    """Returns the commands of launch.py of all pages."""
    return [command for page in PAGES if page.name not in GENERATED for command in shown(page)[0]]
