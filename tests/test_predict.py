"""Predictions of a run for images without labels: the numbers of `evaluate`, without the data set, whatever the images are."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from commands import Here, command
from PIL import Image

from cnnlab.data.decode import BadImage
from cnnlab.errors import DataError, UsageError
from cnnlab.inputs import InputSpec
from cnnlab.predict.find import find_images
from cnnlab.predict.predictor import Predictor
from cnnlab.predict.prepare import preparation_of
from cnnlab.predict.write import writer_for

CLASSES = ("cat", "dog")
TRAIN = ("--experiment=linear_digits", "--steps=2", "--batch_size=8", "--image_size=8", "--validation=0", "--devices=1")
PREDICT = ("predict", "--workdir=../run", "--devices=1")


def make_images(folder: pathlib.Path, count: int, *, seed: int, suffix: str = "jpg") -> None:
    """Writes `count` colour images of random sizes for each class, dark cats and bright dogs."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for position in range(count):
            height, width = random.integers(9, 40, 2)
            pixels = random.integers(100 * number, 150 + 100 * number, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{position}.{suffix}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a run; its data set is moved away after the training, to `moved`."""
    place = tmp_path_factory.mktemp("predict")
    make_images(place / "data" / "train", 8, seed=0)
    make_images(place / "data" / "test", 6, seed=1)
    code, _, err = command(*TRAIN, "--dataset=folder:data", "--workdir=run", cwd=place)
    assert code == 0, err
    (place / "data").rename(place / "moved")
    return place


@pytest.fixture
def predict(trained: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Here]:
    """Runs `predict` with the trained run in an empty folder beside it."""
    folder = trained / tmp_path.name
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield lambda *words: here(*PREDICT, *words)


def probabilities(records: list[dict[str, Any]]) -> dict[str, list[np.float32]]:
    """The probabilities of all classes, in the order of their numbers, by the last two parts of the image's path."""
    found = {}
    for record in records:
        by_class = {record[f"class{end}"]: record[f"probability{end}"] for end in ("", "_2")}
        found["/".join(pathlib.Path(record["file"]).parts[-2:])] = [np.float32(by_class[name]) for name in CLASSES]
    return found


def test_images_are_predicted_as_evaluate_does_to_the_bit_without_the_data_set(
    trained: pathlib.Path, predict: Here, here: Here
):
    code, out, err = predict("--images=../moved/test", "--to=x.json")
    assert code == 0 and "12 images predicted" in out, err
    records = json.loads(pathlib.Path("x.json").read_text(encoding="utf-8"))
    rows = np.load(trained / "run" / "test_rows.npz")
    expected = {
        "/".join(str(name).split("/")[-2:]): list(values)
        for name, values in zip(rows["name"], rows["probabilities"], strict=True)
    }
    assert probabilities(records) == expected
    assert all(record["probability"] >= record["probability_2"] for record in records)
    code, _, err = here("export", "--workdir=../run", "--to=x.safetensors", "--devices=1")
    assert code == 0, err


def test_paths_from_standard_input_give_the_same_numbers_in_larger_batches(
    trained: pathlib.Path, predict: Here, monkeypatch: pytest.MonkeyPatch
):
    paths = sorted((trained / "moved" / "test").rglob("*.jpg"))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, paths)) + "\n\n"))
    code, _, err = predict("--images=-", "--to=x.json")
    assert code == 0, err
    given = json.loads(pathlib.Path("x.json").read_text(encoding="utf-8"))
    assert [record["file"] for record in given] == list(map(str, paths))
    rows = np.load(trained / "run" / "test_rows.npz")
    found = np.array(list(probabilities(given).values()))
    np.testing.assert_allclose(np.sort(found[:, 0]), np.sort(rows["probabilities"][:, 0]), rtol=1e-5)


