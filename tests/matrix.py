"""Tries the package with each Python at hand, and with the oldest and the newest versions of what it needs.

    python -m tests.matrix [--python=3.11,3.12,3.13] [--versions=oldest,newest] [--folder=DIR] [--tests=FILE,…]

A cell of the matrix is an environment of its own, into which the requirements and the wheel are installed; then a few quick
tests run in this checkout, and the installed command trains LeNet-5 for 20 steps in another folder. `oldest` are the lowest
versions that requirements.txt allows and that have a wheel for this Python. The result is a table for CONTRIBUTING.md, and exit
code 1 where a cell failed. Needs the standard library and pip; a Python that is not there is left out.
"""

import argparse
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
SHOWN = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
TESTS = (
    "tests/test_models_layers.py",
    "tests/test_ops_losses.py",
    "tests/test_ops_metrics.py",
    "tests/test_ops_optimizers.py",
    "tests/test_ops_schedules.py",
    "tests/test_knobs.py",
    "tests/test_train.py",
    "tests/test_engine_gradients.py",
    "tests/test_checkpoint.py",
    "tests/test_figures.py",
    "tests/test_interop_files.py",
    "tests/test_package.py",
    "tests/test_tasks_contract.py::test_resumed_equals_uninterrupted_bit_for_bit[classify]",
)
"""Those of the fast stage that touch most of what other packages give: jax, flax, optax, orbax, NumPy, matplotlib, Pillow."""
TRAINED = ("train", "--experiment=lenet5_digits", "--steps=20", "--workdir=run")


@dataclasses.dataclass
class Cell:
    """One Python with one choice of versions."""

    python: str
    versions: str
    found: str = ""
    """What was installed of SHOWN."""
    tests: str = ""
    """The last line of pytest."""
    trained: str = ""
    seconds: float = 0.0
    is_good: bool = False


def interpreter(version: str) -> pathlib.Path | None:
    """Returns a Python of this version, on the path or among those of pyenv; None where there is none that works."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", "import venv, ssl"], capture_output=True, check=False).returncode == 0:
            return pathlib.Path(candidate)
    return None


def run(*words: str | pathlib.Path, cwd: pathlib.Path = ROOT) -> tuple[int, str]:
    """Runs a command; returns its exit code and all that it said."""
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**environment, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def tools(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the installer, which resolves to the lowest versions as pip cannot, and the wheel of this checkout."""
    place = folder / "tools"
    for words in (
        (sys.executable, "-m", "venv", place),
        (place / "bin/python", "-m", "pip", "install", "-q", "uv"),
        (place / "bin/python", "-m", "pip", "wheel", "-q", "--no-deps", f"--wheel-dir={folder / 'wheel'}", ROOT),
    ):
        code, said = run(*words)
        if code:
            raise SystemExit(said)
    [wheel] = (folder / "wheel").glob("*.whl")
    return place / "bin/uv", wheel


def tried(cell: Cell, folder: pathlib.Path, installer: pathlib.Path, wheel: pathlib.Path, tests: Sequence[str]) -> Cell:
    """Fills in a cell; what failed is printed."""
    began = time.monotonic()
    place = folder / f"{cell.python}-{cell.versions}"
    python = place / "bin/python"
    install = (installer, "pip", "install", "-q", f"--python={python}", "--only-binary=:all:", "--no-binary=promise")
    steps = [
        (installer, "venv", "-q", "--clear", f"--python={interpreter(cell.python)}", place),
        (*install, f"--resolution={RESOLUTIONS[cell.versions]}", "-r", ROOT / "requirements.txt"),
        (*install, wheel, "pytest>=8,<10", "pytest-xdist>=3.6,<4", "hatchling>=1.26", "hatch-requirements-txt>=0.4"),
    ]
    for words in steps:
        code, said = run(*words)
        if code:
            print(said)
            cell.tests = "not installed"
            return cell
    _, listed = run(installer, "pip", "list", f"--python={python}", "--format=freeze")
    versions = dict(line.split("==") for line in listed.split() if "==" in line)
    cell.found = ", ".join(f"{name.removesuffix('-checkpoint')} {versions.get(name, '?')}" for name in SHOWN)
    words = ("-m", "pytest", "-q", "-n", "2", "--dist=load", "-p", "no:cacheprovider", "-m", "not slow", *tests)
    code, said = run(python, *words)
    lines = said.strip().splitlines()
    cell.tests = lines[-1].strip("= ").partition(" in ")[0]
    outside = place / "outside"
    outside.mkdir()
    failed, told = run(place / "bin/cnnlab", *TRAINED, cwd=outside)
    cell.trained = "yes" if not failed else f"exit {failed}"
    for is_bad, text in ((code, said), (failed, told)):
        if is_bad:
            print(text)
    cell.seconds, cell.is_good = time.monotonic() - began, not (code or failed)
    return cell


def table(cells: Sequence[Cell]) -> str:
    """Returns the table of all cells as Markdown."""
    lines = ["| Python | versions | installed | tests | trains | seconds |", "|---|---|---|---|---|---|"]
    for cell in cells:
        columns = (cell.python, cell.versions, cell.found, cell.tests, cell.trained, f"{cell.seconds:.0f}")
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def main() -> int:
    """Tries all cells, one after another, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=",".join(PYTHONS), help="versions of Python, with commas")
    parser.add_argument("--versions", default=",".join(RESOLUTIONS), help="oldest, newest or both, with a comma")
    parser.add_argument(
        "--folder", type=pathlib.Path, help="where the environments are made and stay; default: a temporary one"
    )
    parser.add_argument("--tests", default=",".join(TESTS), help="files of tests, with commas")
    given = parser.parse_args()
    cells = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or pathlib.Path(temporary)).resolve()
        installer, wheel = tools(folder)
        for python in given.python.split(","):
            if interpreter(python) is None:
                print(f"Python {python} is not here: left out")
                continue
            for versions in given.versions.split(","):
                cells.append(tried(Cell(python, versions), folder, installer, wheel, given.tests.split(",")))
                print(table(cells[-1:]).splitlines()[-1], flush=True)
    print("\n" + table(cells))
    return int(not all(cell.is_good for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
