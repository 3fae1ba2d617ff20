import ast
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

import cnnlab.data
from cnnlab.data import DATASETS, digits, folder, npz, stripes, xor
from cnnlab.data.pipeline import build
from cnnlab.data.resize import pad
from cnnlab.data.source import labelled
from cnnlab.errors import DataError

ROOT = pathlib.Path(cnnlab.data.__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_datasets_is_a_literal_and_importing_it_imports_no_reader():
    tree = ast.parse((ROOT / "cnnlab/data/__init__.py").read_text(encoding="utf-8"))
    (table,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "DATASETS")
    assert [ast.literal_eval(key) for key in table.keys] == list(DATASETS)
    heavy = "{'jax', 'sklearn', 'grain', 'tensorflow_datasets', 'tensorflow', 'PIL'}"
    code = f"import sys, cnnlab.data; sys.exit(repr({heavy} & sys.modules.keys()) if {heavy} & sys.modules.keys() else 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_digits_are_those_of_scikit_learn_rounded_and_split_by_class():
    from sklearn.datasets import load_digits

    source, found = digits(), load_digits()
    images = np.concatenate([part.images for part in source.splits.values()])
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8
    exact = np.rint(found.images / 16 * 255).astype(np.uint8)
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in exact)
    whole = np.bincount(found.target)
    assert np.all(np.abs(np.bincount(source.splits["test"].labels) - 0.2 * whole) < 1)
    assert digits().fingerprint == source.fingerprint


def test_xor_is_the_four_points():
    source = xor()
    points = source.splits["train"].images.reshape(4, 2)
    assert source.splits["train"].images.shape == (4, 1, 2, 1) and points.dtype == np.float32
    assert len(np.unique(points, axis=0)) == 4
    assert np.array_equal(source.splits["test"].labels, points.prod(axis=1) < 0)


def test_stripes_follow_their_seed_and_their_class_is_the_orientation():
    one, same, other = stripes(), stripes(), stripes(data_seed=1)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.splits["train"].images.shape == (1000, 16, 16, 1) and len(one.splits["test"].labels) == 250
    images = stripes(noise=0.0, classes=2, size=32).splits["train"]
    across_rows = np.abs(np.diff(images.images.astype(int), axis=1)).mean(axis=(1, 2, 3))
    across_columns = np.abs(np.diff(images.images.astype(int), axis=2)).mean(axis=(1, 2, 3))
    assert np.array_equal(images.labels, across_columns > across_rows)  # 0 degrees: horizontal stripes


def test_label_outside_the_classes_names_example_label_and_classes():
    split = (np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 7], np.int32))
    with pytest.raises(
        DataError, match=r"split train, column label: example 2 has label 7, outside \[0, 2\) \(1 such example\)"
    ):
        labelled("mine", {"train": split, "test": split}, ("cat", "dog"))


def test_source_without_train_or_with_one_class_is_refused():
    split = (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, np.int32))
    with pytest.raises(DataError, match="no train examples"):
        labelled("mine", {"test": split}, ("cat", "dog"))
    with pytest.raises(DataError, match="has 1 class; a classifier needs at least 2"):
        labelled("mine", {"train": split, "test": split}, ("cat",))


# npz ------------------------------------------------------------------------------------------------------------------


def arrays(**changes):
    rng = np.random.default_rng(0)
    good = {
        "train_images": rng.integers(0, 256, (20, 6, 5), np.uint8),
        "train_labels": np.arange(20) % 4,
        "test_images": rng.integers(0, 256, (8, 6, 5), np.uint8),
        "test_labels": np.arange(8) % 4,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def save(tmp_path, **changes):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays(**changes))
    return str(path)


