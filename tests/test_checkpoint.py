"""A checkpoint gives the same bits back, or one clear error; damage is never silent."""

import dataclasses
import hashlib
import json
import logging
import pathlib
import shutil
import types
from typing import Any

import jax
import numpy as np
import pytest

from cnnlab.core import TrainState
from cnnlab.engine.checkpoint import MANIFEST, Checkpoints, tree_digest
from cnnlab.errors import CheckpointError, DivergedError, UsageError
from cnnlab.metric import Metric
from cnnlab.runs import restoring


def state(step: int, width: int = 8) -> TrainState:
    """A host tree with a tuple, an empty leaf container and several dtypes."""
    random = np.random.default_rng(step)
    params = {
        "net": {
            "conv1": {"kernel": random.normal(size=(3, 3, 1, width)).astype(np.float32), "bias": np.zeros(width, np.float32)}
        }
    }
    moments = (jax.tree.map(np.ones_like, params["net"]), np.int32(step) * np.ones((), np.int32))
    return TrainState(np.full((), step, np.int32), np.array([0, 7], np.uint32), params, {}, {"net": moments}, {})


def open_at(folder: pathlib.Path, keep: int = 2) -> Checkpoints:
    return Checkpoints(folder, ranked_by=Metric("accuracy", higher_is_better=True), keep=keep)


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with checkpoints of steps 1 and 2."""
    checkpoints = open_at(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step), {"note": step}, {"accuracy": 0.5})
    checkpoints.close()
    return tmp_path


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Every file of a step that holds data."""
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.parent != folder] + [folder / MANIFEST]


def test_what_comes_back_is_what_was_saved_bit_for_bit(saved: pathlib.Path):
    restored = open_at(saved).restore(state(0))
    assert restored is not None
    tree, meta, step = restored
    assert step == 2 and meta == {"note": 2} and tree_digest(tree) == tree_digest(state(2))
    assert jax.tree.structure(tree) == jax.tree.structure(state(2))


def test_averaged_statistics_that_an_older_version_did_not_keep_start_from_the_raw_ones(tmp_path: pathlib.Path, caplog):
    raw = {"batch_stats": {"norm": {"mean": np.arange(3, dtype=np.float32)}}, "seen": np.zeros((), np.float32)}
    old = dataclasses.replace(state(1), model_state=raw, average=state(2).params)
    checkpoints = open_at(tmp_path)
    checkpoints.save(1, old, {}, None)
    checkpoints.close()
    today = dataclasses.replace(old, average_statistics={"batch_stats/norm/mean": np.zeros(3, np.float32)})
    restored = open_at(tmp_path).restore(today)
    assert restored is not None and "the average of these starts from" in caplog.text
    expected = dataclasses.replace(old, average_statistics={"batch_stats/norm/mean": raw["batch_stats"]["norm"]["mean"]})
    assert tree_digest(restored[0]) == tree_digest(expected)


def test_an_empty_folder_has_nothing_to_restore(tmp_path: pathlib.Path):
    assert open_at(tmp_path / "new").restore(state(0)) is None


def test_the_newest_and_the_best_are_kept(tmp_path: pathlib.Path):
    checkpoints = open_at(tmp_path)
    for step, accuracy in enumerate([0.5, 0.9, 0.6, 0.7, 0.8], start=1):
        checkpoints.save(step, state(step), {}, {"accuracy": accuracy})
    checkpoints.save(6, state(6), {}, None)
    checkpoints.close()
    assert checkpoints.steps() == [2, 5, 6]
    reopened = open_at(tmp_path)
    assert reopened.best() == 2
    reopened.save(7, state(7), {}, {"accuracy": 0.95})
    reopened.close()
    assert reopened.steps() == [6, 7]


def test_the_best_one_is_refused_where_none_was_validated(tmp_path: pathlib.Path):
    task = types.SimpleNamespace(primary_metric=Metric("accuracy", higher_is_better=True))
    program: Any = types.SimpleNamespace(experiment=types.SimpleNamespace(task=task), shapes=state(0))
    assert restoring.restore(program, tmp_path, best=True) is None
    for step, metrics in ((1, None), (2, {"accuracy": 0.5}), (3, None)):
        checkpoints = open_at(tmp_path / "checkpoints")
        checkpoints.save(step, state(step), {}, metrics)
        checkpoints.close()
        if step == 1:
            with pytest.raises(
                UsageError, match=r"--best: no checkpoint in .* was validated(.|\n)*Without the flag the newest is taken"
            ):
                restoring.restore(program, tmp_path, best=True)
    for best, step in ((True, 2), (False, 3)):
        found = restoring.restore(program, tmp_path, best=best)
        assert found is not None and found[2] == step


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete"])
def test_damage_to_any_file_is_found_and_the_checkpoint_before_is_taken(
    saved: pathlib.Path, tmp_path_factory: pytest.TempPathFactory, damage: str, caplog: pytest.LogCaptureFixture
):
    for name in [p.relative_to(saved) for p in files(saved / "2")]:
        copy = tmp_path_factory.mktemp("copy") / "checkpoints"
        shutil.copytree(saved, copy)
        content = (copy / name).read_bytes()
        if damage == "delete":
            (copy / name).unlink()
        elif damage == "flip":
            where = len(content) // 2
            (copy / name).write_bytes(content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :])
        else:
            (copy / name).write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="cnnlab"):
            restored = open_at(copy).restore(state(0))
        assert restored is not None and restored[2] == 1 and tree_digest(restored[0]) == tree_digest(state(1)), name
        assert "WARNING: checkpoint of step 2" in caplog.text and (name.name == MANIFEST or name.name in caplog.text), name


