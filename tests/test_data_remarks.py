"""Nothing of a data set is left out, guessed or cut without a remark: what sources and the pipeline say, and when."""

import os
import pathlib

import numpy as np
import pytest
from commands import read
from PIL import Image

from cnnlab.data import folder, npz, stripes, xor
from cnnlab.data.pipeline import build
from cnnlab.data.select import select
from cnnlab.data.source import labelled
from cnnlab.data.split_names import split_named
from cnnlab.errors import DataError

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def noise(*shape):
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def fill(place, count=3, suffix=".png", **options):
    """Writes different images into a folder."""
    place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(noise(5, 6, 3)).save(place / f"{number}{suffix}", **options)
    return place


def pets(root, *labels, **options):
    for label in labels or ("cat", "dog"):
        fill(root / label, **options)
    return root


def sizes(source):
    return {split: len(part.labels) for split, part in source.splits.items()}


def test_splits_are_known_by_their_usual_names():
    for name, split in {
        "Training": "train", "train_set": "train", "train2017": "train", "VALID": "validation", "dev": "validation",
        "val-images": "validation", "evaluation": "validation", "Test Images": "test", "testing": "test",
    }.items():  # fmt: skip
        assert split_named(name) == split, name
    assert [split_named(name) for name in ("trains", "cat", "validity", "contest", "")] == [None] * 5


@pytest.mark.parametrize("names", [("Train", "dev", "Testing"), ("training", "eval", None), ("train", None, "test_set")])
def test_folders_of_splits_are_used_as_what_they_are(tmp_path, names):
    train, validation, test = names
    pets(tmp_path / train, count=6)
    for name in filter(None, (validation, test)):
        pets(tmp_path / name, count=2)
    source = folder(str(tmp_path))
    expected = {"train": 12, "test": 4} | ({"validation": 4} if validation and test else {})
    assert sizes(source) == expected
    assert (f"folder {validation}/ is the validation split" in "".join(source.remarks)) == (validation is not None)
    assert any("validation split (4 examples) serves as the test split" in text for text in source.remarks) == (test is None)


def test_folders_that_cannot_be_splits_are_refused_or_classes(tmp_path):
    pets(tmp_path / "both" / "train")
    pets(tmp_path / "both" / "val")
    pets(tmp_path / "both" / "valid")
    with pytest.raises(DataError, match=r"2 folders of validation images: val, valid"):
        folder(str(tmp_path / "both"))
    pets(tmp_path / "headless" / "test")
    pets(tmp_path / "headless" / "dev")
    with pytest.raises(DataError, match="no training split"):
        folder(str(tmp_path / "headless"))
    for part in ("train", "test"):
        pets(tmp_path / "inside" / "cat" / part, "x")
    fill(tmp_path / "inside" / "dog")
    with pytest.raises(DataError, match=r"folders of several splits: train, test"):
        folder(str(tmp_path / "inside"))
    vehicles = folder(str(pets(tmp_path / "vehicles", "train", "plane")))
    assert vehicles.class_names == ("plane", "train") and "taken for classes" in vehicles.remarks[0]


def test_class_sets_must_agree_but_an_empty_folder_says_that_a_class_has_no_example(tmp_path):
    pets(tmp_path / "train", "cat", "dog", "elk")
    pets(tmp_path / "test", "cat", "dog")
    with pytest.raises(DataError, match=r"test lacks 1 class of .*train: elk"):
        folder(str(tmp_path))
    (tmp_path / "test" / "elk").mkdir()
    source = folder(str(tmp_path))
    assert source.class_names == ("cat", "dog", "elk") and "test/elk" in "".join(source.remarks)


