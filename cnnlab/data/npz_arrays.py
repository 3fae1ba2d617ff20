"""Reads the arrays of a `.npz` file. Large ones that are stored without compression stay on the disk.

An array on the disk is read in place, some rows at a time, and not mapped into memory, so the process does not grow.
"""

import dataclasses
import functools
import math
import os
import pathlib
import struct
import tokenize
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

from cnnlab import files
from cnnlab.data import cache
from cnnlab.data.checked_files import state_of
from cnnlab.data.source import Images, LazyImages, Split, digest_splits
from cnnlab.digests import combined_digest, digest
from cnnlab.errors import DataError
from cnnlab.text import format_bytes, listed, printable

LARGE = 2**26
"""Bytes from which an array stays on the disk."""
AT_ONCE = 2**24
"""Bytes that are read at once where all of an array is read."""
MOST_MEMBERS = 10_000
"""Number of arrays that a file may have."""
UNKNOWN_COUNT = 2**16 - 1
"""Number of members that stands at the end of an archive with more of them."""
READING_ERRORS: tuple[type[Exception], ...] = (
    *(ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error),
    *(SyntaxError, TypeError, OverflowError, tokenize.TokenError),  # a damaged header of an array
    RuntimeError,  # encrypted, or compressed by a method that is not known
)
"""What damaged and malicious archives raise."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayOnDisk:
    """An array in a file, in C order."""

    path: pathlib.Path
    key: str
    """Its name in the file."""
    start: int
    """Place of its first value in the file."""
    shape: tuple[int, ...]
    dtype: np.dtype
    state: tuple[int, int]
    """(size, time of the last change) of the file when it was opened."""
    descriptor: int

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, which is what one position of the first axis holds."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, positions: list[int]) -> np.ndarray:
        """Returns the rows at some positions; raises DataError where the file changed since it was opened."""
        self.check()
        rows = np.empty((len(positions), *self.shape[1:]), self.dtype)
        whole = rows.reshape(-1).view(np.uint8).data  # [B, …] -> [bytes]
        for place, position in enumerate(positions):
            row = whole[place * self.row_bytes : (place + 1) * self.row_bytes]
            if not files.read_at(self.descriptor, row, self.start + position * self.row_bytes):
                raise DataError(f"{self.path} is cut short.\nRestore it from a copy.")
        return rows

    def check(self, positions: list[int] | None = None) -> None:
        """Raises DataError where the file is not the one that was opened."""
        if state_of(self.path) != self.state:
            raise DataError(f"{self.path} changed since it was opened.\nRestore it, or start the command again.")

    def chunks(self) -> Iterator[np.ndarray]:
        """Yields all rows in order, some at a time."""
        count = max(1, AT_ONCE // max(self.row_bytes, 1))
        for first in range(0, len(self), count):
            yield self.read(list(range(first, min(first + count, len(self)))))


Stored = np.ndarray | ArrayOnDisk


def names_of(path: pathlib.Path, expected: str) -> list[str]:
    """Returns the names of the arrays in a file; nothing is read yet, and nothing of it is ever written to a file.

    Raises DataError where the directory of the archive does not agree with its members.

    Args:
        path: the file.
        expected: what the file should hold, for errors.
    """
    member = ""
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            members = archive.infolist()
            # The record at the end of the file: 22 bytes, of which two are the number of members, and then a comment.
            file.seek(-22 - len(archive.comment), os.SEEK_END)
            (count,) = struct.unpack("<10xH", file.read(12))
            if count not in (len(members), UNKNOWN_COUNT):
                raise zipfile.BadZipFile(f"its directory lists {len(members)} of {count} members")
            if len(members) > MOST_MEMBERS:
                raise DataError(f"{path} has {len(members):,} members, expected {MOST_MEMBERS:,} at most.\n{expected}")
            for info in members:
                member = info.filename
                archive.open(info).close()  # compares the name in the directory with that before the member's bytes
    except READING_ERRORS as error:
        where = f"member {printable(member)} cannot be read" if member else "it is not an archive"
        raise DataError(f"{path}: {where}: {_reason(error)}\n{expected}\nSave it again, or restore a copy.") from None
    names = [info.filename.removesuffix(".npy") for info in members]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise DataError(f"{path} has several arrays of one name: {listed(twice)}.\n{expected}\nSave it again.")
    return names


def _reason(error: Exception) -> str:
    """Returns the text of an error in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_arrays(path: pathlib.Path, keys: list[str], expected: str) -> dict[str, Stored]:
    """Returns some arrays of the file; pickled objects are refused, never loaded.

    Raises DataError where an array would not fit into the memory of the machine, before any of it is read.

    Args:
        path: the file.
        keys: names of the arrays.
        expected: what the file should hold, for errors.
    """
    arrays: dict[str, Stored] = {}
    key = ""
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in keys:
                _require_room(path, file.zip, key)
                large = _on_disk(path, file.zip, key)
                arrays[key] = np.asarray(file[key]) if large is None else large
    except READING_ERRORS as error:
        text = f"{path}: array {key or '?'} cannot be read: {_reason(error)}\n{expected}\nSave plain arrays again."
        raise DataError(text) from None
    return arrays


