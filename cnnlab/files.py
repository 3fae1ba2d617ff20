"""Files that appear whole or not at all. Imports no jax."""

import json
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any, BinaryIO


def replace_file(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Replaces `path` atomically: a reader sees the old or the new content, never a part.

    The new content is on the disk before it gets the name. Where writing fails the old file stays as it was and nothing is
    left beside it.

    Args:
        path: the file; its folder must exist.
        write: writes the content to a binary file that is open for writing.
    """
    # Two processes, or two threads of one, may replace the same file: each writes to a name of its own.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Replaces `path` atomically by these bytes."""
    replace_file(path, lambda file: file.write(content))


def write_text(path: pathlib.Path, content: str) -> None:
    """Replaces `path` atomically by this text, in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: pathlib.Path, content: Any) -> None:
    """Replaces `path` atomically by this content as indented JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: pathlib.Path) -> Any:
    """Returns the content of a JSON file, or None where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
