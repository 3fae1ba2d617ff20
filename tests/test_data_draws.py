"""Examples that the seed of a run draws: which ones, in training, validation, controls, and in the files of runs."""

import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.core import Dataset
from cnnlab.data import DATASETS
from cnnlab.data.draws import draws_of
from cnnlab.data.few_labels import few_labels_after
from cnnlab.data.images import images
from cnnlab.data.kinds import Name
from cnnlab.data.source import drawn, grouped_split, shuffled, stratified_split
from cnnlab.data.stream_order import balanced_order
from cnnlab.errors import UsageError
from cnnlab.recipes.classification import classification
from cnnlab.runs import run
from cnnlab.runs.evaluation import evaluate_run
from cnnlab.runs.folder import RunSpec

LABELS = np.random.default_rng(0).integers(0, 5, 400).astype(np.int32)


OWN = {"batch_size": 16, "examples_per_class": 10, "examples_seed": "run", "validation": 0.2}


def digits(**how) -> Dataset:
    return images(**{**OWN, **how})


def indices(data: Dataset, seed: int, step: int = 0, count: int = 5) -> np.ndarray:
    return np.concatenate([feed["index"] for feed in itertools.islice(data.train(seed, step), count)])


def validation(data: Dataset, seed: int) -> np.ndarray:
    feeds = list(data.for_run(seed).evaluate("validation", 16))
    return np.concatenate([feed["index"][feed["mask"]] for feed in feeds])


def test_the_usual_draw_is_the_one_that_there_always_was():
    np.testing.assert_array_equal(drawn(400, 0x5EED, None), shuffled(400, 0x5EED, 400))
    plain = images(validation=0.2, examples_per_class=10, batch_size=16)
    assert plain.draws is None and plain.for_run(3) is plain
    assert plain.fingerprint == images(validation=0.2, examples_per_class=10, batch_size=16, split_seed=None).fingerprint


