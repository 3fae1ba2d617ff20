"""Who may import whom: only downward (the house's map), and no surface that the security rules forbid."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "cnnlab").rglob("*.py"))

LEVELS = [
    {"errors"},
    {"values", "catalogue"},
    {"ops", "figures"},
    {"core"},
    {"models", "data"},
    {"tasks"},
    {"program", "parallel", "checkpoint", "write", "knobs"},
    {"train"},
    {"folder"},
    {"journal"},
    {"run"},
    {"inspect", "interop", "sample"},
    {"ablation"},
]
"""From the ground up. A room imports those below it."""

BLIND = {"program", "train", "parallel", "checkpoint", "write", "knobs", "folder", "journal", "run"}
"""The loop and its neighbours never know a model, a task or a data set."""


def room(path: pathlib.Path) -> str:
    """The first part of a module's path below cnnlab."""
    return path.relative_to(ROOT / "cnnlab").with_suffix("").parts[0]


def imported_rooms(path: pathlib.Path) -> set[str]:
    """Rooms of cnnlab that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cnnlab":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cnnlab.")}
    return found


def level(name: str) -> int:
    """The height of a room; a new one has to be placed."""
    return next(height for height, rooms in enumerate(LEVELS) if name in rooms)


@pytest.mark.parametrize("path", [p for p in PACKAGE if p.parent != ROOT / "cnnlab" or p.stem != "__init__"], ids=str)
def test_imports_go_downward_only(path: pathlib.Path):
    here = room(path)
    for other in imported_rooms(path) - {here}:
        assert level(other) < level(here), f"{path} imports {other}, which is not below {here}"
        assert not (here in BLIND and other in {"models", "tasks", "data"}), f"{path} knows {other}"


def test_the_package_never_imports_the_experiments_or_the_launcher():
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] in ("experiments", "launch", "tests") for name in names), path


def test_only_the_launcher_reads_flags_and_nothing_runs_what_it_reads():
    for path in [*PACKAGE, *(ROOT / "experiments").rglob("*.py"), ROOT / "launch.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert path.name == "launch.py" or not any(str(name).split(".")[0] == "absl" for name in names), path
                assert not names & {"pickle", "cloudpickle", "dill", "yaml"}, path
            if isinstance(node, ast.Call):
                assert not (isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}), path
                allowed = [keyword for keyword in node.keywords if keyword.arg == "allow_pickle"]
                assert all(isinstance(k.value, ast.Constant) and k.value.value is False for k in allowed), path


def test_no_file_or_function_outgrew_its_room():
    for path in [*PACKAGE, ROOT / "launch.py"]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 75, f"{path}: {node.name}"