def test_npz_reads_both_naming_styles_and_class_names(tmp_path):
    source = npz(save(tmp_path))
    assert source.splits["train"].images.shape == (20, 6, 5, 1) and source.class_names == ("0", "1", "2", "3")
    renamed = {name.replace("train_images", "x_train").replace("test_images", "x_test"): v for name, v in arrays().items()}
    renamed = {name.replace("train_labels", "y_train").replace("test_labels", "y_test"): v for name, v in renamed.items()}
    renamed["y_train"] = renamed["y_train"][:, None]
    np.savez_compressed(tmp_path / "keras.npz", **renamed, class_names=np.array(["a", "b", "c", "d"]))
    other = npz(str(tmp_path / "keras.npz"))
    assert other.fingerprint == source.fingerprint and other.class_names == ("a", "b", "c", "d")
    assert len(npz(save(tmp_path), classes=6).class_names) == 6


def test_npz_without_test_arrays_gets_a_stratified_fifth(tmp_path):
    source = npz(save(tmp_path, test_images=None, test_labels=None))
    assert np.bincount(source.splits["test"].labels).tolist() == [1, 1, 1, 1] and len(source.splits["train"].labels) == 16
    assert any("4 of its 20 examples" in remark for remark in source.remarks)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train_labels": np.arange(19)}, "20 images but 19 labels"),
        ({"train_labels": None}, "no array train_labels; it has train_images, test_images, test_labels"),
        ({"train_images": None, "train_labels": None}, "no training arrays"),
        ({"train_labels": np.arange(20) - 1}, r"example 0 has label -1, outside \[0, 19\)(.|\n)*1 such example"),
        ({"train_labels": np.zeros((20, 4))}, r"shape \(20, 4\) and type float64(.|\n)*argmax"),
        ({"train_images": np.full((20, 6, 5), 300.0)}, r"values from 300 to 300(.|\n)*in \[0, 1\]"),
        ({"train_images": np.full((20, 6, 5), np.nan)}, "values from nan to nan"),
        ({"train_images": np.zeros((20, 6, 5), np.int64)}, "type int64(.|\n)*uint8"),
        ({"train_images": np.zeros((20, 30), np.uint8)}, r"shape \(20, 30\)"),
        ({"test_images": np.zeros((8, 6, 6), np.uint8)}, r"differ in shape: train \(6, 5, 1\), test \(6, 6, 1\)"),
        ({"train_labels": np.array([None] * 20)}, "train_labels cannot be read: Object arrays cannot be loaded"),
        ({"class_names": np.array(["a", "b"])}, r"label 2, outside \[0, 2\)"),
    ],
)
def test_npz_bad_content_is_named(tmp_path, changes, text):
    with pytest.raises(DataError, match=text) as caught:
        npz(save(tmp_path, **changes))
    assert 2 <= len(str(caught.value).splitlines()) <= 3


