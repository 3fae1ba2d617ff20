"""What no file may do with what it reads, and faults of the machine: a folder that cannot be written, a clock set back."""

import ast
import itertools
import json
import os
import pathlib
import time
import types
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from cnnlab.ablation.run import measure
from cnnlab.overview.show import age
from cnnlab.runs import lock, run_files
from tests.commands import Here

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = [
    ROOT / "launch.py",
    *(path for room in ("cnnlab", "experiments", "benchmarks") for path in (ROOT / room).rglob("*.py")),
]
RUN_WHAT_THEY_READ = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle", "yaml"}
"""Modules whose readers can run code of the file that they read."""


LAST_NAMES = {"eval", "exec", "__import__", "system", "popen", "extractall", "extract", "unpack_archive"}


def wrong_calls(node: ast.Call) -> Iterator[str]:
    """What a call does that no file may do."""
    last = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = {word.arg: word.value.value if isinstance(word.value, ast.Constant) else word.value for word in node.keywords}
    if given.get("shell", False) is not False:
        yield "a shell runs a text"
    if given.get("allow_pickle", False) is not False:
        yield "allow_pickle"
    called = ast.unparse(node.func) if last in {*LAST_NAMES, "load"} else ""
    if called in ("eval", "exec", "__import__", "os.system", "os.popen"):
        yield f"{called} runs a text"
    if called == "torch.load":
        yield "torch.load reads a pickle"
    extracts = last in ("extractall", "unpack_archive") or (last == "extract" and "archive" in called)
    if extracts and given.get("filter") != "data":
        yield f"{called} writes members of an archive wherever they say"


def test_no_file_runs_what_it_reads_or_extracts_an_archive_unfiltered():
    wrong = []
    for path in SOURCES:
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    {alias.name.partition(".")[0] for alias in node.names} if isinstance(node, ast.Import) else {node.module}
                )
                wrong += [f"{place} imports {name}" for name in names if name in RUN_WHAT_THEY_READ]
            elif isinstance(node, ast.Call):
                wrong += [f"{place}:{node.lineno}: {what}" for what in wrong_calls(node)]
    assert wrong == []


def test_the_search_for_dangerous_calls_finds_them():
    dangerous = (
        "eval(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "subprocess.run(text, shell=True)",
    )
    for text in dangerous:
        (statement,) = ast.parse(text).body
        assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        assert len(list(wrong_calls(statement.value))) == 1, text
    (statement,) = ast.parse("archive.extractall(folder, filter='data')").body
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    assert not list(wrong_calls(statement.value))


def test_a_folder_that_cannot_be_written_is_refused_before_the_data_are_opened(
    here: Here, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "access", lambda place, mode, **how: mode != os.W_OK)
    # The data set is not there either, which would be exit 3.
    code, out, err = here("--experiment=linear_digits", "--dataset=npz:nowhere.npz", "--steps=2", "--workdir=run")
    assert code == 2 and f"{tmp_path} cannot be written to" in err and "Traceback" not in err and not out
    assert not list(tmp_path.iterdir())


def test_a_clock_that_is_set_back_makes_no_time_negative(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    assert age(1000.0, now=400.0) == "0 s"
    steps = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600.0 * next(steps))
    assert time.time() > time.time()

    measured = types.SimpleNamespace(numbers={}, curves={}, lower_bounds={})
    measurement = types.SimpleNamespace(measure=lambda seed: measured, check=lambda found: found)
    content = measure.run_measurement(cast(Any, measurement), [0], tmp_path, about={}, data_dir=None)
    assert content["seeds"]["0"]["seconds"] >= 0
    with lock.locked(tmp_path), pytest.raises(lock.Busy), lock.locked(tmp_path):
        pass


@pytest.mark.slow
def test_a_run_under_a_clock_that_goes_backwards_is_the_same_and_data_that_are_gone_are_named(
    here: Here, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    words = ["--experiment=linear_digits", "--dataset=npz:d.npz", "--batch_size=8", "--steps=4", "--devices=1"]
    assert here(*words, "--workdir=whole")[0] == 0
    steps, real = itertools.count(), time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real - 3600.0 * next(steps))
        assert here(*words, "--workdir=run", "--stop_after=2")[0] == 0
        assert here(*words, "--workdir=run")[0] == 0
    results = [run_files.read(tmp_path / name, "result.json") or {} for name in ("whole", "run")]
    assert results[0]["state_digest"] == results[1]["state_digest"]

    def seconds(content: object, name: str = "") -> Iterator[float]:
        if isinstance(content, dict):
            for key, value in content.items():
                yield from seconds(value, key)
        elif isinstance(content, int | float) and "seconds" in name:
            yield content

    found = [*seconds(results[1]), *seconds(json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8")))]
    assert found and min(found) >= 0
    assert here(*words, "--workdir=other", "--stop_after=2")[0] == 0
    (tmp_path / "d.npz").unlink()
    code, _, err = here(*words, "--workdir=other")
    assert code == 3 and f"no file {tmp_path / 'd.npz'}" in err and "Traceback" not in err
