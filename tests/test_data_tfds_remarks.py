"""What a TFDS set says of its splits, and what changes of its prepared folder do."""

import io
import json
import os
import pathlib
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from cnnlab.data import tfds, tfds_sets
from cnnlab.data.source import Source
from cnnlab.errors import DataError

tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
kinds = tensorflow_datasets.features


class Prepared:
    """A set of 8x8 images that is prepared in a folder: a file of JSON for each split, read as TFDS reads its own."""

    def __init__(self, folder: pathlib.Path, splits: Mapping[str, list[int]], *, version: str = "1.0.0") -> None:
        """Writes the labels of the splits; -1: an example without a label. Image i of a split is grey of level i."""
        self.data_path = folder
        folder.mkdir(exist_ok=True)
        for split, labels in splits.items():
            self.write(split, labels)
        self.version = version
        self.reads: list[str] = []

    def write(self, split: str, labels: list[int], *, brighter: int = 0) -> None:
        """Replaces the file of a split."""
        content = {"labels": labels, "levels": [level + brighter for level in range(len(labels))]}
        (self.data_path / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")

    def read(self, split: str) -> dict[str, list[int]]:
        """Returns the content of the file of a split."""
        content: dict[str, list[int]] = json.loads((self.data_path / f"{split}.json").read_text(encoding="utf-8"))
        return content

    @property
    def info(self) -> Any:
        names = [path.stem for path in sorted(self.data_path.glob("*.json"))]
        splits = {name: types.SimpleNamespace(num_examples=len(self.read(name)["labels"])) for name in names}
        features = {"image": kinds.Image(shape=(8, 8, 1), dtype=np.uint8), "label": kinds.ClassLabel(names=["cat", "dog"])}
        given = {"features": features, "splits": splits, "supervised_keys": ("image", "label")}
        return types.SimpleNamespace(full_name="toy", version=self.version, **given)

    def is_prepared(self) -> bool:
        return True

    def as_data_source(self, split: str, decoders: Mapping[str, Any]) -> Any:
        """Returns the examples of a split; with decoders, which the labels alone are read with, it is remembered as read."""
        content = self.read(split)
        if "image" in decoders:
            self.reads.append(split)

        def examples(positions: Iterable[int]) -> list[dict[str, Any]]:
            return [
                {"image": np.full((8, 8, 1), content["levels"][i], np.uint8), "label": content["labels"][i]} for i in positions
            ]

        class Examples(list[int]):
            def __getitems__(self, positions: Iterable[int]) -> list[dict[str, Any]]:
                return examples(positions)

        return Examples(content["labels"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a prepared set."""

    def open_set(prepared: Prepared) -> Source:
        monkeypatch.setattr(tfds_sets, "_builder", lambda *_: prepared)
        return tfds("toy")

    return open_set


@pytest.mark.parametrize(
    ("splits", "sizes", "remarks"),
    [
        ({"train": 12, "test": 4}, {"train": 12, "test": 4}, []),
        ({"train": 12, "val": 2, "test": 4}, {"train": 12, "validation": 2, "test": 4}, ["its split val serves as validation"]),
        (
            {"train": 12, "test": 4, "extra": 3, "unsupervised": 1},
            {"train": 12, "test": 4},
            ["2 splits left out: extra (3 examples), unsupervised (1 example)"],
        ),
        (
            {"train": 12, "validation": 4, "test": -6},
            {"train": 12, "test": 4},
            [
                "1 split left out: test (6 examples without labels)",
                "has no labelled test split: its validation split (4 examples) serves as the test split",
            ],
        ),
        ({"train": 20}, {"train": 16, "test": 4}, ["has no test split: 4 of its 20 examples (stratified, always the same)"]),
        (
            {"training": 12, "test": 4, "test_set": 2},
            {"train": 12, "test": 4},
            ["1 split left out: test_set (2 examples)", "its split training serves as train"],
        ),
    ],
    ids=["whole", "another name", "left out", "without labels", "carved", "two names"],
)
def test_every_split_is_used_or_named(
    splits: Mapping[str, int], sizes: Mapping[str, int], remarks: list[str], opened: Any, tmp_path: pathlib.Path
):
    labels = {name: [i % 2 for i in range(size)] if size > 0 else [-1] * -size for name, size in splits.items()}
    source = opened(Prepared(tmp_path / "toy", labels))
    assert {split: len(part) for split, part in source.splits.items()} == sizes
    assert len(source.remarks) == len(remarks), source.remarks
    for remark in remarks:
        assert any(said.startswith("tfds:toy") and remark in said for said in source.remarks), source.remarks


def test_a_set_without_a_training_split_is_refused_with_the_names_that_it_has(opened: Any, tmp_path: pathlib.Path):
    with pytest.raises(DataError, match=r"tfds:toy has no train split; it has main, test\."):
        opened(Prepared(tmp_path / "toy", {"main": [0, 1], "test": [0, 1]}))


def test_a_prepared_folder_that_changes_is_read_again_and_what_differs_is_in_the_fingerprint(
    opened: Any, tmp_path: pathlib.Path
):
    train, test = [0, 1] * 6, [0, 1]
    prepared = Prepared(tmp_path / "toy", {"train": train, "test": test})
    first = opened(prepared)
    assert prepared.reads == ["train", "test"]
    assert opened(prepared).fingerprint == first.fingerprint and prepared.reads == ["train", "test"], "the cache answers"
    # Touched, or prepared again with the same examples: read again, the same data.
    os.utime(tmp_path / "toy" / "train.json", ns=(1, 1))
    assert opened(prepared).fingerprint == first.fingerprint and prepared.reads == ["train", "test"] * 2
    seen = {first.fingerprint}
    changes = {
        "a label": lambda: prepared.write("train", [1, *train[1:]]),
        "the images": lambda: prepared.write("train", train, brighter=9),
        "their order": lambda: prepared.write("train", train[::-1]),
        "one example less": lambda: prepared.write("train", train[:-1]),
        "a test label": lambda: prepared.write("test", [1, 1]),
        "a version": lambda: setattr(prepared, "version", "1.0.1"),
        "a split more": lambda: prepared.write("val", [0, 1]),
    }
    for what, change in changes.items():
        change()
        found = opened(prepared)
        assert found.fingerprint not in seen, what
        seen.add(found.fingerprint)
    assert found.splits["validation"].labels.tolist() == [0, 1]


def test_a_split_that_is_renamed_or_left_out_changes_the_remarks_and_not_the_examples(opened: Any, tmp_path: pathlib.Path):
    prepared = Prepared(tmp_path / "toy", {"train": [0, 1] * 6, "val": [0, 1], "test": [1, 0]})
    first = opened(prepared)
    (tmp_path / "toy" / "val.json").rename(tmp_path / "toy" / "validation.json")
    second = opened(prepared)
    assert first.remarks == ("tfds:toy: its split val serves as validation",) and second.remarks == ()
    assert second.fingerprint == first.fingerprint
    prepared.write("notes", [0])
    third = opened(prepared)
    assert third.remarks == ("tfds:toy: 1 split left out: notes (1 example)",) and third.fingerprint == first.fingerprint
    np.testing.assert_array_equal(third.splits["train"].labels, first.splits["train"].labels)


class Pets(Prepared):
    """A set like oxford_iiit_pet, with the feature segmentation_mask of the values 1 to 3, encoded as TFDS encodes images."""

    @property
    def info(self) -> Any:
        found = super().info
        found.features["segmentation_mask"] = kinds.Image(shape=(8, 8, 1), dtype=np.uint8)
        return found

    def as_data_source(self, split: str, decoders: Mapping[str, Any]) -> Any:
        examples = super().as_data_source(split, decoders)

        class Examples(list[int]):
            def __getitems__(self, positions: Iterable[int]) -> list[dict[str, Any]]:
                masks = [Pets.mask(position) for position in positions]
                shown = [png(mask) if "segmentation_mask" in decoders else mask[..., None] for mask in masks]
                found = examples.__getitems__(positions)
                return [one | {"segmentation_mask": mask} for one, mask in zip(found, shown, strict=True)]

        return Examples(examples)

    @staticmethod
    def mask(number: int) -> np.ndarray:
        """The mask of an example, u8 [8, 8], whose first row is 255."""
        drawn = np.random.default_rng(number).integers(1, 4, (8, 8), dtype=np.uint8)
        drawn[0] = 255
        return drawn


def png(mask: np.ndarray) -> bytes:
    """A mask as the bytes of a PNG file."""
    out = io.BytesIO()
    Picture.fromarray(mask).save(out, "png")
    return out.getvalue()


def test_the_masks_of_a_set_become_classes_from_the_first_value_that_occurs(opened: Any, tmp_path: pathlib.Path):
    source = opened(Pets(tmp_path / "toy", {"train": [0, 1] * 4, "test": [0, 1]}))
    kind, values = source.kinds["segmentation_mask"], source.splits["train"].columns["segmentation_mask"]
    truth = np.stack([Pets.mask(number) for number in range(8)])
    assert kind.names == ("1", "2", "3") and values[np.arange(8)].shape == (8, 8, 8)
    assert np.array_equal(values[np.arange(8)], np.where(truth == 255, 255, truth - 1))
    assert kind.occurrences(values).tolist() == [int((truth == value).sum()) for value in (1, 2, 3)]
