"""Folders of images and masks: classes by colours, indices and grey levels, splits and groups, and what is refused."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from stages import slow_but

from cnnlab.data.loading import at_final_size
from cnnlab.data.mask_folders import masks
from cnnlab.data.resize import resize
from cnnlab.errors import DataError

CLASSES = "name,r,g,b\nroad,110,193,228\nwater,226,169,41\nunlabeled,155,155,155\n"
COLOURS = np.array([[110, 193, 228], [226, 169, 41], [155, 155, 155]], np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without the entries of other tests, each of which is read when files are checked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def numbers(seed: int, height: int = 6, width: int = 8, classes: int = 2) -> np.ndarray:
    """A mask of numbers below `classes`, u8 [H, W], with at least one pixel of each."""
    drawn = np.random.default_rng(seed).integers(0, classes, (height, width), dtype=np.uint8)
    drawn[0, :classes] = np.arange(classes)
    return drawn


def write(root: pathlib.Path, stem: str, mask: np.ndarray | Image.Image, *, size: tuple[int, int] | None = None) -> None:
    """Writes an image of noise and its mask below the root."""
    drawn = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    width, height = size or drawn.size
    for part, ending, picture in (("images", "jpg", Image.effect_noise((width, height), 40)), ("masks", "png", drawn)):
        file = root / part / f"{stem}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)


def palette(mask: np.ndarray) -> Image.Image:
    """A mask of numbers as a PNG with the palette of the classes."""
    drawn = Image.fromarray(mask, "P")
    drawn.putpalette(COLOURS.reshape(-1).tolist())
    return drawn


FORMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray | Image.Image], str | None]] = {
    "colours": (lambda mask: COLOURS[mask], CLASSES),
    "a palette read by its colours": (palette, CLASSES),
    "indices of a palette": (palette, "name\nroad\nwater\nunlabeled\n"),
    "grey levels": (lambda mask: np.array([10, 20, 255], np.uint8)[mask], "name,value\nroad,10\nwater,20\n"),
    "grey levels in three channels": (lambda mask: np.repeat(mask[..., None], 3, 2), "name,value\nroad,0\nwater,1\nvoid,2\n"),
    "no file of classes": (lambda mask: np.array([0, 1, 255], np.uint8)[mask], None),
}


@pytest.mark.parametrize("form", slow_but(FORMS, "colours", "no file of classes"))
def test_masks_of_every_form_become_classes(form, tmp_path):
    """The same masks of two classes, and of pixels that are ignored, come out of every form of file."""
    drawn, classes = FORMS[form]
    wanted = [numbers(seed, classes=3) for seed in range(5)]
    for seed, mask in enumerate(wanted):
        write(tmp_path, f"a{seed}", drawn(mask))
    if classes:
        (tmp_path / "classes.csv").write_text(classes)
    found = masks(str(tmp_path))
    kind, test = found.kinds["segmentation"], found.splits["test"]
    assert kind.names == (("road", "water") if classes else ("background", "object")) and kind.ignore == 255
    for split in found.splits.values():
        values = split.columns["segmentation"]
        stems = [int(pathlib.Path(name).stem[1:]) for name in split.images.names]
        truth = np.array([0, 1, 255], np.uint8)[np.stack([wanted[stem] for stem in stems])]
        assert np.array_equal(values[np.arange(len(split))], truth)
        assert kind.occurrences(values).tolist() == [(truth == 0).sum(), (truth == 1).sum()]
    assert len(test) == 1 and any("has no test split" in remark for remark in found.remarks)


def test_black_and_white_masks_need_no_file_and_a_list_of_names_does(tmp_path):
    for stem in "abc":
        write(tmp_path, stem, numbers(ord(stem)) * np.uint8(255))
    assert masks(str(tmp_path)).class_names == ("background", "object")
    (tmp_path / "classes.json").write_text('{"sky": [0, 0, 0], "void": [1, 1, 1], "cell": [255, 255, 255], "wall": [9, 9, 9]}')
    named = masks(str(tmp_path))
    assert named.class_names == ("sky", "cell", "wall") and any("no pixel of 1 class: wall" in one for one in named.remarks)
    assert named.kinds["segmentation"].colours == ((0, 0, 0), (255, 255, 255), (9, 9, 9))
    assert masks(str(tmp_path)).fingerprint == named.fingerprint
    (tmp_path / "classes.txt").write_text("sky\ncell\n")
    with pytest.raises(DataError, match=r"of the number 255|every pixel that counts is of one class, sky"):
        masks(str(tmp_path))


def test_folders_of_splits_and_of_groups(tmp_path):
    for split in ("train", "val", "test"):
        for place in ("a", "deep/b"):
            write(tmp_path / "splits" / split, place, numbers(len(split)))
    found = masks(str(tmp_path / "splits"))
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 2, "validation": 2, "test": 2}
    for tile in ("tile1", "tile2", "tile3"):
        for stem in "ab":
            write(tmp_path / "tiles" / tile, stem, numbers(2))
    found = masks(str(tmp_path / "tiles"), test_groups=("tile2",))
    groups = {split: set(part.columns["group"].tolist()) for split, part in found.splits.items()}
    assert groups == {"train": {"tile1", "tile3"}, "test": {"tile2"}}
    found = masks(str(tmp_path / "tiles"))  # a share by whole groups
    groups = {split: set(part.columns["group"].tolist()) for split, part in found.splits.items()}
    assert not groups["train"] & groups["test"] and all(len(part) % 2 == 0 for part in found.splits.values())
    for knob, words in (("tile4", r"no group tile4\. Did you mean"), ("tile1,tile2,tile3", "no other group is left")):
        with pytest.raises(DataError, match=words):
            masks(str(tmp_path / "tiles"), test_groups=tuple(knob.split(",")))


def test_a_table_of_groups(tmp_path):
    for stem in "abcd":
        write(tmp_path, stem, numbers(3))
    (tmp_path / "groups.csv").write_text("file,group\nimages/a.jpg,x\nb,x\nc.jpg,y\nimages/d,y\n")
    found = masks(str(tmp_path), test_groups=("y",))
    assert [pathlib.Path(name).stem for name in found.splits["test"].images.names] == ["c", "d"]
    assert found.splits["train"].columns["group"].tolist() == ["x", "x"]
    (tmp_path / "groups.csv").write_text("file,group\na,x\nb,x\nc,y\n")
    with pytest.raises(DataError, match=r"1 image of 4 in no row: images/d.jpg"):
        masks(str(tmp_path))
    (tmp_path / "groups.csv").write_text("file,group\na,x\nb,x\nc,y\nd,y\nimages/a,y\n")
    with pytest.raises(DataError, match=r"line 6: images/a is in y here and in x above"):
        masks(str(tmp_path))


def test_a_group_of_a_table_lies_in_one_split(tmp_path):
    for split, stem in (("train", "a"), ("train", "b"), ("test", "c")):
        write(tmp_path / split, stem, numbers(3))
    (tmp_path / "groups.csv").write_text("file,group\ntrain/a,x\ntrain/b,y\ntest/c,x\n")
    with pytest.raises(DataError, match=r"1 group of 2 in more than one split: x"):
        masks(str(tmp_path))


def _without_mask(root: pathlib.Path) -> None:
    (root / "masks" / "b.png").unlink()


def _without_image(root: pathlib.Path) -> None:
    (root / "images" / "b.jpg").unlink()


def _other_size(root: pathlib.Path) -> None:
    write(root, "b", COLOURS[numbers(1)], size=(9, 6))


def _unknown_colour(root: pathlib.Path) -> None:
    mask = COLOURS[numbers(1)]
    mask[2:4, 1:3] = (111, 190, 228)
    write(root, "b", mask)


def _beyond_classes(root: pathlib.Path) -> None:
    (root / "classes.csv").write_text("name\nroad\nwater\n")
    for stem in "abc":
        write(root, stem, numbers(1, classes=3))


def _colours_without_file(root: pathlib.Path) -> None:
    (root / "classes.csv").unlink()


def _one_class(root: pathlib.Path) -> None:
    for stem in "abc":
        write(root, stem, COLOURS[np.zeros((6, 8), int)])


def _one_class_without_file(root: pathlib.Path) -> None:
    (root / "classes.csv").unlink()
    for stem in "abc":
        write(root, stem, np.zeros((6, 8), np.uint8))


def _one_class_named(root: pathlib.Path) -> None:
    (root / "classes.csv").write_text("name,r,g,b\nroad,110,193,228\nvoid,0,0,0\n")


def _two_rows_of_a_colour(root: pathlib.Path) -> None:
    (root / "classes.csv").write_text(CLASSES + "sea,226,169,41\n")


def _ignored_everywhere(root: pathlib.Path) -> None:
    for stem in "abc":
        write(root, stem, COLOURS[np.full((6, 8), 2)])


def _empty(root: pathlib.Path) -> None:
    for file in [*(root / "images").iterdir(), *(root / "masks").iterdir()]:
        file.unlink()


def _no_folders(root: pathlib.Path) -> None:
    (root / "images").rename(root / "pictures")
    (root / "masks").rename(root / "annotations")


def _a_photo(root: pathlib.Path) -> None:
    write(root, "b", np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


REFUSED = {
    _without_mask: r"1 image of 3 in .*images without a mask: b.jpg\.\nExpected a file of the same name",
    _without_image: r"1 mask of 3 in .*masks without an image: b.png\.",
    _other_size: r"b.png is 8 x 6 pixels, and its image 9 x 6 \(1 such\)",
    _unknown_colour: r"b.png has 4 pixels of the colour 111,190,228, which is no class \(4 pixels of 1 mask show none\)\.\n"
    r"Expected colours of classes.csv; the nearest one is 110,193,228, road\.\n.*--dataset\.ignore_unknown",
    _beyond_classes: r"[abc].png has \d+ pixels of the number 2, which is no class .*\n.*nearest one is 1, water",
    _colours_without_file: r"have 2 colours, and no file says what they mean: 110,193,228, 226,169,41\.",
    _one_class: r"every pixel that counts is of one class, road\.",
    _one_class_without_file: r"hold 0 alone: one class\.",
    _one_class_named: r"names 1 class: road\.\nExpected 2 to 255",
    _two_rows_of_a_colour: r"sea and water are both 226,169,41",
    _ignored_everywhere: r"every pixel of its 3 masks is ignored",
    _empty: r"images has no images\.",
    _no_folders: r"has no folders images and masks\.\nFound there: annotations/, classes.csv, pictures/\.",
    _a_photo: r"b.png has 2,\d+ different colours, so it is no mask",
}


@pytest.mark.parametrize(
    "damage",
    slow_but(REFUSED, _without_mask, _without_image, _other_size, _unknown_colour, _one_class, _ignored_everywhere),
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_what_cannot_be_used_is_one_clear_error(damage, tmp_path):
    for stem in "abc":
        write(tmp_path, stem, COLOURS[numbers(1)])
    (tmp_path / "classes.csv").write_text(CLASSES)
    damage(tmp_path)
    with pytest.raises(DataError, match=REFUSED[damage]):
        masks(str(tmp_path))


def test_unknown_colours_and_masks_that_are_ignored_throughout_are_said(tmp_path):
    for stem in "abc":
        write(tmp_path, stem, COLOURS[numbers(1)])
    (tmp_path / "classes.csv").write_text(CLASSES)
    _unknown_colour(tmp_path)
    write(tmp_path, "d", COLOURS[np.full((6, 8), 2)])
    found = masks(str(tmp_path), ignore_unknown=True)
    assert any("4 pixels of 1 mask show no class (111,190,228, …) and do not count" in one for one in found.remarks)
    assert any("every pixel of 1 mask is ignored, which counts for nothing: masks/d.png" in one for one in found.remarks)


def test_masks_are_cached_follow_their_images_and_a_changed_file_is_noticed(tmp_path):
    for seed in range(6):
        write(tmp_path, f"a{seed}", COLOURS[numbers(seed, 6 + seed, 8)])
    (tmp_path / "classes.csv").write_text(CLASSES)
    parts, _ = at_final_size(masks(str(tmp_path)), 16, resize, 0)
    for _ in range(2):  # decoded, then from the cache
        read = {name: parts["train"].columns[name][np.arange(5)] for name in ("image", "segmentation")}
        assert read["image"].shape == (5, 16, 16, 1) and read["segmentation"].shape == (5, 16, 16)
        assert set(np.unique(read["segmentation"])) == {0, 1}
    write(tmp_path, "a1", COLOURS[numbers(7, 7, 8)])
    for name in ("image", "segmentation"):
        with pytest.raises(DataError, match=r"a1.(jpg|png) changed since it was checked"):
            [part.columns[name][np.arange(len(part))] for part in parts.values()]
