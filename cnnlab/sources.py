"""Digests of the code that makes a number: a file and all that it imports, without comments and docstrings. Imports no jax.

The digest of a file is taken of its syntax tree, so a comment, a docstring or the layout does not change it, and Python 3.11 to
3.13 agree on it. What a file imports is read from it as well, wherever in the file the import stands, so that the digests do
not depend on what a command has imported yet.
"""

import ast
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cnnlab import files
from cnnlab.digests import digest

ROOT = pathlib.Path(__file__).resolve().parents[1]
OURS = ("cnnlab", "experiments")
"""Packages below ROOT."""
ALWAYS = ("cnnlab/runs/run.py", "cnnlab/knobs.py")
"""Files that every run goes through, with what they import."""
SILENT = (
    "cli",
    "ablation",
    "figures",
    "inspect",
    "progress",
    "text",
    "errors",
    "files",
    "digests",
    "own",
    "sources",
    "runs",
)
"""Rooms of cnnlab that can change no number, but for MEASURING: their files are neither listed nor followed."""
MEASURING = ("cnnlab/runs/run.py", "cnnlab/runs/recorder.py")
DIGITS = 16
"""Hexadecimal digits of the digest of a file."""
MOST_CACHED = 4000
"""Entries of the cache above which the old ones are dropped."""

Known = tuple[str, list[str]]
"""Digest of a file's code, and the dotted names that it imports; relative ones begin with their dots."""


def code_digests(path: pathlib.Path, *parts: pathlib.Path) -> dict[str, str]:
    """Returns {file: digest of its code} of an experiment's file, of all that it imports, and of what every run goes through.

    The files of cnnlab and experiments/ have their paths in the project, those of the folder of an own file, and of other
    folders on Python's path, their paths there. Installed packages are left out: they are known by their versions.

    Args:
        path: the experiment's file.
        parts: other own files that it needs, such as that of a network which a knob names.
    """
    cache = _Cache()
    found: dict[str, str] = {}
    seen: set[pathlib.Path] = set()
    located: dict[tuple[str, pathlib.Path], list[tuple[pathlib.Path, pathlib.Path]]] = {}
    own = [one.resolve() for one in (path, *parts)]
    waiting = [(one, ROOT if one.is_relative_to(ROOT / "experiments") else one.parent) for one in own]
    waiting += [(ROOT / name, ROOT) for name in ALWAYS]
    while waiting:
        file, root = waiting.pop()
        name = file.relative_to(root).as_posix()
        if file in seen or (root == ROOT and _is_silent(name)):
            continue
        seen.add(file)
        code, imported = cache.read(file)
        found[name if name not in found else f"{root.name}/{name}"] = code
        for dotted in imported:
            # In the project a name means the same in every file; elsewhere it depends on the file.
            key = (dotted, root if root == ROOT and not dotted.startswith(".") else file)
            if key not in located:
                located[key] = list(_located(dotted, file, root))
            waiting += [place for place in located[key] if place[0] not in seen]
    cache.save()
    return dict(sorted(found.items()))


def _is_silent(name: str) -> bool:
    """Returns whether the file of the project, by its path, can change no number."""
    parts = pathlib.PurePosixPath(name).with_suffix("").parts
    return parts[0] == "cnnlab" and len(parts) > 1 and parts[1] in SILENT and name not in MEASURING


