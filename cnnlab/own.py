"""Loads Python files of a user's own: an experiment's file, and the parts that `FILE.py:NAME` names. Imports no jax.

A file may import modules that lie beside it. Every loaded file is in `sys.modules` with its `__file__`. A file that is asked
for twice is loaded once, so that its classes stay the same objects. Files that were edited are loaded anew by the next command
(`forget_changed`), not in the middle of one.
"""

import ast
import contextlib
import importlib.machinery
import importlib.util
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from cnnlab.digests import file_digest
from cnnlab.errors import CnnlabError, UsageError, did_you_mean
from cnnlab.text import split_items

PACKAGE = pathlib.Path(__file__).resolve().parent

_PART = re.compile(r"(?P<path>.+?\.py)(?::(?P<name>[^:]*)(?::(?P<argument>.*))?)?", re.DOTALL)

_loaded: dict[pathlib.Path, ModuleType] = {}
"""Modules by the absolute path of the file that was asked for."""
_folders: set[pathlib.Path] = set()
"""Folders of the files that were asked for."""
_digests: dict[pathlib.Path, str] = {}
"""Digest of every file, helpers included, when it was loaded."""


def load_module(path: pathlib.Path, *, where: str) -> ModuleType:
    """Returns the module of a file, which is imported with the modules that lie beside it, once.

    Args:
        path: path of a .py file, relative to the working folder or absolute.
        where: what was given, such as --experiment=mine.py; it begins the errors.

    Raises UsageError for a file that is missing, unreadable or no Python, and for an exception while it is imported.
    """
    path = real_path(path)
    if path in _loaded:
        return _loaded[path]
    tree = _parsed(path, where)
    _require_free_names(path, tree, where)
    _leave_other_folders(path.parent)
    spec = importlib.util.spec_from_file_location(_module_name(path), path)
    assert spec and spec.loader
    before = dict(sys.modules)
    module = before.get(spec.name) or importlib.util.module_from_spec(spec)
    if spec.name not in before:
        sys.modules[spec.name] = module  # dataclasses and Linen modules defined there look themselves up
        _folders.add(path.parent)
        with _importable(path.parent), explained(where, while_="importing"):
            try:
                spec.loader.exec_module(module)
            except BaseException:
                _drop([name for name, _ in _imported_since(before)])  # the next try must not find a half-loaded module
                raise
    _loaded[path] = module
    _digests.update({file: file_digest(file) for _, file in _imported_since(before)})
    return module


def _imported_since(before: Mapping[str, ModuleType]) -> list[tuple[str, pathlib.Path]]:
    """Returns (name, file) of the modules of a user's own that were imported since `before`, a copy of sys.modules."""
    new = [(name, _file_of(module)) for name, module in sys.modules.items() if name not in before]
    return [(name, file) for name, file in new if file is not None and is_own(file)]


def forget_changed() -> None:
    """Forgets all loaded files if one of them was edited or is gone, so that the command that begins loads them anew."""
    if all(file.is_file() and file_digest(file) == known for file, known in _digests.items()):
        return
    _drop([name for name, module in sys.modules.items() if _file_of(module) in _digests])
    _loaded.clear()
    _digests.clear()


def is_own(file: pathlib.Path) -> bool:
    """Returns whether a .py file is one that was loaded, or lies beside or below one; not a file of cnnlab or of a package."""
    is_installed = "site-packages" in file.parts or PACKAGE in file.parents
    return file.suffix == ".py" and not is_installed and not _folders.isdisjoint(file.parents)


def _file_of(module: Any) -> pathlib.Path | None:
    """Returns the file of a module; None for one without, such as a built-in one."""
    file = getattr(module, "__file__", None)
    return pathlib.Path(file) if isinstance(file, str) else None


def real_path(path: pathlib.Path) -> pathlib.Path:
    """Returns the path of the file itself: absolute, `~` filled in, links followed.

    A file of code lies among the modules that it imports, also where a link leads to it. A path of data keeps its links
    (`files.absolute`).
    """
    return path.expanduser().resolve()


