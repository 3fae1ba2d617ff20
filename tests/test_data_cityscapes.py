"""The layout of Cityscapes: classes, cities, the table of labels, metrics of categories, and a submission."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from cnnlab import files
from cnnlab.data.cityscapes import cityscapes
from cnnlab.data.cityscapes_labels import CATEGORIES, CLASSES, COLOURS, LABEL_IDS, LABELS
from cnnlab.errors import DataError
from cnnlab.tasks.segmentation_metrics import MaskMetrics


def write_cityscapes(root: pathlib.Path, *, height: int = 16, width: int = 32) -> pathlib.Path:
    """Writes four images in the official layout: two cities to train on, one to validate, and one without public labels."""
    draw = np.random.default_rng(0)
    for part, city in (("train", "aachen"), ("train", "ulm"), ("val", "munster"), ("test", "berlin")):
        stem = f"{city}_000000_000019"
        image, ids = draw.integers(0, 255, (height, width, 3), dtype=np.uint8), draw.integers(0, 34, (height, width), np.uint8)
        ids[0, 0] = 255  # a license plate, -1 in 8 bits
        for folder, ending, array in (("leftImg8bit", "leftImg8bit", image), ("gtFine", "gtFine_labelIds", ids)):
            if part == "test" and folder == "gtFine":
                continue
            (root / folder / part / city).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / part / city / f"{stem}_{ending}.png")
    return root


@pytest.fixture
def layout(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Four images in the official layout, and a cache without the entries of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_cityscapes(tmp_path / "city")


def test_the_layout_becomes_splits_of_nineteen_classes_by_cities(layout):
    found = cityscapes(str(layout))
    assert {split: part.columns["group"].tolist() for split, part in found.splits.items()} == {
        "train": ["aachen", "ulm"],
        "test": ["munster"],
    }
    kind = found.kinds["segmentation"]
    assert kind.names == CLASSES and len(CLASSES) == 19 and kind.colours[13] == (0, 0, 142)
    stored = np.asarray(Image.open(next((layout / "gtFine" / "val").glob("*/*.png"))))
    mask = found.splits["test"].columns["segmentation"][np.arange(1)][0]
    wanted = np.array([{label.id: label.train_id for label in LABELS}.get(number, 255) for number in range(256)], np.uint8)
    assert np.array_equal(mask, wanted[stored]) and mask[0, 0] == 255
    known = mask != 255
    assert np.array_equal(np.asarray(kind.published)[mask[known]], stored[known]) and kind.categories == CATEGORIES


def test_the_table_of_labels_is_the_public_one():
    """Numbers of classes, the ids of their labels and the seven categories, as the benchmark lists them."""
    assert [label.id for label in LABELS] == list(range(34))
    assert [label.id for label in LABELS if label.train_id != 255] == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    by_category = ((2, "flat"), (3, "construction"), (3, "object"), (2, "nature"), (1, "sky"), (2, "human"), (6, "vehicle"))
    assert tuple(name for count, name in by_category for _ in range(count)) == CATEGORIES and len(LABEL_IDS) == 19


def test_the_iou_of_categories_is_that_of_the_benchmark():
    """As `getIouScoreForLabel` and `getIouScoreForCategory` of cityscapesScripts count, over pairs of labels."""
    counts = np.random.default_rng(0).integers(0, 50, (19, 19)).astype(np.float64)
    counts[15] = 0  # no truck in the labels, so not in the mean; the benchmark counts it as 0 where one is predicted
    measured = MaskMetrics(CLASSES, 255, "segmentation", categories=CATEGORIES)
    none = np.zeros((1, 19, 2))
    found = measured.summary(
        {"sums": {}, "rows": {"confusion": counts[None], "borders": none, "trimap": none[:, 0], "loss_terms": none[:, :1]}}
    )
    expected = {}
    for category in dict.fromkeys(CATEGORIES):
        own = [number for number in range(19) if CATEGORIES[number] == category]
        others = [number for number in range(19) if CATEGORIES[number] != category]
        right = counts[np.ix_(own, own)].sum()
        expected[category] = right / (counts[own].sum() + counts[np.ix_(others, own)].sum())
    for category, iou in expected.items():
        assert found[f"category_iou_{category}"] == pytest.approx(iou, abs=1e-15)
    assert found["category_miou"] == pytest.approx(np.mean(list(expected.values())), abs=1e-15)
    each = [counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]) for k in range(19) if k != 15]
    assert found["miou"] == pytest.approx(np.mean(each), abs=1e-15)
    assert set(found) == {metric.name for metric in measured.declared}


@pytest.mark.slow
def test_four_images_are_trained_evaluated_and_submitted(layout, here, tmp_path):
    words = ["--experiment=cityscapes", f"--dataset=cityscapes:{layout}", "--batch_size=2", "--devices=1", "--validation=0"]
    words += ["--random_crop.size=8", "--model=full_resolution", "--model.width=2", "--model.depth=1", "--steps=2"]
    code, _, errors = here(*words, f"--workdir={tmp_path}/run")
    assert code == 0, errors
    code, _, errors = here("evaluate", f"--workdir={tmp_path}/run", "--devices=1")
    assert code == 0, errors
    metrics = files.read_json(tmp_path / "run" / "result.json")["metrics"]
    assert {"test/miou", "test/category_miou", "test/iou_traffic_light", "test/category_iou_vehicle"} <= set(metrics)
    where = (f"--images={layout}/leftImg8bit/test", f"--to={tmp_path}/out", "--devices=1")
    code, _, errors = here("predict", f"--workdir={tmp_path}/run", *where)
    assert code == 0, errors
    # The benchmark looks for CITY_SEQUENCE_FRAME*.png in any folder, u8 of the image's size with the ids of labels.
    out = tmp_path / "out"
    (submitted,) = (out / "submission").rglob("berlin_000000_000019*.png")
    with Image.open(submitted) as picture, Image.open(out / "masks" / submitted.relative_to(out / "submission")) as mask:
        assert picture.mode == "L" and picture.size == (32, 16) and mask.mode == "P"
        ids, classes = np.asarray(picture), np.asarray(mask)
        assert np.array_equal(ids, np.asarray(LABEL_IDS)[classes]) and set(np.unique(ids)) <= set(LABEL_IDS)
        assert np.array_equal(np.asarray(mask.convert("RGB")), np.asarray(COLOURS)[classes])


def test_what_the_layout_lacks_is_named(layout):
    mask = layout / "gtFine" / "train" / "ulm" / "ulm_000000_000019_gtFine_labelIds.png"
    mask.rename(layout / "away.png")
    with pytest.raises(DataError, match=r"1 file of 2 in .*leftImg8bit.train without a partner .*: ulm_000000_000019_left"):
        cityscapes(str(layout))
    with pytest.raises(DataError, match=r"has no images leftImg8bit/train/CITY(.|\n)*Unpack leftImg8bit_trainvaltest.zip"):
        cityscapes(str(layout / "gtFine"))
    Image.fromarray(np.full((16, 32), 40, np.uint8)).save(mask)
    with pytest.raises(
        DataError, match=r"512 pixels of the number 40.*\n.*the labels of Cityscapes; the nearest one is 33, bicycle"
    ):
        cityscapes(str(layout))
