"""A machine that has jax and little else: experiments on arrays need neither grain nor TFDS, TensorBoard, Slurm or Ray."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MISSING = ("grain", "tensorflow_datasets", "array_record", "tensorflow", "tensorboardX", "ray", "torch")

HIDING = f"""
import sys

class Filtered:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {MISSING!r} else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Filtered(finder) for finder in sys.meta_path]
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder whose sitecustomize.py hides the libraries."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(HIDING)
    return folder


def run(bare: pathlib.Path, *words: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PJRT_NPROC")}
    environment |= {"PYTHONPATH": f"{bare}{os.pathsep}{ROOT}", "JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_libraries_are_hidden(bare: pathlib.Path, tmp_path: pathlib.Path):
    assert "No module named 'grain'" in run(bare, "-c", "import grain", cwd=tmp_path).stderr


def test_an_experiment_on_arrays_trains(bare: pathlib.Path, tmp_path: pathlib.Path):
    done = run(bare, str(ROOT / "launch.py"), "--experiment=linear_digits", "--steps=3", "--workdir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tensorboardX is not installed" in done.stderr and (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_a_study_runs_and_is_reported(bare: pathlib.Path, tmp_path: pathlib.Path):
    words = ["ablate", "--experiment=linear_digits", "--steps=2", "--vary=lr:0.1,0.2", "--seeds=1"]
    done = run(bare, str(ROOT / "launch.py"), *words, "--workdir=study", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study" / "report.html").exists()
