"""Bad input to every loader: the file, the example or the box is named, nothing is guessed, and nothing wrong is trained on."""

import io
import os
import pathlib
import struct
import types
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from cnnlab.data import folder, npz, npz_arrays, tfds_columns, tfds_sets
from cnnlab.data.csv_files import csv_table
from cnnlab.data.decode import BadImage, read_image
from cnnlab.data.kinds import Boxes, Image, InstanceMasks, Mask
from cnnlab.data.kinds.boxes import sound_boxes
from cnnlab.data.npz_files import unlabelled_images
from cnnlab.data.pipeline import build
from cnnlab.data.source import LazyImages, Source, Split, labelled
from cnnlab.data.tfds_columns import Features, read_columns, remarks_of
from cnnlab.errors import CnnlabError, DataError
from cnnlab.inputs import InputSpec
from cnnlab.predict.find import find_images
from cnnlab.predict.prepare import preparation_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# Image files ----------------------------------------------------------------------------------------------------------

REASONS = {
    "empty.png": "empty file (0 bytes)",
    "page.jpg": "a web page or XML, not an image; was a download refused?",
    "cut.jpg": "broken or cut short",
    "text.png": "not a whole PNG",
    "pipe.png": "a folder, a pipe or a device, expected a file",
    "endless.png": "a folder, a pipe or a device, expected a file",
    "huge.tif": "16,777,217 bytes, more than an image below the limit of pixels can have (--max_pixels)",
    "bomb.png": "1000 x 1000 pixels, above the limit of 10000 (--max_pixels)",
    "deep.png": "16-bit or floating-point image (mode I;16); convert it to 8 bits per channel",
    "gone.png": "cannot be read (No such file or directory)",
}