def _parsed(path: pathlib.Path, where: str) -> ast.Module:
    """Returns the syntax tree of a file, or raises UsageError where it cannot be read as Python."""
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
        hint = did_you_mean(path.name, beside)
        place = f"{path.parent} has {', '.join(beside[:8]) or 'no .py file'}" if path.parent.is_dir() else "nor such a folder"
        raise UsageError(f"{where}: there is no such file.{hint}\nExpected a .py file at {path}; {place}.")
    try:
        return ast.parse(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{where}: {path} cannot be read: {error}\nExpected Python in UTF-8.") from None
    except SyntaxError as error:
        raise UsageError(f"{where}: {path}:{error.lineno}: {type(error).__name__}: {error.msg}") from None


def _module_name(path: pathlib.Path) -> str:
    """Returns the name under which a file is imported: its own, unless that is the name of an installed module."""
    name = path.stem
    there = sys.modules.get(name)
    if there is not None and _file_of(there) == path:
        return name
    is_taken = there is not None or name in sys.stdlib_module_names or importlib.machinery.PathFinder.find_spec(name)
    return f"{name}@{path.parent}" if is_taken or not name.isidentifier() else name


def _require_free_names(path: pathlib.Path, tree: ast.Module, where: str) -> None:
    """Raises UsageError where the file imports a module beside it in whose place an installed one would be found."""
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        for name in {full.partition(".")[0] for full in names}:
            beside = [file for file in (path.parent / f"{name}.py", path.parent / name / "__init__.py") if file.is_file()]
            there = _file_of(sys.modules.get(name))
            is_installed = name in sys.stdlib_module_names or (there is not None and there not in _digests)
            if beside and is_installed and there != beside[0].resolve():
                raise UsageError(
                    f"{where}: {path}:{node.lineno} imports {name}, which is {beside[0].name} beside it and an installed "
                    "module too.\nExpected a name of its own. Rename the file beside it."
                )


def _leave_other_folders(folder: pathlib.Path) -> None:
    """Gives loaded modules of other folders another key of sys.modules where this folder has a module of the same name."""
    own = {entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or entry.is_dir()}
    taken = {name: file for name, module in sys.modules.items() if (file := _file_of(module)) in _digests}
    for name, file in taken.items():
        if name.partition(".")[0] in own and folder not in file.parents and "@" not in name:
            sys.modules[f"{name}@{file.parent}"] = sys.modules.pop(name)


def _drop(names: list[str]) -> None:
    for name in names:
        del sys.modules[name]


@contextlib.contextmanager
def _importable(folder: pathlib.Path) -> Iterator[None]:
    """Lets modules beside a file be imported, and leaves the folder last in the search, for imports inside functions."""
    text = str(folder)
    sys.path.insert(0, text)
    try:
        yield
    finally:
        sys.path.remove(text)
        if text not in sys.path:
            sys.path.append(text)


@contextlib.contextmanager
def explained(where: str, *, while_: str = "") -> Iterator[None]:
    """Turns an exception of a user's own file into a UsageError of one line with the file, the line and the exception.

    Errors of cnnlab keep their kind and their text. An exception that no loaded file took part in is passed on.

    Args:
        where: what was given; it begins the error.
        while_: what the file was doing, such as importing; empty: it is not said.
    """
    try:
        yield
    except CnnlabError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(pathlib.Path(frame.filename))]
        if isinstance(error, SyntaxError) and error.filename:  # of a module beside the file
            place, said = f"{error.filename}:{error.lineno}", error.msg
        elif frames:
            place, said = f"{frames[-1].filename}:{frames[-1].lineno}", " ".join(str(error).split())
        else:
            raise
        doing = f" (while {while_})" if while_ else ""
        raise UsageError(f"{where}: {place}: {type(error).__name__}: {said}{doing}") from error


def is_own_object(thing: Any) -> bool:
    """Returns whether a function, a class or a partial of one comes from a file that was loaded, or from one beside it."""
    while hasattr(thing, "func") or hasattr(thing, "__wrapped__"):
        thing = thing.func if hasattr(thing, "func") else thing.__wrapped__
    code = getattr(thing, "__code__", None)
    file = pathlib.Path(code.co_filename) if code else _file_of(sys.modules.get(getattr(thing, "__module__", "")))
    return file is not None and is_own(file)