def test_every_entry_of_a_folder_is_used_or_named(tmp_path):
    root = pets(tmp_path / "pets", "cat", "dog")
    fill(root / "cat" / "visit2" / "left", 4)
    for suffix in (".jfif", ".gif", ".tiff", ".ppm"):
        fill(root / "dog", 1, suffix, **({"format": "JPEG"} if suffix == ".jfif" else {}))
    frames = [Image.fromarray(noise(5, 6)) for _ in range(3)]
    frames[0].save(root / "dog" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(noise(5, 6)).save(root / "dog" / "grey.png")
    fill(root, 2)
    (root / "elk").mkdir()
    (root / "cat" / "notes.txt").write_text("x", encoding="utf-8")
    (root / "cat" / "README").write_text("x", encoding="utf-8")
    (root / "cat" / ".hidden.png").write_bytes(b"")
    (root / "cat" / "gone.xcf").symlink_to(root / "nowhere")
    (root / "cat" / "again").symlink_to(root / "cat")
    source = folder(str(root))
    assert sum(sizes(source).values()) == 3 + 4 + 3 + 4 + 2 and source.class_names == ("cat", "dog")
    said = "\n".join(source.remarks)
    for text in (
        "4 images in sub-folders of a class are used as that class: cat/visit2/left/ (4)",
        "1 file holds several pictures, of which the first is used: dog/moving.gif (3)",
        "7 entries left out",
        "images without a class, in no class folder: 2 (0.png, 1.png)",
        "folders without images, which get no class number: 1 (elk)",
        "files *.txt: 1 (cat/notes.txt)",
        "files without an ending: 1 (cat/README)",
        "links that lead nowhere: 1 (cat/gone.xcf)",
        "links to a folder above them: 1 (cat/again)",
        "of 16 images are grey and become RGB",
    ):
        assert text in said, (text, said)
    assert "hidden" not in said and folder(str(root)).remarks == source.remarks  # from the cache, too
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(DataError, match=r"1 of 17 images cannot be used: .*gone\.png: cannot be read"):
        folder(str(root))


def test_entries_beside_the_folders_of_splits_are_named(tmp_path):
    pets(tmp_path / "train")
    pets(tmp_path / "extra" / "more", "bird")
    (tmp_path / "labels.csv").write_text("x", encoding="utf-8")
    said = "\n".join(folder(str(tmp_path)).remarks)
    assert "images beside the folders of splits (train): 3 (extra/more/bird/0.png" in said and "labels.csv" in said


def test_names_that_are_no_utf8_or_differ_in_form_make_classes(tmp_path):
    root = pets(tmp_path / "train", os.fsdecode(b"caf\xe9"), "cafe\u0301")
    pets(tmp_path / "test", os.fsdecode(b"caf\xe9"), "caf\u00e9", count=2)
    source = folder(str(tmp_path))
    assert source.class_names == ("caf\\udce9", "caf\u00e9") and sizes(source) == {"train": 6, "test": 4}
    build(source, batch_size=2)
    fill(root / "caf\u00e9")
    with pytest.raises(DataError, match="two folders of the class café"):
        folder(str(tmp_path))


def test_a_file_that_changed_is_named_and_one_that_was_touched_is_not(tmp_path):
    source = folder(str(pets(tmp_path)))
    images = source.splits["train"].images
    before = images[np.arange(len(images))]
    for file in pathlib.Path(tmp_path).glob("*/*.png"):
        os.utime(file, ns=(1, 1))
    np.testing.assert_array_equal(images[np.arange(len(images))], before)
    for place in ("cat", "dog"):
        fill(tmp_path / place)
    with pytest.raises(DataError, match=r"\.png changed since it was checked: \d+ bytes"):
        images[np.arange(len(images))]


# npz ------------------------------------------------------------------------------------------------------------------


def save(tmp_path, **arrays):
    np.savez(tmp_path / "mine.npz", **arrays)
    return str(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("images", "labels", "parts"),
    [
        ("{}_images", "{}_labels", ("train", "val", "test")),
        ("x_{}", "y_{}", ("train", "valid", "test")),
        ("X{}", "Y{}", ("Train", "Dev", "Test")),
        ("{}_data", "{}_targets", ("training", "validation", "testing")),
        ("{}X", "{}Y", ("train", "val", None)),
        ("images", "labels", ("train", None, None)),
    ],
)
def test_npz_knows_the_usual_names_of_arrays(tmp_path, images, labels, parts):
    given = {}
    for part, count in zip(parts, (12, 9, 6), strict=True):
        if part:
            given |= {images.format(part): noise(count, 4, 4), labels.format(part): np.arange(count) % 3}
    source = npz(save(tmp_path, **given))
    whole = {"train": 12, "validation": 9, "test": 6}
    carved = {"train": 12, "test": 9} if parts[1] else {"train": 10, "test": 2}
    assert sizes(source) == (whole if parts[2] else carved) and len(source.remarks) == (0 if parts[2] else 1)


def test_npz_names_arrays_that_are_left_out_and_does_not_read_them(tmp_path):
    data = {"train_images": noise(6, 4, 4), "train_labels": np.arange(6) % 2}
    source = npz(save(tmp_path, **data, weights=np.ones(6), meta=np.array([{}], object), extra_images=noise(2, 4, 4)))
    assert any("3 arrays left out" in text and "weights, meta, extra_images" in text for text in source.remarks)
    with pytest.raises(DataError, match="2 arrays for the train images: train_images, x_train"):
        npz(save(tmp_path, **data, x_train=noise(6, 4, 4)))
    with pytest.raises(DataError, match="no array y_val; it has"):
        npz(save(tmp_path, **data, x_val=noise(6, 4, 4)))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.array([0, 1, 2, 255] * 3, np.uint8), r"example 3 has label 255, outside \[0, 4\)(.|\n)*4 numbers from 0 to 255"),
        (np.array([0, 1, 300_000_000] * 4), r"label 300000000, outside \[0, 3\)"),
        (np.array([0, 2] * 6), r"label 2, outside \[0, 2\)(.|\n)*--dataset\.classes"),
        (np.array([2, 3] * 6), r"label 2, outside \[0, 2\)"),
        (np.array([2**63 + 1, 0] * 6, np.uint64), r"outside \[0, 2\)"),
        (np.array(["a", "b"] * 6), "return_inverse"),
        (np.array([0.0, 1.0] * 6), "Expected one integer"),
        (np.arange(13) % 2, "12 images but 13 labels"),
    ],
)
def test_npz_labels_that_number_no_classes_are_refused(tmp_path, labels, text):
    with pytest.raises(DataError, match=text):
        npz(save(tmp_path, train_images=noise(12, 4, 4), train_labels=labels))


