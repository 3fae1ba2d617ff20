"""The order of examples: a pure function of (seed, step), whether they are on the device or streamed through grain."""

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from cnnlab.core import Feed, Rows
from cnnlab.data.source import Split, at_positions, shuffled
from cnnlab.errors import UsageError, did_you_mean

ENDLESS = 2**40
"""Number of steps in an endless stream: more than any run takes."""
BATCHES_AHEAD = 4
READING_THREADS = 2
"""Number of batches that are read at the same time. CIFAR-10 from TFDS at batch 128 on two shared CPU cores: 3,600, 3,300 and
3,800 images/s with 1, 2 and 4 threads, and 900 when every image was an element of its own for grain to batch."""


At = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Positions in the endless stream i64 [B] -> (example indices i32 [B], how often each was shown before, i32 [B])."""


def shuffled_order(seed: int, groups: np.ndarray) -> At:
    """Shows every example once in each epoch, in an order of its own.

    Position p is example permutation(seed, epoch)[p % N] of epoch = p // N: nothing is dropped, and any position is found in
    constant time. The permutations of the last two epochs are kept, because a batch may span both.

    Args:
        seed: seed of the run.
        groups: the class of every example, i32 [N].
    """
    size = len(groups)
    permutation = functools.lru_cache(maxsize=2)(lambda epoch: shuffled(size, seed, epoch))

    def at(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epochs, places = np.divmod(positions, size)
        chosen = np.empty(len(positions), np.int32)
        for epoch in np.unique(epochs).tolist():
            chosen[epochs == epoch] = permutation(epoch)[places[epochs == epoch]]
        return chosen, epochs.astype(np.int32)

    return at


def sequential_order(seed: int, groups: np.ndarray) -> At:
    """Shows the examples in the order in which they are stored, again and again, whatever the seed.

    Args:
        seed: seed of the run.
        groups: the class of every example, i32 [N].
    """

    def at(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epochs, places = np.divmod(positions, len(groups))
        return places.astype(np.int32), epochs.astype(np.int32)

    return at


def balanced_order(seed: int, groups: np.ndarray) -> At:
    """Shows the classes equally often: one example of each class in turn, in an order of turns that changes every round.

    The examples of a class are shown once each before one of them is shown again, so those of small classes return more often.

    Args:
        seed: seed of the run.
        groups: the class of every example, i32 [N].
    """
    members = [np.flatnonzero(groups == number) for number in np.unique(groups)]
    classes = len(members)
    # The second key of a permutation differs for every class and epoch, and for the turns of every round.
    turns = functools.lru_cache(maxsize=256)(lambda round: shuffled(classes, seed, round * (classes + 1) + classes))
    permutation = functools.lru_cache(maxsize=2 * classes)(
        lambda number, epoch: shuffled(len(members[number]), seed, epoch * (classes + 1) + number)
    )

    def at(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen, shown = np.empty((2, len(positions)), np.int32)
        for place, position in enumerate(positions.tolist()):
            # Round r gives each class its r-th example, so a class's own epoch follows from r alone.
            round, turn = divmod(position, classes)
            number = int(turns(round)[turn])
            epoch, within = divmod(round, len(members[number]))
            chosen[place], shown[place] = members[number][permutation(number, epoch)[within]], epoch
        return chosen, shown

    return at


ORDERS = {"shuffled": shuffled_order, "sequential": sequential_order, "balanced": balanced_order}
"""Orders of the training examples by name, for `Choice[ORDERS]`; each is a pure function of the seed and the position."""


def train_feeds(
    groups: np.ndarray,
    batch_size: int,
    streamed: Split | None,
    seed: int,
    step: int,
    *,
    order: Callable[[int, np.ndarray], At] = shuffled_order,
    epochs: bool = False,
    draws: Callable[[str, int], np.ndarray] | None = None,
    rows: Rows | None = None,
) -> Iterator[Feed]:
    """Yields the endless feeds of steps step, step + 1, …: `index` i32 [B] and, of a streamed split, its columns.

    With `epochs` there is also `epoch` i32 [B], the number of times that each example was shown before. Where `draws` gives the
    positions of the seed's own examples, these alone are shown. With `rows` a feed has these of the batch, and no other example
    is read.
    """
    at = order(seed, groups) if draws is None else _among(draws("train", seed), groups, seed, order)
    own = _rows(rows, batch_size)
    feeds = None
    if streamed is not None:
        feeds = _through_grain(_Batches(streamed, lambda positions: at(positions)[0], ENDLESS, batch_size, own), step)
    while True:
        index, shown = at(step * batch_size + own)
        feed = {"index": index} if feeds is None else next(feeds)
        yield feed | {"epoch": shown} if epochs else feed
        step += 1


def _among(chosen: np.ndarray, groups: np.ndarray, seed: int, order: Callable[[int, np.ndarray], At]) -> At:
    """Returns the order of some examples, at positions i32 [M] among all, as `At` of positions among all."""
    within = order(seed, groups[chosen])

    def at(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places, shown = within(positions)
        return chosen[places], shown

    return at


def _rows(rows: Rows | None, batch_size: int) -> np.ndarray:
    """Returns the rows i64 [b] of a batch that are read; all, where nothing says which."""
    return np.arange(batch_size) if rows is None else rows(batch_size)


def require_split(split: str, sizes: Mapping[str, int]) -> None:
    """Raises UsageError for a split that is not among those with sizes."""
    if split not in sizes:
        raise UsageError(f"no split {split!r}.{did_you_mean(split, list(sizes))} There are: {', '.join(sizes)}.")


def evaluation_feeds(
    size: int, batch_size: int, streamed: Split | None, chosen: np.ndarray | None = None, *, rows: Rows | None = None
) -> Iterator[Feed]:
    """Yields one pass in order: `index` i32 [B] and `mask` bool [B]; the last feed is filled with the first, masked out.

    Where positions i32 [size] of `chosen` examples are given, the pass is over these. With `rows`, a feed has these of its
    batch alone.
    """
    steps, own = -(-size // batch_size), _rows(rows, batch_size)
    filled = steps * batch_size
    index = np.where(np.arange(filled) < size, np.arange(filled), 0).astype(np.int32)
    index = index if chosen is None else chosen[index]
    index = index.reshape(steps, batch_size)  # [steps · B] -> [steps, B], as the mask
    mask = (np.arange(filled) < size).reshape(steps, batch_size)
    if streamed is None:
        yield from ({"index": index[step, own], "mask": mask[step, own]} for step in range(steps))
        return
    feeds = _through_grain(_Batches(streamed, lambda positions: index.flat[positions], steps, batch_size, own), 0)
    for step, feed in enumerate(feeds):
        yield feed | {"mask": mask[step, own]}


class _Batches:
    """The feeds by step, for grain's random access; the values of a feed are read together, of some rows of its batch."""

    def __init__(
        self, streamed: Split, at: Callable[[np.ndarray], np.ndarray], length: int, batch_size: int, rows: np.ndarray
    ) -> None:
        self._streamed, self._at, self._length, self._batch_size, self._rows = streamed, at, length, batch_size, rows

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, step: int) -> Feed:
        index = self._at(step * self._batch_size + self._rows)
        return {"index": index} | {name: at_positions(values, index) for name, values in self._streamed.columns.items()}


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