def test_unreadable_images_are_named_and_counted_and_the_rest_is_predicted(
    trained: pathlib.Path, predict: Here, caplog: pytest.LogCaptureFixture
):
    make_images(pathlib.Path("mine"), 2, seed=2, suffix="png")
    pathlib.Path("mine/cat/bad.jpg").write_bytes((trained / "moved/test/cat/0.jpg").read_bytes()[:300])
    Image.fromarray(np.zeros((5, 6), np.uint8)).save("mine/grey.png")
    pathlib.Path("mine/notes.txt").write_text("x", encoding="utf-8")
    code, out, err = predict("--images=mine", "--to=x.csv")
    assert code == 0 and "5 images predicted\n  in x.csv" in out, err
    said = caplog.text
    assert f"not predicted: {pathlib.Path('mine/cat/bad.jpg')}: broken or cut short" in said
    assert "1 of 6 images could not be read and is left out" in said
    assert "mine: 6 images in 3 folders" in said and "files *.txt: 1 (notes.txt)" in said
    assert "1 of 5 images are grey, and become images of 3 channels" in said
    with open("x.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "class", "probability", "class_2", "probability_2"] and len(rows) == 5
    code, _, err = predict("--images=mine", "--to=x.csv")
    assert code == 2 and "x.csv: it is there already" in err


def test_nothing_readable_is_an_error_and_leaves_no_file(predict: Here, here: Here):
    pathlib.Path("a.png").write_bytes(b"")
    code, _, err = predict("--images=a.png", "--to=x.csv")
    assert code == 3 and "none of the 1 image could be read: a.png: empty file" in err
    assert not pathlib.Path("x.csv").exists()
    code, _, err = predict()
    assert code == 2 and "predict what? Add --images=FOLDER" in err
    code, _, err = here("predict", "--images=a.png")
    assert code == 2 and "predict with which run? Add --workdir=RUN" in err


def test_pictures_are_sorted_by_class_and_a_table_is_printed(predict: Here):
    np.savez("some.npz", images=np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8))
    code, out, err = predict("--images=some.npz", "--to=pictures")
    assert code == 0, err
    written = sorted(pathlib.Path("pictures").rglob("*.png"))
    assert sorted(path.name for path in written) == [f"some.npz[{number}].png" for number in range(3)]
    assert {path.parent.name for path in written} <= set(CLASSES)
    code, out, err = predict("--images=some.npz")
    assert code == 0 and [line.split()[-1] for line in out.splitlines()[:4]] == ["file", *(f"some.npz[{n}]" for n in range(3))]


SPEC = InputSpec((8, 8, 1), "uint8", np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32), CLASSES)


def test_an_image_is_brought_to_the_channels_and_the_size_of_the_network():
    prepare, random = preparation_of(SPEC, {}), np.random.default_rng(0)
    own = random.integers(0, 255, (8, 8, 1), np.uint8)
    assert preparation_of(SPEC, {"data.dataset": "folder:x", "data.dataset.draft": 8}).draft == 8
    prepared = prepare(own)
    assert prepared.remarks == () and np.array_equal(prepared.pixels, own)
    colour = np.broadcast_to(random.integers(0, 255, (20, 12, 1), np.uint8), (20, 12, 3))
    changed = prepare(colour)
    assert changed.pixels.shape == (8, 8, 1) and changed.pixels.dtype == np.uint8 and len(changed.remarks) == 2
    floats = prepare(colour.astype(np.float32) / 255)
    np.testing.assert_allclose(floats.pixels, changed.pixels / 255, atol=2 / 255)
    with pytest.raises(BadImage, match="4 channels, and the network takes 1"):
        prepare(np.zeros((8, 8, 4), np.uint8))


def test_an_image_larger_than_the_canvas_lies_on_a_larger_one():
    canvas = {"name": "canvas", "scale": 0.5, "multiple": 4, "height": 8, "width": 12}
    spec, image = dataclasses.replace(SPEC, image_shape=(8, 12, 1), fit=canvas), np.ones((40, 20, 1), np.uint8)
    prepared = preparation_of(spec, {}, grows=True)(image)
    assert prepared.pixels.shape == (32, 12, 1) and prepared.pixels.sum() == 20 * 10
    assert prepared.place.size == (32, 12) and prepared.place.scale == (0.5, 0.5)
    assert prepared.remarks == ("are larger than 8 x 12, the canvas of the training images, and lie on a larger one",)
    assert preparation_of(spec, {}, grows=True)(image[:16]).pixels.shape == (8, 12, 1)
    with pytest.raises(BadImage, match=r"20 x 10 at scale 0\.5"):
        preparation_of(spec, {})(image)


@pytest.mark.slow
def test_a_network_of_one_size_leaves_larger_images_out(here: Here, tmp_path: pathlib.Path):
    words = ("--image_fit=canvas", "--image_fit.multiple=8", "--steps=1", f"--workdir={tmp_path}/run")
    code, _, err = here("--experiment=linear_digits", *words)
    assert code == 0, err
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 9, 9, 1), np.uint8))
    code, _, err = here("predict", f"--workdir={tmp_path}/run", f"--images={tmp_path}/images.npz")
    assert code == 3 and "it needs 32 x 32 pixels (height x width), and the network takes 8 x 8 alone" in err


