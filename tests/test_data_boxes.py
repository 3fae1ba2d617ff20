"""Boxes in COCO's JSON and in the layout of VOC: corners, classes, splits and flags, what is counted, and what is refused."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.coco_files import coco
from cnnlab.data.loading import at_final_size
from cnnlab.data.resize import resize
from cnnlab.data.voc_folders import voc
from cnnlab.errors import DataError
from cnnlab.ops.objects import of_boxes

WIDTH, HEIGHT = 40, 30


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without the entries of other tests, each of which is read when files are checked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(file: pathlib.Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Writes an image of noise of (width, height)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 40).convert("RGB").save(file)


def instances(count: int = 6) -> dict[str, list[dict]]:
    """COCO's instances of some images: the last has no object, the others a box each of category 90 or 7."""
    images = [{"id": 100 + n, "file_name": f"{n:03d}.jpg", "width": WIDTH, "height": HEIGHT} for n in range(count)]
    annotations = [
        {"id": 5 + n, "image_id": 100 + n, "category_id": (90, 7)[n % 2], "bbox": [2 + n, 3.5, 10, 8], "iscrowd": 0}
        for n in range(count - 1)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}]}


def write_coco(root: pathlib.Path, content: object, name: str = "labels.json") -> str:
    """Writes a file of annotations and the images that it lists beside it; returns its path."""
    root.mkdir(parents=True, exist_ok=True)
    for one in content["images"] if isinstance(content, dict) else []:
        if not (root / one["file_name"]).exists():
            picture(root / one["file_name"])
    (root / name).write_text(json.dumps(content))
    return str(root / name)


def boxes_of(source) -> dict[str, list]:
    """{file: (corners, label) of each valid box} of all splits."""
    found = {}
    for part in source.splits.values():
        values = part.columns["boxes"]
        for place, name in enumerate(part.images.names):
            valid = values["valid"][place]
            pairs = zip(values["corners"][place][valid].tolist(), values["label"][place][valid].tolist(), strict=True)
            found[pathlib.Path(name).name] = list(pairs)
    return found


def test_a_file_of_coco_is_read_with_its_categories_by_number_and_images_without_objects(tmp_path):
    source = coco(write_coco(tmp_path, instances()))
    assert source.class_names == ("cat", "dog") and source.kinds["boxes"].published == (7, 90)
    found = boxes_of(source)
    assert found["000.jpg"] == [([2, 3.5, 12, 11.5], 1)] and found["001.jpg"] == [([3, 3.5, 13, 11.5], 0)]
    assert found["005.jpg"] == [] and len(found) == 6 and len(source.splits["test"]) == 1
    assert any("1 image of" in one and "without an object" in one for one in source.remarks)
    assert set(source.splits["train"].columns["boxes"]) == {"corners", "label", "valid"}


def test_areas_are_those_of_the_file_in_pixels_of_the_image_whatever_its_size(tmp_path):
    content = instances()
    content["annotations"][0]["area"] = 31.5
    source = coco(write_coco(tmp_path, content))
    parts, _ = at_final_size(source, 20, resize, 0)
    by_area = {}
    for part in (*source.splits.values(), *parts.values()):
        for place, name in enumerate(part.images.names):
            truth = {key: values[place] for key, values in part.columns["boxes"].items()}
            found = {**truth, "score": np.ones(len(truth["valid"]))}
            objects = of_boxes(truth, found)
            by_area.setdefault(pathlib.Path(name).name, []).append([*objects.area, *objects.found_area])
    # The image is 40 x 30 and then 20 x 20; a found box has its own area, and the second has none in the file.
    np.testing.assert_allclose(by_area["000.jpg"], [[31.5, 80.0]] * 2, rtol=1e-5)
    np.testing.assert_allclose(by_area["001.jpg"], [[80.0, 80.0]] * 2, rtol=1e-5)
    content["annotations"][2]["area"] = -1
    with pytest.raises(DataError, match=r"annotations\[2\] \(id 7\): area is -1.\nExpected a number of square pixels"):
        coco(write_coco(tmp_path, content))


def test_files_of_splits_have_their_images_in_the_folders_that_coco_has(tmp_path):
    content = {split: instances(count) for split, count in (("train2017", 4), ("val2017", 3))}
    for split, one in content.items():
        for image in one["images"]:
            picture(tmp_path / split / image["file_name"])
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(one))
    train, held = (str(tmp_path / "annotations" / f"instances_{split}.json") for split in content)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "labels.json").write_text(json.dumps(content["train2017"]), encoding="utf-8")
    source = coco(train, test=held)
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 4, "test": 3}
    assert source.fingerprint != coco(train).fingerprint
    with pytest.raises(DataError, match=r"is listed twice"):
        coco(train, test=train)
    with pytest.raises(DataError, match=r"is in none of .*\n.*--dataset\.image_folder=FOLDER"):
        coco(str(tmp_path / "far" / "labels.json"))


