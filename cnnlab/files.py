"""Paths as a person writes them, files that appear whole or not at all, records whose damage is noticed. Imports no jax.

Everything that the package writes goes through this module (tests/test_layers.py proves it), so a disk that is full or
read-only is one kind of error, `errors.DiskError`, that names the file.
"""

import contextlib
import json
import math
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Literal, TextIO

from cnnlab.digests import json_digest
from cnnlab.errors import DamagedFile, DiskError, UsageError, disk_reason

FORMAT, DIGEST = "format", "sha256"
"""First and last key of a record; a record of another version, which has neither, is read without a comparison."""
CHECK = "check"
"""Key of a line's own digest, its first eight hexadecimal digits."""
CHECK_DIGITS = 8
SEEKING = threading.Lock()
"""Held between moving to a place of a file and using it, on systems that cannot do both at once."""


@contextlib.contextmanager
def naming_errors(path: pathlib.Path) -> Iterator[None]:
    """Turns an error of the operating system into one that names the path and says what to do."""
    try:
        yield
    except OSError as error:
        raise DiskError(disk_reason(error, path)) from error


def make_folder(path: pathlib.Path) -> pathlib.Path:
    """Makes a folder and those above it, where they do not exist; returns it."""
    with naming_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def expand_home(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a path that a person wrote, with the home folder in place of `~`; a relative path stays relative.

    Raises UsageError for an empty path and for `~NAME` where there is no user NAME.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise UsageError(f"{text!r} is no path.\nGive the path of a file or folder; `.` is the current folder.")
    found = pathlib.Path(os.path.expanduser(text))
    if found.parts[:1] and found.parts[0].startswith("~") and text.startswith("~"):
        raise UsageError(f"{text}: {found.parts[0]} has no home folder here.\nWrite ./{text} for a path that begins with ~.")
    return found


def absolute(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the absolute path of one that a person wrote: `~` is the home folder, a relative path starts in this folder.

    Spellings of one path become one: `.` and `..` are gone. Links in what remains are not followed, so a file keeps the
    name by which it is known. Raises UsageError as `expand_home` does.
    """
    found = expand_home(path).absolute()
    if ".." not in found.parts:
        return found
    # `link/..` is the folder above the link's target, so links are followed up to the last `..`.
    last = len(found.parts) - found.parts[::-1].index("..")
    return pathlib.Path(os.path.realpath(pathlib.Path(*found.parts[:last])), *found.parts[last:])


def replace_file(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Replaces `path` atomically: a reader sees the old or the new content, never a part.

    The new content is on the disk before it gets the name. Where writing fails the old file stays as it was and nothing is
    left beside it; what the operating system refuses is raised as DiskError.

    Args:
        path: the file; its folder must exist.
        write: writes the content to a binary file that is open for writing.
    """
    # Two processes, or two threads of one, may replace the same file: each writes to a name of its own.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with naming_errors(path):
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def allocate_array(path: pathlib.Path, shape: tuple[int, ...], dtype: str) -> int:
    """Makes a `.npy` file of zeros, which take no room on the disk before they are written; returns where its values begin.

    Args:
        path: the file; its folder must exist.
        shape: shape of the array.
        dtype: type of its values, as NumPy writes it, such as "|u1".
    """
    import numpy as np  # not imported for text and JSON

    with naming_errors(path), open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        start = file.tell()
        file.truncate(start + math.prod(shape) * np.dtype(dtype).itemsize)
    return start


def open_for_update(path: pathlib.Path) -> int:
    """Opens an existing file for reading and writing at any place (read_at, write_at); returns its descriptor."""
    with naming_errors(path):
        return os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))


def open_to_read(path: pathlib.Path) -> int:
    """Opens a file for reading at any place (read_at); returns its descriptor."""
    with naming_errors(path):
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def read_at(descriptor: int, buffer: memoryview, offset: int) -> bool:
    """Fills a buffer of bytes from a place of an open file; returns whether the file reaches so far. Any thread may call it."""
    done = 0
    while done < len(buffer):
        if hasattr(os, "preadv"):
            count = os.preadv(descriptor, [buffer[done:]], offset + done)
        else:
            with SEEKING:
                os.lseek(descriptor, offset + done, os.SEEK_SET)
                part = os.read(descriptor, len(buffer) - done)
            count = len(part)
            buffer[done : done + count] = part
        if not count:
            return False
        done += count
    return True


def write_at(descriptor: int, content: memoryview, offset: int) -> None:
    """Writes all of the bytes at a place of an open file; several threads and processes may do so at once.

    Raises OSError where the system refuses, such as on a full disk.
    """
    done = 0
    while done < len(content):
        if hasattr(os, "pwrite"):
            done += os.pwrite(descriptor, content[done:], offset + done)
        else:
            with SEEKING:
                os.lseek(descriptor, offset + done, os.SEEK_SET)
                done += os.write(descriptor, content[done:])