def is_part(text: str) -> bool:
    """Returns whether a text has the form FILE.py:NAME, or would have it with a name."""
    return _PART.fullmatch(text) is not None


def split_part(text: str) -> tuple[pathlib.Path, str, str | None] | None:
    """Returns (file, name, argument) of FILE.py:NAME or FILE.py:NAME:ARGUMENT; None for any other text."""
    found = _PART.fullmatch(text)
    return (pathlib.Path(found["path"]), found["name"], found["argument"]) if found and found["name"] else None


def items(text: str, folder: pathlib.Path | None = None) -> list[str]:
    """Returns the items of a list in which a FILE.py:NAME stands, `flip,mine.py:darken`; [text] for any other text.

    A comma in the path of a file divides no list: there the file exists, or what stands before the comma is no name.

    Args:
        text: a value of a knob.
        folder: folder from which a relative path counts; None: the working folder.
    """
    parts = split_items(text, ",") if "," in text else []
    whole = _PART.fullmatch(text)
    is_file = whole and ((folder or pathlib.Path()) / pathlib.Path(whole["path"]).expanduser()).is_file()
    are_items = all(_PART.fullmatch(part) or re.fullmatch(r"\w+(:[^/\\]*)?", part) for part in parts)
    return parts if not is_file and are_items and any(map(_PART.fullmatch, parts)) else [text]


def canonical(text: str, folder: pathlib.Path | None = None) -> str:
    """Returns `FILE.py:NAME`, also within a list, with the absolute path of the file; any other text as it is.

    Args:
        text: a value of a knob.
        folder: folder from which a relative path counts; None: the working folder.
    """
    return ",".join(_canonical(item, folder) for item in items(text, folder))


def _canonical(text: str, folder: pathlib.Path | None) -> str:
    found = _PART.fullmatch(text)
    if not found or not found["name"]:
        return text
    path = pathlib.Path(found["path"]).expanduser()
    return f"{real_path(folder / path if folder else path)}{text[found.end('path') :]}"


def short(text: str) -> str:
    """Returns `FILE.py:NAME`, also within a list, without the folders of the file; any other text as it is."""
    return ",".join(_short(item) for item in items(text))


def _short(text: str) -> str:
    found = _PART.fullmatch(text)
    if not found or not found["name"]:
        return text
    return re.split(r"[/\\]", found["path"])[-1] + text[found.end("path") :]


def load_part(text: str, *, where: str) -> tuple[str, Callable[..., Any], str | None]:
    """Returns (FILE.py:NAME with an absolute path, what the file defines under that name, the text after a second colon).

    Raises UsageError where the file or the name is missing, or what it names cannot be called.

    Args:
        text: FILE.py:NAME or FILE.py:NAME:ARGUMENT.
        where: what was given, such as --model=mine.py:Net; it begins the errors.
    """
    found = _PART.fullmatch(text)
    assert found, text
    module = load_module(pathlib.Path(found["path"]), where=where)
    path, name = real_path(pathlib.Path(found["path"])), found["name"]
    defined = [key for key, value in vars(module).items() if _is_offered(module, key, value)]
    listed = f"{path.name} defines {', '.join(defined) or 'nothing that can be called'}"
    if not name:
        raise UsageError(
            f"{where}: which of its functions? {listed}.\nWrite for example {path.name}:{(defined or ['NAME'])[0]}."
        )
    if name not in vars(module):
        raise UsageError(f"{where}: {path.name} has no {name}.{did_you_mean(name, defined)}\n{listed}.")
    if not callable(getattr(module, name)):
        kind = type(getattr(module, name)).__name__
        raise UsageError(f"{where}: {name} is {kind}, which cannot be called.\nExpected a function or a class; {listed}.")
    return canonical(text), getattr(module, name), found["argument"]


def _is_offered(module: ModuleType, key: str, value: Any) -> bool:
    """Returns whether a name of a module is a function, class or partial that the file itself defines."""
    home = getattr(value, "__module__", module.__name__)
    return callable(value) and not key.startswith("_") and (home == module.__name__ or hasattr(value, "keywords"))
