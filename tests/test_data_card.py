"""The card of a data set: counts, pixels, copies and sizes in numbers, and a sheet of examples."""

import json
import pathlib

import numpy as np
import pytest
from commands import Here
from PIL import Image as Picture

from cnnlab.data.card import card_of, copies_of, pixels_of, spread
from cnnlab.data.card_text import caption, card_lines, copies_in_words, example_sheet
from cnnlab.data.kinds import Boxes, Image, Label, Mask, MultiLabel, Name, Target
from cnnlab.data.source import Source, Split, labelled
from cnnlab.terminal import Terminal, columns


def random_images(count: int, seed: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def source() -> Source:
    """Images with every kind of column that is counted. Test image 1 is training image 0, with another label."""
    parts = {}
    for split, count, seed in (("train", 8, 0), ("test", 4, 1)):
        generator = np.random.default_rng(seed)
        boxes = {
            "corners": np.tile(np.array([0, 0, 3, 4], np.float32), (count, 2, 1)),
            "label": np.tile(np.array([0, 1], np.int32), (count, 1)),
            "valid": np.tile(np.array([True, False]), (count, 1)),
        }
        parts[split] = {
            "image": random_images(count, seed),
            "label": np.arange(count, dtype=np.int32) % 3,
            "marks": np.tile(np.array([1, 0], np.float32), (count, 1)),
            "size": generator.random((count, 1)).astype(np.float32),
            "segmentation": np.tile(np.array([[0, 1, 1, 1, 255]], np.uint8), (count, 6, 1)),
            "objects": boxes,
            "patient": np.array([f"p{number % 2}" for number in range(count)]),
        }
    parts["test"]["image"][1] = parts["train"]["image"][0]
    parts["train"]["image"][5] = parts["train"]["image"][2]
    kinds = {
        "image": Image(),
        "label": Label(("cat", "dog", "猫")),
        "marks": MultiLabel(("red", "blue")),
        "size": Target(("metres",)),
        "segmentation": Mask(("background", "cell")),
        "objects": Boxes(("ball", "box")),
        "patient": Name(),
    }
    return Source("mine", {split: Split(part) for split, part in parts.items()}, kinds, "0" * 64, ("something was left out",))


def test_a_card_counts_classes_and_copies_and_describes_columns(source: Source):
    card = card_of(source, disk=2048)
    assert card.splits == {"train": 8, "test": 4} and card.disk == 2048 and card.not_compared == ()
    assert card.columns["image"] == ("Image", "uint8 [6, 5, 3]") and card.columns["patient"] == ("Name", "text, 2 different")
    assert card.columns["objects"][1] == "corners float32 [2, 4], label int32 [2], valid bool [2], 2 classes"
    assert card.classes["label"] == {
        "cat": {"train": 3, "test": 2}, "dog": {"train": 3, "test": 1}, "猫": {"train": 2, "test": 1}
    }  # fmt: skip
    assert card.classes["marks"]["red"] == {"train": 8, "test": 4} and card.classes["marks"]["blue"]["train"] == 0
    assert card.classes["segmentation"]["cell"]["test"] == 4 * 6 * 3, "ignored pixels are of no class"
    assert card.classes["objects"] == {"ball": {"train": 8, "test": 4}, "box": {"train": 0, "test": 0}}
    assert "size" not in card.classes and "patient" not in card.classes
    within, between = card.copies
    assert (within.split, within.of, within.images, within.pairs) == (
        "train",
        "train",
        1,
        ((5, 2),),
    ) and not within.other_labels
    assert (between.split, between.of, between.other_labels, between.pairs) == ("test", "train", 1, ((1, 0),))
    expected = "1 test image is a copy of train images, 1 of them with another label: number 1 is 0"
    assert copies_in_words(between) == expected
    assert card.memory == sum(
        leaf.nbytes for part in source.splits.values() for value in part.columns.values()
        for leaf in (value.values() if isinstance(value, dict) else [value])
    )  # fmt: skip
    assert card.remarks[0] == "something was left out"


def test_the_pixels_of_a_card_are_those_of_numpy():
    images = random_images(40, 3)
    found = pixels_of(images)
    scaled = images.astype(np.float64).reshape(-1, 3) / 255  # [N, H, W, C] -> [N·H·W, C]
    np.testing.assert_allclose([one.mean for one in found.channels], scaled.mean(0), rtol=1e-12)
    np.testing.assert_allclose([one.sd for one in found.channels], scaled.std(0), rtol=1e-9)
    np.testing.assert_allclose(
        [(one.low, one.high) for one in found.channels], [*zip(scaled.min(0), scaled.max(0), strict=True)]
    )
    assert found.sides == {"height": (6, 6, 6), "width": (5, 5, 5)} and found.examined == 40
    floats = pixels_of(np.full((2, 3, 3, 1), 2.5, np.float32))
    assert floats.channels[0].mean == 2.5 and floats.channels[0].sd == 0.0


def test_one_array_for_two_splits_and_images_of_unknown_digests_are_no_copies():
    images = random_images(4, 5)
    labels = np.array([0, 1, 0, 1], np.int32)
    both = labelled("both", {"train": (images, labels), "test": (images, labels)}, ("a", "b"))
    assert list(copies_of(both, {"train": [1, 2, 3, 4], "test": [1, 2, 3, 4]})) == []
    assert list(copies_of(both, {"train": None, "test": None})) == []


def test_a_sheet_shows_every_class_in_turn():
    assert spread(np.array([0, 0, 0, 1, 2, 1], np.int32), 6, 5).tolist() == [0, 3, 4, 1, 5]
    assert spread(None, 100, 3).tolist() == [0, 49, 99]


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_of_a_card_is_wider_than_the_terminal(width: int, source: Source):
    lines = card_lines(card_of(source), Terminal(width))
    assert all(columns(line) <= width for line in lines)
    assert any(line.startswith("! something was left out") for line in lines)
    many = tuple(f"class {number}" for number in range(60))
    labels = np.arange(60, dtype=np.int32)
    large = labelled("large", {"train": (random_images(60, 7), labels), "test": (random_images(60, 8), labels)}, many)
    text = "\n".join(card_lines(card_of(large), Terminal(120)))
    assert "and 30 classes more" in text and "class 31" not in text and "no image is a copy of another" in text


def test_a_sheet_draws_boxes_masks_and_captions(source: Source):
    figure = example_sheet(source, most=4)
    assert any(text.get_text().startswith("ca") for axes in figure.axes for text in axes.texts), "captions, shortened"
    assert caption(source, "train", 0).startswith("cat, red, 0.637, 1 box")
    image = np.asarray(figure.axes[-1].images[0].get_array())
    assert image.shape == (6, 5, 3) and (image != source.splits["train"].images[0]).any(), "a box and a mask are drawn"


def test_the_verb_prints_the_card_of_a_folder_and_writes_a_sheet(here: Here, tmp_path: pathlib.Path):
    for number, (split, name) in enumerate([(s, n) for s in ("train", "test") for n in ("cat", "dog") for _ in range(3)]):
        place = tmp_path / "data" / split / name
        place.mkdir(parents=True, exist_ok=True)
        size = (12 + number, 10)  # width, height
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(place / f"{number}.png")
    same = (tmp_path / "data" / "train" / "cat" / "0.png").read_bytes()
    (tmp_path / "data" / "test" / "dog" / "copy.png").write_bytes(same)
    code, out, err = here("inspect", "--data.dataset=folder:data", "--to=sheet.png", "--format=json")
    card = json.loads(out)
    assert code == 0 and card["splits"] == {"train": 6, "test": 7}, err
    assert card["classes"]["label"]["dog"] == {"train": 3, "test": 4}
    assert card["pixels"]["image"]["sides"] == {"height": [10, 10, 10], "width": [12, 14, 17]}
    assert card["disk"] == sum(path.stat().st_size for path in (tmp_path / "data").rglob("*.png"))
    (copy,) = card["copies"]
    assert (copy["split"], copy["of"], copy["images"], copy["other_labels"]) == ("test", "train", 1, 1)
    with Picture.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 100
    code, out, err = here("inspect", "--dataset=digits")
    assert code == 0 and "digits: 1,797 examples (train 1,438, test 359)" in out and "10 classes" in out, err
    for words, message in (
        (["--dataset=digitz"], "Did you mean digits?"),
        (["--dataset=digits", "--to=x.jpg"], "a file that ends with .png"),
        (["--dataset=folder:nowhere"], "nowhere"),
        (["--dataset=digits", "--lr=3"], "no knob --lr"),
    ):
        code, _, err = here("inspect", *words)
        assert code in (2, 3) and message in err and "Traceback" not in err
