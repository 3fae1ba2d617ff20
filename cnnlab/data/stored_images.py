"""Images at their final size on the disk: decoded once, by whichever run first needs them, and read from the cache afterwards.

An entry of the cache holds `images.npy` [N, …] and `digests.npy` u64 [N]: WRITTEN plus the CRC-32 of each image, or 0 while it
is not there. An image is written before its digest, so a process may be killed and others may write at the same time: what they
write is the same, and an image that does not agree with its digest is decoded again.

Files are read in place and not mapped into memory: one that is cut short is no bus error, and the process does not grow.
"""

import dataclasses
import math
import os
import pathlib
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cnnlab import files
from cnnlab.data import cache
from cnnlab.data.source import LazyImages, notify
from cnnlab.errors import DiskError
from cnnlab.text import counted

WRITTEN = 2**32
"""What is added to the CRC-32 of an image that is there."""
DIGEST_BYTES = 8
STARTS = "starts.json"
"""File of an entry with the shape of the images, and where the values begin in each of the two arrays."""
MARKED_EVERY = 60.0
"""Seconds between two notes that an entry is in use."""
OPENED: "weakref.WeakValueDictionary[pathlib.Path, ImageStore]" = weakref.WeakValueDictionary()
"""The entries that this process has open: data sets that are built several times share them."""
OPENING = threading.Lock()


def stored(images: LazyImages, key: str, about: str) -> LazyImages:
    """Returns the same images, read from the cache where they are there and kept there when they are decoded.

    The files from which they were decoded are compared with those that were opened at every read (LazyImages.check).

    Args:
        images: images of one size.
        key: a text that changes with their pixels.
        about: what they are, for the list of entries.
    """
    assert None not in images.image_shape
    shape = (len(images), *(int(side or 0) for side in images.image_shape))
    reader = _Reader(images, f"pixels-1-{key[:24]}", shape, about)
    return dataclasses.replace(images, read=reader.read, threads=1)


@dataclasses.dataclass
class _Reader:
    """Reads images through the cache; opens its entry at the first read."""

    images: LazyImages
    key: str
    shape: tuple[int, ...]
    about: str
    _store: "ImageStore | None" = None
    _is_open: bool = False
    _is_said: bool = False

    def read(self, positions: list[int]) -> np.ndarray:
        """Returns the images at some positions, [B, H, W, C]."""
        if not self._is_open:
            self._store, self._is_open = open_store(self.key, self.shape, self.images.dtype, self.about), True
        if self._store is None:
            return self.images[np.array(positions, np.int64)]
        found = np.empty((len(positions), *self.shape[1:]), self.images.dtype)
        is_there = self._store.read(positions, found)
        if self.images.check is not None:
            self.images.check([position for position, there in zip(positions, is_there, strict=True) if there])
        missing = np.flatnonzero(~is_there)
        if len(missing):
            if not self._is_said:
                self._is_said = True
                notify(f"decoding {self.about}, {counted(self.shape[0], 'image')}, as they are needed (once) …")
            chosen = np.array(positions, np.int64)[missing]
            found[missing] = decoded = self.images[chosen]
            self._store.write(chosen.tolist(), decoded)
        return found


def open_store(key: str, shape: tuple[int, ...], dtype: np.dtype, about: str) -> "ImageStore | None":
    """Opens an entry of the cache, which is made where there is none; None, and a line, where that is not possible."""
    folder = cache.cache_dir() / key
    with OPENING:
        if (opened := OPENED.get(folder)) is not None and folder.is_dir():
            return opened
        try:
            if folder.is_dir() and not _fits(folder, shape, dtype):
                notify(f"cache entry {folder} is damaged: making it again")
                cache.delete(folder)
            if not folder.is_dir():
                if reason := cache.make_room(math.prod(shape) * dtype.itemsize):
                    notify(f"not cached: {about} ({reason}); they are decoded whenever they are read")
                    return None
                _make(folder, shape, dtype, about)
            store = ImageStore(folder, shape, dtype)
        except (OSError, DiskError) as error:
            notify(f"not cached: {folder} cannot be written ({cache.short_reason(error)})")
            return None
        OPENED[folder] = store
        return store


def _make(folder: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype, about: str) -> None:
    """Makes an entry without an image."""
    with cache.new_entry(folder, about) as scratch:
        starts = {
            "images": files.allocate_array(scratch / "images.npy", shape, dtype.str),
            "digests": files.allocate_array(scratch / "digests.npy", shape[:1], "<u8"),
        }
        files.write_json(scratch / STARTS, {"shape": list(shape), "dtype": dtype.str, **starts})