def pets(root: pathlib.Path) -> pathlib.Path:
    """A folder of ten small images of two classes, one of which also holds every kind of bad file."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            Pillow.fromarray(random.integers(0, 256, (6, 5, 3), np.uint8)).save(root / name / f"{number}.jpg")
    cat = root / "cat"
    (cat / "empty.png").write_bytes(b"")
    (cat / "page.jpg").write_bytes(b"<!DOCTYPE html><html>404 Not Found</html>")
    (cat / "cut.jpg").write_bytes((cat / "0.jpg").read_bytes()[:-30])
    (cat / "text.png").write_bytes(b"no picture")
    os.mkfifo(root / "a_pipe")  # opened to be read, it waits for ever
    (cat / "pipe.png").symlink_to(root / "a_pipe")
    (cat / "endless.png").symlink_to("/dev/zero")
    with open(cat / "huge.tif", "wb") as file:
        file.truncate(2**24 + 1)
    Pillow.new("1", (1000, 1000)).save(cat / "bomb.png")
    Pillow.new("I;16", (5, 6)).save(cat / "deep.png")
    (cat / "gone.png").symlink_to("nowhere")
    return root


def table_of(root: pathlib.Path) -> str:
    """A table of all image files below a folder that are there."""
    names = [f"{path.parent.name}/{path.name}" for path in sorted(root.glob("*/*.*")) if path.is_file()]
    (root / "table.csv").write_text("\n".join(["file,label", *(f"{name},{name[:3]}" for name in names)]), encoding="utf-8")
    return str(root / "table.csv")


@pytest.mark.parametrize("loader", ["folder", "unlabelled", "table", "predict"])
def test_every_loader_of_image_files_names_each_bad_one_and_leaves_it_out_only_where_asked(loader: str, tmp_path: pathlib.Path):
    root, wanted, limit = pets(tmp_path / "pets"), dict(REASONS), {"max_pixels": 10_000}
    if loader == "predict":
        inputs = InputSpec((6, 5, 3), "uint8", np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), ())
        prepare = preparation_of(inputs, {"data.dataset": "folder:x", "data.dataset.max_pixels": 10_000})
        reasons, good = {}, 0
        for found in find_images([str(root)]).images:
            try:
                good += prepare(found.source).pixels.shape == (6, 5, 3)
            except BadImage as error:
                reasons[pathlib.PurePath(found.name).name] = str(error)
        assert good == 10 and set(reasons) == set(wanted)
        assert all(reasons[name].startswith(reason) for name, reason in wanted.items()), reasons
        return
    if loader == "table":  # it takes regular files alone, and names the rows of all others
        wanted = {name: reason for name, reason in wanted.items() if name not in ("pipe.png", "endless.png", "gone.png")}
    opened: dict[str, Any] = {
        "folder": lambda **how: folder(str(root), **how, **limit),
        "unlabelled": lambda **how: folder(str(root), classes="none", **how, **limit),
        "table": lambda **how: csv_table(table_of(root), **how, **limit),
    }
    count = len(wanted)
    with pytest.raises(DataError, match=rf"{count} of {count + 10} images cannot be used: (.|\n)*--skip_bad_images={count}\.$"):
        opened[loader](skip_bad_images=count - 1)
    source = opened[loader](skip_bad_images=count)
    assert sum(map(len, source.splits.values())) == 10
    (said,) = (remark for remark in source.remarks if "cannot be used and are left out" in remark)
    assert f"{count} of {count + 10} images" in said
    for name, reason in wanted.items():
        assert f"cat/{name}: {reason}" in said


def test_a_prediction_turns_and_converts_an_image_as_the_training_does(tmp_path: pathlib.Path):
    random = np.random.default_rng(0)
    colour, exif = random.integers(0, 256, (8, 6, 3), np.uint8), Pillow.Exif()
    exif[0x0112] = 6
    files = {
        "turned.png": (Pillow.fromarray(colour), {"exif": exif}),
        "palette.png": (Pillow.fromarray(colour).quantize(8), {}),
        "alpha.png": (Pillow.fromarray(random.integers(0, 256, (8, 6, 4), np.uint8)), {}),
        "cmyk.jpg": (Pillow.fromarray(random.integers(0, 256, (8, 6, 4), np.uint8), "CMYK"), {}),
        "two_level.png": (Pillow.fromarray(colour).convert("1"), {}),
    }
    for name, (picture, options) in files.items():
        for label in "ab":
            (tmp_path / "x" / label).mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / "x" / label / name, **options)
    images = folder(str(tmp_path / "x"), classes="none").splits["train"].images
    inputs = InputSpec((6, 8, 3), "uint8", np.zeros((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), ())
    prepare = preparation_of(inputs, {})
    for position, name in enumerate(images.names):
        (trained,) = images.read([position])
        if name.endswith("turned.png"):
            assert np.array_equal(trained, np.rot90(colour, -1))
            assert np.array_equal(prepare(tmp_path / "x" / name).pixels, trained)
        else:
            assert trained.shape == (8, 6, 3)
        pixels = read_image(tmp_path / "x" / name, max_pixels=100).pixels
        assert np.array_equal(np.broadcast_to(pixels, trained.shape), trained)


def test_of_16_bit_colour_the_high_byte_is_kept(tmp_path: pathlib.Path):
    values = np.random.default_rng(0).integers(0, 2**16, (3, 4, 3), np.uint16)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)  # 16 bits a channel, RGB
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(read_image(tmp_path / "x.png", max_pixels=100).pixels, values >> 8)


FORMATS = {"png": "png", "jpg": "jpeg", "webp": "webp", "gif": "gif", "bmp": "bmp", "tif": "tiff"}


@pytest.mark.parametrize("ending", FORMATS)
def test_an_image_file_that_is_damaged_anywhere_is_decoded_or_a_bad_image(ending: str, tmp_path: pathlib.Path):
    random, path = np.random.default_rng(0), tmp_path / f"x.{ending}"
    Pillow.fromarray(random.integers(0, 256, (9, 8, 3), np.uint8)).save(path, FORMATS[ending])
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 12))]
    for place in random.integers(0, len(whole), 20).tolist():
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << int(random.integers(8))]) + whole[place + 1 :])
    named = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert read_image(path, max_pixels=10_000).pixels.ndim == 3
        except BadImage as error:
            named += 1
            assert "\n" not in str(error)
    assert named >= 9


# Archives -------------------------------------------------------------------------------------------------------------


def small_npz(path: pathlib.Path, save: Any = np.savez) -> bytes:
    """Writes a small .npz file; returns its content."""
    images, labels = np.random.default_rng(0).integers(0, 256, (8, 3, 3), np.uint8), np.arange(8) % 2
    named = {"train_images": images, "train_labels": labels, "test_images": images[:4], "test_labels": labels[:4]}
    save(path, **named, class_names=np.array(["a", "b"]))
    return path.read_bytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_flipped_bit_of_an_npz_file_is_named_or_changes_nothing(save: Any, tmp_path: pathlib.Path):
    path = tmp_path / "x.npz"
    whole = small_npz(path, save)
    source, noticed = npz(str(path)), 0
    # Of the directory at the end, whose lengths and names zipfile does not compare by itself, every byte.
    places = {*range(0, len(whole), 17), *(range(len(whole) - 340, len(whole)) if save is np.savez_compressed else ())}
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 if place % 8 else 64)]) + whole[place + 1 :])
        try:
            found = npz(str(path))
        except DataError as error:
            assert str(path) in str(error)
            noticed += 1
        else:
            assert (found.fingerprint, found.class_names) == (source.fingerprint, ("a", "b")), place
    assert noticed > len(places) / 2


def test_an_archive_that_would_use_up_the_memory_is_refused_before_it_is_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((2000, 20, 20), np.uint8), labels=np.arange(2000) % 2)
    monkeypatch.setattr(npz_arrays, "memory_of_machine", lambda: 2**18)
    for read in (lambda: npz(str(path)), lambda: unlabelled_images(path)):
        with pytest.raises(
            DataError, match=r"bomb\.npz: array images takes 781\.2 KiB when it is decompressed, from .*256\.0 KiB"
        ):
            read()
    with zipfile.ZipFile(path, "w") as archive:  # a header alone, which asks for a terabyte
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 1, 1), }"
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        archive.writestr("labels.npy", b"")
    with pytest.raises(DataError, match=r"array images declares the shape \(1099511627776, 1, 1\), .* and its member holds"):
        npz(str(path))
    monkeypatch.setattr(npz_arrays, "MOST_MEMBERS", 3)
    small_npz(path)
    with pytest.raises(DataError, match="has 5 members, expected 3 at most"):
        npz(str(path))


def test_nothing_of_an_archive_is_written_whatever_its_members_are_called(tmp_path: pathlib.Path):
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "x.npz"
    small_npz(path)
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../evil.npy", f"{tmp_path}/evil.npy", "train_images/../../evil.npy"):
            archive.writestr(name, b"evil")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16  # a symbolic link
        archive.writestr(link, str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    (said,) = (remark for remark in npz(str(path)).remarks if "left out" in remark)
    assert "4 arrays left out" in said and "../evil" in said
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("train_images.npy", b"")
    with pytest.raises(DataError, match="several arrays of one name: train_images"):
        npz(str(path))


# Tables ---------------------------------------------------------------------------------------------------------------


def test_a_table_that_is_missing_or_that_names_impossible_files_is_refused(tmp_path: pathlib.Path):
    (tmp_path / "other.csv").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"none\.csv cannot be read: No such file(.|\n)*Found in .*: other\.csv"):
        csv_table(str(tmp_path / "none.csv"))
    path = tmp_path / "table.csv"
    for cell in ("x" * 300 + ".png", "a\0b.png", "../table"):
        path.write_text(f"file,label\n{cell},a\n", encoding="utf-8")
        with pytest.raises(DataError, match="1 of 1 file are not there: line 2: "):
            csv_table(str(path))
    path.write_text('file,label\n"a.png,a\n' + "b.png,b\n" * 20_000, encoding="utf-8")
    with pytest.raises(DataError, match=r"line \d+: field larger than field limit(.|\n)*a quotation mark that is not closed"):
        csv_table(str(path))


def test_a_column_of_splits_that_cuts_a_group_is_refused(tmp_path: pathlib.Path):
    lines = ["file,label,patient,split"]
    for number in range(12):
        Pillow.new("L", (3, 2), number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},p{number // 2},{'train' if number < 7 else 'test'}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"1 of 6 groups of the column patient are in more than one split: p3 \(train, test\)\."
    ):
        csv_table(str(tmp_path / "t.csv"), group="patient")
    assert len(csv_table(str(tmp_path / "t.csv")).splits["test"]) == 5


# Columns of images, masks and boxes -----------------------------------------------------------------------------------

GREY = np.zeros((4, 12, 8, 1), np.uint8)
SIZES = np.array([[12, 8]] * 4, np.int32)


def opened(kind: Any, values: Any, images: Any = GREY) -> Source:
    return Source("mine", {"train": Split({"image": images, "more": values})}, {"image": Image(), "more": kind}, "")


def test_a_mask_of_another_size_than_its_image_is_named():
    mask = np.zeros((4, 10, 8), np.uint8)
    for kind, values in ((Mask(("a", "b")), mask), (InstanceMasks(), mask[:, None])):
        with pytest.raises(DataError, match=r"column more: example 0 is 8 x 10 pixels, and its image 8 x 12 \(4 such\)"):
            opened(kind, values)
    names = [f"{number}.png" for number in range(4)]
    sizes = SIZES.copy()
    sizes[2] = (12, 9)
    lazy = LazyImages(lambda positions: [GREY[0, :, :, 0]] * len(positions), 4, (None, None), names=names, sizes=sizes)
    with pytest.raises(DataError, match=r"example 2 \(2\.png\) is 9 x 12 pixels, and its image 8 x 12 \(1 such\)"):
        opened(Mask(("a", "b")), lazy)
    # Where the sizes are not known before the masks are decoded, the first batch names the one that differs.
    unknown = LazyImages(lambda positions: [mask[0]] * len(positions), 4, (None, None), names=names)
    with pytest.raises(DataError, match=r"\d\.png is 8 x 10 pixels, and its image 8 x 12"):
        build(opened(Mask(("a", "b")), unknown), batch_size=2, image_size=6, validation=0.0)


BAD_BOXES = {
    "outside": ([[-3, 1, 4, 5]], "beyond their image: number 1[0]"),
    "no area": ([[4, 1, 4, 5]], "without an area: number 1[0]"),
    "turned": ([[5, 1, 4, 5]], "without an area: number 1[0]"),
    "not a number": ([[np.nan, 1, 4, 5]], "with a number that is not finite: number 1[0]"),
    "far away": ([[20, 30, 22, 33]], "without an area: number 1[0]"),
}


@pytest.mark.parametrize("case", BAD_BOXES)
def test_a_box_that_is_not_sound_is_refused_or_clipped_or_dropped_by_the_policy(case: str):
    box, said = BAD_BOXES[case]
    corners = np.tile(np.array([[1, 2, 3, 4.25]], np.float32), (4, 1, 1))
    corners[1] = box
    values = {"corners": corners, "label": np.zeros((4, 1), np.int32), "valid": np.ones((4, 1), bool)}
    with pytest.raises(DataError, match=r"column more: .*1"):
        opened(Boxes(("thing",)), values)
    with pytest.raises(DataError, match=r"boxes: 1 box .*1\[0\]"):
        sound_boxes(values, SIZES, "boxes", policy="error")
    for policy in ("clip", "drop"):
        sound, remarks = sound_boxes(values, SIZES, "boxes", policy=policy)  # type: ignore[arg-type]
        is_clipped = case == "outside" and policy == "clip"
        assert remarks == [f"boxes: 1 box {said}, {'clipped' if is_clipped else 'left out'}"]
        assert sound["valid"][:, 0].tolist() == [True, is_clipped, True, True]
        assert np.array_equal(sound["corners"][[0, 2, 3]], corners[[0, 2, 3]])
        assert not is_clipped or sound["corners"][1, 0].tolist() == [0, 1, 4, 5]
        opened(Boxes(("thing",)), sound)


def test_floats_that_are_not_finite_or_are_grey_levels_are_refused_with_their_range():
    images, labels = np.zeros((4, 3, 3, 1), np.float32), np.array([0, 1, 0, 1], np.int32)
    images[2, 1, 1, 0] = np.nan
    with pytest.raises(DataError, match=r"column image: example 2 has a value that is not finite \(1 such\)"):
        labelled("mine", {"train": (images, labels)}, "ab")
    images[2, 1, 1, 0] = 255
    with pytest.raises(DataError, match=r"column image: its floats are from 0 to 255\.\nExpected floats in \[0, 1\]"):
        labelled("mine", {"train": (images, labels)}, "ab")
    images[2, 1, 1, 0] = 1.02  # interpolation overshoots
    labelled("mine", {"train": (images, labels)}, "ab")
    labelled("mine", {"train": (255 * images - 100, labels)}, "ab")  # normalised before: as it is


# TFDS -----------------------------------------------------------------------------------------------------------------


def encoded(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("L", size, 1).save(buffer, "PNG")
    return buffer.getvalue()


class Prepared:
    """A prepared set whose examples are given."""

    def __init__(self, folder: pathlib.Path, records: list[Any]) -> None:
        self.data_path, self.records = folder, records
        self.info = types.SimpleNamespace(features={}, splits={"train": types.SimpleNamespace(num_examples=len(records))})

    def as_data_source(self, split: str, decoders: object) -> Any:
        def examples(positions: Any) -> list[Any]:
            found = [self.records[position] for position in positions]
            if any(isinstance(record, Exception) for record in found):
                raise next(record for record in found if isinstance(record, Exception))
            return found

        return types.SimpleNamespace(__getitems__=examples)


FEATURES = Features("image", None, "objects", "bbox", None, ("mask",), ())


def record(image: bytes, mask: bytes, box: list[float]) -> dict[str, Any]:
    return {"image": image, "mask": mask, "objects": {"bbox": [box]}}


def test_examples_of_a_prepared_set_that_cannot_be_used_are_named_with_their_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tfds_columns, "image_features", lambda builder: ["image", "mask"])
    monkeypatch.setattr(tfds_columns, "undecoded", lambda names: {})
    (tmp_path / "toy-train.array_record-00000-of-00001").touch()
    good, whole = record(encoded((8, 12)), encoded((8, 12)), [0.0, 0.0, 0.5, 0.5]), [0.0, 0.0, 0.5, 0.5]
    cases = {
        "image cannot be used: a web page or XML": record(b"<html>404</html>", encoded((8, 12)), whole),
        "image cannot be used: 9000 x 9000 pixels, above the limit of 50000000": record(encoded((9000, 9000)), b"", whole),
        "image cannot be used: not a whole PNG": record(b"", encoded((8, 12)), whole),
        "mask is 8 x 10 pixels, and the image 8 x 12": record(encoded((8, 12)), encoded((8, 10)), whole),
        "cannot be read: RuntimeError: Corrupted records": RuntimeError("Corrupted records\nand more"),
    }
    for said, bad in cases.items():
        with pytest.raises(DataError) as caught:
            read_columns(Prepared(tmp_path, [good, good, bad, good]), FEATURES, "train")
        text = str(caught.value)
        assert text.startswith(f"{tmp_path}/toy-train.array_record-00000-of-00001, split train, example 2"), text
        assert said in text and "--max_pixels" not in text
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.0, -0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.3], [0.0, float("nan"), 0.5, 0.5]]
    found = read_columns(Prepared(tmp_path, [{**good, "objects": {"bbox": [box]}} for box in boxes]), FEATURES, "train")
    assert found["valid"][:, 0].tolist() == [True, True, False, False] and found["corners"][1, 0].tolist() == [0, 0, 4, 6]
    assert remarks_of("toy", FEATURES, {"train": found}) == [
        "tfds:toy: 2 boxes without an area not used",
        "tfds:toy: 1 box beyond their image clipped",
    ]


def test_files_of_a_prepared_set_that_hold_other_examples_than_declared_are_refused(tmp_path: pathlib.Path):
    module = pytest.importorskip("array_record.python.array_record_module")
    path = tmp_path / "toy-train.array_record-00000-of-00001"
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    for number in range(5):
        writer.write(bytes([number]))
    writer.close()
    tfds_sets._require_all_records(Prepared(tmp_path, [{}] * 5), "train")
    with pytest.raises(
        DataError, match=r"split train has 5 examples, and dataset_info\.json says 4\.\n.*prepare the set again"
    ):
        tfds_sets._require_all_records(Prepared(tmp_path, [{}] * 4), "train")
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(CnnlabError, match=r"toy-train\.array_record-00000-of-00001 cannot be read: "):
        tfds_sets._require_all_records(Prepared(tmp_path, [{}] * 5), "train")
