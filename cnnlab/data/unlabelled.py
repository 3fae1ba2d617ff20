"""A few labelled examples of the training split and, beside them in every batch, all others of it without their labels.

Letters in shapes: B labelled examples of a batch, U those without labels, N training examples, K classes.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Feed, PyTree, Rows
from cnnlab.data.few_labels import feeds_of, few_and_others, has_examples, key_of, labels_of_training
from cnnlab.data.paired import paired
from cnnlab.data.source import drawn
from cnnlab.digests import combined_digest
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.ops.keys import stream
from cnnlab.remarks import print_once
from cnnlab.text import counted
from cnnlab.values import DrawSeed, seed_of_draw

AGAIN, CALM = "again", "calm"
"""Further views of the images without labels: with other variations, and without any."""
HIDDEN = "hidden_label"
"""Name of their labels, which are there for what is reported alone."""
SHIFT = "shift"
"""Name in a feed of what is added to the number of a class, modulo K, to make it a wrong one; 0: it stays."""
WRONG = 0x3A0B6
"""Purpose of the draw of the examples with a wrong label (source.drawn)."""


def with_unlabelled(
    data: Dataset,
    *,
    examples_per_class: int,
    examples_seed: DrawSeed = None,
    wrong_labels: float = 0.0,
    ratio: int = 1,
) -> Dataset:
    """Returns the data with batches of labelled examples and others.

    A training batch is one of the labelled examples, with a batch of the others under `unlabelled`: `image` [U, H, W, C], two
    more views of the same images (AGAIN, CALM), `index`, `mask` and no `label`, but HIDDEN i32 [U]. Both streams are shuffled
    in every epoch and are pure functions of (seed, step). Held-out splits are untouched, and their examples in neither stream;
    the images are normalised by the statistics of all training images.

    Raises UsageError where the labels are not known or too few, or none is left without a label.

    Args:
        data: data set whose training split is on the device.
        examples_per_class: number of labelled examples of each class.
        examples_seed: seed by which they are drawn.
        wrong_labels: share of the labelled examples whose label is that of another class, drawn with them.
        ratio: examples without labels for each labelled one of a batch.
    """
    if not has_examples(data):
        return data
    labels, divided = labels_of_training(data), few_and_others(data, examples_per_class, examples_seed)
    few, others = divided(0)
    _require(data, examples_per_class, len(few), len(others), wrong_labels)

    def train_labelled(seed: int, step: int, *, rows: Rows | None = None) -> Iterator[Feed]:
        chosen = divided(seed)[0]
        shifts = np.zeros(len(labels), np.int32)
        shifts[chosen] = _shifts(len(chosen), wrong_labels, data.classes, seed_of_draw(examples_seed, seed))
        for feed in feeds_of(data, labels, chosen, data.batch_size, seed, step, rows=rows):
            yield feed | {SHIFT: shifts[feed["index"]]}

    def train_others(seed: int, step: int, *, rows: Rows | None = None) -> Iterator[Feed]:
        return feeds_of(data, labels, divided(seed)[1], ratio * data.batch_size, seed, step, rows=rows)

    remark = _remark(data.name, len(few), len(others), round(wrong_labels * len(few)))
    print_once([remark])
    key = f"{key_of(examples_per_class, examples_seed)} beside the others, {wrong_labels:g} wrong"
    labelled = dataclasses.replace(
        data,
        train=train_labelled,
        preparation=functools.partial(_prepare_labelled, data),
        class_counts=(examples_per_class,) * data.classes,
        fingerprint=combined_digest(data.fingerprint, key),
        remarks=(*data.remarks, remark),
    )
    unlabelled = dataclasses.replace(
        data, train=train_others, preparation=functools.partial(_prepare_others, data), batch_size=ratio * data.batch_size
    )
    # Both have the same resident arrays, which are placed once.
    return dataclasses.replace(paired(labelled, unlabelled), name=data.name)


def _require(data: Dataset, examples_per_class: int, few: int, others: int, wrong_labels: float) -> None:
    """Raises UsageError where no example is left without its label, and for wrong labels of images whose labels are soft."""
    if not others:
        raise UsageError(
            f"--examples_per_class={examples_per_class}: all {few:,} training examples of {data.name} would be labelled, "
            "and none is left to learn from without its label.\nGive a smaller number."
        )
    if wrong_labels and data.example(2, training=True)["label"].ndim != 1:
        raise UsageError("--wrong_labels changes the class of an image, and mixup and cutmix make soft ones. Leave one out.")


def _remark(name: str, few: int, others: int, wrong: int) -> str:
    """Returns the remark on how many training examples have their label, and how many of them a wrong one."""
    told = f", {wrong:,} of them a wrong one" if wrong else ""
    return (
        f"{name}: {few:,} of {counted(few + others, 'training example')} have their label{told}; of the others the images "
        "alone are used"
    )


def _shifts(size: int, share: float, classes: int, seed: int | None) -> np.ndarray:
    """Returns i32 [M]: 1 … K − 1 for a share of M examples, each as often as the others, and 0 for the rest."""
    shifts, order = np.zeros(size, np.int32), drawn(size, WRONG, seed)
    wrong = order[: round(share * size)]
    shifts[wrong] = 1 + np.arange(len(wrong)) % (classes - 1)
    return shifts


def _prepare_labelled(
    data: Dataset, inputs: InputSpec, resident: PyTree, feed: Mapping[str, Array], key: Array | None
) -> Batch:
    """Implements core.Dataset.preparation; feeds of evaluation shift no label."""
    batch = data.preparation(inputs, resident, {name: value for name, value in feed.items() if name != SHIFT}, key)
    if SHIFT not in feed:
        return batch
    # Soft labels f32 [B, K] are never shifted.
    shifted = batch["label"] if batch["label"].ndim == 2 else (batch["label"] + feed[SHIFT]) % jnp.int32(data.classes)
    return {**batch, "label": shifted}


def _prepare_others(data: Dataset, inputs: InputSpec, resident: PyTree, feed: Mapping[str, Array], key: Array | None) -> Batch:
    """Implements core.Dataset.preparation: three views of the images, and no column of a label but the hidden one."""
    keys = (key, None) if key is None else (stream(key, "image"), stream(key, AGAIN))
    views = {
        name: data.preparation(inputs, resident, feed, own)
        for name, own in (("image", keys[0]), (AGAIN, keys[1]), (CALM, None))
    }
    calm = views[CALM]
    images = {name: view["image"] for name, view in views.items()}
    return {**images, HIDDEN: calm["label"], "index": calm["index"], "mask": calm["mask"]}