def test_npz_missing_or_broken_file_is_named(tmp_path):
    (tmp_path / "other.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"no file .*none\.npz(.|\n)*other\.txt(.|\n)*train_images"):
        npz(str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("<html>", encoding="utf-8")
    with pytest.raises(DataError, match=r"text\.npz is not an \.npz file"):
        npz(str(tmp_path / "text.npz"))
    broken = bytearray(pathlib.Path(save(tmp_path)).read_bytes())
    broken[300] ^= 255
    (tmp_path / "flipped.npz").write_bytes(bytes(broken))
    with pytest.raises(DataError, match=r"flipped\.npz: array train_images cannot be read: Bad CRC-32"):
        npz(str(tmp_path / "flipped.npz"))
    with zipfile.ZipFile(tmp_path / "plain.npz", "w") as archive:
        archive.writestr("notes.txt", "no arrays")
    with pytest.raises(DataError, match=r"no training arrays; it has notes\.txt"):
        npz(str(tmp_path / "plain.npz"))


# folder ---------------------------------------------------------------------------------------------------------------


def picture(path, size=(6, 5), mode="RGB", colour=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if colour is not None else 0).save(path, **options)


def cats_and_dogs(root, count=5, **options):
    for label, colour in (("cat", (200, 10, 30)), ("dog", (0, 0, 255))):
        for number in range(count):
            picture(root / label / f"{number}.png", colour=colour, **options)
    return root


def test_folder_reads_classes_and_carves_a_test_split(tmp_path):
    root = cats_and_dogs(tmp_path / "pets")
    (root / ".git").mkdir()
    (root / "notes").mkdir()
    source = folder(str(root))
    assert source.class_names == ("cat", "dog") and source.name == "folder:pets"
    assert {split: len(part.labels) for split, part in source.splits.items()} == {"train": 8, "test": 2}
    data = build(source, batch_size=2)
    assert data.image_shape == (5, 6, 3)
    shown = data.images("test", np.array([0, 1]))
    assert shown[0, 0, 0].tolist() == [200, 10, 30] and shown[1, 0, 0].tolist() == [0, 0, 255]


def test_folder_with_published_splits_keeps_them_and_knows_their_classes(tmp_path):
    root = tmp_path / "pets"
    cats_and_dogs(root / "train")
    cats_and_dogs(root / "test", count=1)
    cats_and_dogs(root / "validation", count=2)
    source = folder(str(root))
    assert {split: len(part.labels) for split, part in source.splits.items()} == {"train": 10, "validation": 4, "test": 2}
    assert build(source, batch_size=2).sizes["validation"] == 4
    picture(root / "test" / "bird" / "0.png")
    with pytest.raises(DataError, match=r"classes that .*train lacks: bird"):
        folder(str(root))


def test_folder_is_grey_only_where_all_images_are(tmp_path):
    root = tmp_path / "grey"
    for label in ("a", "b"):
        for number in range(3):
            picture(root / label / f"{number}.png", mode="L", colour=77)
    assert build(folder(str(root)), batch_size=1).image_shape == (5, 6, 1)
    picture(root / "a" / "9.bmp", colour=(1, 2, 3))
    assert build(folder(str(root)), batch_size=1).image_shape == (5, 6, 3)


def test_folder_converts_modes_the_same_way_every_time(tmp_path):
    red = {
        "rgba.png": ("RGBA", (255, 0, 0, 255), [255, 0, 0]),
        "half.png": ("RGBA", (255, 255, 255, 0), [0, 0, 0]),
        "palette.png": ("P", 0, [0, 0, 0]),
        "bits.png": ("1", 1, [255, 255, 255]),
        "alpha.png": ("LA", (200, 255), [200, 200, 200]),
        "cmyk.jpg": ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        "web.webp": ("RGB", (255, 0, 0), [255, 0, 0]),
    }
    root = cats_and_dogs(tmp_path / "pets")
    for name, (mode, colour, _) in red.items():
        picture(root / "zebra" / name, mode=mode, colour=colour, **({"lossless": True} if "webp" in name else {}))
    source = folder(str(root))
    zebras = {part.images[np.flatnonzero(part.labels == 2)][:, 2, 2].tobytes() for part in source.splits.values()}
    found = sorted(bytes(b"".join(sorted(zebras)))[i : i + 3] for i in range(0, 3 * len(red), 3))
    for ours, theirs in zip(found, sorted(bytes(pixel) for _, _, pixel in red.values()), strict=True):
        assert np.abs(np.array(list(ours)) - np.array(list(theirs))).max() <= 2  # JPEG


def test_folder_applies_the_exif_orientation(tmp_path):
    root = cats_and_dogs(tmp_path / "pets", size=(5, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    for file in (root / "dog").iterdir():
        file.unlink()
        picture(file.with_suffix(".jpg"), size=(6, 5), exif=exif)
    assert build(folder(str(root)), batch_size=2).image_shape == (6, 5, 3)


def broken_files(root):
    whole = (root / "cat" / "0.png").read_bytes()
    picture(root / "late.jpg", size=(64, 64))
    late = (root / "late.jpg").read_bytes()[:-20]
    files = {
        "empty.png": (b"", "empty file"),
        "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", "a web page or XML, not an image"),
        "cut.png": (whole[: len(whole) // 2], "not a whole PNG, JPEG, WebP, BMP, GIF, TIFF, PPM, TGA or JPEG 2000 image"),
        "text.jpg": (
            b"hello world",
            "not a whole PNG, JPEG, WebP, BMP, GIF, TIFF, PPM, TGA or JPEG 2000 image; it begins with b'hello wo'",
        ),
        "late.jpg": (late, "broken or cut short"),
        "gif.png": (b"GIF89a" + bytes(40), "not a whole PNG"),
    }
    for name, (data, _) in files.items():
        (root / "cat" / name).write_bytes(data)
    picture(root / "cat" / "deep.png", mode="I;16", colour=500)
    picture(root / "cat" / "large.png", size=(300, 300))
    reasons = {name: reason for name, (_, reason) in files.items()}
    return reasons | {"deep.png": "16-bit", "large.png": "300 x 300 pixels, above the limit of 10000"}


def test_folder_names_every_kind_of_bad_file(tmp_path):
    root = cats_and_dogs(tmp_path / "pets")
    reasons = broken_files(root)
    with pytest.raises(DataError, match=r"8 of 18 images cannot be used: .*cut\.png: (.|\n)*\(and 5 more\)(.|\n)*=8"):
        folder(str(root), max_pixels=10_000)
    with pytest.raises(DataError, match="skip_bad_images=8"):
        folder(str(root), max_pixels=10_000, skip_bad_images=7)
    source = folder(str(root), max_pixels=10_000, skip_bad_images=8)
    assert sum(len(part.labels) for part in source.splits.values()) == 10
    (said,) = (remark for remark in source.remarks if "cannot be used" in remark)
    assert "8 of 18 images cannot be used" in said
    for name, reason in reasons.items():
        assert f"cat/{name}: {reason}" in said
    assert source.fingerprint == folder(str(cats_and_dogs(tmp_path / "clean"))).fingerprint


def test_folder_decompression_bomb_is_refused_by_its_header(tmp_path):
    root = cats_and_dogs(tmp_path / "pets")
    picture(root / "cat" / "bomb.png", size=(9000, 9000), mode="1")
    with pytest.raises(DataError, match=r"bomb\.png: 9000 x 9000 pixels, above the limit of 50000000"):
        folder(str(root))


def test_folder_of_different_sizes_needs_an_image_size(tmp_path):
    root = cats_and_dogs(tmp_path / "pets")
    picture(root / "cat" / "wide.png", size=(30, 5))
    source = folder(str(root))
    with pytest.raises(DataError, match=r"images of folder:pets differ in size(.|\n)*--image_size"):
        build(source, batch_size=2)
    for mib in (0, 10):
        data = build(source, batch_size=2, image_size=32, image_fit=pad, resident_mib=mib)
        assert data.image_shape == (32, 32, 3) and next(data.evaluate("test", 2))["mask"].all()


def test_folder_that_is_missing_or_has_one_class_shows_what_was_found(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere(.|\n)*Found in(.|\n)*PATH/train/CLASS"):
        folder(str(tmp_path / "nowhere"))
    picture(tmp_path / "one" / "cat" / "0.png")
    (tmp_path / "one" / "readme.txt").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"images of 1 class; at least 2(.|\n)*cat/, readme\.txt(.|\n)*PATH/CLASS"):
        folder(str(tmp_path / "one"))


def test_folder_notices_a_file_that_changed(tmp_path):
    root = cats_and_dogs(tmp_path / "pets")
    source = folder(str(root))
    picture(root / "cat" / "0.png", colour=(9, 9, 9))
    assert folder(str(root)).fingerprint != source.fingerprint
    for file in (root / "cat").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"\.png changed since it was checked: empty file"):
        build(source, batch_size=2)
