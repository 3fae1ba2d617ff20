"""Errors of the data and signals before training: one line, the exit code, and the same command goes on."""

import contextlib
import os
import pathlib
import signal
import threading
import types

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import checked_files, stream_order
from cnnlab.errors import DamagedFile, DataError
from cnnlab.runs import run_files
from cnnlab.runs.ways_on import saying_what_is_saved
from tests.commands import Here


@pytest.fixture
def words(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that trains for 8 steps on 2 x 12 streamed images below tmp_path/pets, with a checkpoint at step 4."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # files of the same content would not be checked again
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / name / f"{number}.png")
    words = ["--experiment=linear_digits", "--dataset=folder:pets", "--resident_mib=0", "--batch_size=4", "--validation=0.25"]
    pace = ["--steps=8", "--log_every=2 steps", "--eval_every=4 steps", "--save_every=4 steps", "--devices=1"]
    return [*words, *pace, "--log_level=warning"]


@pytest.mark.slow
@pytest.mark.parametrize(("length", "at", "saved"), [(stream_order.ENDLESS, 6, 6), (1, 0, 4)], ids=["training", "validation"])
def test_a_file_that_vanishes_ends_the_run_after_a_checkpoint_and_put_back_it_goes_on(
    length: int, at: int, saved: int, words: list[str], tmp_path: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch
):
    pets, read, lock = tmp_path / "pets", stream_order._Batches.__getitem__, threading.Lock()

    def vanish(batches: stream_order._Batches, step: int) -> object:
        with lock, contextlib.ExitStack() as after:
            if batches._length == length and step == at:
                pets.rename(tmp_path / "away")
                after.callback((tmp_path / "away").rename, pets)
            return read(batches, step)

    with monkeypatch.context() as patched:
        patched.setattr(stream_order._Batches, "__getitem__", vanish)
        code, out, err = here(*words, "--workdir=run")
    assert code == 3 and not out and "Traceback" not in err and err.count("error: ") == 1
    assert ".png changed since it was checked: cannot be read (No such file or directory)" in err
    assert f"The steps up to {saved} are saved in run: with the data as they were, the same command goes on from there" in err
    status = run_files.read_status(tmp_path / "run")
    assert (status["state"], status["step"], status["checkpoint"]) == ("FAILED", saved, saved)
    assert here(*words, "--workdir=run")[0] == here(*words, "--workdir=whole")[0] == 0
    one, other = (tmp_path / "run", tmp_path / "whole")
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    results = [run_files.read(folder, "result.json") or {} for folder in (one, other)]
    assert results[0]["state_digest"] == results[1]["state_digest"] and results[0]["metrics"] == results[1]["metrics"]


def test_an_error_of_reading_is_one_of_the_data_and_says_what_is_saved(tmp_path: pathlib.Path):
    def recorder(*steps: int) -> types.SimpleNamespace:
        checkpoints = types.SimpleNamespace(close=lambda: None, steps=lambda: list(steps))
        return types.SimpleNamespace(checkpoints=checkpoints, folder=tmp_path, step=3)

    lost = FileNotFoundError(2, "No such file or directory", "cat/7.png")
    wanted = r"cat/7\.png: No such file or directory\.(.|\n)*\nNo step was saved before it: "
    with pytest.raises(DataError, match=wanted) as raised, saying_what_is_saved(recorder()):  # type: ignore[arg-type]
        raise lost
    assert raised.value.exit_code == 3
    one = recorder(2, 1500)
    with pytest.raises(DataError, match=r"no pixels\nThe steps up to 1,500 are saved in "), saying_what_is_saved(one):  # type: ignore[arg-type]
        raise DataError("no pixels")
    assert one.step == 1500
    with pytest.raises(DamagedFile, match="Restore it"), saying_what_is_saved(one):  # type: ignore[arg-type]
        raise DamagedFile(tmp_path / "run.json", "it is empty", "Restore it.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_data_are_prepared_is_one_line_and_leaves_no_folder(
    number: int, words: list[str], tmp_path: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch
):
    read, files = checked_files.check_image, []

    def interrupted(path: pathlib.Path, **more: int) -> object:
        files.append(path)
        if len(files) == 5:
            os.kill(os.getpid(), number)
        return read(path, **more)

    with monkeypatch.context() as patched:
        patched.setattr(checked_files, "check_image", interrupted)
        code, out, err = here(*words, "--workdir=run")
    assert code == 75 and not out and not (tmp_path / "run").exists()
    said = [line for line in err.splitlines() if not line.startswith("[data] ")]
    assert said == [
        f"stopped by {signal.Signals(number).name} while nothing was trained. What was finished is kept; the same command does "
        "the rest."
    ]
