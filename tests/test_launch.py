"""The command line: help, lists, and one clear line for every mistake."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, Here, command, launch


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "--format=json"]])
def test_help_and_list_import_no_jax(words: list[str]):
    command = [sys.executable, "-X", "importtime", str(ROOT / "launch.py"), *words]
    asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rsplit("|", 1)[-1].strip() for line in asked.stderr.splitlines()}
    assert "absl.flags" in imported and not imported & {"jax", "numpy", "flax", "tensorflow", "experiments"}
    assert "lenet5_digits" in asked.stdout


def test_list_as_json_names_experiments_models_and_data_sets(tmp_path: pathlib.Path):
    code, out, _ = launch("list", "--format=json", cwd=tmp_path)
    found = json.loads(out)
    titles = ["experiments", "measurements of claims (measure)", "models"]
    assert code == 0 and list(found)[:3] == titles and list(found)[-1] == "data sets"
    files = {path.stem for path in (ROOT / "experiments").rglob("*.py")}
    assert {*found[titles[0]], *found[titles[1]]} == {name for name in files if name not in ("__init__", "catalogue")}
    assert "conv" in found["autoencoders"] and "dcgan" in found["adversarial pairs"]
    # the first line of each one's own docstring, though several files define `mlp`
    assert "815,824" in found["variational autoencoders"]["mlp"] and "Goodfellow" in found["adversarial pairs"]["mlp"]
    assert {"lenet5", "lenet5_1998", "mlp", "linear", "convnet"} <= set(found["models"])
    assert {"digits", "tfds", "folder", "npz"} <= set(found["data sets"])
    assert all(text for entries in found.values() for text in entries.values())


def test_help_of_an_experiment_shows_its_text_and_knobs(tmp_path: pathlib.Path):
    code, out, _ = command("--experiment=lenet5_digits", "--help", cwd=tmp_path)
    assert code == 0 and "LeCun" in out and "--optimizer.lr=" in out and "learning rate at the peak" in out


WRONG = {
    "knob": (["--experiment=lenet5_digits", "--widht=3"], 2, "no knob --widht here."),
    "run flag": (["--expriment=lenet5_digits"], 2, "no flag --expriment. Did you mean --experiment?"),
    "experiment": (["--experiment=lenet5_digit"], 2, "no experiment 'lenet5_digit'. Did you mean lenet5_digits?"),
    "file": (["--experiment=mine.py"], 2, "--experiment=mine.py: there is no such file."),
    "verb": (["trian", "--experiment=lenet5_digits"], 2, "no verb 'trian'. Did you mean train?"),
    "nothing": ([], 2, "which experiment?"),
    "model": (["--experiment=lenet5_digits", "--model=lenet"], 2, "--model=lenet: unknown. Did you mean lenet5?"),
    "data set": (["--experiment=lenet5_digits", "--dataset=digit"], 2, "--data.dataset=digit: unknown. Did you mean digits?"),
    "type": (["--experiment=mlp_digits", "--batch_size=many"], 2, "--data.batch_size=many: expected int"),
    "learning rate": (["--experiment=mlp_digits", "--lr=-0.1"], 2, "--optimizer.lr=-0.1: expected float finite and > 0"),
    "batch": (["--experiment=mlp_digits", "--batch_size=5000"], 2, "0 steps per epoch: 1294 examples < batch 5000"),
    "two durations": (["--experiment=mlp_digits", "--steps=3", "--epochs=1"], 2, "--steps and --epochs both set"),
    "no duration": (["--experiment=knn_digits", "--steps=3"], 2, "--steps: this experiment has no duration"),
    "seed": (["--experiment=mlp_digits", "--seed=x"], 2, "--seed=x: expected int"),
    "devices": (["--experiment=mlp_digits", "--devices=64"], 2, "--devices=64: this process sees"),
    "split of the batch": (["--experiment=mlp_digits", "--batch_size=130"], 2, "130 cannot be split evenly over 8 devices"),
    "folder": (["--experiment=convnet_digits", "--dataset=folder:nowhere"], 3, "nowhere"),
    "npz": (["--experiment=convnet_digits", "--dataset=npz:nowhere.npz"], 3, "nowhere.npz"),
    "evaluate nothing": (["evaluate", "--workdir=nowhere"], 2, "nowhere is not a run"),
    "inspect nothing": (["inspect"], 2, "inspect what?"),
    "variation": (["--experiment=lenet5_digits", "--augment=random_erasing", "--area=0.5,0.1"], 2, "--area=0.5,0.1"),
    "crop": (
        ["--experiment=lenet5_digits", "--augment=random_crop", "--size=40"],
        2,
        "size=40: the images have 32 x 32 pixels",
    ),
    "loss": (["--experiment=mlp_digits", "--loss=focal", "--augment=mixup"], 2, "--loss=focal: it takes one class"),
    "too small": (["--experiment=convnet_digits", "--widths=8,8,8,8,8,8"], 2, "is too small"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_clear_message_with_its_code_and_nothing_is_written(case: str, tmp_path: pathlib.Path, here: Here):
    words, code, message = WRONG[case]
    got, out, err = here(*words)
    first = next(line for line in err.splitlines() if line.startswith("error: "))
    assert got == code and message in first, err
    assert out == "" and "Traceback" not in err and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--experiment=mlp_digits", "--batch_size=130", "--fake_devices=4"], "130 cannot be split evenly over 4 devices"),
        (["--experiment=lenet5_digit"], "no experiment 'lenet5_digit'. Did you mean lenet5_digits?"),
    ],
)
def test_a_mistake_in_a_process_of_its_own_is_exit_2(words: list[str], message: str, tmp_path: pathlib.Path):
    code, out, err = launch(*words, cwd=tmp_path)
    first = next(line for line in err.splitlines() if line.startswith("error: "))
    assert code == 2 and message in first, err
    assert out == "" and "Traceback" not in err and not any(tmp_path.iterdir())


def test_a_file_of_ones_own_is_an_experiment(tmp_path: pathlib.Path):
    text = '"""Mine."""\nfrom functools import partial\nfrom cnnlab.recipes.classification import classification\n'
    (tmp_path / "mine.py").write_text(text + 'experiment = partial(classification, model="linear")\n', encoding="utf-8")
    code, out, err = command("--experiment=mine.py", "--steps=3", "--devices=1", cwd=tmp_path)
    assert code == 0 and "test accuracy" in out, err
    (run,) = (tmp_path / "runs").glob("mine-*/seed_0")
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["source"].startswith('"""Mine."""')


def test_a_data_set_that_no_experiment_names_needs_no_code(tmp_path: pathlib.Path):
    random = np.random.default_rng(0)
    arrays = {f"{split}_images": random.integers(0, 255, (60, 12, 12, 3), dtype=np.uint8) for split in ("train", "test")}
    labels = {f"{split}_labels": np.arange(60) % 3 for split in ("train", "test")}
    np.savez(tmp_path / "mine.npz", **arrays, **labels)
    words = [
        "--experiment=convnet_cifar10",
        "--dataset=npz:mine.npz",
        "--batch_size=8",
        "--steps=2",
        "--widths=4,4",
        "--devices=1",
    ]
    code, out, err = command(*words, cwd=tmp_path)
    assert code == 0 and "test accuracy" in out, err


def test_inspect_prints_totals_for_an_experiment_and_for_a_model(tmp_path: pathlib.Path):
    code, out, err = command("inspect", "--model=lenet5_1998", "--input=32,32,1", "--format=json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["total"] == {"params": 60_000, "macs": 325_680}
    code, out, err = command("inspect", "--experiment=lenet5_digits", cwd=tmp_path)
    assert code == 0 and "61,706" in out, err
