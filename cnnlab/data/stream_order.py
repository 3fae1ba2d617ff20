"""The order of examples: a pure function of (seed, step), whether they are on the device or streamed through grain."""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from cnnlab.core import Feed
from cnnlab.data.source import Split, shuffled
from cnnlab.errors import UsageError

ENDLESS = 2**40
"""Number of steps in an endless stream: more than any run takes."""
BATCHES_AHEAD = 4
READING_THREADS = 2
"""Number of batches that are read at the same time. CIFAR-10 from TFDS at batch 128 on two shared CPU cores: 3,600, 3,300 and
3,800 images/s with 1, 2 and 4 threads, and 900 when every image was an element of its own for grain to batch."""


def shuffled_order(seed: int, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from positions in the endless stream i64 [B] to example indices i32 [B].

    Position p is example permutation(seed, epoch)[p % size] of epoch = p // size: every example once per epoch, nothing
    dropped, any position in constant time. The permutations of the last two epochs are kept, because a batch may span both.
    """
    permutation = functools.lru_cache(maxsize=2)(lambda epoch: shuffled(size, seed, epoch))

    def at(positions: np.ndarray) -> np.ndarray:
        epochs, places = np.divmod(positions, size)
        chosen = np.empty(len(positions), np.int32)
        for epoch in np.unique(epochs).tolist():
            chosen[epochs == epoch] = permutation(epoch)[places[epochs == epoch]]
        return chosen

    return at


def train_feeds(
    size: int, batch_size: int, streamed: Split | None, seed: int, step: int, *, epochs: bool = False
) -> Iterator[Feed]:
    """Yields the endless feeds of steps step, step + 1, …: `index` i32 [B] and, of a streamed split, `image` and `label`.

    With `epochs` there is also `epoch` i32 [B], the number of times that each example was shown before.
    """
    at = shuffled_order(seed, size)
    feeds = _through_grain(_Batches(streamed, at, ENDLESS, batch_size), step) if streamed is not None else None
    while True:
        positions = step * batch_size + np.arange(batch_size)
        feed = {"index": at(positions)} if feeds is None else next(feeds)
        yield feed | {"epoch": (positions // size).astype(np.int32)} if epochs else feed
        step += 1


def evaluation_feeds(size: int, batch_size: int, streamed: Split | None) -> Iterator[Feed]:
    """Yields one pass in order: `index` i32 [B] and `mask` bool [B]; the last feed is filled with example 0, masked out."""
    steps = -(-size // batch_size)
    filled = steps * batch_size
    index = np.where(np.arange(filled) < size, np.arange(filled), 0).astype(np.int32)
    index = index.reshape(steps, batch_size)  # [steps · B] -> [steps, B], as the mask
    mask = (np.arange(filled) < size).reshape(steps, batch_size)
    if streamed is None:
        yield from ({"index": index[step], "mask": mask[step]} for step in range(steps))
        return
    feeds = _through_grain(_Batches(streamed, lambda positions: index.flat[positions], steps, batch_size), 0)
    for step, feed in enumerate(feeds):
        yield feed | {"mask": mask[step]}


class _Batches:
    """The feeds by step, for grain's random access; the images of a feed are read together."""

    def __init__(self, streamed: Split, at: Callable[[np.ndarray], np.ndarray], length: int, batch_size: int) -> None:
        self._streamed, self._at, self._length, self._batch_size = streamed, at, length, batch_size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, step: int) -> Feed:
        index = self._at(step * self._batch_size + np.arange(self._batch_size))
        return {"index": index, "image": self._streamed.images[index], "label": self._streamed.labels[index]}


def _through_grain(batches: _Batches, step: int) -> Iterator[Feed]:
    """Yields the feeds from `step` on, read by threads a few batches ahead; their errors are raised here."""
    try:
        import grain
    except ImportError:
        raise UsageError(
            "this data set is too large for --resident_mib and streaming it needs grain, which is not installed.\n"
            "Install it (pip install grain), or raise --resident_mib so that the examples stay on the device."
        ) from None
    options = grain.ReadOptions(num_threads=READING_THREADS, prefetch_buffer_size=BATCHES_AHEAD)
    yield from grain.MapDataset.source(batches)[step:].to_iter_dataset(options)
