"""Pages of the experiments and of the claims' tests: what each says of itself, and its source."""

import ast
import pathlib

from cnnlab import home


def pages() -> dict[str, str]:
    """Returns {name: page} of the files below experiments/, and an index."""
    files = [path for path in sorted(home.EXPERIMENTS.rglob("*.py")) if path.stem != "__init__"]
    names = [path.stem for path in files]
    links = (f"- [{name}]({name}.md)" for name in names)
    index = ["# All experiments", "", "The files of `experiments/`, one page each.", "", *links, ""]
    return {**{path.stem: _page(path) for path in files}, "index": "\n".join(index)}


def _page(path: pathlib.Path) -> str:
    """Returns the page of one file."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    doc = ast.get_docstring(tree) or ""
    code = "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip() if doc else source
    place = path.relative_to(home.EXPERIMENTS.parent).as_posix()
    return f"# {path.stem}\n\n```text\n{doc}\n```\n\n`{place}`:\n\n```python\n{code}\n```\n"
