"""A run is known by its content: whatever is edited between two commands is refused, or said."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from commands import Here

from cnnlab import files
from cnnlab.ablation.run import today
from cnnlab.cli.main import main
from cnnlab.digests import file_digest
from cnnlab.errors import CnnlabError, DataError, UsageError
from cnnlab.runs import weights_digest
from cnnlab.runs.folder import RunSpec, conditions
from cnnlab.runs.identity import Identity, differences, own_parts, recorded_identity, require_same
from cnnlab.sources import code_digests

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


def test_a_study_says_that_runs_which_it_takes_over_were_trained_otherwise(tmp_path: pathlib.Path, caplog):
    attempt = {**conditions(RunSpec("e", {}, "f32", source="", devices=1)), "strategy": "pmap"}
    run = {"experiment": "e", "knobs": {}, "flags": {"seed": 0, "precision": "f32"}, "sources": {}, "weights": {}}
    cells: list[today.Cell] = []
    for place in ("begun", "not_begun"):
        (tmp_path / place).mkdir()
        files.write_record(tmp_path / place / "run.json", {**run, "data": {}, "attempts": [attempt]})
        cells.append((tmp_path / place, 0, RunSpec("e", {}, "f32", source="", devices=2), None))
    (tmp_path / "begun" / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    with caplog.at_level("INFO", "cnnlab"):
        today.require_same_runs(cells, (), remedy="wait")
    (said,) = caplog.messages
    assert "strategy pmap there, jit now; 1 × cpu: cpu there, 2 × cpu: cpu now (1 of 1 runs" in said
    caplog.clear()
    same = RunSpec("e", {}, "f32", source="", strategy="pmap", devices=1)
    today.require_same_runs([(tmp_path / "begun", 0, same, None)], (), remedy="wait")
    assert not caplog.messages


def test_a_study_takes_over_no_run_whose_flags_gave_it_other_numbers(tmp_path: pathlib.Path):
    run = {"experiment": "e", "knobs": {}, "flags": {"seed": 0, "precision": "f32", "skip_nonfinite": "3"}, "data": {}}
    spec = RunSpec("e", {}, "f32", source="", devices=1)
    files.write_record(tmp_path / "run.json", {**run, "attempts": [conditions(spec)]})
    (tmp_path / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    cells: list[today.Cell] = [(tmp_path, 0, spec, None)]
    today.require_same_runs(cells, (), remedy="wait")
    today.require_same_runs(cells, (), remedy="wait", flags={"skip_nonfinite": "3"})
    today.require_same_runs(cells, ("skip_nonfinite",), remedy="wait", flags={"skip_nonfinite": None, "log_every": None})
    with pytest.raises(UsageError, match=r"--skip_nonfinite: 3 there, not given now .*\n.*--allow=skip_nonfinite\."):
        today.require_same_runs(cells, (), remedy="wait", flags={"skip_nonfinite": None, "log_every": None})
    with pytest.raises(UsageError, match="--log_every: not given there, 5 steps now"):
        today.require_same_runs(cells, (), remedy="wait", flags={"log_every": "5 steps"})


@pytest.mark.skipif(os.name == "nt", reason="no time of the inode's last change there: nothing is kept")
def test_the_digest_of_large_weights_is_kept_and_never_that_of_a_file_that_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights_digest, "LARGE", 4)
    read: list[pathlib.Path] = []
    monkeypatch.setattr(weights_digest, "file_digest", lambda path: (read.append(path), file_digest(path))[1])
    path, link = tmp_path / "w.bin", tmp_path / "link.bin"
    path.write_bytes(b"12345")
    link.symlink_to(path)
    first = weights_digest.content_digest(path)
    assert first == file_digest(path) == weights_digest.content_digest(path) and len(read) == 2  # too young to be kept
    monkeypatch.setattr(weights_digest, "SETTLED", -60.0)
    assert weights_digest.content_digest(path) == weights_digest.content_digest(link) == first and len(read) == 3
    about = path.stat()
    path.write_bytes(b"12346")  # of the same size, with its modification time put back
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.stat().st_mtime_ns == about.st_mtime_ns and weights_digest.content_digest(path) == file_digest(path) != first
    shutil.copy2(path, tmp_path / "new.bin")
    (tmp_path / "new.bin").replace(path)  # another file under the name
    assert weights_digest.content_digest(path) == file_digest(path) and len(read) == 5
    path.write_bytes(b"1")
    assert weights_digest.content_digest(path) == file_digest(path)  # small: read at once


MINE = """import dataclasses
import functools
import jax
import helper
from cnnlab.recipes.autoencoder import reconstruction
from cnnlab.values import Choice, Duration, PathText

