"""The nuclei of the Data Science Bowl: union of the masks, boxes, kinds of images, the split, and masks by area."""

import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.kinds import Mask
from cnnlab.data.loading import at_final_size
from cnnlab.data.nuclei import nuclei
from cnnlab.data.placement import Placement
from cnnlab.data.resize import resize
from cnnlab.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without the entries of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(
    root: pathlib.Path, name: str, boxes: list[tuple[int, int, int, int]], *, coloured: bool = False, bits: int = 8
) -> np.ndarray:
    """Writes an image with rectangles (x1, y1, x2, y2) as nuclei, and the mask of each, of 8 or 1 bits; returns their union."""
    masks = np.zeros((len(boxes), 12, 16), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 255
    union = masks.max(axis=0)
    pixels = np.stack([union, union, union // 2 if coloured else union, np.full_like(union, 255)], axis=-1)
    for part, files in (("images", {name: pixels}), ("masks", {f"{name}{n}": mask for n, mask in enumerate(masks)})):
        (root / name / part).mkdir(parents=True)
        for stem, array in files.items():
            picture = Image.fromarray(array)
            (picture.convert("1") if part == "masks" and bits == 1 else picture).save(root / name / part / f"{stem}.png")
    return union


def test_nuclei_have_a_union_boxes_masks_and_a_kind_of_image(tmp_path):
    boxes = [[(1, 2, 5, 6)], [(0, 0, 3, 3), (2, 2, 8, 9)], [(4, 4, 10, 8)], [(1, 1, 2, 2), (5, 5, 6, 6), (9, 9, 16, 12)]]
    made = tmp_path / "stage1_train"
    unions = [write(made, f"id{n}", own, coloured=n == 2, bits=1 if n == 1 else 8) for n, own in enumerate(boxes)]
    found = nuclei(str(tmp_path), instances=True)
    order = np.random.default_rng(0).permutation(4)
    assert order.tolist() == [2, 0, 1, 3]  # NumPy does not promise this stream for ever
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 3, "test": 1}
    for split, ids in (("train", [0, 1, 3]), ("test", [2])):
        columns = found.splits[split].columns
        assert columns["label"].tolist() == [int(n == 2) for n in ids]
        assert np.array_equal(columns["segmentation"][np.arange(len(ids))], np.stack([unions[n] > 0 for n in ids]))
        objects, instances = columns["objects"], columns["instances"][np.arange(len(ids))]
        assert [own[:3].any(axis=(1, 2)).tolist() for own in instances] == objects["valid"].tolist()
        assert [corners[valid].tolist() for corners, valid in zip(objects["corners"], objects["valid"], strict=True)] == [
            [list(map(float, box)) for box in boxes[n]] for n in ids
        ]
        counts = found.kinds["segmentation"].occurrences(columns["segmentation"])
        assert counts.tolist()[1] == sum(int((unions[n] > 0).sum()) for n in ids)
    parts, _ = at_final_size(found, 4, resize, 0)
    assert parts["train"].columns["segmentation"][np.arange(3)].shape == (3, 4, 4)


def test_a_mask_by_area_is_the_larger_part_and_its_counts_add_up():
    """Where two pixels become one the later class wins a tie; a size that is no multiple has the exact areas."""
    kind = Mask(("ground", "object"), by_area=True)
    mask = np.zeros((1, 4, 5), np.uint8)
    mask[0, :2, :2] = 1  # an upper left pixel of 2 x 2.5 has 4 of 5 parts; those beside and below it none
    mask[0, 3, 2:] = 1  # a lower right one has 2.5 of 5
    place = Placement((0.5, 0.4), (0.0, 0.0), (2, 2), (4, 5))
    assert kind.fitted(mask, lambda _: place)[0].tolist() == [[1, 0], [0, 1]]
    mask[0, :2, :2] = 255
    assert kind.fitted(mask, lambda _: place)[0].tolist() == [[255, 0], [0, 1]]
    inner = Placement((1.0, 1.0), (1.0, 0.0), (6, 5), (4, 5))
    assert kind.fitted(mask, lambda _: inner)[0][[0, 5]].tolist() == [[255] * 5] * 2
    assert np.array_equal(kind.fitted(mask, lambda _: inner)[0][1:5], mask[0])


def test_a_folder_without_the_layout_says_what_to_unpack(tmp_path):
    (tmp_path / "stage1_train_subset.tar.xz").touch()
    with pytest.raises(DataError, match=r"no folders ID/images and ID/masks\.\n.*\n.*tar -xf .*stage1_train_subset.tar.xz"):
        nuclei(str(tmp_path))
    write(tmp_path, "id0", [(1, 1, 4, 4)])
    (tmp_path / "id0" / "masks" / "id00.png").unlink()
    with pytest.raises(DataError, match=r"id0 has 1 image and 0 masks"):
        nuclei(str(tmp_path))


@pytest.mark.slow
def test_the_subset_has_the_split_and_the_areas_of_the_page_on_breadth(shared_data, tmp_path):
    """At 128 x 128 the 40 test images (37 and 3 of the two kinds) are background for 91.8 %."""
    archive = shared_data / "dsb2018_nuclei" / "stage1_train_subset.tar.xz"
    if not archive.is_file():
        pytest.skip("no archive of nuclei here")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    found = nuclei(str(tmp_path))
    assert {split: np.bincount(part.columns["label"]).tolist() for split, part in found.splits.items()} == {
        "train": [113, 7],
        "test": [37, 3],
    }
    masks = at_final_size(found, 128, resize, 0)[0]["test"].columns["segmentation"][np.arange(40)]
    assert round(float((masks == 0).mean()), 3) == 0.918
