"""The digest of code changes with what the code does, in every file that is imported, and with nothing else."""

import ast
import json
import pathlib

import pytest

from cnnlab import sources

TWO = {
    "mine.py": """import helper
from pack.inner import DEEP

def value():
    import lazy
    return helper.NAME, DEEP, lazy.NAME
""",
    "helper.py": "NAME = 'helper of {}'\n",
    "lazy.py": "from . import helper\nNAME = 'lazy ' + helper.NAME\n",
    "pack/__init__.py": "",
    "pack/inner.py": "from helper import *\nfrom .deeper import POWER\nDEEP = NAME * POWER\n",
    "pack/deeper.py": "POWER = 1\n",
}


def write(folder: pathlib.Path, contents: dict[str, str]) -> pathlib.Path:
    """Writes an own file and its neighbours; returns the path of mine.py."""
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("{}", folder.name), encoding="utf-8")
    return folder / "mine.py"


@pytest.mark.parametrize("changed", sorted(TWO))
def test_each_file_that_is_imported_counts_and_its_comments_do_not(changed: str, tmp_path: pathlib.Path):
    path = write(tmp_path, TWO)
    before = sources.code_digests(path)
    assert set(TWO) <= set(before) and "cnnlab/engine/program.py" in before
    above = ("cli", "ablation", "overview", "predict", "python")  # on top of runs, whose numbers they do not change
    assert not [name for name in before if name.startswith(tuple(f"cnnlab/{room}/" for room in above))]
    cosmetic = f'"""What it is for."""\n# A remark.\n{(tmp_path / changed).read_text(encoding="utf-8")}\n\n"A note"\n'
    (tmp_path / changed).write_text(cosmetic, encoding="utf-8")
    assert sources.code_digests(path) == before
    (tmp_path / changed).write_text(f"{cosmetic}\nMORE = 1\n", encoding="utf-8")
    assert sources.differing_files(before, sources.code_digests(path)) == [changed]


def test_a_module_of_another_folder_on_pythons_path_counts(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "borrowed_layers.py").write_text("WIDTH = 3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "library"))
    path = write(tmp_path / "own", {"mine.py": "import borrowed_layers, numpy\n"})
    assert {"mine.py", "borrowed_layers.py"} == {name for name in sources.code_digests(path) if not name.startswith("cnnlab/")}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f():\n    '''Text.'''\n    return 1", "def f(): return (1)"),
        ("class A:\n    'Doc.'\n    x: int = 1\n    'Doc of x.'", "class A:\n  x: int = 1"),
        ("def f():\n    'Only a docstring.'", "def f():\n    pass"),
        ("x = f'{a}b' 'c'", "x = f'{a}bc'"),
        ("if x:\n    y = 1", "if x: # why\n    y = (1)"),
    ],
)
def test_texts_that_do_the_same_have_one_digest(one: str, other: str):
    assert sources.code_digest(ast.parse(one)) == sources.code_digest(ast.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("x = 1", "x = 1.0"), ("x = '1'", "x = 1"), ("x = None", "x = ''"), ("f(a, b)", "f(b, a)"), ("a.b", "a.c"),
     ("def f(*, x=1): return x", "def f(*, x=2): return x"), ("if x: y()", "if not x: y()"), ("x = a - b", "x = a + b"),
     ("x = -1", "x = 1"), ("x[0]", "x[1:]"), ("x = f'{a:.2f}'", "x = f'{a:.3f}'"), ("@g\ndef f(): return", "def f(): return"),
     ("if x: y()\nelse: z()", "if x: y(); z()"), ("x = True", "x = 1")],
)  # fmt: skip
def test_texts_that_do_something_else_have_another_digest(one: str, other: str):
    assert sources.code_digest(ast.parse(one)) != sources.code_digest(ast.parse(other))


def test_the_digest_is_the_same_in_every_version_of_python():
    text = "async def f(a, /, b: int = 2, *c, d=None, **e) -> 'x':\n    return [y async for y in a if b]\n"
    assert sources.code_digest(ast.parse(text)) == "ef47efaa302dd7e3"  # as on Python 3.11


def test_an_empty_and_a_damaged_cache_give_the_digests_of_a_full_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write(tmp_path / "own", TWO)
    cold = sources.code_digests(path)
    known = tmp_path / "cache" / "cnnlab" / "sources-1.json"
    assert sources.code_digests(path) == cold and known.is_file()
    for content in ("[]", "{", json.dumps({key: [1] for key in json.loads(known.read_text(encoding="utf-8"))})):
        known.write_text(content, encoding="utf-8")
        assert sources.code_digests(path) == cold
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file: nothing can be kept below it
    assert sources.code_digests(path) == cold


def test_what_is_imported_is_found_anywhere_in_a_file():
    text = "import a.b, c as d\ndef f():\n  from ..e import g, h as i\n  class J:\n    from . import k\n    from l import *\n"
    names = sources._parsed(text.encode(), "here.py")[1]
    assert names == sorted(["a.b", "c", "..e", "..e.g", "..e.h", ".", ".k", "l"])
