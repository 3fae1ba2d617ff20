"""Executes notebooks without Jupyter: `python tests/notebooks.py` writes the outputs of all of docs/notebooks into them.

Names of notebooks may follow, and `--to=FOLDER`, which leaves the stored ones as they are. What is needed of a kernel: the last
expression of a cell is shown, `!` starts a command in which `{name}` is replaced, and `%%writefile` writes a file. A notebook
runs in an empty folder, whose path its outputs do not show. The metadata of one may name a variable of the environment in
`outputs_need`: where it is not set, other outputs come.
"""

import ast
import base64
import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
LARGEST = 100_000
"""Bytes of a stored picture; a larger one is stored as JPEG."""
BY_NUMBERS = "texts-follow-numbers"
"""Tag of a cell whose texts depend on the numbers of a training, such as a verdict: of its outputs the forms are compared."""
NUMBER = re.compile(r"-?\b[0-9a-f]{8,}\b|[−+-]?\d[\d,.]*(?:e[+-]?\d+)?")
"""A number, or a digest."""


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a notebook."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the cells that are executed."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(notebook: dict[str, Any], folder: pathlib.Path) -> None:
    """Executes the code cells in order, in one namespace and in a folder; fills in their outputs and counts."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for count, cell in enumerate(code_cells(notebook), start=1):
            cell["execution_count"], cell["outputs"] = count, _outputs("".join(cell["source"]), names, count)


def compared(notebook: dict[str, Any], *, kinds_only: bool) -> list[list[Any]]:
    """Returns what has to be the same whenever the cells are executed: the outputs of each, without numbers and pictures.

    Numbers of trainings differ between machines by rounding, and messages on stderr by how long things take.

    Args:
        notebook: the notebook.
        kinds_only: whether only the forms count in which values are shown, and no texts.
    """
    found = []
    for cell in code_cells(notebook):
        by_numbers = BY_NUMBERS in cell.get("metadata", {}).get("tags", ())
        printed = [output for output in cell["outputs"] if output.get("name") != "stderr"]
        found.append([_compared(output, kinds_only or by_numbers) for output in printed])
    return found


def _compared(output: dict[str, Any], kinds_only: bool) -> Any:
    forms = output.get("data", {"text/plain": output.get("text")})
    kinds = sorted({form.replace("image/jpeg", "image/png") for form in forms})
    text = NUMBER.sub("0", "".join(forms["text/plain"]))
    # How numbers are padded and set apart follows their digits, too.
    return kinds if kinds_only else (kinds, " ".join(text.replace(",", " ").split()))


def _outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Executes one cell; returns what it printed, and the value of its last expression."""
    out, err, value = io.StringIO(), io.StringIO(), None
    tree = ast.parse(_as_python(source))
    names["__command__"] = lambda command: _run(command.format(**names))
    names["__write__"] = _write
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        exec(compile(tree, "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    printed = [("stderr", err.getvalue()), ("stdout", out.getvalue())]
    found = [{"output_type": "stream", "name": name, "text": _lines(text)} for name, text in printed if text]
    if value is not None:
        found.append({"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": _shown(value)})
    return found


def _as_python(source: str) -> str:
    """Returns a cell as Python: its magic and its commands as calls."""
    magic, _, content = source.partition("\n")
    if magic.startswith("%%writefile "):
        name = magic.split()[1]
        return f"__write__({name!r}, {content!r})"
    lines = source.splitlines()
    return "\n".join(f"__command__({line[1:]!r})" if line.startswith("!") else line for line in lines)


def _write(name: str, content: str) -> None:
    """Writes a file, as the magic `%%writefile` does."""
    pathlib.Path(name).write_text(content + "\n", encoding="utf-8")
    print(f"Writing {name}")


def _run(command: str) -> None:
    """Runs a command of the shell, in which `cnnlab` is the one that an installed package has; prints what it printed."""
    installed = f"cnnlab() {{ '{sys.executable}' '{ROOT / 'launch.py'}' \"$@\"; }}"
    wide = {**os.environ, "COLUMNS": "120"}  # tables are as wide whatever terminal this runs in
    done = subprocess.run(f"{installed}\n{command}", shell=True, text=True, capture_output=True, check=False, env=wide)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)


def _shown(value: Any) -> dict[str, Any]:
    """Returns the forms of a value: text, and HTML or a picture where it has them."""
    forms: dict[str, Any] = {"text/plain": _lines(repr(value).split(" at 0x")[0])}
    if hasattr(value, "_repr_html_"):
        forms["text/html"] = _lines(value._repr_html_())
    if hasattr(value, "_repr_png_"):
        png = value._repr_png_()
        kind, content = ("image/png", png) if len(png) <= LARGEST else ("image/jpeg", value._repr_jpeg_())
        forms[kind] = base64.b64encode(content).decode()
    return forms


def _lines(text: str) -> list[str]:
    """Returns the lines of a text, in which paths below the working folder are relative."""
    return text.replace(f"{pathlib.Path.cwd()}/", "").splitlines(keepends=True)


def main(words: list[str]) -> None:
    """Executes notebooks and stores them with their outputs; says what each took of the processor."""
    sys.path.insert(0, str(ROOT))
    targets = [pathlib.Path(word.removeprefix("--to=")) for word in words if word.startswith("--to=")]
    names, target = [word for word in words if not word.startswith("--to=")], next(iter(targets), FOLDER)
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        content, begun = read(path), _cpu_seconds()
        needs = content["metadata"].get("cnnlab", {}).get("outputs_need")
        if needs and needs not in os.environ and target == FOLDER:
            sys.exit(f"{path.name}: its outputs need ${needs}. Set it, or name the other notebooks.")
        with tempfile.TemporaryDirectory() as folder:
            execute(content, pathlib.Path(folder).resolve())
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (target / path.name).write_text(text, encoding="utf-8")
        print(f"{path.name}: {_cpu_seconds() - begun:.0f} CPU seconds, {len(text):,} characters")


def _cpu_seconds() -> float:
    """Returns the CPU time of this process and of the commands that it ran."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main(sys.argv[1:])