def _member(archive: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    """Returns the member of an archive that holds an array."""
    return archive.getinfo(key if key in archive.namelist() else f"{key}.npy")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the header of an array: (shape, whether it is in Fortran's order, type)."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def memory_of_machine() -> int:
    """Returns the bytes of memory of this machine; 1 TiB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40


def _require_room(path: pathlib.Path, archive: zipfile.ZipFile, key: str) -> None:
    """Raises DataError for an array that declares more than its member holds, or that decompresses to more than the memory."""
    info, room = _member(archive, key), memory_of_machine()
    with archive.open(info) as file:
        shape, _, dtype = _header(file)
    size = math.prod(shape) * dtype.itemsize
    if size > info.file_size:
        raise DataError(
            f"{path}: array {printable(key)} declares the shape {shape}, {format_bytes(size)}, and its member holds "
            f"{format_bytes(info.file_size)}.\nThe file is damaged, or made to use up memory. Save it again, or restore a copy."
        )
    if info.compress_type != zipfile.ZIP_STORED and size > room:
        raise DataError(
            f"{path}: array {printable(key)} takes {format_bytes(size)} when it is decompressed, from "
            f"{format_bytes(info.compress_size)}, and this machine has {format_bytes(room)} of memory.\n"
            "Save it without compression (numpy.savez): then large arrays stay on the disk."
        )


def _on_disk(path: pathlib.Path, archive: zipfile.ZipFile, key: str) -> ArrayOnDisk | None:
    """Returns an array that is large and stored as it is, or None."""
    info = _member(archive, key)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < LARGE:
        return None
    with open(path, "rb") as file:
        # The local header of the member: 30 bytes, of which the last four are the lengths of its name and its extra field.
        file.seek(info.header_offset)
        name, extra = struct.unpack("<26xHH", file.read(30))
        file.seek(info.header_offset + 30 + name + extra)
        shape, is_fortran, dtype = _header(file)
        start = file.tell()
    if is_fortran or dtype.hasobject or not shape:
        return None
    found = ArrayOnDisk(path, key, start, shape, dtype, state_of(path), files.open_to_read(path))
    weakref.finalize(found, os.close, found.descriptor)
    return found


def in_memory(array: Stored) -> np.ndarray:
    """Returns an array in memory; raises DataError where its bytes do not agree with the archive's CRC-32."""
    if isinstance(array, np.ndarray):
        return array
    _check_whole(array)
    return np.concatenate(list(array.chunks()))


def as_images(array: Stored, *, is_turned: bool) -> Images:
    """Returns u8 or f32 [N, H, W, C] from [N, H, W], [N, H, W, C] or, turned, [N, C, H, W]; large ones stay on the disk."""
    convert = functools.partial(_converted, is_turned=is_turned)
    if isinstance(array, np.ndarray):
        return convert(array)
    sample = convert(np.zeros((1, *array.shape[1:]), array.dtype))
    return LazyImages(
        lambda positions: convert(array.read(positions)),
        len(array),
        sample.shape[1:],
        dtype=sample.dtype,
        check=array.check,
        is_array=True,
    )


def _converted(rows: np.ndarray, *, is_turned: bool) -> np.ndarray:
    if rows.ndim == 3:
        rows = rows[..., None]  # [B, H, W] -> [B, H, W, 1]
    elif is_turned:
        rows = np.ascontiguousarray(rows.transpose(0, 2, 3, 1))  # [B, C, H, W] -> [B, H, W, C]
    return rows if rows.dtype == np.uint8 else rows.astype(np.float32)


def range_of(array: ArrayOnDisk) -> tuple[float, float]:
    """Returns the least and the largest value; raises DataError where the bytes do not agree with the archive's CRC-32.

    Both are known from the cache as long as the file is the same.
    """

    def find() -> cache.Arrays:
        _check_whole(array)
        ends = [(float(rows.min()), float(rows.max())) for rows in array.chunks()]  # NaN where a chunk has one
        return {"range": np.array([np.min(ends), np.max(ends)])}

    found = cache.cached(_key("range", array.path, array.key), find, about=f"range of {array.key} in {array.path}")["range"]
    return float(found[0]), float(found[1])


def fingerprint_of(path: pathlib.Path, choices: str, splits: Mapping[str, Split]) -> str:
    """Returns the fingerprint of a source: a digest of its examples, from the cache where images stay on the disk.

    Args:
        path: the file.
        choices: a text that changes with what was chosen as the file was read.
        splits: the splits.
    """
    if all(isinstance(part.images, np.ndarray) for part in splits.values()):
        return digest_splits("npz", splits)
    found = cache.cached(
        _key("digest", path, choices), lambda: {"digest": np.array([digest(_parts(splits))])}, about=f"digest of {path}"
    )
    return str(found["digest"][0])


def _parts(splits: Mapping[str, Split]) -> Iterator[str | np.ndarray]:
    """Yields the parts of which `digest_splits` takes the digest, images some at a time."""
    yield _text("npz")
    for split, part in splits.items():
        yield _text(split)
        shape = part.images.shape if isinstance(part.images, np.ndarray) else (len(part.images), *part.images.image_shape)
        yield f"array {part.images.dtype.str} {shape} "
        at_once = max(1, AT_ONCE // max(math.prod(side or 1 for side in shape[1:]), 1))
        for first in range(0, shape[0] or 0, at_once):
            yield part.images[np.arange(first, min(first + at_once, len(part.images)))]
        yield f"array {part.labels.dtype.str} {part.labels.shape} "
        yield part.labels


def _text(part: str) -> str:
    return f"text {len(part)} {part}"


def _key(what: str, path: pathlib.Path, more: str) -> str:
    size, changed = state_of(path)
    return f"npz-{what}-1-{combined_digest(str(path.resolve()), str(size), str(changed), more)[:24]}"


def _check_whole(array: ArrayOnDisk) -> None:
    """Raises DataError where the bytes of an array do not agree with the CRC-32 that its archive holds."""
    with zipfile.ZipFile(array.path) as archive:
        try:
            with archive.open(_member(archive, array.key)) as member:
                while member.read(AT_ONCE):
                    pass
        except READING_ERRORS as error:
            raise DataError(
                f"{array.path}: array {array.key} cannot be read: {error}\nSave it again, or restore a copy."
            ) from None
