"""Pages of the reference: every public function and class of the rooms that a user's own code calls, from the sources.

Nothing is imported, and the docstrings are taken as they stand: a generator that resolves every annotation takes minutes here.
"""

import ast
import pathlib
import re
from collections.abc import Iterator

from cnnlab import home

ROOMS = ("python", "core", "values", "metric", "ops", "models", "data", "tasks", "recipes")
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")
ITEM = re.compile(r"^    (\**\w+): (.*)$")
Definition = ast.FunctionDef | ast.ClassDef


def pages() -> dict[str, str]:
    """Returns {path below the folder of the reference, without .md: text}, with an index of each room and of all."""
    found, listed = {}, []
    for room in ROOMS:
        place = home.PACKAGE / room
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        names = []
        for path in files:
            name = path.relative_to(home.PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
            if text := _page(path, name):
                found[name.replace("/", ".")] = text
                names.append(name.replace("/", "."))
        found[f"room_{room}"] = _index(f"cnnlab.{room}", names)
        listed.append(f"room_{room}")
    found["index"] = _index("Reference", listed)
    return found


def _index(title: str, names: list[str]) -> str:
    # Links, not a toctree: the sidebar of every page would hold all of these.
    return "\n".join([f"# {title}", "", *(f"- [{name}]({name}.md)" for name in names), ""])


def _page(path: pathlib.Path, name: str) -> str:
    """Returns the page of a module; empty where it has no public definition."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    shown = [node for node in tree.body if isinstance(node, Definition) and not node.name.startswith("_")]
    if not shown:
        return ""
    lines = [f"# {name.replace('/', '.')}", "", *_text(ast.get_docstring(tree) or "")]
    for node in shown:
        lines += _definition(node, level=2)
        if isinstance(node, ast.ClassDef):
            inner = [one for one in node.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
            for one in inner:
                lines += _definition(one, level=3, owner=node.name)
    return "\n".join(lines) + "\n"


def _definition(node: Definition, *, level: int, owner: str = "") -> list[str]:
    """Returns a function or class: its name, how it is called, and its docstring."""
    name = f"{owner}.{node.name}" if owner else node.name
    return ["", f"{'#' * level} {name}", "", "```python", _signature(node), "```", "", *_text(ast.get_docstring(node) or "")]


def _signature(node: Definition) -> str:
    """Returns how a thing is called, one argument a line where the whole is long; of a class its fields with defaults."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        fields = [f"    {ast.unparse(one)}" for one in node.body if isinstance(one, ast.AnnAssign)]
        return "\n".join([f"class {node.name}({bases})" if bases else f"class {node.name}", *fields])
    head = ast.unparse(ast.FunctionDef(**{**node.__dict__, "body": [ast.Pass()], "decorator_list": []})).partition("\n")[0]
    return head.removesuffix(":") if len(head) < 100 else re.sub(r", (?=\**\w+:|\*,)", ",\n    ", head.removesuffix(":"))


def _text(doc: str) -> Iterator[str]:
    """Yields a docstring as Markdown: its sections as lists, all else as it is."""
    for line in doc.splitlines():
        if found := SECTION.match(line):
            yield from (f"**{found[1]}**", "")
        elif found := ITEM.match(line):
            yield f"- `{found[1]}`: {_plain(found[2])}"
        else:
            yield _plain(line) if not line.startswith("        ") else f"  {_plain(line.strip())}"


def _plain(text: str) -> str:
    """Returns a line without what Markdown would take for markup: shapes in brackets, stars, angles."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\[\]*<>_|{}$])", r"\\\1", part) for part in parts)
