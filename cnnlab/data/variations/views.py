"""Two views of every example, for tasks that compare them: two independent draws of one list of variations."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from cnnlab.core import Array, Batch, Dataset, PyTree
from cnnlab.inputs import InputSpec

VIEWS = ("image_1", "image_2")
"""Columns of the views; the column `image` keeps the image as it is."""


def with_two_views(data: Dataset) -> Dataset:
    """Returns the data with two views of every image beside it, each by a draw of its own of the variations of training.

    Held-out examples have views, too: always the same ones, which depend on the example's place in its split alone. All other
    columns are those of the examples as they are.

    Args:
        data: data set whose training examples are varied (`--augment`).
    """

    def prepare(inputs: InputSpec, resident: PyTree, feed: Mapping[str, Array], key: Array | None) -> Batch:
        root = jax.random.key(0) if key is None else key
        # A variation may ask how often training has shown an example; held-out ones are shown for the first time.
        told = {"epoch": jnp.zeros_like(feed["index"]), **feed}
        views = {
            name: data.preparation(inputs, resident, told, jax.random.fold_in(root, number))["image"]
            for number, name in enumerate(VIEWS, start=1)
        }
        return {**data.preparation(inputs, resident, feed, None), **views}

    return dataclasses.replace(data, preparation=prepare)
