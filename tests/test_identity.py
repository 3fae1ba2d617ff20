"""A run is known by its content: whatever is edited between two commands is refused, or said."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from commands import Here, read

from cnnlab.errors import DataError, UsageError
from cnnlab.runs.identity import Identity, differences, own_parts, recorded_identity, require_same

ONE = Identity("mine.py", "f32", {"lr": 0.1, "data.dataset": "npz:/a/d.npz"}, 0, {"mine.py": "1", "helper.py": "2"}, "f", {})


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"experiment": "other.py"}, "experiment"),
        ({"precision": "bf16"}, "knobs"),
        ({"knobs": {**ONE.knobs, "lr": 0.2}}, "knobs"),
        ({"seed": 1}, "seed"),
        ({"sources": {"mine.py": "1", "helper.py": "3"}}, "code"),
        ({"sources": {"mine.py": "1"}}, "code"),
        ({"data": "g"}, "data"),
        ({"weights": {"init_from": "9"}}, "weights"),
    ],
)
def test_each_part_of_an_identity_is_compared(change: dict[str, object], kind: str):
    found = differences(ONE, dataclasses.replace(ONE, **change))  # type: ignore[arg-type]
    assert [one.kind for one in found] == [kind]


def test_another_rule_for_the_size_of_images_explains_another_fingerprint():
    resized, cropped = {"name": "resize", "format": 2}, {"name": "crop", "fraction": 0.875}
    now = dataclasses.replace(ONE, data="g", fit=resized)
    for there, reason in (
        (None, "; an older version resized images to other grey levels"),
        (resized, ""),
        (cropped, "; images were brought to size by crop fraction=0.875, and now by resize format=2"),
    ):
        found = differences(dataclasses.replace(ONE, fit=there), now)
        assert [one.text for one in found] == [f"the data: fingerprint f there, g now{reason}"]
    run = {"experiment": "a", "knobs": {}, "data": {"fingerprint": "f", "fit": cropped}}
    assert recorded_identity(run).fit == cropped


def test_another_spelling_of_a_path_is_the_same_run():
    elsewhere = {"experiment": "/b/mine.py", "knobs": {**ONE.knobs, "data.dataset": "npz:/b/d.npz"}}
    assert differences(ONE, dataclasses.replace(ONE, **elsewhere)) == []  # type: ignore[arg-type]


def test_a_part_of_an_own_file_is_known_by_file_name_and_argument(tmp_path: pathlib.Path):
    file = tmp_path / "parts.py"
    file.write_text("def numbers(path, *, shift: int = 0): ...\n", encoding="utf-8")
    here, there = f"{file}:numbers:d.npz", "/b/parts.py:numbers:d.npz"
    for knob in ("data.dataset", "model"):
        one, other = (dataclasses.replace(ONE, knobs={knob: value}) for value in (here, there))
        assert differences(one, other) == []
        changed = dataclasses.replace(ONE, knobs={knob: f"{file}:numbers:e.npz"})
        assert [found.kind for found in differences(one, changed)] == ["knobs"]
    one, other = (dataclasses.replace(ONE, knobs={"data.augment": f"flip,{part}"}) for part in (here, there))
    assert differences(one, other) == [] and own_parts(one.knobs) == [file]
    changed = dataclasses.replace(ONE, knobs={"data.augment": f"{here},flip"})
    assert [found.kind for found in differences(one, changed)] == ["knobs"]
    assert own_parts({"data.dataset": here, "lr": 0.1, "model": there, "augment": f"{file}:other"}) == [file, file]


def test_a_difference_is_refused_with_its_exit_code_or_accepted_and_said_once(caplog: pytest.LogCaptureFixture):
    folder, said = pathlib.Path("run"), set[str]()
    other = dataclasses.replace(ONE, data="g")
    with pytest.raises(DataError, match=r"data changed since run was begun(.|\n)*--allow=data"):
        require_same(folder, ONE, other, allow=(), said=said, remedy="wait")
    for _ in range(2):
        assert require_same(folder, ONE, other, allow=("data",), said=said, remedy="wait") == ("data",)
    assert caplog.text.count("goes on with a difference") == 1
    with pytest.raises(UsageError, match="--seed=0"):
        require_same(folder, ONE, dataclasses.replace(ONE, seed=1), allow=("data",), said=said, remedy="wait")


def test_the_latest_attempt_of_a_run_is_its_identity():
    run = {"experiment": "mine.py", "knobs": {}, "flags": {"seed": 3, "precision": "f32"}, "data": {"fingerprint": "f"}}
    run |= {"sources": {"a.py": "1", "b.py": "2"}, "weights": {}, "attempts": [{}, {"sources": {"a.py": "3", "b.py": None}}]}
    assert recorded_identity(run).sources == {"a.py": "3"} and recorded_identity(run).seed == 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a trained run of an own experiment of two files, on an npz file."""
    from cnnlab.cli.main import main

    folder = tmp_path_factory.mktemp("trained")
    (folder / "helper.py").write_text("STEPS = '2 steps'\n", encoding="utf-8")
    text = "import functools\nimport helper\nfrom cnnlab.recipes.classification import classification\n"
    text += "experiment = functools.partial(classification, model='linear', duration=helper.STEPS)\n"
    (folder / "mine.py").write_text(text, encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(folder / "d.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    assert main([*train_words(folder)]) == 0
    return folder


def train_words(folder: pathlib.Path, place: str = "run") -> list[str]:
    """The command that trains the run of a folder."""
    data = f"--dataset=npz:{folder / 'd.npz'}"
    return [f"--experiment={folder / 'mine.py'}", data, "--batch_size=8", f"--workdir={folder / place}", "--log_level=warning"]


def change_data(folder: pathlib.Path) -> None:
    with np.load(folder / "d.npz") as arrays:
        found = dict(arrays)
    found["train_images"][0, 0, 0, 0] ^= 1
    np.savez(folder / "d.npz", **found)


def append(name: str, text: str) -> Callable[[pathlib.Path], None]:
    def edit(folder: pathlib.Path) -> None:
        (folder / name).write_text((folder / name).read_text(encoding="utf-8") + text, encoding="utf-8")

    return edit


EDITS: dict[str, tuple[Callable[[pathlib.Path], None], int]] = {
    "own file": (append("mine.py", "MORE = 1\n"), 2),
    "helper": (append("helper.py", "MORE = 1\n"), 2),
    "comment": (append("helper.py", "# A remark.\n"), 0),
    "data": (change_data, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "evaluate", "export", "report", "reproduce"])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_after_training_is_refused_or_said_by_every_verb(
    edit: str, verb: str, trained: pathlib.Path, here: Here, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    run = read(folder / "run" / "run.json")
    text = (folder / "run" / "run.json").read_text(encoding="utf-8").replace(str(trained), str(folder))
    assert run["sources"]["helper.py"] and len(run["attempts"]) == 1
    content = json.loads(text)
    from cnnlab import files

    content.pop("sha256", None)
    files.write_record(folder / "run" / "run.json", content)
    change, expected = EDITS[edit]
    change(folder)
    place = str(folder / "run")
    words = {
        "train": train_words(folder),
        "evaluate": ["evaluate", f"--workdir={place}"],
        "export": ["export", f"--workdir={place}", f"--to={tmp_path / 'w.safetensors'}"],
        "report": ["report", place],
        "reproduce": ["reproduce", place],
    }
    if verb == "reproduce" and expected == 0:
        pytest.skip("trains again in a process of its own")
    code, _, err = here(*words[verb])
    assert code == (0 if verb == "report" else expected), err
    said = {"data": "the data", "own file": "mine.py", "helper": "helper.py", "comment": ""}[edit]
    assert said in err + caplog.text
