"""Two streams of examples side by side, such as a few labelled images and many without labels, each with its own batch size."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Feed, PyTree, Rows
from cnnlab.digests import combined_digest
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.ops.keys import stream

BESIDE = "unlabelled"
"""Name of the second batch within the first."""


def paired(labelled: Dataset, unlabelled: Dataset) -> Dataset:
    """Returns the labelled data, whose training batches hold a batch of the others under `unlabelled`.

    The ratio of the two is that of the batch sizes. Both streams are functions of (seed, step), so a run resumes exactly and
    does not depend on the number of devices. Both are normalised as the labelled images are. Evaluation is that of the labelled
    data.

    Raises UsageError where the images differ in shape or in type, or the batches are not taken in as many parts.
    """
    if (labelled.inputs.image_shape, labelled.inputs.dtype) != (unlabelled.inputs.image_shape, unlabelled.inputs.dtype):
        raise UsageError(
            f"the images of {labelled.name} are {labelled.inputs.dtype} {list(labelled.image_shape)} and those of "
            f"{unlabelled.name} {unlabelled.inputs.dtype} {list(unlabelled.image_shape)}.\n"
            "Expected images of one size and type. Give the same --image_size."
        )
    if labelled.accumulate != unlabelled.accumulate:
        raise UsageError(
            f"--accumulate={labelled.accumulate} for {labelled.name} and {unlabelled.accumulate} for {unlabelled.name}: "
            "the two batches of a step are taken in parts together.\nGive both the same number."
        )
    number = jax.ShapeDtypeStruct((), np.int32)
    resident = {split: dict(arrays) for split, arrays in labelled.resident.items()}
    resident["train"] = {**resident.get("train", {}), BESIDE: dict(unlabelled.resident.get("train", {}))}
    return dataclasses.replace(
        labelled,
        name=f"{labelled.name} and {unlabelled.name}",
        stored={**labelled.stored, BESIDE: {**unlabelled.stored, "index": number, "epoch": number}},
        train=functools.partial(_train, labelled, unlabelled),
        resident=resident,
        preparation=functools.partial(_prepare, labelled, unlabelled),
        fingerprint=combined_digest(labelled.fingerprint, unlabelled.fingerprint, str(unlabelled.batch_size)),
        remarks=(*labelled.remarks, *(remark for remark in unlabelled.remarks if remark not in labelled.remarks)),
    )


def _train(labelled: Dataset, unlabelled: Dataset, seed: int, step: int, *, rows: Rows | None = None) -> Iterator[Feed]:
    """Implements core.Dataset.train."""
    streams = (data.for_process(rows).train(seed, step) for data in (labelled, unlabelled))
    for feed, beside in zip(*streams, strict=True):
        yield {**feed, BESIDE: beside}


def _prepare(
    labelled: Dataset,
    unlabelled: Dataset,
    inputs: InputSpec,
    resident: PyTree,
    feed: Mapping[str, Any],
    key: Array | None,
) -> Batch:
    """Implements core.Dataset.preparation; a feed of evaluation has no second batch."""
    arrays, own = ({name: value for name, value in tree.items() if name != BESIDE} for tree in (resident, feed))
    batch = labelled.preparation(inputs, arrays, own, key)
    if BESIDE not in feed:
        return batch
    beside_key = None if key is None else stream(key, BESIDE)
    return {**batch, BESIDE: unlabelled.preparation(inputs, resident.get(BESIDE, {}), feed[BESIDE], beside_key)}
