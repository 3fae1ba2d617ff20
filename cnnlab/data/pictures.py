"""The knob `data` of synthesis: each example of a data set gets a picture of its own, which training changes.

So the test split holds the same examples: what is measured on it is what became of these pictures.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from cnnlab.core import Dataset
from cnnlab.data import DATASETS
from cnnlab.data.kinds import Image
from cnnlab.data.kinds.kind import Values
from cnnlab.data.normalize import no_normalization
from cnnlab.data.photos import as_channels, sample_photos
from cnnlab.data.pipeline import build, require_image
from cnnlab.data.resize import FITS, crop
from cnnlab.data.source import LazyImages, Source, Split, require_source
from cnnlab.data.stream_order import sequential_order
from cnnlab.digests import combined_digest
from cnnlab.values import Choice, Count


def pictures(
    channels: int = 3,
    *,
    dataset: Choice[DATASETS] = sample_photos,
    batch_size: Count | None = None,
    accumulate: Count = 1,
    image_size: Count | None = None,
    image_fit: Choice[FITS] = partial(crop, fraction=1.0),
) -> Dataset:
    """The training examples of a data set as the pictures that are synthesised, or from which they are.

    Args:
        channels: number of channels of the pictures, to which those of the data set are brought. It is not a knob.
        dataset: data set; photos:PATH takes an image file or a folder of some, blank makes grey pictures with labels.
        batch_size: number of pictures that a step changes; none: all of them.
        accumulate: equal parts in which a step takes its pictures in turn, to save memory.
        image_size: height and width in pixels to which pictures are brought; none: they keep their size.
        image_fit: how pictures are brought to that size: the centre of the shorter side, or resize or pad.
    """
    source = _of_channels(require_source(dataset(), "data.dataset"), channels)
    return build(
        source,
        batch_size=batch_size,
        accumulate=accumulate,
        validation=0.0,
        image_size=image_size,
        image_fit=image_fit,
        normalize=no_normalization,
        order=sequential_order,
    )


def _of_channels(source: Source, channels: int) -> Source:
    """Returns the training split of a source as train and test, with images of that many channels."""
    require_image(source)
    part, kinds = source.splits["train"], source.kinds
    columns: Mapping[str, Values] = {name: _converted(values, kinds[name], channels) for name, values in part.columns.items()}
    fingerprint = combined_digest(source.fingerprint, f"pictures of {channels} channels")
    same = Split(columns)
    return dataclasses.replace(source, splits={"train": same, "test": same}, fingerprint=fingerprint)


def _converted(values: Any, kind: Any, channels: int) -> Any:
    """Returns a column of images with another number of channels; other columns, and those that have it, as they are."""
    if not isinstance(kind, Image):
        return values
    if not isinstance(values, LazyImages):
        return as_channels(values, channels)
    if values.image_shape[-1] == channels:
        return values
    return dataclasses.replace(
        values,
        read=lambda positions: [as_channels(image, channels) for image in values.read(positions)],
        image_shape=(*values.image_shape[:-1], channels),
        is_array=False,
    )


PICTURES = {"pictures": pictures}
"""Pipelines of synthesis by name, for the knob `data`."""
