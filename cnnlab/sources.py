"""Digests of the code that makes a number: a file and all that it imports, without comments and docstrings. Imports no jax.

The digest of a file is taken of its syntax tree, so a comment, a docstring or the layout does not change it, and Python 3.11 to
3.13 agree on it. What a file imports is read from it as well, wherever in the file the import stands, so that the digests do
not depend on what a command has imported yet.
"""

import ast
import gc
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cnnlab import home
from cnnlab.digests import digest
from cnnlab.json_cache import JsonCache

OURS = {"cnnlab": str(home.ABOVE), "experiments": str(home.EXPERIMENTS.parent)}
"""The folder of each package of this project."""
ALWAYS = ("cnnlab/runs/run.py", "cnnlab/knobs.py")
"""Files that every run goes through, with what they import."""
SILENT = (
    "cli",
    "ablation",
    "figures",
    "inspect",
    "overview",
    "predict",
    "python",
    "progress",
    "text",
    "errors",
    "files",
    "home",
    "json_cache",
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
Place = tuple[str, str]
"""Path of a file, and the folder that its name begins at."""


def code_digests(path: pathlib.Path, *parts: pathlib.Path) -> dict[str, str]:
    """Returns {file: digest of its code} of an experiment's file, of all that it imports, and of what every run goes through.

    The files of cnnlab and experiments/ have their paths in the project, those of the folder of an own file, and of other
    folders on Python's path, their paths there. Installed packages are left out: they are known by their versions.

    Args:
        path: the experiment's file.
        parts: other own files that it needs, such as that of a network which a knob names.
    """
    cache, search = JsonCache("sources-1", most=MOST_CACHED), _Search()
    found: dict[str, str] = {}
    seen: set[str] = set()
    own = [one.resolve() for one in (path, *parts)]
    waiting = [(str(one), OURS["experiments"] if one.is_relative_to(home.EXPERIMENTS) else str(one.parent)) for one in own]
    waiting += [(os.path.join(OURS["cnnlab"], *name.split("/")), OURS["cnnlab"]) for name in ALWAYS]
    while waiting:
        file, root = waiting.pop()
        name = file[len(root) :].lstrip(os.sep).replace(os.sep, "/")
        if file in seen or (root in OURS.values() and _is_silent(name)):
            continue
        seen.add(file)
        code, imported = _known(file, cache)
        found[name if name not in found else f"{os.path.basename(root)}/{name}"] = code
        for dotted in imported:
            waiting += [place for place in search.located(dotted, file, root) if place[0] not in seen]
    cache.save()
    return dict(sorted(found.items()))


def _is_silent(name: str) -> bool:
    """Returns whether the file of the project, by its path, can change no number."""
    first, *rest = name.removesuffix(".py").split("/")
    return first == "cnnlab" and rest[:1] != [] and rest[0] in SILENT and name not in MEASURING


class _Search:
    """Finds the files of imported modules. It lists each folder once: asking for single files takes most of a warm start."""

    def __init__(self) -> None:
        self.names: dict[str, frozenset[str]] = {}
        self.places: dict[tuple[str, str], list[Place]] = {}

    def located(self, dotted: str, file: str, root: str) -> list[Place]:
        """Returns the packages and the module that a dotted name imports, in a file with its root."""
        # In the project a name means the same in every file; elsewhere it depends on the file.
        key = dotted, root if root in OURS.values() and not dotted.startswith(".") else file
        if key not in self.places:
            self.places[key] = list(self._located(dotted, file, root))
        return self.places[key]

    def _located(self, dotted: str, file: str, root: str) -> Iterator[Place]:
        name = dotted.lstrip(".")
        if dots := len(dotted) - len(name):
            start = str(pathlib.Path(file).parents[dots - 1])
        else:
            top = self._root_of(name.partition(".")[0], file, root)
            if top is None:
                return
            start = root = top
        for part in name.split(".") if name else ():
            inside = self._module_file(start, part)
            if inside is not None and inside.startswith(os.path.join(root, "")):
                yield inside, root
            start = f"{start}{os.sep}{part}"

    def _root_of(self, top: str, file: str, root: str) -> str | None:
        """Returns the folder that holds the package or module `top`; None for those of Python and installed ones."""
        if top in OURS:
            return OURS[top]
        if top in sys.stdlib_module_names or (root in OURS.values() and os.path.dirname(file) != root):
            return None
        if self._module_file(root, top) not in (None, file) or os.path.isdir(os.path.join(root, top)):
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
        return str(place.parent.parent if place.name == "__init__.py" else place.parent)

    def _module_file(self, folder: str, name: str) -> str | None:
        """Returns the file of the module or package `name` in a folder; None where there is none."""
        names, inside = self._names(folder), f"{folder}{os.sep}{name}"
        if name in names and "__init__.py" in self._names(inside):
            return f"{inside}{os.sep}__init__.py"
        return f"{inside}.py" if f"{name}.py" in names else None

    def _names(self, folder: str) -> frozenset[str]:
        """Returns the names of the entries of a folder; none where it is missing or no folder."""
        if folder not in self.names:
            try:
                self.names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self.names[folder] = frozenset()
        return self.names[folder]


def _known(file: str, cache: JsonCache) -> Known:
    """Returns the digest of a file's code and what it imports; the cache knows them by the digest of the file's bytes."""
    with open(file, "rb") as opened:
        content = opened.read()
    key = digest([content])
    try:
        code, imported = cache.get(key)
        return str(code), [str(name) for name in imported]
    except (TypeError, ValueError):
        found = _parsed(content, file)
        cache.put(key, found)
        return found


def _parsed(content: bytes, file: str) -> Known:
    """Returns what is to be known of a file, from its content."""
    # A syntax tree has a hundred thousand objects and no cycles: collecting garbage meanwhile takes half of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        words, imports = _spelled(ast.parse(content, file))
    finally:
        if was_enabled:
            gc.enable()
    return _words_digest(words), sorted(set(_imported_names(imports)))


def _imported_names(statements: Iterable[Any]) -> Iterator[str]:
    """Yields the dotted name of everything that is imported by statements; of `from a import b`, both `a` and `a.b`."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            base = f"{'.' * node.level}{node.module or ''}"
            yield base
            yield from (f"{base}{'.' if node.module else ''}{alias.name}" for alias in node.names if alias.name != "*")


def code_digest(tree: ast.AST) -> str:
    """Returns the digest of a syntax tree, without what does nothing: docstrings, bare constants, `pass`."""
    return _words_digest(_spelled(tree)[0])


def _words_digest(words: list[str]) -> str:
    return digest(["\n".join(words)])[:DIGITS]


def _spelled(tree: ast.AST) -> tuple[list[str], list[Any]]:
    """Returns (a syntax tree in words, the statements in it that import)."""
    words: list[str] = []
    imports: list[Any] = []
    _spell(tree, words.append, imports)
    return words, imports


def _spell(node: Any, write: Callable[[str], object], imports: list[Any]) -> None:
    """Writes a syntax tree in words; fields that are empty are left out, since versions of Python differ in having them."""
    kind = node.__class__
    # Most nodes are of the first kinds, which are written out for speed: with an empty cache a run spells all its files.
    if kind is ast.Name:
        write(f"(Name\n.id\n{node.id!a}\n)")
    elif kind is ast.Constant:
        write(f"{node.value.__class__.__name__} {node.value!a}")
    elif kind is ast.Attribute:
        write("(Attribute\n.value")
        _spell(node.value, write, imports)
        write(f".attr\n{node.attr!a}\n)")
    elif kind is ast.keyword and node.arg is not None:
        write(f"(keyword\n.arg\n{node.arg!a}\n.value")
        _spell(node.value, write, imports)
        write(")")
    elif kind is str or kind is int or node is None:
        write(ascii(node))
    else:
        if kind is ast.Import or kind is ast.ImportFrom:
            imports.append(node)
        write(f"({kind.__name__}")
        for field, word in _FIELDS[kind]:
            value = getattr(node, field, None)
            if value is None:
                continue
            if value.__class__ is list:
                if field in BLOCKS:
                    value = [one for one in value if not _is_idle(one)]
                elif kind is ast.JoinedStr:
                    value = _joined(value)
                if value:
                    write(word)
                    write("[")
                    for one in value:
                        _spell(one, write, imports)
                    write("]")
            else:
                write(word)
                _spell(value, write, imports)
        write(")")


_KINDS = [kind for kind in vars(ast).values() if isinstance(kind, type) and issubclass(kind, ast.AST)]
_FIELDS = {
    kind: tuple((name, f".{name}") for name in kind._fields if name not in ("ctx", "type_ignores", "type_comment"))
    for kind in _KINDS
}
"""Fields of every kind of nodes that count, each with its word."""
BLOCKS = frozenset({"body", "orelse", "finalbody"})
"""Fields that hold a list of statements."""


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
