"""Training on all examples first, and then once through some labelled ones, as they are: what a probe remembers."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from cnnlab.core import Array, Batch, Dataset, Feed, PyTree, Rows
from cnnlab.data.few_labels import few_and_others, has_examples, key_of, labels_of_training
from cnnlab.digests import combined_digest
from cnnlab.inputs import InputSpec
from cnnlab.remarks import print_once
from cnnlab.text import counted
from cnnlab.values import DrawSeed

PLACE = "place"
"""Column of the batches that show each of some examples once: its number among these."""


def each_once_after(
    data: Dataset, *, steps: int, examples_per_class: int | None, examples_seed: DrawSeed = None
) -> tuple[Dataset, int]:
    """Returns (the data whose batches show each of some examples once from step `steps` on, the number of these examples).

    These batches are prepared as held-out ones are, without variations, and have one more column: `place` i32 [B], the number
    of the example among these, in the order in which they are stored; what fills the last batch, and all later ones, counts on.

    Args:
        data: data set whose training split is on the device.
        steps: number of steps before, on all examples.
        examples_per_class: number of examples of each class; None: all examples.
        examples_seed: seed by which they are drawn.

    Raises UsageError for a training split that is streamed, because its labels are not known before it is read.
    """

    def chosen_by(seed: int) -> np.ndarray:
        """Returns the positions i32 [M], ascending, of the examples of a run's seed."""
        if examples_per_class is not None:
            return few_and_others(data, examples_per_class, examples_seed)(seed)[0]
        return np.arange(data.sizes["train"], dtype=np.int32) if data.draws is None else data.draws("train", seed)

    size = data.sizes["train"] if examples_per_class is None else examples_per_class * data.classes
    if not has_examples(data):
        return data, size
    labels_of_training(data)
    assert len(chosen_by(0)) == size

    def train(seed: int, step: int, *, rows: Rows | None = None) -> Iterator[Feed]:
        feeds, chosen = data.for_process(rows).train(seed, step), chosen_by(seed)
        own = np.arange(data.batch_size) if rows is None else rows(data.batch_size)
        while step < steps:
            yield next(feeds)
            step += 1
        while True:
            place = (step - steps) * data.batch_size + own
            yield {"index": chosen[place % size], PLACE: place.astype(np.int32)}
            step += 1

    def prepare(inputs: InputSpec, resident: PyTree, feed: Mapping[str, Array], key: Array | None) -> Batch:
        if PLACE not in feed:
            return data.preparation(inputs, resident, feed, key)
        rest = {name: value for name, value in feed.items() if name != PLACE}
        return {**data.preparation(inputs, resident, rest, None), PLACE: feed[PLACE]}

    remark = f"{data.name}: from step {steps} on, the labels of {counted(size, 'training example')} are used"
    print_once([remark])
    each = "all" if examples_per_class is None else key_of(examples_per_class, examples_seed)
    fingerprint = combined_digest(data.fingerprint, f"once {each}")
    remarks = (*data.remarks, remark)
    return dataclasses.replace(data, train=train, preparation=prepare, fingerprint=fingerprint, remarks=remarks), size
