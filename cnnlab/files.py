"""Files that appear whole or not at all. Imports no jax."""

import json
import os
import pathlib
from typing import Any


def write_json(path: pathlib.Path, content: Any) -> None:
    """Replaces `path` atomically: a reader sees the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file, or None where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