def test_every_checkpoint_damaged_is_an_error_that_lists_them_and_never_a_fresh_start(saved: pathlib.Path):
    for step in (1, 2):
        files(saved / str(step))[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint in .* can be used:\n  step 2: .*\n  step 1: .*--overwrite"):
        open_at(saved).restore(state(0))


def test_an_explicit_step_is_that_step_or_an_error(saved: pathlib.Path):
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 3 .* There are: 1, 2"):
        open_at(saved).restore(state(0), step=3)
    files(saved / "2")[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match="step 2"):
        open_at(saved).restore(state(0), step=2)
    assert open_at(saved).restore(state(0), step=1) is not None


def test_damaged_checkpoints_are_set_aside_and_their_steps_can_be_saved_again(saved: pathlib.Path):
    files(saved / "2")[0].write_bytes(b"")
    checkpoints = open_at(saved)
    assert checkpoints.restore(state(0)) is not None
    checkpoints.quarantine()
    assert checkpoints.steps() == [1] and (saved / "2.corrupt").is_dir()
    checkpoints.save(2, state(2), {}, {"accuracy": 0.5})
    checkpoints.close()
    restored = open_at(saved).restore(state(0))
    assert restored is not None and restored[2] == 2


def test_another_network_is_refused_by_naming_leaves_not_arrays(saved: pathlib.Path):
    with pytest.raises(
        CheckpointError,
        match=r"differs +params/net/conv1/kernel: stored \[\[3, 3, 1, 8\], 'float32'\], wanted \[\[3, 3, 1, 9\]",
    ):
        open_at(saved).restore(state(0, width=9))
    extra = dataclasses.replace(
        state(0), params={"net": {**state(0).params["net"], "head": {"kernel": np.zeros((2, 2), np.float32)}}}
    )
    with pytest.raises(CheckpointError, match=r"missing +params/net/head/kernel"):
        open_at(saved).restore(extra)
    half = dataclasses.replace(state(0), step=np.full((), 0, np.int64))
    with pytest.raises(CheckpointError, match=r"step: stored \[\[\], 'int32'\], wanted \[\[\], 'int64'\]"):
        open_at(saved).restore(half)


def test_not_more_than_ten_leaves_are_named(saved: pathlib.Path):
    many = dataclasses.replace(state(0), params={"net": {f"layer{i}": np.zeros(1, np.float32) for i in range(30)}})
    with pytest.raises(CheckpointError) as error:
        open_at(saved).restore(many)
    assert str(error.value).count("\n  ") == 11 and "… and " in str(error.value)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: pathlib.Path):
    bad = state(1)
    bad.params["net"]["conv1"]["bias"][3] = np.nan
    with pytest.raises(DivergedError, match=r"at step 1 1 leaves are not finite, the first is 0/net/conv1/bias"):
        open_at(tmp_path).save(1, bad, {}, None)


def test_a_newer_format_says_both_versions(saved: pathlib.Path):
    for step in (1, 2):
        path = saved / str(step) / MANIFEST
        content = {**json.loads(path.read_text(encoding="utf-8"))["content"], "format": 99}
        sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({"content": content, "sha256": sha256}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="it has format 99, this cnnlab reads format 1"):
        open_at(saved).restore(state(0))


def test_what_a_killed_save_left_is_no_checkpoint_and_is_cleared(saved: pathlib.Path):
    shutil.copytree(saved / "2", saved / "3.orbax-checkpoint-tmp")
    checkpoints = open_at(saved)
    checkpoints.clear_unfinished()
    assert checkpoints.steps() == [1, 2] and not list(saved.glob("*tmp*"))
    (saved / "9").mkdir()  # an empty folder that another tool made
    restored = checkpoints.restore(state(0))
    assert restored is not None and restored[2] == 2


def test_a_full_disk_is_reported_with_the_bytes_before_anything_is_written(
    saved: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(CheckpointError, match=r"no room for a checkpoint in .* MiB needed, 0 MiB free"):
        open_at(saved).save(3, state(3), {}, None)
    assert open_at(saved).steps() == [1, 2]


def test_a_run_that_has_no_room_for_the_checkpoints_that_are_kept_at_once_does_not_begin(
    saved: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    each = 1.2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state(0)))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 0, int(2.5 * each)))
    fresh = open_at(saved / "new" / "checkpoints")
    with pytest.raises(
        CheckpointError, match=r"(?s)no room for the 4 checkpoints that are kept at once in .* continues from step 0"
    ):
        fresh.require_room(state(0), 20)
    with pytest.raises(CheckpointError, match="the 3 checkpoints"):
        fresh.require_room(state(0), 3)
    fresh.require_room(state(0), 2)
    open_at(saved).require_room(state(0), 20)  # two are there already
    fresh.require_room(dataclasses.replace(state(0), params={"a": np.zeros(10**6)}), 0)


def test_checkpoints_set_aside_still_forbid_a_fresh_start(saved: pathlib.Path):
    for step in (1, 2):
        files(saved / str(step))[0].write_bytes(b"")
    open_at(saved).quarantine()
    with pytest.raises(CheckpointError, match=r"1\.corrupt: set aside before"):
        open_at(saved).restore(state(0))
