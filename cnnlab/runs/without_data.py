"""Builds the experiment of a trained run from its checkpoint, without its data set.

A recipe asks its data for sizes, classes and the shape of an image, and a network is initialised by a batch of that shape.
run.json and the notes of the checkpoint hold all of this, so a stand-in takes the place of the knob that opens the data.

Letters in shapes: B batch, H W space, C channels.
"""

import functools
import json
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import own
from cnnlab.core import Array, Batch, Dataset, Experiment, Feed, PyTree
from cnnlab.errors import CnnlabError, DataError
from cnnlab.inputs import InputSpec
from cnnlab.knobs import Resolved
from cnnlab.ops.whitening import normalised
from cnnlab.runs import run_files
from cnnlab.runs.identity import is_data, recorded_identity
from cnnlab.runs.trained_function import read_inputs

log = logging.getLogger("cnnlab")


def experiment_without_data(resolved: Resolved, folder: pathlib.Path) -> Experiment | None:
    """Returns the experiment of a run with a stand-in for its data; None where it cannot be built without the data.

    That is so for a run of an older version, which keeps no input specification, for an own experiment without a knob that
    opens its data, and for the few recipes that read examples as they are built.

    Args:
        resolved: the experiment's function and its knobs, as the run was trained.
        folder: folder of the run.
    """
    inputs, recorded = read_inputs(folder), run_files.read_run(folder)
    # The knob `data` holds the knob `data.dataset`.
    paths = {path.rpartition(".")[0] for path in resolved.knobs if is_data(path)} - {""}
    if inputs is None or len(paths) != 1:
        return None
    (path,) = paths
    fingerprint = recorded_identity(recorded).data or ""
    batch_size = resolved.values.get(f"{path}.batch_size")
    opened = functools.partial(_opened, recorded["data"], inputs, fingerprint, batch_size)
    try:
        with own.explained("the experiment"):
            experiment: Experiment = resolved.call_with({path: opened})
    except CnnlabError as error:
        log.debug("%s cannot be built without its data: %s", folder, error)
        return None
    return experiment


def _opened(
    recorded: Mapping[str, Any],
    inputs: InputSpec,
    fingerprint: str,
    usual_batch_size: int | None,
    shuffle: str = "none",
    *,
    batch_size: Any = ...,
    **_: Any,
) -> Dataset:
    """Takes the place of a function of data.images.PIPELINES, and its arguments; returns the stand-in."""
    wanted = usual_batch_size if batch_size is ... else batch_size
    sizes = dict(recorded["sizes"])
    # A run of an older version has these two columns.
    label = {} if "columns" in recorded else {"label": "int32 []"}
    columns = {**label, **recorded.get("columns", {})}
    return stand_in(recorded["name"], inputs, sizes, wanted or sizes["train"], fingerprint, columns, recorded.get("kinds", {}))


def stand_in(
    name: str,
    inputs: InputSpec,
    sizes: Mapping[str, int],
    batch_size: int,
    fingerprint: str,
    columns: Mapping[str, Any],
    kinds: Mapping[str, Any] | None = None,
) -> Dataset:
    """Returns a data set without examples: its training batches have the right shapes and types, and are zeros.

    Whatever asks for an example gets a DataError.

    Args:
        name: name of the data set that it stands for.
        inputs: what the network takes.
        sizes: number of examples of each split.
        batch_size: number of examples in a training batch.
        fingerprint: that of the data set that it stands for.
        columns: {name: `int32 []`, type and shape of one example's value, or a dict of these}, as run.json holds them.
        kinds: the kinds of the columns as run.json holds them.
    """
    shape = jax.ShapeDtypeStruct(inputs.image_shape, np.dtype(inputs.dtype))
    stored = {**jax.tree.map(_shape_of, dict(columns)), "image": shape}

    def absent(*_: Any) -> Any:
        raise DataError(f"the examples of {name} are needed here, and the run was opened without its data set.")

    def train(seed: int, step: int) -> Iterator[Feed]:
        # Arrays of one element, whatever their shape: only shapes and types are read.
        def empty(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
            return np.broadcast_to(np.zeros((), leaf.dtype), (batch_size, *leaf.shape))

        feed = {**jax.tree.map(empty, stored), "index": np.zeros(batch_size, np.int32)}
        while True:
            yield feed

    return Dataset(
        name=name,
        inputs=inputs,
        kinds={},
        recorded_kinds=kinds or {},
        stored=stored,
        sizes=sizes,
        batch_size=batch_size,
        train=train,
        evaluate=absent,
        resident={},
        preparation=prepare_images,
        images=absent,
        fingerprint=fingerprint,
    )


def _shape_of(text: str) -> jax.ShapeDtypeStruct:
    """Returns the shape and type that `float32 [2, 3]` describes."""
    dtype, _, shape = text.partition(" ")
    return jax.ShapeDtypeStruct(tuple(json.loads(shape)), np.dtype(dtype))


def prepare_images(inputs: InputSpec, resident: PyTree, feed: Mapping[str, Array], key: Array | None) -> Batch:
    """Implements core.Dataset.preparation for images that come with the feed, which are not augmented."""
    images = feed["image"].astype(jnp.float32)
    mask = feed["mask"] if "mask" in feed else jnp.ones(feed["index"].shape, bool)
    return {**feed, "image": normalised(inputs, images), "mask": mask}
