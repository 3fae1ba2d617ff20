"""Training on all examples first and later on a few of each class: unsupervised pre-training, then few labels."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from cnnlab.core import Dataset, Feed, Rows
from cnnlab.data.source import drawn
from cnnlab.data.stream_order import train_feeds
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
    resident = data.resident["train"]
    if not resident:
        raise UsageError(
            f"--examples_per_class: the training images of {data.name} are too many to stay on the device, and their labels "
            "are not known before they are read.\nGive a smaller --image_size, or leave --examples_per_class out."
        )
    labels = np.asarray(resident["label"])

    def chosen_by(seed: int) -> np.ndarray:
        """Returns the positions i32 [M] of the few examples of a run's seed, of those that it trains on."""
        within = np.arange(len(labels), dtype=np.int32) if data.draws is None else data.draws("train", seed)
        drawn_by = seed_of_draw(examples_seed, seed)
        return within[few_per_class(labels[within], data.classes, examples_per_class, drawn_by)]

    size = len(chosen_by(0))
    has_epochs = "epoch" in next(data.train(0, 0))

    def train(seed: int, step: int, *, rows: Rows | None = None) -> Iterator[Feed]:
        feeds, chosen = data.for_process(rows).train(seed, step), chosen_by(seed)
        while step < steps:
            yield next(feeds)
            step += 1
        # From here on a stream of its own over the chosen examples, whose positions become positions in the whole split.
        for feed in train_feeds(labels[chosen], data.batch_size, None, seed, step - steps, epochs=has_epochs, rows=rows):
            yield feed | {"index": chosen[feed["index"]]}

    drawn_by = "" if examples_seed is None else f" drawn by {examples_seed}"
    fingerprint = combined_digest(data.fingerprint, f"examples {examples_per_class}{drawn_by}")
    remark = f"{data.name}: from step {steps} on, {size:,} of {counted(data.sizes['train'], 'training example')} are used"
    print_once([remark])
    return dataclasses.replace(data, train=train, fingerprint=fingerprint, remarks=(*data.remarks, remark)), size
