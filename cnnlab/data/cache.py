"""A disk cache of arrays that are costly to make: written atomically, checked when read, deleted when damaged or too large.

An entry is a folder below `cache_dir()`. The time of the folder is that of its last use: where a new entry would take the cache
above its limit, the entries that were not used for longest go first. A process that reads a deleted entry keeps what it opened.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from cnnlab import home
from cnnlab.data.source import notify
from cnnlab.errors import DiskError, UsageError, disk_reason
from cnnlab.files import read_json, replace_file, write_json
from cnnlab.text import counted, format_bytes

Arrays = dict[str, np.ndarray]

LIMIT_VARIABLE = "CNNLAB_CACHE_GIB"
"""Environment variable that sets the largest size of the cache in GiB; 0: nothing is kept."""
DEFAULT_LIMIT_GIB = 50.0
ABOUT = "about.json"
"""File of an entry that says in words what it holds."""
HIDDEN = "."
"""What the name of a folder begins with that is being written or deleted."""
ABANDONED = 24 * 3600.0
"""Seconds after which a folder that is being written belongs to a process that was killed."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the cache."""

    folder: pathlib.Path
    size: int
    """Bytes that it takes on the disk, or will take when all of it is written."""
    used: float
    """Time of its last use, in seconds since 1970."""
    about: str
    """What it holds; "" where that is not recorded."""