def _located(dotted: str, file: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Yields (file, folder that its name begins at) of the packages and the module that a dotted name imports."""
    name = dotted.lstrip(".")
    if dots := len(dotted) - len(name):
        start = file.parents[dots - 1]
    else:
        found = _root_of(name.partition(".")[0], file, root)
        if found is None:
            return
        start = root = found
    for part in name.split(".") if name else ():
        inside = module_file(start, part)
        if inside is not None and inside.is_relative_to(root):
            yield inside, root
        start /= part


def _root_of(top: str, file: pathlib.Path, root: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder that holds the package or module `top`; None for those of Python and installed ones."""
    if top in OURS:
        return ROOT
    if top in sys.stdlib_module_names or (root == ROOT and file.parent != ROOT):
        return None
    if module_file(root, top) not in (None, file) or (root / top).is_dir():
        return root
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    places = [spec.origin] if spec and spec.origin and spec.origin.endswith(".py") else []
    places = places or list((spec and spec.submodule_search_locations) or [])
    if not places or {"site-packages", "dist-packages"} & set(pathlib.Path(places[0]).parts):
        return None
    place = pathlib.Path(places[0]).resolve()
    return place.parent.parent if place.name == "__init__.py" else place.parent


def module_file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the file of the module or package `name` in a folder; None where there is none."""
    found = (folder / name / "__init__.py", folder / f"{name}.py")
    return next((path for path in found if path.is_file()), None)


class _Cache:
    """What is known of files by the digest of their bytes, kept below the user's cache folder."""

    def __init__(self) -> None:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        self.path = base / "cnnlab" / "sources-1.json"
        known = files.read_json(self.path)
        self.known: dict[str, Any] = known if isinstance(known, dict) else {}
        self.used: dict[str, Known] = {}
        self.is_new = False

    def read(self, file: pathlib.Path) -> Known:
        """Returns the digest of a file's code and what it imports."""
        content = file.read_bytes()
        key = digest([content])
        if key not in self.used:
            try:
                code, imported = self.known[key]
                self.used[key] = str(code), [str(name) for name in imported]
            except (KeyError, TypeError, ValueError):
                tree = ast.parse(content, str(file))
                self.used[key] = code_digest(tree), sorted(set(imported_names(tree)))
                self.is_new = True
        return self.used[key]

    def save(self) -> None:
        """Writes what was learnt; a cache that cannot be written costs the next command a second."""
        if not self.is_new:
            return
        content = self.used if len(self.known) > MOST_CACHED else {**self.known, **self.used}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            files.write_text(self.path, json.dumps(content))
        except OSError:
            pass


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Yields the dotted name of everything that is imported anywhere in a file; of `from a import b`, both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{'.' * node.level}{node.module or ''}"
            yield base
            yield from (f"{base}{'.' if node.module else ''}{alias.name}" for alias in node.names if alias.name != "*")


def code_digest(tree: ast.AST) -> str:
    """Returns the digest of a syntax tree, without what does nothing: docstrings, bare constants, `pass`."""
    words: list[str] = []
    _spell(tree, words.append)
    return digest(["\n".join(words)])[:DIGITS]


def _spell(node: Any, write: Callable[[str], object]) -> None:
    """Writes a syntax tree in words; fields that are empty are left out, since versions of Python differ in having them."""
    if isinstance(node, ast.Constant):
        write(f"{type(node.value).__name__} {node.value!a}")
    elif isinstance(node, ast.AST):
        write(f"({type(node).__name__}")
        for field in node._fields:
            value = getattr(node, field, None)
            if field in ("ctx", "type_ignores", "type_comment") or value is None:
                continue
            if isinstance(value, list):
                value = _joined(value) if isinstance(node, ast.JoinedStr) else [one for one in value if not _is_idle(one)]
                if not value:
                    continue
            write(f".{field}")
            _spell(value, write)
        write(")")
    elif isinstance(node, list):
        write("[")
        for one in node:
            _spell(one, write)
        write("]")
    else:
        write(ascii(node))


def _is_idle(node: Any) -> bool:
    """Returns whether a statement does nothing."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _joined(parts: Iterable[ast.expr]) -> list[ast.expr]:
    """Returns the parts of an f-string with neighbouring texts as one: versions of Python divide them differently."""
    found: list[ast.expr] = []
    for part in parts:
        before = found[-1] if found else None
        if isinstance(part, ast.Constant) and isinstance(before, ast.Constant):
            found[-1] = ast.Constant(str(before.value) + str(part.value))
        elif not (isinstance(part, ast.Constant) and part.value == ""):
            found.append(part)
    return found


def differing_files(there: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns the files whose code differs between two results of `code_digests`, with ` (new)` or ` (gone)` where only one
    has the file."""
    names = sorted({*there, *now})
    remarks = {name: "" if name in there and name in now else " (new)" if name in now else " (gone)" for name in names}
    return [f"{name}{remarks[name]}" for name in names if there.get(name) != now.get(name)]
