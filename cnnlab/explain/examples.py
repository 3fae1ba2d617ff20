"""The images that are looked at: of a held-out split, a few of every class, or those of a folder.

Letters in shapes: N images, H W space, C channels.
"""

import dataclasses
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Dataset
from cnnlab.data.decode import BadImage
from cnnlab.engine.train import evaluation_batch
from cnnlab.errors import DataError
from cnnlab.explain.opening import Opened
from cnnlab.inputs import unit_value
from cnnlab.predict.find import find_images
from cnnlab.text import printable

log = logging.getLogger("cnnlab")

POOL_BYTES = 2**28
"""Memory of all images together, as the network takes them; 256 MiB hold 445 images of 224x224x3."""
POOL = 1000
"""Most images among which those that are shown, patches and neighbours are chosen."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Some images, as they are stored and as the network sees them."""

    pixels: np.ndarray
    """u8 or f32 [N, H, W, C]."""
    images: np.ndarray
    """f32 [N, H, W, C], normalised."""
    labels: np.ndarray | None
    """i32 [N]; None: they have none."""
    names: tuple[str, ...]
    """Their files, or their numbers in the split."""
    source: str
    """Where they come from, in words."""

    def __len__(self) -> int:
        return len(self.images)

    def at(self, places: Sequence[int] | np.ndarray) -> "Examples":
        """Returns the images at some places, in that order."""
        chosen = np.asarray(places, np.int64)
        labels = None if self.labels is None else self.labels[chosen]
        names = tuple(self.names[place] for place in chosen.tolist())
        return Examples(self.pixels[chosen], self.images[chosen], labels, names, self.source)

    def shown(self) -> np.ndarray:
        """Returns the images as f32 [N, H, W, C] in [0, 1]."""
        return np.clip(self.pixels.astype(np.float32) / np.float32(unit_value(self.pixels.dtype)), 0, 1)


def most_images(opened: Opened) -> int:
    """Returns the number of images that are read at most."""
    return max(1, min(POOL, POOL_BYTES // (4 * math.prod(opened.inputs.image_shape))))


def read_examples(opened: Opened, given: Sequence[str]) -> Examples:
    """Returns images of `--images`, or the first of the run's held-out split; raises DataError where none can be read."""
    if given or opened.data is None:
        return _of_files(opened, given)
    return _held_out(opened, opened.data)


def _of_files(opened: Opened, given: Sequence[str]) -> Examples:
    """Returns the images of a folder, of files or of an .npz; those that cannot be read are named and left out."""
    found = find_images(given)
    for remark in found.remarks:
        log.info(remark)
    pixels, names, reasons = [], [], []
    for one in itertools.islice(found.images, most_images(opened)):
        try:
            pixels.append(opened.prepare(one.source).pixels)
            names.append(one.place)
        except BadImage as error:
            reasons.append(f"{printable(one.name)}: {error}")
            log.warning("left out: %s", reasons[-1])
    if not pixels:
        raise DataError(f"none of the images could be read: {'; '.join(reasons[:3]) or 'there were none'}.\nGive others.")
    stacked = stacked_images(pixels)
    return Examples(stacked, opened.normalized(stacked), None, tuple(names), ", ".join(given))


def stacked_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns N images [H, W, C], u8 or floats in [0, 1], as one array [N, H, W, C]: u8 if all are, else f32 in [0, 1]."""
    if len({image.dtype for image in images}) > 1:
        images = [image.astype(np.float32) / np.float32(unit_value(image.dtype)) for image in images]
    return np.stack(images)


def _held_out(opened: Opened, data: Dataset) -> Examples:
    """Returns the first images of the split on which the run reports."""
    split, wanted = data.report_split, most_images(opened)
    prepare = jax.jit(lambda resident, feed: data.prepare(resident, feed, None))
    size = min(evaluation_batch(data), wanted, data.sizes[split])
    batches: list[Any] = []
    for feed in itertools.islice(data.evaluate(split, size), math.ceil(wanted / size)):
        batch = jax.device_get(prepare(data.resident.get(split, {}), jax.tree.map(jnp.asarray, feed)))
        batches.append({name: batch[name][batch["mask"]] for name in ("image", "index", "label") if name in batch})
    merged = {name: np.concatenate([batch[name] for batch in batches])[:wanted] for name in batches[0]}
    labels = merged.get("label")
    if labels is not None and labels.ndim != 1:
        labels = None
    index = merged["index"]
    names = data.example_names(split, index) if data.example_names else [f"{split} {number}" for number in index.tolist()]
    source = f"{data.name}, {'the ' if split != 'train' else 'no held-out split: the '}{split} split"
    return Examples(data.images(split, index), merged["image"], labels, tuple(names), source)


def chosen(examples: Examples, count: int) -> Examples:
    """Returns the images that are shown: one of each class in turn where they have labels, else the first."""
    if examples.labels is None:
        return examples.at(range(min(count, len(examples))))
    seen: dict[int, int] = {}
    ranked = []
    for place, label in enumerate(examples.labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        ranked.append((seen[label], label, place))
    return examples.at([place for *_, place in sorted(ranked)[:count]])