def _fits(folder: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Returns whether an entry is whole and of this shape."""
    content = files.read_json(folder / STARTS)
    if not isinstance(content, dict) or content.get("shape") != list(shape) or content.get("dtype") != dtype.str:
        return False
    sizes = {"images": math.prod(shape) * dtype.itemsize, "digests": shape[0] * DIGEST_BYTES}
    wanted = {name: content.get(name, 0) + size for name, size in sizes.items()}
    try:
        return all((folder / f"{name}.npy").stat().st_size == size for name, size in wanted.items())
    except OSError:
        return False


class ImageStore:
    """An open entry. Any thread may read and write."""

    def __init__(self, folder: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Opens the files.

        Args:
            folder: the entry, which exists.
            shape: (N, H, W, C).
            dtype: type of the pixels.
        """
        starts = files.read_json(folder / STARTS)
        self._folder, self._size = folder, math.prod(shape[1:]) * dtype.itemsize
        self._images_start, self._digests_start = int(starts["images"]), int(starts["digests"])
        self._images = files.open_for_update(folder / "images.npy")
        weakref.finalize(self, os.close, self._images)
        self._digests = files.open_for_update(folder / "digests.npy")
        weakref.finalize(self, os.close, self._digests)
        self._known = np.zeros(shape[0], np.uint64)
        files.read_at(self._digests, _bytes_of(self._known), self._digests_start)
        self._verified = np.zeros(shape[0], bool)
        self._is_writable, self._marked = True, -MARKED_EVERY

    def read(self, positions: Sequence[int], out: np.ndarray) -> np.ndarray:
        """Fills `out` [B, H, W, C] with the images at some positions; returns bool [B]: which of them were there and whole."""
        if time.monotonic() - self._marked > MARKED_EVERY:
            cache.mark_used(self._folder)
            self._marked = time.monotonic()
        is_there = np.zeros(len(positions), bool)
        pixels = _bytes_of(out)
        for first, stop in _runs(positions, self._has):
            start, end = positions[first], positions[stop - 1] + 1
            part = pixels[first * self._size : stop * self._size]
            if not files.read_at(self._images, part, self._images_start + start * self._size):
                continue
            is_there[first:stop] = self._verified[start:end]
            for place in np.flatnonzero(~is_there[first:stop]).tolist():
                # Once in a process: an image that was whole stays so in the memory of the system.
                image = part[place * self._size : (place + 1) * self._size]
                if WRITTEN + zlib.crc32(image) == int(self._known[start + place]):
                    is_there[first + place] = self._verified[start + place] = True
        return is_there

    def write(self, positions: Sequence[int], images: np.ndarray) -> None:
        """Keeps images [B, H, W, C]; where the disk is full a line says so, and this process keeps no more."""
        pixels = _bytes_of(np.ascontiguousarray(images))
        for place, position in enumerate(positions):
            if not self._is_writable:
                return
            image = pixels[place * self._size : (place + 1) * self._size]
            digest = np.array([WRITTEN + zlib.crc32(image)], np.uint64)
            try:
                files.write_at(self._images, image, self._images_start + position * self._size)
                files.write_at(self._digests, _bytes_of(digest), self._digests_start + position * DIGEST_BYTES)
            except OSError as error:
                self._is_writable = False
                reason = cache.short_reason(error).partition(": ")[2].rstrip(".") or str(error)
                notify(f"{self._folder} cannot be written ({reason}); other images are decoded whenever they are read")
                return
            self._known[position], self._verified[position] = digest[0], True

    def _has(self, position: int) -> bool:
        """Returns whether an image is there, also where another process wrote it since the entry was opened."""
        if not self._known[position]:
            files.read_at(
                self._digests, _bytes_of(self._known[position : position + 1]), self._digests_start + position * DIGEST_BYTES
            )
        return bool(self._known[position])


def _runs(positions: Sequence[int], has: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    """Yields (first, stop) of the places whose positions follow one another and are there, so that each is one read."""
    first = None
    for place, position in enumerate(positions):
        if first is not None and position != positions[place - 1] + 1:
            yield first, place
            first = None
        if not has(position):
            if first is not None:
                yield first, place
            first = None
        elif first is None:
            first = place
    if first is not None:
        yield first, len(positions)


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the bytes of a contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data  # […] -> [bytes]