def test_npz_labels_from_one_and_channels_first_are_used_with_a_remark(tmp_path):
    images = noise(12, 3, 8, 9)
    source = npz(save(tmp_path, x_train=images, y_train=np.arange(12) % 4 + 1, x_test=images[:4], y_test=np.arange(4) + 1))
    assert source.class_names == ("1", "2", "3", "4") and source.splits["test"].labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(source.splits["train"].images, np.moveaxis(images, 1, 3))
    said = "\n".join(source.remarks)
    assert "read as [N, C, H, W]" in said and "labels 1 to 4 become classes 0 to 3" in said


# every source ---------------------------------------------------------------------------------------------------------


def test_blank_images_copies_and_missing_classes_are_counted():
    train, test = noise(20, 6, 6, 1), noise(10, 6, 6, 1)
    train[[4, 9]], test[7] = 0, 200
    test[3] = train[11]
    labels = np.arange(20, dtype=np.int32) % 3
    source = labelled("mine", {"train": (train, labels), "test": (test, np.full(10, 3, np.int32))}, tuple("abcd"))
    said = "\n".join(build(source, batch_size=2).remarks)
    for text in (
        "2 of 20 train images have one value everywhere: number 4, 9",
        "1 of 10 test images have one value everywhere: number 7",
        "1 of 10 test images are copies of training images, number by number: 3 is 11",
        "train has no example of 1 class: d",
        "test has 10 examples of classes that train lacks: d",
        "test has no example of 3 classes: a, b, c",
    ):
        assert text in said, (text, said)


def test_sources_that_leave_nothing_out_say_nothing_and_selections_are_said():
    assert build(xor(), batch_size=2, validation=0.0).remarks == () and build(stripes(), batch_size=8).remarks == ()
    (said,) = select(stripes(), classes=(0, 2), examples_per_class=5).remarks
    assert "2 of 4 classes are kept, with 10 of 1,000 train examples, 125 of 250 test examples" in said
    assert "no validation split" in build(xor(), batch_size=2).remarks[0]


def test_a_command_prints_its_remarks_once_and_records_them(here, tmp_path):
    save(tmp_path, x_train=noise(40, 5, 5), y_train=np.arange(40) % 2, weights=np.ones(40))
    words = ["--experiment=linear_digits", "--dataset=npz:mine.npz", "--batch_size=8", "--steps=1", "--workdir=run"]
    for command in (words, [*words[:-1], "--workdir=again"]):
        code, _, err = here(*command)
        assert code == 0 and err.count("1 array left out") == 1 and err.count("no test split") == 1, err
    remarks = read(tmp_path / "again" / "run.json")["data"]["remarks"]
    assert sum("1 array left out" in text for text in remarks) == 1
