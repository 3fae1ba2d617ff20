"""Tables of image files: classes, several labels, numbers, groups and splits; images without labels."""

import numpy as np
import pytest
from PIL import Image

from cnnlab.data.csv_files import csv_table
from cnnlab.data.folders import folder
from cnnlab.data.pipeline import build
from cnnlab.data.source import grouped_split
from cnnlab.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


DIAGNOSES = ("11", "2", "1")
HEAD = "image_id;dx;red;round;age;patient;split"


@pytest.fixture
def table(tmp_path):
    """Twenty images whose grey value is their number times ten, in a table without file endings, and its path."""
    (tmp_path / "pictures").mkdir()
    lines = [HEAD]
    for number in range(20):
        Image.new("L", (6, 5), 10 * number).save(tmp_path / "pictures" / f"im{number}.png")
        split = ("training", "val", "test")[(number >= 12) + (number >= 16)]
        lines.append(
            f"im{number};{('11', '2', '1')[number % 3]};{number % 2};{'yes' * (number > 9)};{number / 4};p{number // 4};{split}"
        )
    path = tmp_path / "table.csv"
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def opened(path, **knobs):
    return csv_table(str(path), file="image_id", below=str(path.parent / "pictures"), **knobs)


def test_classes_splits_and_unused_columns(table):
    source = opened(table, labels=("dx",))
    assert source.class_names == ("1", "2", "11") and {name: len(part) for name, part in source.splits.items()} == {
        "train": 12,
        "validation": 4,
        "test": 4,
    }
    names = [source.class_names[label] for label in source.splits["test"].labels]
    assert names == [DIAGNOSES[number % 3] for number in range(16, 20)]
    assert source.splits["test"].images[np.arange(4)][:, 0, 0, 0].tolist() == [160, 170, 180, 190]
    said = " ".join(source.remarks)
    assert (
        "4 columns of the table not used: red, round, age, patient" in said and "training is train, val is validation" in said
    )
    assert opened(table, labels=("dx",)).fingerprint == source.fingerprint != opened(table, labels=("red",)).fingerprint


def test_several_labels_and_numbers_to_predict(table):
    source = opened(table, labels=("red", "round"), targets=("age",))
    tags, ages = (source.splits["train"].columns[name] for name in ("tags", "target"))
    assert tags.tolist() == [[number % 2, number > 9] for number in range(12)] and source.kinds["tags"].names == (
        "red",
        "round",
    )
    assert ages[:, 0].tolist() == [number / 4 for number in range(12)]
    data = build(source, batch_size=4)
    assert data.example(4)["tags"].shape == (4, 2) and data.class_names == ("red", "round")


def test_groups_are_never_cut(table):
    lines = [line.rpartition(";")[0] for line in table.read_text(encoding="utf-8-sig").splitlines()]
    table.write_text("\n".join(lines), encoding="utf-8")
    source = opened(table, labels=("dx",), group="patient")
    data = build(source, batch_size=4, validation=0.3)
    of = {split: set(part.columns["group"].tolist()) for split, part in source.splits.items()}
    assert of["train"] and of["test"] and not of["train"] & of["test"] and sum(data.sizes.values()) == 20
    assert "by groups" in " ".join(source.remarks) and "group" not in data.example()
    seen = {split: data.images(split, np.arange(size))[:, 0, 0, 0] // 10 for split, size in data.sizes.items()}
    patients = {split: set((numbers // 4).tolist()) for split, numbers in seen.items()}
    assert patients["validation"] and not patients["validation"] & patients["train"]


def test_grouped_split_keeps_the_shares_of_classes_and_empties_none():
    draw = np.random.default_rng(0)
    groups = draw.integers(60, size=900)
    labels = np.where(groups < 6, 1, 0) + (draw.random(900) < 0.1)
    kept, held = grouped_split(labels, groups.astype(str), 0.2)
    assert not set(groups[kept]) & set(groups[held]) and len(kept) + len(held) == 900
    for number in np.unique(labels):
        assert abs(np.mean(labels[held] == number) - np.mean(labels == number)) < 0.05
    assert abs(len(held) / 900 - 0.2) < 0.02
    alone = grouped_split(np.array([0, 0, 1]), np.array(["a", "b", "c"]), 0.5)[1]
    assert 2 not in alone


def test_quotation_marks_within_cells_are_doubled_and_endings_may_be_capitals(table):
    lines = [f'im{number},"12"" disc"\n"im{number + 1}", "a, ""b"""' for number in range(0, 20, 2)]
    table.write_text("\n".join(["image_id,dx", *lines]), encoding="utf-8")
    pictures = table.parent / "pictures"
    (pictures / "im1.png").rename(pictures / "im1.PNG")
    assert set(opened(table, labels=("dx",)).class_names) == {'12" disc', 'a, "b"'}


WRONG = {
    "missing file": (lambda text: text.replace("im3;", "im33;"), {}, "1 of 20 files are not there: line 5: im33"),
    "twice": (lambda text: text.replace("im3;", "im2;"), {}, "stands in line 4 and in line 5"),
    "no label": (lambda text: text.replace("im3;11", "im3;"), {"labels": ("dx",)}, "1 cell of 20 .*line 5: \\(empty\\)"),
    "cells": (lambda text: text.replace("im3;", "im3;;"), {}, "line 5: 8 cells, and the first line has 7 names"),
    "not a number": (lambda text: text, {"targets": ("patient",)}, "20 cells of 20 .*a finite number"),
    "not 0 or 1": (lambda text: text, {"labels": ("age", "red")}, "0 or 1"),
    "split": (lambda text: text.replace("test", "later"), {"labels": ("dx",)}, "train, validation or test"),
    "column": (lambda text: text, {"labels": ("dxx",)}, "no column dxx. Did you mean dx"),
    "twice a name": (lambda text: text.replace("round", "red"), {}, "each different"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_cannot_be_used_is_named_with_its_line(table, case):
    change, knobs, message = WRONG[case]
    table.write_text(change(table.read_text(encoding="utf-8-sig")), encoding="utf-8")
    with pytest.raises(DataError, match=f"(?s){message}"):
        opened(table, **knobs)


def test_images_without_labels_come_from_a_folder_of_any_depth(table):
    source = folder(str(table.parent / "pictures"), classes="none")
    assert set(source.kinds) == {"image"} and source.class_names == () and sum(map(len, source.splits.values())) == 20
    with pytest.raises(DataError, match="classes=none"):
        folder(str(table.parent / "pictures"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "conditional"),
    [("autoencoder_mnist", False), ("vae_mnist", True), ("gan_mnist", True), ("pixelcnn_mnist", True)],
)
def test_generative_experiments_learn_from_images_without_labels(table, here, experiment, conditional):
    source = f"--dataset=folder:{table.parent / 'pictures'}"
    data = (source, "--dataset.classes=none", "--image_size=8", "--batch_size=4", "--devices=1")
    code, out, err = here(f"--experiment={experiment}", *data, "--steps=2", "--workdir=run")
    assert code == 0 and "test" in out, err
    code, _, err = here(f"--experiment={experiment}", *data, "--steps=2", "--conditional")
    assert code == 2 and (not conditional or "--conditional needs the class of every image" in err)
    code, _, err = here("--experiment=convnet_digits", *data, "--steps=2")
    assert code == 2 and "classification needs the class of every image" in err