def test_boxes_that_cannot_be_used_are_counted_and_follow_the_policy(tmp_path):
    content = instances()
    for number, box in enumerate(([1, 1, 0, 5], [30, 20, 20, 5], [50, 1, 5, 5], [5, 5, -3, 4])):
        content["annotations"][number]["bbox"] = box
    path = write_coco(tmp_path, content)
    found = boxes_of(coco(path))
    assert found["000.jpg"] == found["002.jpg"] == found["003.jpg"] == []
    assert found["001.jpg"] == [([30, 20, 40, 25], 0)]
    said = "\n".join(coco(path).remarks)
    assert "3 boxes without an area" in said and "1 box beyond their image" in said and "clipped" in said
    assert boxes_of(coco(path, bad_boxes="drop"))["001.jpg"] == []
    with pytest.raises(DataError, match=r"boxes without an area"):
        coco(path, bad_boxes="error")


def test_crowds_and_difficult_objects_are_flags_that_follow_the_boxes(tmp_path):
    content = instances()
    content["annotations"][0]["iscrowd"] = 1
    source = coco(write_coco(tmp_path, content))
    for part in at_final_size(source, 20, resize, 0)[0].values():
        values = part.columns["boxes"]
        for name, crowd, valid in zip(part.images.names, values["crowd"], values["valid"], strict=True):
            assert crowd.tolist() == [name == "000.jpg"] and valid.tolist() == [name != "005.jpg"]


WRONG_COCO = {
    "no list": (lambda all: {"images": []}, r"holds an object with images"),
    "no object": (lambda all: [1], r"holds a list"),
    "an unknown category": (
        lambda all: all["annotations"][2].update(category_id=3),
        r"annotation 7 has category_id 3, .*no such",
    ),
    "an unknown image": (lambda all: all["annotations"][2].update(image_id=3), r"annotation 7 has image_id 3"),
    "two annotations of one id": (
        lambda all: all["annotations"][2].update(id=5),
        r"annotations\[2\]: an earlier entry has its id 5",
    ),
    "two images of one id": (lambda all: all["images"][2].update(id=100), r"images\[2\]: an earlier entry"),
    "two categories of one name": (lambda all: all["categories"][0].update(name="cat"), r"two categories have one name"),
    "three numbers": (
        lambda all: all["annotations"][2].update(bbox=[1, 2, 3]),
        r"annotations\[2\] \(id 7\): bbox is \[1, 2, 3\]",
    ),
    "no number": (lambda all: all["annotations"][2].update(bbox=[1, 2, 3, float("nan")]), r"bbox is \[1, 2, 3, NaN\]"),
    "a text as a number": (lambda all: all["annotations"][2].update(image_id="102"), r'image_id is "102", no int'),
    "another size": (
        lambda all: all["images"][1].update(width=41),
        r"001\.jpg is 40 x 30 pixels, and image 101 of .* says 41 x 30",
    ),
    "no box": (lambda all: all["annotations"].clear(), r"no image has a box"),
    "a missing image": (lambda all: all["images"][1].update(file_name="x.jpg"), r"x\.jpg"),
}


@pytest.mark.parametrize("what", WRONG_COCO)
def test_a_wrong_file_of_coco_is_refused_with_the_entry(what, tmp_path):
    change, said = WRONG_COCO[what]
    content = instances()
    write_coco(tmp_path, content)
    changed = change(content)
    (tmp_path / "labels.json").write_text(json.dumps(changed if isinstance(changed, dict | list) else content))
    with pytest.raises(DataError, match=said):
        coco(str(tmp_path / "labels.json"))


