"""The layout of Cityscapes: classes, cities, the table of labels, and names and numbers of a submission."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.cityscapes import cityscapes
from cnnlab.data.cityscapes_labels import CATEGORIES, CATEGORY_OF, CLASSES, LABELS, label_ids_of, submission_name
from cnnlab.errors import DataError


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
    assert np.array_equal(label_ids_of(mask)[known], stored[known]) and not label_ids_of(mask)[~known].any()


def test_the_table_of_labels_is_the_public_one():
    """Numbers of classes, the ids of their labels and the seven categories, as the benchmark lists them."""
    assert [label.id for label in LABELS] == list(range(34))
    assert [label.id for label in LABELS if label.train_id != 255] == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    assert CATEGORIES == ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
    assert CATEGORY_OF == (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)
    assert (
        submission_name("leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png") == "berlin_000000_000019_labelIds.png"
    )


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
