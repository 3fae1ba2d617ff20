"""cnnlab from Python: a run and a study opened from their folders, predictions, and training."""

import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

import cnnlab
from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.ablation.run.runs import save_study
from cnnlab.data import digits
from cnnlab.errors import DataError, UsageError
from cnnlab.runs import run as runs_run

IMAGES = digits().splits["test"].images


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> cnnlab.Run:
    """A run of a few steps, in the folder arm/seed_0."""
    folder = tmp_path_factory.mktemp("python") / "arm" / "seed_0"
    return cnnlab.train(cnnlab.experiment("linear_digits", steps=5, lr=0.2), workdir=folder, devices=1, quiet=True)


@pytest.fixture
def opened(trained: cnnlab.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> cnnlab.Run:
    """The run opened from another working directory, where its data set cannot be opened."""
    monkeypatch.chdir(tmp_path)

    def absent(_: Any) -> None:
        raise AssertionError("the data set is opened")

    monkeypatch.setattr(runs_run, "call", absent)
    run = cnnlab.load(trained.folder)
    assert isinstance(run, cnnlab.Run)
    return run


def test_what_the_files_of_a_run_say_needs_no_jax(trained: cnnlab.Run):
    lines = [
        "import cnnlab, sys",
        "assert not {'jax', 'numpy'} & set(sys.modules)",
        "run = cnnlab.load(sys.argv[1])",
        "print(run.metrics['test/accuracy'], len(run.history), run.knobs['optimizer.lr'], run.state, run.seed, run.name)",
        "assert 'jax' not in sys.modules",
    ]
    command = [sys.executable, "-c", "\n".join(lines), str(trained.folder)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    accuracy, history, *rest = out.split()
    assert float(accuracy) == trained.metrics["test/accuracy"] and int(history) == len(trained.history) > 0
    assert rest == ["0.2", "DONE", "0", "linear_digits"]


def test_a_run_predicts_as_it_was_evaluated_without_its_data_set(opened: cnnlab.Run):
    predictions = opened.predict(IMAGES)
    np.testing.assert_array_equal(predictions["probabilities"], opened.test_rows["probabilities"])
    assert predictions.classes == [str(number) for number in opened.test_rows["prediction"]]
    assert predictions.class_names == tuple("0123456789") and opened.inputs.image_shape == (8, 8, 1)
    assert predictions.rows[3]["file"] == "[3]" and set(predictions) == {"probabilities", "prediction", "top_classes"}
    assert opened.params["classifier"]["output"]["kernel"].shape == (64, 10) and opened.model_state == {} and opened.step == 5
    assert set(opened.figures()) >= {"curves", "confusion_matrix"}


def test_images_of_every_form_are_the_same_images(opened: cnnlab.Run, tmp_path: pathlib.Path):
    expected = opened.predict(IMAGES[:2])["probabilities"]
    pictures = [Image.fromarray(image[..., 0]) for image in IMAGES[:2]]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    forms = {
        "floats": IMAGES[:2].astype(np.float32) / 255,
        "without channels": IMAGES[:2, ..., 0],
        "list of arrays": list(IMAGES[:2]),
        "pictures": pictures,
        "folder": tmp_path,
        "paths": ["0.png", str(tmp_path / "1.png")],
        "mixed": [pictures[0], "1.png"],
    }
    for name, images in forms.items():
        np.testing.assert_allclose(opened.predict(images)["probabilities"], expected, rtol=1e-5, err_msg=name)
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    pictures[0].rotate(180).save(tmp_path / "turned.png", exif=upside_down)
    with Image.open(tmp_path / "turned.png") as turned:
        np.testing.assert_allclose(opened.predict(turned)["probabilities"], expected[:1], rtol=1e-5)
    one = opened.predict(IMAGES[0])
    np.testing.assert_allclose(one["probabilities"], expected[:1], rtol=1e-5)
    assert opened.predict(pictures[0]).names == ["[0]"] and one.sheet().size[0] > 50


def test_the_inside_of_a_linear_classifier_is_its_kernel(opened: cnnlab.Run):
    inside, images = opened.inside, IMAGES[:3]
    maps = inside.attributions(images, ["saliency", "gradient_x_input"])
    templates = opened.params["classifier"]["output"]["kernel"].T.reshape(10, 8, 8)  # [H · W, K] -> [K, H, W]
    np.testing.assert_allclose(maps["saliency"], np.abs(templates[maps.target]), rtol=1e-5)
    assert [str(number) for number in maps.target] == opened.predict(images).classes
    other = inside.attributions(images, ["saliency"], target="7")
    np.testing.assert_allclose(other["saliency"], np.abs(templates[[7] * 3]), rtol=1e-5)
    ignorant = inside.shuffled(1.0).attributions(images, ["saliency"], target=maps.target)
    assert maps.likeness(maps)["saliency"] == pytest.approx(1) and abs(maps.likeness(ignorant)["saliency"]) < 0.5
    assert list(inside.layers.items()) == [("output", (10,))] and list(inside.activations(images)) == ["output"]
    assert inside.filters().size[0] > 100 and maps.sheet().size[1] > 3 * 100
    with pytest.raises(UsageError, match="grad_cam: the network has no layer with several positions"):
        inside.attributions(images)


def test_weights_of_elsewhere_predict_and_can_be_looked_into(trained: cnnlab.Run, tmp_path: pathlib.Path):
    (tmp_path / "names.txt").write_text("\n".join(f"digit {number}" for number in range(10)), encoding="utf-8")
    network = cnnlab.pretrained("linear", trained.folder, class_names=tmp_path / "names.txt", image_size=8, image_fit="resize")
    assert network.inside.layers == trained.inside.layers and "weights of seed_0" in repr(network)
    predictions = network.predict(list(IMAGES[:4]))
    assert predictions.classes[0] in network.class_names and network.class_names[3] == "digit 3"
    kernel = trained.params["classifier"]["output"]["kernel"]
    pixels = IMAGES[:4].reshape(4, 64).astype(np.float32)  # [N, H, W, 1] -> [N, H · W]; as a file of no known normalisation
    scores = pixels / 255 @ kernel + trained.params["classifier"]["output"]["bias"]
    assert predictions.classes == [f"digit {number}" for number in scores.argmax(axis=1)]
    assert [picture.size for picture in predictions.pictures()] == [(8, 8)] * 4
    mixed = network.predict([IMAGES[0], IMAGES[1].astype(np.float32) / 255])
    np.testing.assert_allclose(mixed["probabilities"], predictions["probabilities"][:2], rtol=1e-5)
    with pytest.raises(UsageError, match=r"(?s)--normalize=standard.*published"):
        cnnlab.pretrained("linear", trained.folder, image_size=8, normalize="standard")
    half = cnnlab.pretrained("linear", trained.folder, image_size=8, normalize="half", image_fit="resize")
    scores = (pixels / 255 - 0.5) / 0.5 @ kernel + trained.params["classifier"]["output"]["bias"]
    assert half.predict(list(IMAGES[:4])).classes == [str(number) for number in scores.argmax(axis=1)]
    (tmp_path / "latin.txt").write_text("caf\u00e9\n" * 10, encoding="latin-1")
    with pytest.raises(DataError, match=r"latin\.txt is no text in UTF-8"):
        cnnlab.pretrained("linear", trained.folder, image_size=8, class_names=tmp_path / "latin.txt")
    with pytest.raises(UsageError, match="these predictions have no pictures 'boxes'"):
        predictions.pictures("boxes")


def test_mistakes_are_errors_that_say_what_to_do(opened: cnnlab.Run, tmp_path: pathlib.Path):
    (tmp_path / "bad.png").write_bytes(b"x" * 30)
    for images, message in (("bad.png", r"bad\.png: not a whole PNG"), (IMAGES[:1].astype(np.float32), "from 0 to 255")):
        with pytest.raises(DataError, match=message):
            opened.predict(images)
    for images, message in (([], "the list is empty"), (3, "images of type int cannot be predicted"), ("none", "no such file")):
        with pytest.raises(UsageError, match=message):
            opened.predict(images)
    for target in ([1], [1, 10], 1):
        with pytest.raises(UsageError, match="the number of a class for each of 2 images, 0 to 9"):
            opened.inside.attributions(IMAGES[:2], ["saliency"], target=target)
    with pytest.raises(UsageError, match="there is no folder"):
        cnnlab.load(tmp_path / "none")
    with pytest.raises(UsageError, match="not a run"):
        cnnlab.load(tmp_path)
    with pytest.raises(UsageError, match=r"no knob --learning_rat here"):
        cnnlab.experiment("linear_digits", learning_rat=1)
    with pytest.raises(AttributeError, match="no attribute 'predct'"):
        cnnlab.predct  # noqa: B018


def test_an_experiment_shows_its_knobs_and_a_finished_run_is_not_trained_again(
    trained: cnnlab.Run, monkeypatch: pytest.MonkeyPatch
):
    experiment = cnnlab.experiment("linear_digits", steps=5, lr=0.2)
    assert experiment.knobs["optimizer.lr"] == 0.2 and "--optimizer.lr=0.2" in repr(experiment)
    assert experiment.built.steps == 5
    monkeypatch.setattr(runs_run, "train_run", None)
    again = cnnlab.train(experiment, workdir=trained.folder, devices=1)
    assert again.metrics == trained.metrics and again.experiment.data.name == "digits"
    whole = cnnlab.load(trained.folder.parent)
    assert isinstance(whole, cnnlab.Run) and whole.folder == trained.folder


def test_a_study_has_its_arms_its_runs_and_a_row_for_each_run(trained: cnnlab.Run):
    arms = (Arm("baseline", {"lr": "0.2"}, folder="arm"), Arm("lr=0.1", {"lr": "0.1"}, folder="other"))
    plan = Study("mine", "linear_digits", {}, "grid", arms, (0, 1), {"lr": ("0.2", "0.1")})
    folder = trained.folder.parents[1] / "study"
    folder.mkdir()
    save_study(plan, folder)
    study = cnnlab.load(folder)
    assert isinstance(study, cnnlab.Study) and study.arms == {"baseline": {"lr": "0.2"}, "lr=0.1": {"lr": "0.1"}}
    assert list(study.runs) == [("baseline", 0)] and study.run("baseline").metrics == trained.metrics
    rows = study.metrics
    assert [(row["arm"], row["seed"], row["lr"], row["state"]) for row in rows] == [
        ("baseline", 0, "0.2", "DONE"),
        ("lr=0.1", 0, "0.1", "MISSING"),
        ("baseline", 1, "0.2", "MISSING"),
        ("lr=0.1", 1, "0.1", "MISSING"),
    ]
    assert rows[0]["test/accuracy"] == trained.metrics["test/accuracy"]
    with pytest.raises(UsageError, match=r"no run of the arm 'lr=0.1' with seed 1 was begun\.\nThere are: baseline, seed 0"):
        study.run("lr=0.1", 1)
