"""Folds of cross-validation: every example is held out once, by class and by group, for fixed folds and those of a seed."""

import dataclasses

import numpy as np
import pytest

from cnnlab.core import Dataset
from cnnlab.data import DATASETS
from cnnlab.data.folds import fold_of_examples, folds_of
from cnnlab.data.images import images
from cnnlab.data.kinds import Name
from cnnlab.data.pipeline import build
from cnnlab.data.source import Source, Split
from cnnlab.errors import UsageError

draw = np.random.default_rng(0)
LABELS = draw.choice(5, 403, p=[0.5, 0.3, 0.1, 0.08, 0.02]).astype(np.int32)
GROUPS = np.array([f"patient {number}" for number in draw.integers(0, 60, 403)])
DIGITS = {"batch_size": 16, "examples_per_class": 23}


def counts(labels: np.ndarray, folds: np.ndarray, count: int) -> np.ndarray:
    """Examples by fold and class, [K, classes]."""
    table = np.zeros((count, labels.max() + 1), int)
    np.add.at(table, (folds, labels), 1)
    return table


@pytest.mark.parametrize("count", [2, 5, 10])
def test_every_fold_has_its_share_of_all_examples_and_of_every_class(count: int):
    part = Split({"label": LABELS})
    folds, plain, other = (
        fold_of_examples(part, count, **how) for how in ({}, {"stratify": False}, {"repetition": 1, "seed": 3})
    )
    table = counts(LABELS, folds, count)
    assert np.ptp(table, axis=0).max() <= 1 and np.ptp(table.sum(axis=1)) <= 1 and table.sum() == len(LABELS)
    assert np.ptp(np.bincount(plain)) <= 1 and np.ptp(counts(LABELS, plain, count), axis=0).max() > 1
    assert not np.array_equal(folds, other) and np.array_equal(folds, fold_of_examples(part, count))
    assert np.mean(folds == other) < 1.5 / count


@pytest.mark.parametrize("stratify", [True, False])
def test_groups_are_whole_and_no_fold_is_empty(stratify: bool):
    folds = fold_of_examples(Split({"label": LABELS, "group": GROUPS}), 5, stratify=stratify)
    assert all(len(set(folds[name == GROUPS])) == 1 for name in set(GROUPS))
    table = counts(LABELS, folds, 5)
    assert table.sum() == len(LABELS) and np.ptp(table.sum(axis=1)) <= 0.15 * len(LABELS)
    if stratify:
        assert np.ptp(table[:, :3] / table.sum(axis=0)[:3], axis=0).max() < 0.12  # of a share of 0.2
    with pytest.raises(UsageError, match="--folds=61: there are 60 groups"):
        fold_of_examples(Split({"label": LABELS, "group": GROUPS}), 61)


def parts(data: Dataset, seed: int = 0) -> tuple[list[bytes], list[bytes]]:
    """The images that the run of a seed trains on in one epoch, and those that it holds out."""
    held = [feed["index"][feed["mask"]] for feed in data.for_run(seed).evaluate("validation", 16)]
    validation = data.images("validation", np.concatenate(held))
    if data.draws is None:
        train = data.images("train", np.arange(data.sizes["train"]))
    else:
        train = data.images("train", data.draws("train", seed))
    return [image.tobytes() for image in train], [image.tobytes() for image in validation]


def test_folds_cover_every_training_example_once_and_leave_the_test_split_alone():
    whole = images(**DIGITS, validation=0.0)
    everything = sorted(image.tobytes() for image in whole.images("train", np.arange(whole.sizes["train"])))
    fixed = [images(**DIGITS, folds=5, fold=number) for number in range(5)]
    assert len({data.fingerprint for data in fixed}) == 5 and all(data.draws is None for data in fixed)
    of_run = images(**DIGITS, folds=5)
    for data in (*fixed, of_run):
        assert set(data.sizes) == {"train", "validation"} and data.report_split == "validation"
        assert any("left for a run without --folds" in remark for remark in data.remarks)
    for found in ([parts(data) for data in fixed], [parts(of_run, seed) for seed in range(5, 10)]):
        assert sorted(image for _, held in found for image in held) == everything
        assert all(sorted(train + held) == everything for train, held in found)
    assert parts(of_run, 2)[1] == parts(fixed[2])[1]  # the seed's fold is the fixed one
    assert parts(of_run, 7)[1] != parts(of_run, 2)[1]  # and the next five seeds have another partition


