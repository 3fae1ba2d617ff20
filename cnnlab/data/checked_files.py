"""What checking image files found, kept in the cache by path, size and time and by content.

A file is not checked again because others beside it changed, because it was touched, or because its folder was moved: where its
path, size and time are not known its bytes are read, and where their digest is not known either, it is decoded.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnnlab.data import cache
from cnnlab.data.decode import BadImage, check_image
from cnnlab.data.decoder import decoder_versions
from cnnlab.data.source import notify
from cnnlab.digests import combined_digest
from cnnlab.progress import ProgressLine
from cnnlab.text import counted, printable

PREFIX = "checked-3-"
"""What the names of the entries begin with; the number changes with their form."""
MISSING = (-1, -1)
AT_ONCE = 256
"""Number of files that are checked between two updates of the progress line."""


@dataclasses.dataclass(frozen=True)
class CheckedFiles:
    """What checking N files found; a file is as it was found while its size and time are."""

    reasons: np.ndarray
    """Text [N]: why a file cannot be used, or ""."""
    shapes: np.ndarray
    """i32 [N, 3]: (H, W, channels) of each image."""
    digests: np.ndarray
    """Text [N]: SHA-256 of each file."""
    frames: np.ndarray
    """i32 [N]: number of pictures in each file."""
    states: np.ndarray
    """i64 [N, 2]: (size in bytes, time of the last change in ns) of each file; -1 where it is missing."""

    def at(self, positions: Sequence[int]) -> "CheckedFiles":
        """Returns the entries at some positions."""
        chosen = np.array(positions, np.int64)
        return CheckedFiles(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class _Found:
    """What checking one file found."""

    reason: str
    shape: tuple[int, int, int]
    digest: str
    frames: int


def state_of(file: pathlib.Path) -> tuple[int, int]:
    """Returns (size in bytes, time of the last change in ns) of a file; -1 where there is none."""
    try:
        found = file.stat()
    except OSError:
        return MISSING
    return found.st_size, found.st_mtime_ns


def check_files(
    root: pathlib.Path, names: Sequence[str], paths: Sequence[pathlib.Path], *, max_pixels: int, draft: int | None = None
) -> CheckedFiles:
    """Returns what is wrong with image files, their shapes and digests, from the cache as far as it is known.

    Args:
        root: folder above the files.
        names: their paths below it, as they are printed.
        paths: the files.
        max_pixels: size of the largest image that is decoded, in pixels.
        draft: size to which JPEGs are reduced as they are decoded (decode.read_image).
    """
    states = [state_of(file) for file in paths]
    place, rule = printable(str(root.resolve())), f"{max_pixels} {draft} {decoder_versions()}"
    lines = [f"{name} {size} {changed}" for name, (size, changed) in zip(names, states, strict=True)]
    key = f"{PREFIX}{combined_digest(place, rule, *lines)[:24]}"
    stored = cache.load(key)
    if stored is None:
        stored = _check(key, place, rule, names, paths, states, max_pixels=max_pixels, draft=draft)
    wanted = {field.name: stored[field.name] for field in dataclasses.fields(CheckedFiles) if field.name != "states"}
    return CheckedFiles(**wanted, states=np.array(states, np.int64).reshape(-1, 2))


def _check(
    key: str,
    place: str,
    rule: str,
    names: Sequence[str],
    paths: Sequence[pathlib.Path],
    states: Sequence[tuple[int, int]],
    *,
    max_pixels: int,
    draft: int | None,
) -> cache.Arrays:
    """Checks the files that are not known, and keeps what was found, also where it is interrupted."""
    earlier = list(_entries(rule))
    by_file = _by_file([entry for entry in earlier if entry["place"].item() == place])
    found: list[_Found | None] = [by_file.get((name, *state)) for name, state in zip(names, states, strict=True)]
    unknown = [position for position, result in enumerate(found) if result is None]
    by_content = _by_content(earlier) if unknown else {}

    def check(position: int) -> _Found:
        return _check_file(paths[position], by_content, max_pixels=max_pixels, draft=draft)

    progress, began = ProgressLine(), time.monotonic()
    notify(f"checking {counted(len(unknown), 'image')} of {len(paths):,} below {place} (once) …")
    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(unknown), AT_ONCE):
                for position, result in zip(
                    unknown[start : start + AT_ONCE], pool.map(check, unknown[start : start + AT_ONCE]), strict=True
                ):
                    found[position] = result
                progress.show(f"[data] {min(start + AT_ONCE, len(unknown)):,} of {len(unknown):,} images checked")
    except BaseException:
        done = [position for position, result in enumerate(found) if result is not None]
        _store(f"{key}-part", place, rule, [names[i] for i in done], [states[i] for i in done], [found[i] for i in done])
        raise
    if len(unknown) > AT_ONCE:
        progress.show(f"[data] {counted(len(unknown), 'image')} checked in {time.monotonic() - began:.1f} s", last=True)
    # What was found earlier below this folder is in the new entry, or of files that are no more.
    superseded = [entry["key"].item() for entry in earlier if entry["place"].item() == place]
    stored = _store(key, place, rule, names, states, found)
    for old in superseded:
        cache.delete(cache.cache_dir() / old)
    return stored


def _check_file(path: pathlib.Path, by_content: "dict[str, _Found]", *, max_pixels: int, draft: int | None) -> _Found:
    """Checks one file: by its digest where the same content was checked before, else by decoding it."""
    if by_content:
        try:
            digest = combined_digest(np.frombuffer(path.read_bytes(), np.uint8))
        except OSError:
            digest = ""
        if digest in by_content:
            return by_content[digest]
    try:
        checked = check_image(path, max_pixels=max_pixels, draft=draft)
    except BadImage as error:
        return _Found(str(error), (0, 0, 0), "", 0)
    return _Found("", checked.shape, combined_digest(np.frombuffer(checked.data, np.uint8)), checked.frames)


def _entries(rule: str) -> Iterator[cache.Arrays]:
    """Yields what earlier checks by the same rule found, with the key of each."""
    for entry in cache.entries():
        arrays = cache.load(entry.folder.name) if entry.folder.name.startswith(PREFIX) else None
        if arrays is not None and arrays["rule"].item() == rule:
            yield arrays | {"key": np.array([entry.folder.name])}


def _by_file(entries: Sequence[cache.Arrays]) -> dict[tuple[str, int, int], _Found]:
    """Returns {(name, size, time): what was found} of files that can be used."""
    return {
        (name, size, changed): found
        for entry in entries
        for name, (size, changed), found in zip(entry["names"].tolist(), entry["states"].tolist(), _results(entry), strict=True)
        if not found.reason
    }


def _by_content(entries: Sequence[cache.Arrays]) -> dict[str, _Found]:
    """Returns {digest: what was found} of files that can be used."""
    return {found.digest: found for entry in entries for found in _results(entry) if not found.reason}


def _results(entry: cache.Arrays) -> Iterator[_Found]:
    columns = (entry[name].tolist() for name in ("reasons", "shapes", "digests", "frames"))
    return (_Found(reason, tuple(shape), digest, frames) for reason, shape, digest, frames in zip(*columns, strict=True))


def _store(
    key: str,
    place: str,
    rule: str,
    names: Sequence[str],
    states: Sequence[tuple[int, int]],
    found: Sequence[_Found | None],
) -> cache.Arrays:
    """Keeps what was found; returns it as arrays."""
    known = [result for result in found if result is not None]
    arrays = {
        "place": np.array([place]),
        "rule": np.array([rule]),
        "names": np.array(names, np.str_),
        "states": np.array(states, np.int64).reshape(-1, 2),
        "reasons": np.array([result.reason for result in known], np.str_),
        "shapes": np.array([result.shape for result in known], np.int32).reshape(-1, 3),
        "digests": np.array([result.digest for result in known], np.str_),
        "frames": np.array([result.frames for result in known], np.int32),
    }
    cache.store(key, arrays, about=f"{counted(len(known), 'checked image')} below {place}")
    return arrays
