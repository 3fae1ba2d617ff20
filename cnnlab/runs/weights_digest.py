"""The digest of the file or run that a knob names; that of a large file is computed once, not at each start. Imports no jax."""

import os
import pathlib
import time

from cnnlab.digests import digest, file_digest
from cnnlab.json_cache import JsonCache

LARGE = 2**22
"""Bytes from which the digest of a file is kept; a smaller one is read faster than the cache."""
SETTLED = 3.0
"""Seconds since the last change of a file after which its digest is kept: stamps of some file systems count 2 seconds."""
MOST_KEPT = 200


def content_digest(path: pathlib.Path) -> str:
    """Returns the digest of a file, or of the newest checkpoint of a run by its manifest, which holds those of its files."""
    if path.is_file():
        return kept_file_digest(path)
    steps = [int(entry.name) for entry in path.glob("checkpoints/[0-9]*") if entry.name.isdigit()]
    manifest = path / "checkpoints" / str(max(steps, default=0)) / "manifest.json"
    if manifest.is_file():
        return file_digest(manifest)
    entries = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return digest(f"{entry.relative_to(path)} {entry.stat().st_size}\n" for entry in entries)


def kept_file_digest(path: pathlib.Path) -> str:
    """Returns the digest of a file's bytes, which a cache remembers by path, size, inode and the times of its last changes.

    The time at which the inode changed (ctime) is set by the system alone, so a file that was replaced or written to is read
    again even where its modification time was put back. A digest is kept only of a file that was not touched for some seconds:
    a change within the resolution of the stamps would not show in them. Windows has no such time, and nothing is kept there.
    """
    if os.name == "nt" or path.stat().st_size < LARGE:
        return file_digest(path)
    cache, key, stamp = JsonCache("file-digests-1", most=MOST_KEPT), os.path.realpath(path), _stamp(path)
    known = cache.get(key)
    if isinstance(known, list) and known[:-1] == stamp and isinstance(known[-1], str):
        return known[-1]
    found = file_digest(path)
    last_change = max(stamp[-2:]) / 1e9
    if stamp == _stamp(path) and time.time() - last_change > SETTLED:
        cache.put(key, [*stamp, found])
        cache.save()
    return found


def _stamp(path: pathlib.Path) -> list[int]:
    """Returns what changes with a file: device, inode, size, and the times of its last changes in nanoseconds."""
    about = path.stat()
    return [about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
