"""The layout of ISIC 2018, task 3: parts, diagnoses, lesions that no division cuts, and a table for the challenge."""

import csv
import pathlib

import numpy as np
import pytest
from commands import Here
from PIL import Image

from cnnlab.data.isic import CLASSES, isic
from cnnlab.errors import DataError

PREFIX = "ISIC2018_Task3"


def write_part(root: pathlib.Path, word: str, numbers: range, *, below: str = ".") -> list[str]:
    """Writes images and ground truth of a part, class after class; returns the names of the images."""
    folder = root / f"{PREFIX}_{word}_Input"
    folder.mkdir(parents=True)
    names = [f"ISIC_{number:07d}" for number in numbers]
    random = np.random.default_rng(numbers.start)
    for name in names:
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    rows = [[name, *(f"{float(at == place % len(CLASSES))}" for at in range(len(CLASSES)))] for place, name in enumerate(names)]
    target = root / below / f"{PREFIX}_{word}_GroundTruth.csv"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(",".join(row) for row in [["image", *CLASSES], *rows]))
    return names


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> pathlib.Path:
    """Seventy images for training, two of each lesion, and 14 for validation, whose ground truth lies in its own folder."""
    names = write_part(tmp_path, "Training", range(70))
    write_part(tmp_path, "Validation", range(100, 114), below=f"{PREFIX}_Validation_GroundTruth")
    lines = ["image,lesion_id,diagnosis_confirm_type", *(f"{name},HAM_{int(name[5:]) // 2},histopathology" for name in names)]
    (tmp_path / f"{PREFIX}_Training_LesionGroupings.csv").write_text("\n".join(lines))
    return tmp_path


def test_parts_become_splits_with_the_challenges_diagnoses_in_their_order(layout: pathlib.Path):
    found = isic(str(layout))
    assert found.class_names == CLASSES and {split: len(part) for split, part in found.splits.items()} == {
        "train": 70,
        "test": 14,
    }
    assert found.splits["train"].columns["label"].tolist() == [number % 7 for number in range(70)]
    assert any("no ground truth of test" in remark for remark in found.remarks)
    assert any("its validation split (14 examples) serves as the test split" in remark for remark in found.remarks)


def test_no_division_cuts_the_images_of_a_lesion(layout: pathlib.Path):
    for path in [*layout.glob("*Validation*/*"), *layout.glob("*Validation*")]:
        path.unlink() if path.is_file() else path.rmdir()
    found = isic(str(layout))
    groups = {split: set(part.columns["group"].tolist()) for split, part in found.splits.items()}
    assert len(groups["test"]) >= 5 and not groups["train"] & groups["test"]
    assert all(len(part) == 2 * len(groups[split]) for split, part in found.splits.items())


def test_what_the_layout_lacks_is_named(layout: pathlib.Path):
    table = layout / f"{PREFIX}_Training_GroundTruth.csv"
    whole = table.read_text()
    table.write_text(whole.replace("1.0", "0.0", 1))
    with pytest.raises(DataError, match="1 row without exactly one diagnosis: line 2: 0 of 7"):
        isic(str(layout))
    table.write_text(whole)
    (layout / f"{PREFIX}_Training_Input" / "ISIC_0000003.jpg").unlink()
    with pytest.raises(DataError, match="1 of 70 files are not there: line 5: ISIC_0000003"):
        isic(str(layout))
    (layout / f"{PREFIX}_Training_Input").rename(layout / "elsewhere")
    with pytest.raises(DataError, match="has no folder ISIC2018_Task3_Training_Input"):
        isic(str(layout))
    table.unlink()
    with pytest.raises(DataError, match=r"has no ISIC2018_Task3_Training_GroundTruth\.csv"):
        isic(str(layout))


def test_a_run_writes_the_table_of_the_challenge(layout: pathlib.Path, here: Here):
    words = ("--experiment=isic_lesions", "--model=linear", f"--dataset=isic:{layout}", "--image_size=8", "--validation=0")
    code, out, err = here(*words, "--steps=2", "--batch_size=14", "--augment=none", "--devices=1", "--workdir=run")
    assert code == 0 and "balanced" in out, err
    predict = (
        "predict",
        "--workdir=run",
        f"--images={layout / f'{PREFIX}_Validation_Input'}",
        "--table=classes",
        "--devices=1",
    )
    code, _, err = here(*predict, "--to=submission.csv")
    assert code == 0, err
    header, *rows = list(csv.reader(pathlib.Path("submission.csv").read_text(encoding="utf-8").splitlines()))
    assert header == ["image", *CLASSES] and [row[0] for row in rows] == [f"ISIC_{number:07d}" for number in range(100, 114)]
    np.testing.assert_allclose([sum(map(float, row[1:])) for row in rows], 1, rtol=1e-6)
    code, _, err = here(*predict)
    assert code == 2 and "Add --to=FILE.csv" in err
    code, _, err = here(*predict, "--to=x.json")
    assert code == 2 and "is a table in CSV" in err
