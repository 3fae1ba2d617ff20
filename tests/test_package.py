"""The package: what pip installs works in a folder outside the project, with the experiments."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from cnnlab import __version__, home

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the content of the wheel and its script."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(ROOT)]
    made = subprocess.run(build, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"the tools that build a wheel are not to be had here: {made.stderr[-300:]}")
    [wheel] = folder.glob("*.whl")
    target = folder / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={target}", str(wheel)],
        capture_output=True,
        check=True,
    )
    return target


def cnnlab(installed: pathlib.Path, *words: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Runs the installed command in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    script = installed / "bin" / "cnnlab"
    return subprocess.run(
        [sys.executable, str(script), *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_wheel_holds_code_experiments_and_what_pages_need(installed: pathlib.Path):
    [wheel] = installed.parent.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cnnlab").rglob("*") if path.suffix in (".py", ".css", ".js")}
    assert ours <= names
    experiments = {path.relative_to(ROOT).as_posix() for path in (ROOT / "experiments").rglob("*.py")}
    assert {f"cnnlab/shipped/{name}" for name in experiments} <= names
    assert not {name for name in names if name.partition("/")[0] not in ("cnnlab", f"cnnlab-{__version__}.dist-info")}


@pytest.mark.slow
def test_the_installed_command_trains_studies_and_names_itself(installed: pathlib.Path, tmp_path: pathlib.Path):
    (tmp_path / "experiments").mkdir()  # a user's own folder of this name is in nobody's way
    done = cnnlab(installed, "--experiment=linear_digits", "--steps=3", "--workdir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["attempts"][0]["command"] == "cnnlab --experiment=linear_digits --steps=3 --workdir=run"
    # The same code has the same names and digests as in a checkout, and no commit of the repository around it.
    assert {"experiments/linear_digits.py", "cnnlab/engine/program.py"} <= set(run["sources"]) and run["commit"] is None
    words = (
        "ablate",
        "--experiment=linear_digits",
        "--steps=2",
        "--vary=lr:0.1,0.2",
        "--seeds=1",
        "--jobs=2",
        "--workdir=study",
    )
    done = cnnlab(installed, *words, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "study" / "report.html").is_file(), done.stderr
    help_of = cnnlab(installed, "--experiment=rcnn_scenes", "--help", cwd=tmp_path)  # imports another experiment
    assert help_of.returncode == 0 and "python launch.py" not in help_of.stdout.partition("Knobs of")[2]
    wrong = cnnlab(installed, "--experiment=linear_digit", cwd=tmp_path)
    assert wrong.returncode == 2 and "`cnnlab list` shows them" in wrong.stderr


def test_a_checkout_names_launch_py_and_runs_it():
    assert home.COMMAND == "python launch.py" and home.EXPERIMENTS == ROOT / "experiments"
    assert home.process(["list"])[1:] == [str(ROOT / "launch.py"), "list"]
    made = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert made.stdout.startswith(f"cnnlab {__version__}")