def test_a_truncated_or_missing_file_is_said(tmp_path):
    path = pathlib.Path(write_coco(tmp_path, instances()))
    path.write_text(path.read_text(encoding="utf-8")[:200], encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.json is no whole file of JSON: .*char 2"):
        coco(str(path))
    with pytest.raises(DataError, match=r"none\.json cannot be read: No such file.*\nFound in .*labels\.json"):
        coco(str(tmp_path / "none.json"))


def annotation(objects: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """An annotation of VOC."""
    width, height = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"


def an_object(name: str, x1: float, y1: float, x2: float, y2: float, *, difficult: int = 0) -> str:
    """An object of an annotation, with a part whose box is no object."""
    box = f"<bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult>{part}{box}</object>"


@pytest.fixture
def devkit(tmp_path: pathlib.Path) -> pathlib.Path:
    """Eight images of a dog or a cat; the last one has no object, the first a difficult one. Nothing is in a list."""
    root = tmp_path / "voc"
    for number in range(8):
        picture(root / "JPEGImages" / f"{number:06d}.jpg")
        objects = an_object(("dog", "cat")[number % 2], 1, 1, WIDTH, HEIGHT - number, difficult=int(number == 0))
        file = root / "Annotations" / f"{number:06d}.xml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(annotation(objects if number < 7 else ""))
    return root


def lists(root: pathlib.Path, **members: range) -> None:
    """Writes lists of images, with the 1 and -1 that lists of a class have."""
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for name, numbers in members.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{number:06d}  1\n" for number in numbers))


def test_the_layout_of_voc_is_read_with_pixels_from_one(devkit):
    source = voc(str(devkit))
    assert source.class_names == ("cat", "dog")
    found = boxes_of(source)
    assert found["000000.jpg"] == [([0, 0, 40, 30], 1)] and found["000003.jpg"] == [([0, 0, 40, 27], 0)]
    assert found["000007.jpg"] == [] and len(found) == 8
    assert boxes_of(voc(str(devkit), zero_based=True))["000001.jpg"] == [([1, 1, 40, 29], 0)]
    assert voc(str(devkit), classes=("dog", "cat")).class_names == ("dog", "cat")
    difficult = {
        name: flag.any()
        for part in source.splits.values()
        for name, flag in zip(part.images.names, part.columns["boxes"]["difficult"], strict=True)
    }
    assert [name for name, flag in difficult.items() if flag] == ["JPEGImages/000000.jpg"]


def test_lists_of_voc_are_the_splits(devkit):
    lists(devkit, train=range(3), val=range(3, 5), test=range(5, 7))
    source = voc(str(devkit))
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 3, "validation": 2, "test": 2}
    assert any("1 annotation in no list not used: 000007" in one for one in source.remarks)
    lists(devkit, train=range(4))
    with pytest.raises(DataError, match=r"000003 is in train and again in validation"):
        voc(str(devkit))


BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
WRONG_VOC = {
    "entities": (BOMB, r"000001\.xml declares a type of document"),
    "a file of others": ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotation>&b;</annotation>', r"DOCTYPE"),
    "an encoding": ('<?xml version="1.0" encoding="gb2312"?><annotation/>', r"(?s)000001\.xml has an encoding that .*UTF-8"),
    "no encoding": ('<?xml version="1.0" encoding="nonesuch"?><annotation/>', r"000001\.xml "),
    "truncated": (annotation(an_object("dog", 1, 1, 9, 9))[:-30], r"000001\.xml is no whole file of XML"),
    "empty": ("", r"no whole file of XML"),
    "an unknown class": (annotation(an_object("dgo", 1, 1, 9, 9)), r"called dgo, which is no class\. Did you mean dog"),
    "no number": (annotation(an_object("dog", 1, 1, 9, 9)).replace(">9<", "><"), r"object 0 \(dog\): xmax is ''"),
    "no box": (annotation("<object><name>dog</name></object>"), r"object 0 has no bndbox"),
    "no name": (annotation("<object></object>"), r"object 0 has no name"),
    "another size": (annotation(an_object("dog", 1, 1, 9, 9), (30, 40)), r"is 40 x 30 pixels, and .*000001\.xml says 30 x 40"),
}


@pytest.mark.parametrize("what", WRONG_VOC)
def test_a_wrong_annotation_of_voc_is_refused_with_its_file(what, devkit):
    text, said = WRONG_VOC[what]
    (devkit / "Annotations" / "000001.xml").write_text(text)
    with pytest.raises(DataError, match=said):
        voc(str(devkit), classes=("cat", "dog"))


def test_a_missing_part_of_voc_is_said(devkit):
    (devkit / "JPEGImages" / "000002.jpg").unlink()
    with pytest.raises(DataError, match=r"000002\.jpg"):
        voc(str(devkit))
    source = voc(str(devkit), skip_bad_images=1)
    assert sum(map(len, source.splits.values())) == 7
    lists(devkit, train=range(9))
    with pytest.raises(DataError, match=r"000008\.xml cannot be read"):
        voc(str(devkit))
    with pytest.raises(DataError, match=r"has no folder Annotations.*\n.*\nExpected Annotations"):
        voc(str(devkit / "JPEGImages"))