def cache_dir() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/cnnlab/data`, by default below ~/.cache; it is safe to delete at any time."""
    return home.cache_folder() / "data"


def limit() -> int:
    """Returns the largest size of the cache in bytes, from $CNNLAB_CACHE_GIB."""
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GIB)
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not 0 <= gib < 2**30:
        raise UsageError(
            f"${LIMIT_VARIABLE}={text}: expected the largest size of the cache in GiB, 0 or more.\n"
            f"Give a number, such as {LIMIT_VARIABLE}={DEFAULT_LIMIT_GIB:g}, which is the default; 0 keeps nothing."
        )
    return int(gib * 2**30)


def entries() -> list[Entry]:
    """Returns the entries of the cache, the one that was not used for longest first."""
    found = []
    for folder in _folders():
        if folder.name.startswith(HIDDEN):
            continue
        with contextlib.suppress(OSError):  # another process may delete it at this moment
            size = sum(file.stat().st_size for file in folder.iterdir())
            about = read_json(folder / ABOUT)
            found.append(Entry(folder, size, folder.stat().st_mtime, str((about or {}).get("about", ""))))
    return sorted(found, key=lambda entry: entry.used)


def clear() -> tuple[int, int]:
    """Deletes all entries, and what killed processes left; returns (number of entries, bytes)."""
    found = entries()
    for folder in _folders():
        delete(folder)
    return len(found), sum(entry.size for entry in found)


def make_room(needed: int) -> str:
    """Deletes what was not used for longest until `needed` more bytes fit; returns why they cannot, or "".

    A line says what was deleted.
    """
    most = limit()
    if needed > most:
        allowed = f"at most {format_bytes(most)} are allowed" if most else "nothing is to be kept"
        return f"it takes {format_bytes(needed)} and {allowed} (${LIMIT_VARIABLE})"
    for folder in _folders():
        with contextlib.suppress(OSError):
            if folder.name.startswith(HIDDEN) and time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)
    found = entries()
    excess, deleted = sum(entry.size for entry in found) + needed - most, []
    while excess > 0:
        oldest = found.pop(0)
        delete(oldest.folder)
        deleted.append(oldest)
        excess -= oldest.size
    if deleted:
        size, count = format_bytes(sum(entry.size for entry in deleted)), counted(len(deleted), "entry", "entries")
        notify(f"cache: {count} ({size}) deleted, unused for longest, to stay below {format_bytes(most)} (${LIMIT_VARIABLE})")
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(_existing(cache_dir())).free
        if needed > free:
            return f"it takes {format_bytes(needed)} and {format_bytes(free)} of the disk are free"
    return ""


def cached(key: str, make: Callable[[], Arrays], *, about: str = "") -> Arrays:
    """Returns what `make` makes for `key`, from the disk (memory-mapped) where an earlier call has stored it.

    If the cache cannot be written, a notice says so.

    Args:
        key: a file name that changes with everything that `make` reads.
        make: makes the arrays.
        about: what they are, for the list of entries.
    """
    found = load(key)
    if found is not None:
        return found
    made = make()
    store(key, made, about=about)
    return load(key) or made


def store(key: str, arrays: Arrays, *, about: str = "") -> None:
    """Stores arrays under a key; if that is not possible, a notice says why."""
    folder = cache_dir() / key
    try:
        if reason := make_room(sum(array.nbytes for array in arrays.values())):
            notify(f"not cached: {folder} ({reason})")
            return
        with new_entry(folder, about) as scratch:
            for name, array in arrays.items():
                write = functools.partial(np.save, arr=np.ascontiguousarray(array), allow_pickle=False)
                replace_file(scratch / f"{name}.npy", write)
            write_json(scratch / "manifest.json", {name: _crc(np.ascontiguousarray(array)) for name, array in arrays.items()})
    except (OSError, DiskError) as error:
        notify(f"not cached: {folder} cannot be written ({short_reason(error)})")


def load(key: str) -> Arrays | None:
    """Returns a stored entry, or None; a damaged one is deleted. Checking is cheap: CRC-32 reads 3 GB/s, decoding 5 MB/s."""
    folder = cache_dir() / key
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in manifest}
        if {file.stem for file in folder.glob("*.npy")} != set(manifest):
            reason = "its files are not those that were written"
        # The digest is of the values; their type stands before them, where one bit makes another order of bytes.
        elif all(_is_plain(array) and _crc(array) == manifest[name] for name, array in arrays.items()):
            mark_used(folder)
            return arrays
        else:
            reason = "a digest does not match"
    except Exception as error:  # of NumPy, json and tokenize, for a damaged header or a manifest that is no object
        reason = str(error) or type(error).__name__
    notify(f"cache entry {folder} is damaged ({reason}): making it again")
    delete(folder)
    return None


@contextlib.contextmanager
def new_entry(folder: pathlib.Path, about: str) -> Iterator[pathlib.Path]:
    """Yields a folder to be filled, which then gets the name of the entry, so that a reader sees all or nothing.

    Where another process was faster, its entry stays: it holds the same.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{HIDDEN}{folder.name}-", dir=folder.parent))
    try:
        if about:
            write_json(scratch / ABOUT, {"about": about})
        yield scratch
        if not folder.exists():
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def mark_used(folder: pathlib.Path) -> None:
    """Records that an entry is used now."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def delete(folder: pathlib.Path) -> None:
    """Deletes an entry, from one moment to the next for whoever looks for it."""
    gone = folder.with_name(f"{HIDDEN}{folder.name.removeprefix(HIDDEN)}-deleted-{os.getpid()}")
    with contextlib.suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def short_reason(error: OSError | DiskError) -> str:
    """Returns why something cannot be written, in one line."""
    return (str(error) if isinstance(error, DiskError) else disk_reason(error)).partition("\n")[0]


def _folders() -> list[pathlib.Path]:
    with contextlib.suppress(OSError):
        return [entry for entry in cache_dir().iterdir() if entry.is_dir()]
    return []


def _existing(path: pathlib.Path) -> pathlib.Path:
    """Returns the path, or the nearest folder above it that exists."""
    return next((one for one in (path, *path.parents) if one.exists()), path)


def _is_plain(array: np.ndarray) -> bool:
    """Returns whether an array holds what is stored: numbers, truth values or texts in the byte order of this machine."""
    return array.dtype.isnative and array.dtype.kind in "biufU"


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(array.data) if array.size else 0
