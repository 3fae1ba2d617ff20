"""Examples of every kind for the tests of variations, and variations called on them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.data.kinds import Boxes, Image, InstanceMasks, Label, Mask, MultiLabel, Points, Target
from cnnlab.data.variations import AUGMENTS
from cnnlab.data.variations.compose import Augmentation
from cnnlab.data.variations.examples import Examples

NAMES = ("cat", "dog", "owl")
KINDS = {
    "image": Image(),
    "label": Label(NAMES),
    "labels": MultiLabel(NAMES),
    "target": Target(),
    "mask": Mask(NAMES),
    "objects": InstanceMasks(),
    "boxes": Boxes(NAMES),
    "points": Points(),
}
MIXED = ("image", "label", "labels", "target")
"""Columns of which there are mixtures."""


def images_and_keys(batch: int = 12, height: int = 9, width: int = 7, channels: int = 2) -> tuple[jax.Array, jax.Array]:
    """Returns images of noise and a key for each."""

    @jax.jit
    def drawn(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        images = jax.random.uniform(key, (batch, height, width, channels))
        return images, jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch))

    return drawn(jax.random.key(0))


def examples_of(images: jax.Array, columns: tuple[str, ...] = tuple(KINDS)) -> Examples:
    """Returns examples of all kinds: a box in the middle of the image, whose pixels are those of its mask and its object."""
    batch, height, width, _ = images.shape
    corners = np.float32([width // 4, height // 4, width // 4 + width // 2, height // 4 + height // 2])
    x1, y1, x2, y2 = corners.astype(int)
    mask = np.zeros((height, width), np.uint8)
    mask[y1:y2, x1:x2] = 1
    one = {
        "label": np.int32(1),
        "labels": np.float32([1, 0, 1]),
        "target": np.float32([0.5]),
        "mask": mask,
        "objects": np.stack([mask, 0 * mask]),
        "boxes": {
            "corners": np.stack([corners, 0 * corners]),
            "label": np.int32([2, 0]),
            "valid": np.array([True, False]),
        },
        "points": {"position": np.stack([corners[:2], corners[2:]]), "valid": np.array([True, True])},
    }
    repeated = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (batch, *np.shape(leaf))), one)
    repeated["label"] = jnp.arange(batch, dtype=jnp.int32) % len(NAMES)
    whole = {"image": images, **repeated}
    return Examples({name: whole[name] for name in columns}, KINDS)


def vary(name: str, images: jax.Array, keys: jax.Array, **knobs: Any) -> jax.Array:
    """Returns images after one variation; the feed's columns are those of images that begin mirrored."""
    augment = Augmentation((functools.partial(AUGMENTS[name], **knobs),))

    @jax.jit
    def varied(images: jax.Array, keys: jax.Array) -> jax.Array:
        feed = {"index": jnp.ones(len(images), jnp.int32), "epoch": jnp.zeros(len(images), jnp.int32)}
        examples = Examples({"image": images, "label": jnp.zeros(len(images), jnp.int32)}, KINDS)
        return augment(examples, keys, **{column: feed[column] for column in augment.columns}).columns["image"]

    return varied(images, keys)
