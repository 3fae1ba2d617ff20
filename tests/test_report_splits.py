"""Data without a test split: training, evaluation and report take the split that there is, and say which it is."""

import json
import pathlib

import pytest
from commands import Here, read

OWN = """
import dataclasses

from cnnlab import knobs
from cnnlab.recipes.classification import classification

GIVEN = {"model": "linear", "dataset": "stripes", "dataset.examples": 90, "batch_size": 8, "duration": "6 steps"}


def experiment(*, kept: str = "validation", data_dir: str | None = None):
    \"\"\"A linear classifier of stripes without a test split, and without a validation split for kept=train.\"\"\"
    made = knobs.resolve(classification, GIVEN, {"data_dir": data_dir}).call()
    sizes = {split: size for split, size in made.data.sizes.items() if split in ("train", kept)}
    return dataclasses.replace(made, data=dataclasses.replace(made.data, sizes=sizes))
"""


@pytest.mark.parametrize("split", [pytest.param("validation", marks=pytest.mark.slow), "train"])
def test_a_run_without_a_test_split_is_trained_evaluated_and_reported_on_what_there_is(
    split: str, here: Here, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "mine.py").write_text(OWN)
    words = ["--experiment=mine.py", f"--kept={split}"]
    code, out, err = here(*words, "--workdir=run", "--seeds=2", "--devices=1")
    assert code == 0, err
    assert f"without a test split, the results are those of the {split} split" in caplog.text
    assert f"seed 1: {split} " in out and f": {split} accuracy" in out  # of one seed, and the mean of both
    run = tmp_path / "run" / "seed_0"
    assert {name.partition("/")[0] for name in read(run / "result.json")["metrics"]} == {split}
    assert not (run / "test_rows.npz").exists() and (run / "figures" / "confusion_matrix.png").exists()
    code, out, err = here("evaluate", f"--workdir={run}")
    assert code == 0 and f"{split}/accuracy" in out, err
    measured = json.loads((run / "evaluation.json").read_text())["metrics"]
    assert measured == pytest.approx(read(run / "result.json")["metrics"], rel=1e-6)
    code, out, err = here("report", "run", "--workdir=compared")
    assert code == 0 and f"{split}/accuracy" in out + (tmp_path / "compared" / "report.html").read_text(), err
    # A run that is finished is read and not trained again.
    code, out, _ = here(*words, "--workdir=run", "--seeds=2", "--devices=1")
    assert code == 0 and out.count("finished before") == 2