RECIPES = {"small": functools.partial(reconstruction, duration=Duration(helper.STEPS, "steps"))}

def experiment(*, init_from: PathText = "weights.txt", recipe: Choice[RECIPES] = "small"):
    with open(init_from) as file:
        value = float(file.read())
    start = lambda params, state: (jax.tree.map(lambda leaf: value + jax.numpy.zeros(leaf.shape), params), state)
    return dataclasses.replace(recipe(), start=start)
"""
SEED_0 = "runs/mine/seed_0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a finished and a stopped run of an own experiment of two files, on an npz file, from a file of weights."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "helper.py").write_text("STEPS = 2\n", encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    (folder / "weights.txt").write_text("0.01", encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 255, (40, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(folder / "d.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with contextlib.chdir(folder):
        assert main(["train", *SAME, "--stop_after=1"]) == 0
        (found,) = pathlib.Path("runs").glob("mine-*")
        shutil.copytree(found / "seed_0", "stopped")
        assert main(["train", *SAME]) == 0
        # `ablate` looks for the folder that is named after the knobs; the other commands are given one that is a link to it.
        pathlib.Path("runs/mine").symlink_to(found.name)
    return folder


SAME = [
    "--experiment=mine.py",
    "--dataset=npz:d.npz",
    "--init_from=weights.txt",
    "--batch_size=8",
    "--model=linear",
    "--devices=1",
]
"""The run, as every command that takes an experiment is given it."""
COMMANDS = {
    "train": ["train", *SAME, "--workdir=stopped"],
    "evaluate": ["evaluate", f"--workdir={SEED_0}", "--devices=1"],
    "export": ["export", f"--workdir={SEED_0}", "--devices=1", "--to=w.safetensors"],
    "sample": ["sample", f"--workdir={SEED_0}", "--devices=1"],
    "predict": ["predict", f"--workdir={SEED_0}", "--devices=1", "--images=d.npz:test_images"],
    "report": ["report", SEED_0, "--workdir=reported", "--overwrite"],
    "ablate": ["ablate", *SAME, "--dry_run", "--seeds=1", "--vary=lr:0.001,0.002"],
    "reproduce": ["reproduce", SEED_0],
}


def change_data(folder: pathlib.Path) -> None:
    with np.load(folder / "d.npz") as arrays:
        found = dict(arrays)
    found["train_images"][0, 0, 0, 0] ^= 1
    np.savez(folder / "d.npz", **found)


def append(name: str, text: str) -> Callable[[pathlib.Path], None]:
    def edit(folder: pathlib.Path) -> None:
        (folder / name).write_text((folder / name).read_text(encoding="utf-8") + text, encoding="utf-8")

    return edit


EDITS: dict[str, tuple[Callable[[pathlib.Path], None], int, str]] = {
    "own file": (append("mine.py", "MORE = 1\n"), 2, "the code of mine.py"),
    "helper": (append("helper.py", "MORE = 1\n"), 2, "the code of helper.py"),
    "comment": (append("helper.py", "# A remark.\n"), 0, ""),
    "data": (change_data, 3, "the data: fingerprint"),
    "weights": (append("weights.txt", "1"), 2, "the content of --init_from="),
    "package": (lambda folder: None, 2, "the code of cnnlab/models/autoencoder.py"),
}
"""What is edited: {name: (how, exit code of a command that refuses it, what is said)}."""
UNOPENED = {"data": ("export", "sample", "predict"), "weights": ("predict",)}
"""{what is edited: the verbs that use the checkpoint without opening it}."""
FLAGS = {
    "seed": ("--seed=1", "holds the run of seed 0, not of seed 1"),
    "knob": ("--batch_size=4", "batch_size: 8 there, 4 now"),
    "strategy": ("--strategy=pmap", "strategy jit there, pmap now"),
    "devices": ("--devices=2", "1 × cpu: cpu there, 2 × cpu: cpu now"),
}
"""What is given otherwise: {name: (flag, what is said of it)}."""


class Reached(CnnlabError):
    """A command compared what it has to compare, and would begin its work."""


def run_verb(
    verb: str, more: list[str], here: Here, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, bool]:
    """Runs a command up to its work; returns (exit code, what it said, whether it reached the work)."""
    reached: list[bool] = []

    def work(*args: object, **options: object) -> None:
        reached.append(True)
        raise Reached("here the work would begin")

    monkeypatch.setattr("cnnlab.runs.run.build", work)
    monkeypatch.setattr("cnnlab.cli.study.main_again", work)
    words = [word for word in COMMANDS[verb] if word.partition("=")[0] not in {one.partition("=")[0] for one in more}]
    code, out, err = here(*words, *more)
    done = bool(reached) or (code == 0 and verb in ("report", "ablate"))
    return (0 if done else code), out + err + caplog.text, done


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_after_training_is_refused_or_said_by_every_verb(
    edit: str, trained: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    change, expected, said = EDITS[edit]
    before = {name: (trained / name).read_bytes() for name in ("mine.py", "helper.py", "d.npz", "weights.txt")}
    monkeypatch.chdir(trained)
    change(trained)
    if edit == "package":
        monkeypatch.setattr("cnnlab.runs.experiments.code_digests", edited_package)
    try:
        for verb in COMMANDS:
            caplog.clear()
            code, text, _ = run_verb(verb, [], here, caplog, monkeypatch)
            # A report shows what was measured, whatever is there now. What a command does not open cannot change what it does.
            is_idle = verb in UNOPENED.get(edit, ())
            assert code == (0 if verb == "report" or is_idle else expected), (verb, text)
            assert said in text or is_idle, (verb, text)
            assert expected or "there," not in text, (verb, text)
    finally:
        for name, content in before.items():
            (trained / name).write_bytes(content)


def edited_package(*paths: pathlib.Path) -> dict[str, str]:
    """The digests of code as they would be after an edit of a module of the package."""
    return code_digests(*paths) | {"cnnlab/models/autoencoder.py": "0" * 16}


@pytest.mark.slow
@pytest.mark.parametrize("given", FLAGS)
def test_another_seed_knob_strategy_or_device_is_refused_or_said_by_every_verb(
    given: str, trained: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    flag, said = FLAGS[given]
    monkeypatch.chdir(trained)
    for verb in COMMANDS:
        caplog.clear()
        code, text, has_begun = run_verb(verb, [flag], here, caplog, monkeypatch)
        name = flag.partition("=")[0]
        if verb in ("report", "reproduce") or (verb == "predict" and given in ("seed", "knob")):
            assert code == 2 and name in text, (verb, text)  # it takes no such flag
        elif given == "seed" and verb == "sample":
            assert has_begun and "there," not in text  # the seed of the images
        elif given in ("seed", "knob") and verb == "ablate":
            assert has_begun and "to do: 2 runs" in text, text  # other runs, of which none is there
        elif given == "seed" or (given == "knob" and verb == "train"):
            assert code == 2 and said in text, (verb, text)
        else:
            assert has_begun and said in text, (verb, text)


@pytest.mark.slow
def test_a_run_is_known_by_content_wherever_its_files_lie(
    trained: pathlib.Path, tmp_path: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The experiment's file, its data, its weights and its folder are moved, and the first three are reached by links."""
    for name in ("mine.py", "helper.py", "d.npz", "weights.txt"):
        (tmp_path / "far").mkdir(exist_ok=True)
        shutil.copy(trained / name, tmp_path / "far" / name)
        if name != "helper.py":  # found beside the file itself
            (tmp_path / name).symlink_to(tmp_path / "far" / name)
    shutil.copytree(trained / "stopped", tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for place in ("moved", "link"):
        for verb in ("train", "evaluate"):
            caplog.clear()
            code, text, _ = run_verb(verb, [*SAME, f"--workdir={place}"], here, caplog, monkeypatch)
            assert code == 0 and "there," not in text, text
    for name in ("mine.py", "d.npz", "weights.txt"):  # the content of the file behind the link counts
        content = (tmp_path / "far" / name).read_bytes()
        EDITS[{"mine.py": "own file", "d.npz": "data", "weights.txt": "weights"}[name]][0](tmp_path / "far")
        caplog.clear()
        assert run_verb("train", [*SAME, "--workdir=link"], here, caplog, monkeypatch)[0] in (2, 3), name
        (tmp_path / "far" / name).write_bytes(content)
