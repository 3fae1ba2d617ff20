"""Training on a few examples of each class: after a phase on all of them, or beside the others without their labels."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cnnlab.core import Dataset, Feed, Rows
from cnnlab.data.source import drawn
from cnnlab.data.stream_order import shuffled_order, train_feeds
from cnnlab.digests import combined_digest
from cnnlab.errors import UsageError
from cnnlab.remarks import print_once
from cnnlab.text import counted
from cnnlab.values import DrawSeed, seed_of_draw

EXAMPLES = 0x5E1EC7
"""Purpose of the draw of a few labelled examples (source.drawn)."""


def few_per_class(labels: np.ndarray, classes: int, each: int, seed: int | None = None) -> np.ndarray:
    """Returns the positions i32 [K · each], ascending, of `each` examples of every class; fewer are some of the same ones.

    Raises UsageError where a class has fewer.

    Args:
        labels: i32 [N] in [0, K).
        classes: K.
        each: number of examples of each class.
        seed: seed by which they are drawn; None: the usual draw.
    """
    order = drawn(len(labels), EXAMPLES, seed)
    found = [order[labels[order] == number] for number in range(classes)]
    smallest = min(range(classes), key=lambda number: len(found[number]))
    if len(found[smallest]) < each:
        raise UsageError(
            f"--examples_per_class={each}: class {smallest} has {len(found[smallest])} training examples.\n"
            "Give a smaller --examples_per_class."
        )
    return np.sort(np.concatenate([own[:each] for own in found])).astype(np.int32)


def has_examples(data: Dataset) -> bool:
    """Whether the data set was opened; a stand-in without examples takes its place where a run predicts (without_data.py)."""
    return "train" in data.resident


def labels_of_training(data: Dataset) -> np.ndarray:
    """Returns the labels i32 [N] of the training split.

    Raises UsageError for one that is streamed, because its labels are not known before it is read.
    """
    resident = data.resident["train"]
    if not resident:
        raise UsageError(
            f"--examples_per_class: the training images of {data.name} are too many to stay on the device, and their labels "
            "are not known before they are read.\nGive a smaller --image_size, or leave --examples_per_class out."
        )
    return np.asarray(resident["label"])


def few_and_others(
    data: Dataset, examples_per_class: int, examples_seed: DrawSeed
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Returns the function from the seed of a run to the positions of the few, i32 [M], and of all others that it trains on.

    Args:
        data: data set whose training split is on the device.
        examples_per_class: number of examples of each class.
        examples_seed: seed by which they are drawn.
    """
    labels = labels_of_training(data)

    def divided(seed: int) -> tuple[np.ndarray, np.ndarray]:
        within = np.arange(len(labels), dtype=np.int32) if data.draws is None else data.draws("train", seed)
        few = few_per_class(labels[within], data.classes, examples_per_class, seed_of_draw(examples_seed, seed))
        return within[few], np.delete(within, few)

    return divided


def feeds_of(
    data: Dataset,
    labels: np.ndarray,
    chosen: np.ndarray,
    batch_size: int,
    seed: int,
    step: int,
    *,
    rows: Rows | None = None,
) -> Iterator[Feed]:
    """Yields the endless feeds of steps step, step + 1, … over some examples, in the order of the data set.

    Args:
        data: data set whose training split is on the device.
        labels: labels i32 [N] of the split.
        chosen: positions i32 [M] of the examples in it.
        batch_size: number of examples of a feed.
        seed: seed of the run.
        step: first step.
        rows: rows of each feed that are read; None: all.
    """
    has_epochs = "epoch" in next(data.train(0, 0))
    how: Any = {"order": data.order or shuffled_order, "epochs": has_epochs, "rows": rows}
    for feed in train_feeds(labels[chosen], batch_size, None, seed, step, **how):
        yield feed | {"index": chosen[feed["index"]]}


def key_of(examples_per_class: int, examples_seed: DrawSeed) -> str:
    """Returns what the draw of a few examples adds to the fingerprint of a data set."""
    return f"examples {examples_per_class}{'' if examples_seed is None else f' drawn by {examples_seed}'}"


def few_labels_after(
    data: Dataset, *, steps: int, examples_per_class: int, examples_seed: DrawSeed = None
) -> tuple[Dataset, int]:
    """Returns (the data with training batches of a few examples per class from step `steps` on, the number of these examples).

    Raises UsageError for a training split that is streamed, because its labels are not known before it is read.

    Args:
        data: data set whose training split is on the device.
        steps: number of steps on all examples, before.
        examples_per_class: number of examples of each class.
        examples_seed: seed by which they are drawn.
    """
    if not has_examples(data):
        return data, examples_per_class * data.classes
    labels, divided = labels_of_training(data), few_and_others(data, examples_per_class, examples_seed)
    size = len(divided(0)[0])

    def train(seed: int, step: int, *, rows: Rows | None = None) -> Iterator[Feed]:
        feeds = data.for_process(rows).train(seed, step)
        while step < steps:
            yield next(feeds)
            step += 1
        # From here on a stream of its own over the chosen examples.
        yield from feeds_of(data, labels, divided(seed)[0], data.batch_size, seed, step - steps, rows=rows)

    fingerprint = combined_digest(data.fingerprint, key_of(examples_per_class, examples_seed))
    remark = f"{data.name}: from step {steps} on, {size:,} of {counted(data.sizes['train'], 'training example')} are used"
    print_once([remark])
    return dataclasses.replace(data, train=train, fingerprint=fingerprint, remarks=(*data.remarks, remark)), size
