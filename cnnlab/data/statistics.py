"""The normalisation of a data set: computed once from its training images by a rule that does not ask where they are kept."""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.normalize import Normalisation, needs_images, takes_rows
from cnnlab.data.source import Images, LazyImages
from cnnlab.digests import combined_digest
from cnnlab.progress import ProgressLine
from cnnlab.text import counted, format_bytes

WHOLE = 2**31
"""Bytes of training images up to which all of them enter the statistics; of more, a sample of SAMPLE does."""
SAMPLE = 10_000
KEPT = 2**24
"""Bytes of images from which what was computed is kept in the cache."""
PARTS = ("subtract", "divide", "whiten")
"""Names in the cache of the arrays of a normalisation; only whitening has the last one."""
READ_AT_ONCE = 2**26
"""Bytes of images that are decoded at once, by several threads."""


def normalisation_of(
    name: str, images: Images, shape: tuple[int, ...], normalize: Callable[..., Normalisation], key: str
) -> tuple[Normalisation, list[str]]:
    """Returns what is subtracted and divided by, and a remark where it was computed from a sample.

    Images in memory and images that are decoded on request have the same normalisation, to the bit.

    Args:
        name: name of the data set.
        images: the training images, without those that are held out.
        shape: (H, W, C) of an image.
        normalize: the normaliser.
        key: a text that changes with the images, for the cache.
    """
    if not needs_images(normalize):
        return normalize(np.zeros((1, *shape), images.dtype)), []
    size = len(images) * math.prod(shape) * images.dtype.itemsize
    chosen, remarks = None, []
    if size > WHOLE and len(images) > SAMPLE:
        chosen = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int32))
        remarks = [
            f"{name} is normalised by the statistics of {len(chosen):,} of its {len(images):,} training images, evenly spaced, "
            f"since together they take {format_bytes(size)}"
        ]
    if not takes_rows(normalize):
        everything = images if isinstance(images, np.ndarray) and chosen is None else images[_all(images, chosen)]
        return normalize(everything), remarks
    rows = images if isinstance(images, np.ndarray) and chosen is None else SampledRows(images, shape, chosen, name)
    if size < KEPT:
        return normalize(rows), remarks
    made = cached(
        f"statistics-1-{combined_digest(key, normalize_name(normalize))[:24]}",
        lambda: dict(zip(PARTS, normalize(rows), strict=False)),
        about=f"normalisation of {name}",
    )
    return tuple(np.array(made[part]) for part in PARTS if part in made), remarks


def normalize_name(normalize: Callable[..., Normalisation]) -> str:
    """Returns the name of a normaliser of this package, with the settings of its partials."""
    if isinstance(normalize, functools.partial):
        return f"{normalize_name(normalize.func)} {normalize.args} {sorted(normalize.keywords.items())}"
    return normalize.__name__


@dataclasses.dataclass
class SampledRows:
    """Some images as rows that are read when they are asked for, in order, and with a progress line where that takes long."""

    images: Images
    image_shape: tuple[int, ...]
    chosen: np.ndarray | None
    """Positions i32 [N]; None: all."""
    name: str
    _read: tuple[int, np.ndarray] | None = None
    """(place of the first row, rows) that were read last: more than are asked for, for the threads that decode."""
    _progress: ProgressLine = dataclasses.field(default_factory=ProgressLine)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (len(self), *self.image_shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of the pixels."""
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.images) if self.chosen is None else len(self.chosen)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Returns rows [start:stop]."""
        start, stop = rows.start, min(rows.stop, len(self))
        if self._read is None or not self._read[0] <= start <= stop <= self._read[0] + len(self._read[1]):
            count = max(stop - start, READ_AT_ONCE // (math.prod(self.image_shape) * self.dtype.itemsize))
            until = min(start + count, len(self))
            positions = np.arange(start, until) if self.chosen is None else self.chosen[start:until]
            self._show(start, until)
            self._read = start, self.images[positions]
        first, found = self._read
        return found[start - first : stop - first]

    def _show(self, start: int, until: int) -> None:
        """Shows how many images were read, where they are decoded."""
        if isinstance(self.images, LazyImages):
            self._progress.show(f"[data] {self.name}: {until:,} of {counted(len(self), 'image')} read for the normalisation")
            if until == len(self):
                self._progress.close()


def _all(images: Images, chosen: np.ndarray | None) -> np.ndarray:
    return np.arange(len(images)) if chosen is None else chosen
