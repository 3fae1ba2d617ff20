"""Configuration of the book: `sphinx-build docs site`, offline; the pages ask for nothing from a network."""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_book")]

import api_pages  # noqa: E402
import blocks  # noqa: E402
import experiment_pages  # noqa: E402

from cnnlab.home import VERSION  # noqa: E402

project = "cnnlab"
release = version = VERSION
author = "the maintainers of cnnlab"
extensions = ["myst_nb"]
exclude_patterns = ["_book", "results/*", "requirements.txt", "notebooks/*/**"]  # what notebooks write lies beside them
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
nb_execution_mode = "off"
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"cnnlab {VERSION}"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

EXPERIMENT = re.compile(r"\((?:\.\./)+experiments/(?:claims/)?(\w+)\.py\)")
"""A link to a file of experiments/, which the book has as a page."""


PICTURE = re.compile(r'<picture>\s*<source [^>]*srcset="([^"]*)">\s*<img alt="([^"]*)" src="([^"]*)"[^>]*>\s*</picture>')
"""A figure in two colours as GitHub wants it; the theme has classes for both."""
ORPHANS = re.compile(r"(claims/c\d+|experiments/(?!index$).*|api/(?!index$).*)")
"""Pages that are reached by links alone: the sidebar of every page has all others, so that its size counts."""


def fill(app: object, name: str, source: list[str]) -> None:
    """Gives a page the tables that it leaves open, and links inside the book."""
    up = "../" * name.count("/")
    for part in (HERE / "_book" / "blocks.py", blocks.RESULTS, HERE / "claims" / "README.md"):
        app.env.note_dependency(part)  # type: ignore[attr-defined]
    head = "---\norphan: true\n---\n\n" if ORPHANS.fullmatch(name) else ""
    text = EXPERIMENT.sub(rf"({up}experiments/\1.md)", blocks.filled(source[0], up))
    text = PICTURE.sub(r"![\2](\3){.only-light}\n![\2](\1){.only-dark}", text)
    source[0] = head + text.replace("[records](records)", "`docs/claims/records`")


def write(folder: pathlib.Path, pages: dict[str, str]) -> None:
    """Writes pages that are made from sources; those that are there already stay as they are, and are not built again."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: object) -> None:
    """Writes the pages that are made from sources, and connects `fill`."""
    write(HERE / "experiments", experiment_pages.pages())
    write(HERE / "api", api_pages.pages())
    app.connect("source-read", fill)  # type: ignore[attr-defined]