def test_every_run_trains_on_its_own_folds_and_their_sizes_may_differ():
    data = images(**DIGITS, folds=7)  # 230 examples: 33 in six folds, 32 in one
    assert dict(data.sizes) == {"train": 197, "validation": 33}
    held = [len(parts(data, seed)[1]) for seed in range(7)]
    assert sorted(held) == [32, 33, 33, 33, 33, 33, 33]
    for seed in (0, 6):
        shown = np.concatenate([feed["index"] for feed, _ in zip(data.train(seed, 0), range(12), strict=False)])
        assert set(shown) <= set(data.draws("train", seed)) and len(set(shown)) == len(shown)


def grouped() -> Source:
    """Stripes whose examples come from 20 patients."""
    source = DATASETS["stripes"](examples=160)
    names = {
        split: np.array([f"{split} {number % 20}" for number in range(len(part))]) for split, part in source.splits.items()
    }
    splits = {split: part.having(group=names[split]) for split, part in source.splits.items()}
    return dataclasses.replace(source, splits=splits, kinds={**source.kinds, "group": Name()})


@pytest.mark.parametrize("fold", [1, "run"])
def test_folds_of_groups_cover_every_example_and_share_no_group(fold):
    cross = folds_of(4, fold, stratify=True, split_seed=None, examples_seed=None)
    source = cross.without_test(grouped())
    data = build(source, batch_size=8, folds=cross)
    train = source.splits["train"]
    assert set(data.sizes) == {"train", "validation"}
    halves = [cross.divided(train, seed) for seed in range(4)]
    for kept, held in halves:
        groups = np.asarray(train.columns["group"])
        assert not set(groups[kept]) & set(groups[held]) and len(kept) + len(held) == len(train)
    if fold == "run":
        assert sorted(np.concatenate([held for _, held in halves])) == list(range(len(train)))
        assert all(len(data.draws("validation", seed)) == len(halves[seed][1]) for seed in range(4))


def test_knobs_of_folds_do_something_and_are_refused_where_they_cannot():
    def fingerprint(**how) -> str:
        return images(**DIGITS, **how).fingerprint

    found = [fingerprint(), *(fingerprint(folds=5, **how) for how in ({}, {"fold": 0}, {"fold": 1}, {"split_seed": 3}))]
    found += [fingerprint(folds=5, **how) for how in ({"stratify": False}, {"fold": 0, "split_seed": 3})]
    assert len(set(found)) == len(found)
    for how, message in (
        ({"fold": 2}, "--fold=2 is about the folds of --folds=K"),
        ({"stratify": False}, "--stratify=false is about the folds"),
        ({"folds": 3, "fold": 3}, "--fold=3 of --folds=3: give a number from 0 to 2, or run"),
        ({"folds": 3, "fold": 1, "split_seed": "run"}, "--split_seed=run: folds are parts of one set"),
        ({"folds": 3, "examples_seed": "run"}, "--examples_seed=run: folds are parts of one set"),
    ):
        with pytest.raises(UsageError, match=message):
            images(**DIGITS, **how)
    own = dataclasses.replace(grouped(), splits={name: grouped().splits["train"] for name in ("train", "validation")})
    with pytest.raises(UsageError, match="has a validation split of its own"):
        folds_of(3, 0, stratify=True, split_seed=None, examples_seed=None).without_test(own)


@pytest.mark.parametrize("fold", [1, "run"])
def test_shuffled_labels_leave_those_of_the_fold_that_is_held_out(fold):
    plain, control = (images(shuffle, **DIGITS, folds=5, fold=fold) for shuffle in ("none", "labels"))
    assert control.fingerprint != plain.fingerprint
    np.testing.assert_array_equal(control.resident["validation"]["label"], plain.resident["validation"]["label"])
    labels = [np.asarray(data.resident["train"]["label"]) for data in (control, plain)]
    assert np.mean(labels[0] == labels[1]) < 0.3 and parts(control, 1)[1] == parts(plain, 1)[1]