def test_a_rule_that_this_version_does_not_have_takes_images_of_the_right_size_alone():
    older = InputSpec(SPEC.image_shape, "uint8", SPEC.subtract, SPEC.divide, CLASSES, {"name": "resize"})
    prepare = preparation_of(older, {})
    assert prepare(np.zeros((8, 8, 1), np.uint8)).pixels.shape == (8, 8, 1)
    with pytest.raises(BadImage, match="cannot be brought to size"):
        prepare(np.zeros((9, 8, 1), np.uint8))
    own = preparation_of(dataclasses.replace(older, fit={"name": "own.py:letterbox"}), {})
    assert own(np.zeros((8, 8, 1), np.uint8)).place.scale == (1.0, 1.0)
    with pytest.raises(BadImage, match="cannot be brought to size"):
        own(np.zeros((9, 8, 1), np.uint8))


def test_what_is_named_is_found_or_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    arrays = {f"{split}_images": np.zeros((size, 4, 4), np.uint8) for split, size in (("train", 2), ("test", 3))}
    np.savez("two.npz", **arrays)
    for name in ("a,b.png", "c.png"):
        pathlib.Path(name).write_bytes(b"x")
    found = find_images(["a,b.png", "c.png,two.npz:test_images"])
    assert found.count == 5 and [one.name for one in found.images][:3] == ["a,b.png", "c.png", "two.npz[0]"]
    pathlib.Path("d").mkdir()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save("d/c.png")
    places = [one.place for one in find_images(["c.png,d,two.npz:test_images", "./d/c.png"]).images]
    assert places == ["c.png", "d/c.png", "two.npz[0]", "two.npz[1]", "two.npz[2]", "d/c.png"]
    assert [one.place for one in find_images(["d"]).images] == ["c.png"]
    with pytest.raises(DataError, match=r"(?s)2 arrays that could be the images; .*--images=two.npz:NAME"):
        find_images(["two.npz"])
    with pytest.raises(UsageError, match="--images=none: there is no such file or folder"):
        find_images(["none"])
    with pytest.raises(UsageError, match=r"--to=x\.txt: expected a name that ends in \.csv"):
        writer_for(pathlib.Path("x.txt"), replace=False)


def test_a_task_without_predictions_is_refused():
    task: Any = SimpleNamespace(prediction=None)
    program: Any = SimpleNamespace(experiment=SimpleNamespace(task=task))
    with pytest.raises(UsageError, match=r"predicts nothing for single images\.\n.*`sample` draws images"):
        Predictor(program, cast(Any, None), precision="f32", knobs={})


@pytest.mark.slow
def test_a_thousand_images_of_mixed_sizes_are_predicted_in_batches(predict: Here, caplog: pytest.LogCaptureFixture):
    make_images(pathlib.Path("many"), 500, seed=3)
    pathlib.Path("many/dog/7.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    code, out, err = predict("--images=many", "--to=x.csv")
    assert code == 0 and "999 images predicted" in out and "1 of 1,000 images could not be read" in caplog.text, err
    with open("x.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    code, _, err = predict("--images=many/cat/499.jpg,many/dog/0.jpg", "--to=y.json")
    alone = json.loads(pathlib.Path("y.json").read_text(encoding="utf-8"))
    for record in alone:
        (row,) = [row for row in rows if row["file"] == record["file"]]
        assert row["class"] == record["class"] and float(row["probability"]) == pytest.approx(record["probability"], rel=1e-5)


OTHERS = {
    "autoencoder_mnist": ("squared_error", ["--widths=16", "--code=3"]),
    "knn_digits": ("probability_5", []),
    "ensemble.py": ("probability_5", []),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_task_that_answers_for_one_image_predicts(name: str, here: Here):
    column, knobs = OTHERS[name]
    text = "from cnnlab.recipes.classification import ensemble_classification as experiment\n"
    pathlib.Path("ensemble.py").write_text(text, encoding="utf-8")
    length = [] if name == "knn_digits" else ["--steps=2"]
    code, _, err = here(f"--experiment={name}", "--dataset=digits", *length, *knobs, "--workdir=run", "--devices=1")
    assert code == 0, err
    from cnnlab.data import digits

    images = digits().splits["test"].images
    np.savez("some.npz", images=images)
    code, _, err = here("predict", "--workdir=run", "--images=some.npz", "--to=x.json", "--devices=1")
    assert code == 0, err
    records = json.loads(pathlib.Path("x.json").read_text(encoding="utf-8"))
    assert len(records) == len(images) and column in records[0]
    rows = np.load("run/test_rows.npz")
    if "confidence" in rows:
        np.testing.assert_array_equal(np.float32([record["probability"] for record in records]), rows["confidence"])
        assert [int(record["class"]) for record in records] == rows["prediction"].tolist()
    elif "squared_error" in rows:
        np.testing.assert_allclose([record["squared_error"] for record in records], rows["squared_error"], rtol=1e-6)
    code, _, err = here("predict", "--workdir=run", "--images=some.npz", "--to=sheet.png", "--devices=1")
    assert code == 0 and pathlib.Path("sheet.png").stat().st_size > 1000, err