def open_text(path: pathlib.Path, mode: Literal["w", "a+"]) -> TextIO:
    """Opens a file that grows while a process lives (a log, a lock) for writing, in UTF-8."""
    with naming_errors(path):
        return open(path, mode, encoding="utf-8")


def append_text(path: pathlib.Path, content: str) -> None:
    """Appends text to a file. The file is opened each time, so that a full disk fails here and now."""
    with naming_errors(path), open(path, "a", encoding="utf-8") as file:
        file.write(content)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Replaces `path` atomically by these bytes."""
    replace_file(path, lambda file: file.write(content))


def write_text(path: pathlib.Path, content: str) -> None:
    """Replaces `path` atomically by this text, in UTF-8."""
    # A file name that is no UTF-8 keeps its bytes as lone surrogates, which have no UTF-8 form: they are written as \\udcXX.
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Replaces `path` atomically by this content as indented JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: pathlib.Path) -> Any:
    """Returns the content of a JSON file, or None where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def write_record(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Replaces `path` atomically by this content as JSON, with a digest of it that `read_record` compares."""
    # The digest is that of the content as it is read again: keys are texts then, and tuples are lists.
    plain = {FORMAT: 2, **json.loads(json.dumps(content))}
    write_json(path, {**plain, DIGEST: json_digest(plain)})


def read_record(path: pathlib.Path, *, advice: str = "Restore it from a copy.") -> dict[str, Any] | None:
    """Returns the content of a JSON object that `write_record` or an older version wrote; None where the file is missing.

    Raises DamagedFile, with the name of the file, where it is cut off, altered or no file at all.

    Args:
        path: the file.
        advice: what a person can do where it is damaged, in a sentence.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise DamagedFile(path, "it is a folder, expected a file", advice) from None
    except ValueError as error:
        raise DamagedFile(path, _not_json(path, error), advice) from None
    except OSError as error:
        raise DamagedFile(path, f"it cannot be read ({error.strerror})", advice) from error
    if not isinstance(content, dict):
        raise DamagedFile(path, "it holds no JSON object", advice)
    recorded = content.pop(DIGEST, None)
    # One of the two keys without the other is damage, too: an older version wrote neither.
    if (recorded is not None or FORMAT in content) and recorded != json_digest(content):
        raise DamagedFile(path, "its content does not agree with its digest", advice)
    content.pop(FORMAT, None)
    return content


def _not_json(path: pathlib.Path, error: ValueError) -> str:
    """Returns why a text is not JSON."""
    if path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, json.JSONDecodeError):
        return f"it is cut off or altered (line {error.lineno}: {error.msg})"
    return "it is not UTF-8 text"


def seal_line(record: Mapping[str, Any]) -> str:
    """Returns a record as a line of JSON with a digest of its own, which `read_lines` compares."""
    return json.dumps({**record, CHECK: json_digest(dict(record))[:CHECK_DIGITS]}) + "\n"


def read_lines(path: pathlib.Path) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Returns (the records of a file of JSON lines, {number of a damaged line from 1: the damage}).

    A damaged line loses no other. The last line is left out without being named where it has no end: the process was killed
    as it wrote it. Lines of an older version have no digest and are read without a comparison.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return [], {}
    except OSError as error:
        raise DamagedFile(path, f"it cannot be read ({error.strerror})", "Restore it from a copy.") from error
    records, damaged = [], {}
    *lines, unfinished = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        found = _read_line(line)
        if isinstance(found, str):
            damaged[number] = found
        else:
            records.append(found)
    last = _read_line(unfinished) if unfinished else ""
    return records + ([last] if isinstance(last, dict) else []), damaged


def read_last_lines(path: pathlib.Path, size: int) -> list[dict[str, Any]]:
    """Returns the undamaged records in the last `size` bytes of a file of JSON lines; [] where it cannot be read."""
    try:
        with open(path, "rb") as file:
            start = max(file.seek(0, os.SEEK_END) - size, 0)
            file.seek(start)
            lines = file.read().split(b"\n")
    except OSError:
        return []
    found = map(_read_line, lines[1:] if start else lines)  # the first of them may be a part of a line
    return [record for record in found if isinstance(record, dict)]


def _read_line(line: bytes) -> dict[str, Any] | str:
    """Returns the record of a line, or its damage in words."""
    try:
        record = json.loads(line.decode())
    except ValueError:
        return "it is not JSON"
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return "it holds no step"
    recorded = record.pop(CHECK, None)
    if recorded is not None and recorded != json_digest(record)[:CHECK_DIGITS]:
        return "it does not agree with its digest"
    if any(value is not None and not isinstance(value, int | float) for value in record.values()):
        return "it holds something that is no number"
    return record
