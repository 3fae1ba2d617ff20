"""A disk cache of arrays that are costly to make: written atomically, checked when read, deleted when damaged."""

import functools
import json
import os
import pathlib
import shutil
import tempfile
import zlib
from collections.abc import Callable

import numpy as np

from cnnlab.data.source import notify
from cnnlab.errors import DiskError, disk_reason
from cnnlab.files import replace_file, write_json

Arrays = dict[str, np.ndarray]


def cache_dir() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/cnnlab/data`, by default below ~/.cache; it is safe to delete at any time."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnlab" / "data"


def cached(key: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns what `make` makes for `key`, from the disk (memory-mapped) where an earlier call has stored it.

    `key` is a file name that changes with everything that `make` reads. If the cache cannot be written, a notice says so.
    """
    folder = cache_dir() / key
    found = _load(folder)
    if found is not None:
        return found
    made = make()
    try:
        _save(folder, made)
    except (OSError, DiskError) as error:
        reason = str(error).partition("\n")[0] if isinstance(error, DiskError) else disk_reason(error).partition("\n")[0]
        notify(f"not cached: {folder} cannot be written ({reason})")
        return made
    return _load(folder) or made


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(array.data) if array.size else 0


def _load(folder: pathlib.Path) -> Arrays | None:
    """Returns a stored entry, or None; a damaged one is deleted. Checking is cheap: CRC-32 reads 3 GB/s, decoding 5 MB/s."""
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in manifest}
        if all(_crc(array) == manifest[name] for name, array in arrays.items()):
            return arrays
        reason = "a digest does not match"
    except (OSError, ValueError) as error:
        reason = str(error)
    notify(f"cache entry {folder} is damaged ({reason}): making it again")
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _save(folder: pathlib.Path, arrays: Arrays) -> None:
    """Writes to a temporary folder, then renames it, so that a reader sees all or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, array in arrays.items():
            write = functools.partial(np.save, arr=np.ascontiguousarray(array), allow_pickle=False)
            replace_file(scratch / f"{name}.npy", write)
        manifest = {name: _crc(np.ascontiguousarray(array)) for name, array in arrays.items()}
        write_json(scratch / "manifest.json", manifest)
        if not folder.exists():  # otherwise another process was faster, with the same arrays
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
