"""Who may import whom: only downward (the house's map), how large a room may grow, and what no file may do."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "cnnlab").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))

LEVELS = [
    {"errors", "home", "text", "digests", "progress", "remarks"},
    {"files", "own", "terminal"},
    {"json_cache", "compressed"},
    {"sources"},
    {"values", "metric", "inputs"},
    {"fitting"},
    {"choices"},
    {"ops", "figures", "knobs"},
    {"core"},
    {"data"},
    {"models", "tasks"},
    {"engine"},
    {"runs"},
    {"inspect", "interop", "predict"},
    {"recipes"},
    {"ablation", "check"},
    {"overview", "explain"},
    {"compress"},
    {"cli"},
    {"python"},
    {"__main__"},
]
"""From the ground up. A room imports those below it."""

ABLATION_LEVELS = [{"plan"}, {"analyse", "run"}, {"report"}, {"commands"}]
"""The same inside cnnlab/ablation."""

BLIND = {"engine", "knobs", "runs"}
"""The loop, its neighbours and the run's folder never know a model, a task or a data set."""

LONGEST_FUNCTION = 60
LONGEST_FILE = 400


def imported(path: pathlib.Path) -> set[str]:
    """Dotted names of everything in cnnlab that a file imports, anywhere in it: cnnlab.room.module or cnnlab.room.name.

    A relative import, whose names are no rooms, is refused.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not getattr(node, "level", 0), f"{path}:{node.lineno} imports by a relative name; give the whole one"
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("cnnlab.")}


def level(name: str, levels: list[set[str]]) -> int:
    """The height of a room."""
    heights = [height for height, rooms in enumerate(levels) if name in rooms]
    assert heights, f"the room {name} has no place in the levels of tests/test_layers.py"
    return heights[0]


def upward(paths: list[pathlib.Path], depth: int, levels: list[set[str]]) -> list[str]:
    """`FILE imports ROOM` for every import that does not go downward; rooms are the parts of names at `depth`."""
    wrong = []
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[depth] == "__init__":
            continue
        inside = [name.split(".") for name in imported(path)]
        others = {name[depth] for name in inside if name[:depth] == list(parts[:depth]) and len(name) > depth} - {parts[depth]}
        height = level(parts[depth], levels)
        wrong += [f"{'/'.join(parts)} imports {other}" for other in sorted(others) if level(other, levels) >= height]
    return wrong


def test_imports_go_downward_only():
    assert upward(PACKAGE, 1, LEVELS) == []


def test_imports_inside_ablation_go_downward_only():
    assert upward([path for path in PACKAGE if "ablation" in path.parts], 2, ABLATION_LEVELS) == []


def test_the_loop_knows_no_model_task_or_data_set():
    wrong = []
    for path in PACKAGE:
        here = path.relative_to(ROOT / "cnnlab").with_suffix("").parts[0]
        rooms = {name.split(".")[1] for name in imported(path)}
        if here in BLIND and rooms & {"models", "tasks", "data", "recipes"}:
            wrong.append(str(path))
    assert wrong == []


def test_the_package_never_imports_the_experiments_or_the_launcher():
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] in ("experiments", "launch", "tests") for name in names), path


def test_only_the_command_line_reads_flags():
    for path in [*PACKAGE, *EXPERIMENTS, ROOT / "launch.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                reads_flags = any(str(name).split(".")[0] == "absl" for name in names)
                assert not reads_flags or "cli" in path.parts or path.name == "launch.py", path


WRITES = {"write_text", "write_bytes", "savefig", "savez", "savez_compressed", "tofile", "touch", "symlink_to"}
"""Methods and functions that write a file whose path they are given."""


def written(node: ast.Call) -> bool:
    """Whether a call may write a file by itself, rather than to a `file` that cnnlab/files.py opened."""
    to_file = bool(node.args) and isinstance(node.args[0], ast.Name) and node.args[0].id == "file"
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if ast.unparse(node.func) == "os.open":
        flags = {one.attr for one in ast.walk(node.args[1]) if isinstance(one, ast.Attribute)}
        return not flags <= {"O_RDONLY", "O_BINARY"}
    if name in ("open", "fdopen"):
        mode = next((word.value for word in node.keywords if word.arg == "mode"), node.args[1] if len(node.args) > 1 else None)
        return mode is not None and not (isinstance(mode, ast.Constant) and not set(str(mode.value)) & set("wax+"))
    receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name in WRITES:
        ours = receiver is None or (isinstance(receiver, ast.Name) and receiver.id == "files")  # functions of cnnlab/files.py
        return not to_file and not ours
    if name == "save" and isinstance(receiver, ast.Call | ast.Subscript):  # Image.fromarray(…).save, images[0].save
        return not to_file
    library = isinstance(receiver, ast.Name) and receiver.id in ("np", "json", "shutil")
    return library and name in ("save", "dump", "copy", "copyfile", "copytree") and not to_file


def test_only_one_module_writes_files():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in PACKAGE
        if path not in (ROOT / "cnnlab" / "files.py", ROOT / "cnnlab" / "__main__.py")  # the latter opens os.devnull
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and written(node)
    ]
    assert found == []


def test_no_function_is_longer_than_its_bar():
    longer = []
    for path in [*PACKAGE, *EXPERIMENTS, ROOT / "launch.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                longer += [f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"] if lines > LONGEST_FUNCTION else []
    assert longer == []


def test_no_file_is_longer_than_its_bar():
    lines = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in [*PACKAGE, *EXPERIMENTS]}
    assert {str(path): count for path, count in lines.items() if count > LONGEST_FILE} == {}
