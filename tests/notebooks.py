"""Executes a notebook without Jupyter: `python tests/notebooks.py NOTEBOOK` writes its outputs into it.

What is needed of a kernel: the last expression of a cell is shown, and `!` starts a command in which `{name}` is replaced.
"""

import ast
import base64
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
from typing import Any


def execute(notebook: dict[str, Any]) -> None:
    """Executes the code cells in order, in one namespace and in this folder; fills in their outputs and counts."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(cells, start=1):
        cell["execution_count"], cell["outputs"] = count, _outputs("".join(cell["source"]), names, count)


def _outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Executes one cell; returns what it printed, and the value of its last expression."""
    out, err, value = io.StringIO(), io.StringIO(), None
    lines = [
        f"__command__({line[1:]!r})" if line.startswith("!") else line  # names in braces are those of the cell
        for line in source.splitlines()
    ]
    names["__command__"] = lambda command: print(_run(command.format(**names)), end="")
    tree = ast.parse("\n".join(lines))
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


def _run(command: str) -> str:
    """Runs a command of the shell; returns what it printed."""
    done = subprocess.run(command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def _shown(value: Any) -> dict[str, Any]:
    """The forms of a value: text, and HTML or a picture where it has them."""
    forms: dict[str, Any] = {"text/plain": _lines(repr(value).split(" at 0x")[0])}
    if hasattr(value, "_repr_html_"):
        forms["text/html"] = _lines(value._repr_html_())
    if hasattr(value, "_repr_png_"):
        forms["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return forms


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1]).resolve()
    content = json.loads(path.read_text(encoding="utf-8"))
    os.chdir(path.parent)
    execute(content)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