def test_a_number_draws_other_examples_for_every_run():
    kept, held = zip(*(stratified_split(LABELS, 0.25, seed) for seed in (None, 0, 1, 2**32 - 1)), strict=True)
    assert len({part.tobytes() for part in held}) == 4 and {len(part) for part in held} == {100}
    assert all(np.array_equal(np.bincount(LABELS[part]), np.bincount(LABELS[held[0]])) for part in held)
    assert all(np.array_equal(np.sort(np.concatenate(pair)), np.arange(400)) for pair in zip(kept, held, strict=True))
    groups = (np.arange(400) // 4).astype(str)
    assert not np.array_equal(grouped_split(LABELS, groups, 0.25, 0)[1], grouped_split(LABELS, groups, 0.25, 1)[1])
    seeds = ((None, None), (7, None), (7, 8))
    datasets = [images(examples_per_class=9, examples_seed=each, split_seed=split) for each, split in seeds]
    assert len({data.fingerprint for data in datasets}) == 3 and all(data.draws is None for data in datasets)


def test_the_seed_of_a_run_draws_as_many_of_every_class_and_the_same_in_every_arm():
    data = digits(split_seed="run")
    labels = data.resident["train"]["label"]
    assert dict(data.sizes) == {"train": 80, "test": 359, "validation": 20}
    assert "the seed of each run draws, of 1,438 training examples, 80 for train, 20 for validation" in data.remarks[-1]
    for seed in range(3):
        own, held = indices(data, seed), validation(data, seed)
        np.testing.assert_array_equal(np.unique(own, return_counts=True)[1], np.ones(80))  # an epoch shows each once
        np.testing.assert_array_equal(np.bincount(labels[own]), np.full(10, 8))
        np.testing.assert_array_equal(np.bincount(labels[held]), np.full(10, 2))
        assert not set(own) & set(held)
    assert len(set(indices(data, 0)) & set(indices(data, 1))) < 40
    arm = digits(split_seed="run", batch_size=80, augment=(), image_size=12)
    assert set(indices(arm, 1, count=1)) == set(indices(data, 1))
    more = digits(split_seed="run", examples_per_class=20)
    assert {*indices(data, 1), *validation(data, 1)} < {*indices(more, 1, count=10), *validation(more, 1)}


def test_each_of_the_two_seeds_follows_the_run_alone():
    examples, split = digits(), digits(examples_seed=None, split_seed="run")
    assert len({frozenset(validation(examples, seed)) for seed in range(3)}) == 3
    pool = {*indices(split, 0), *validation(split, 0)}
    assert len(pool) == 100 and all({*indices(split, seed), *validation(split, seed)} == pool for seed in (1, 2))
    assert len({frozenset(validation(split, seed)) for seed in range(3)}) == 3
    without = digits(validation=0.0)
    assert dict(without.sizes) == {"train": 100, "test": 359} and len(set(indices(without, 1, count=7))) == 100
    assert len({data.fingerprint for data in (examples, split, without, digits(examples_per_class=11))}) == 4
    assert images(examples_seed="run", batch_size=16).draws is None  # all examples: nothing to draw


def test_draws_are_streamed_as_they_are_kept_and_from_any_step():
    kept, streamed = (digits(split_seed="run", order=balanced_order, resident_mib=mib) for mib in (2048, 0))
    np.testing.assert_array_equal(indices(kept, 4), indices(streamed, 4))
    np.testing.assert_array_equal(indices(kept, 4, step=3, count=2), indices(kept, 4)[48:])
    feed = next(streamed.train(4, 0))
    np.testing.assert_array_equal(feed["image"], kept.resident["train"]["image"][feed["index"]])
    held = next(streamed.for_run(4).evaluate("validation", 20))
    np.testing.assert_array_equal(held["label"], kept.resident["validation"]["label"][validation(kept, 4)])
    np.testing.assert_array_equal(kept.images("validation", held["index"]), held["image"])


def test_few_labels_after_all_images_are_drawn_of_those_that_the_run_trains_on():
    data = images(batch_size=64, split_seed="run")
    late, size = few_labels_after(data, steps=30, examples_per_class=5, examples_seed="run")
    own = [set(indices(late, seed, step=30)) for seed in range(3)]
    assert size == 50 and own[0] != own[1] and all(len(each) == 50 for each in own)
    assert not any(each & set(validation(data, seed)) for seed, each in enumerate(own))
    fixed, _ = few_labels_after(images(batch_size=64), steps=30, examples_per_class=5, examples_seed=7)
    assert set(indices(fixed, 0, step=30)) == set(indices(fixed, 1, step=30)) and fixed.fingerprint != late.fingerprint


def test_shuffled_labels_leave_those_of_validation_and_what_is_drawn():
    data, control = digits(split_seed="run"), images("labels", **OWN, split_seed="run")
    assert control.fingerprint != data.fingerprint
    np.testing.assert_array_equal(indices(control, 2), indices(data, 2))
    np.testing.assert_array_equal(control.resident["validation"]["label"], data.resident["train"]["label"])
    own = control.resident["train"]["label"], data.resident["train"]["label"]
    assert np.mean(own[0] == own[1]) < 0.2 and np.array_equal(np.bincount(own[0]), np.bincount(own[1]))
    with pytest.raises(UsageError, match=r"and the labels of a stream cannot(.|\n)*larger --resident_mib"):
        images("labels", **OWN, resident_mib=0)


def test_parts_of_unequal_size_and_unknown_words_are_refused():
    source = DATASETS["stripes"]()
    grouped = {split: part.having(group=np.arange(len(part)).astype(str)) for split, part in source.splits.items()}
    with_groups = dataclasses.replace(source, splits=grouped, kinds={**source.kinds, "group": Name()})
    with pytest.raises(UsageError, match=r"belong to groups(.|\n)*--validation=0, or else --split_seed a"):
        draws_of(with_groups, examples_per_class=3, validation=0.1, split_seed=None)
    assert draws_of(with_groups, examples_per_class=3, validation=0.0, split_seed=None)
    with pytest.raises(UsageError, match=r"class \d has \d+ training examples"):
        digits(examples_per_class=1000)
    with pytest.raises(UsageError, match=r"examples_seed=runs: expected int in \[0, 4294967295\] or run or none"):
        knobs.resolve(classification, {"examples_seed": "runs"})
    found = knobs.resolve(classification, {"examples_seed": "7", "split_seed": "run"}).values
    assert (found["data.examples_seed"], found["data.split_seed"]) == (7, "run")


@pytest.mark.slow
def test_a_run_resumes_and_is_measured_on_its_own_draw(tmp_path: pathlib.Path):
    values = {"model": "linear", "dataset": "digits", "duration": "12 steps", "split_seed": "run", **OWN}
    one = knobs.resolve(classification, values)
    spec = RunSpec("linear", one.values, "f32", source="", devices=1, quiet=True, reread=one.reread)
    program = run.build(one, spec)
    run.train_run(program, tmp_path / "1", spec, 1, overwrite=False)
    stopped = dataclasses.replace(spec, stop_after=5)
    run.train_run(program, tmp_path / "again", stopped, 1, overwrite=False)
    run.train_run(program, tmp_path / "again", spec, 1, overwrite=False)
    whole, resumed = ((tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8") for name in ("1", "again"))
    assert whole == resumed
    recorded = json.loads((tmp_path / "1" / "run.json").read_text(encoding="utf-8"))
    # What it saw follows from these three; the fingerprint is the same for all seeds.
    assert recorded["data"]["fingerprint"] == program.experiment.data.fingerprint and recorded["flags"]["seed"] == 1
    assert recorded["knobs"]["data.examples_seed"] == recorded["knobs"]["data.split_seed"] == "run"
    evaluate_run(one, spec, tmp_path / "1", best=False)
    measured = json.loads((tmp_path / "1" / "evaluation.json").read_text(encoding="utf-8"))["metrics"]
    result = json.loads((tmp_path / "1" / "result.json").read_text(encoding="utf-8"))["metrics"]
    assert measured == pytest.approx(result) and "validation/accuracy" in measured
    own, other = (program.for_run(seed).experiment.data for seed in (1, 0))
    assert not np.array_equal(validation(own, 1), validation(other, 0))
