"""SHA-256 of texts, arrays, files and JSON. Runs, checkpoints and exported files hold these digests, so they never change.

Each form separates its parts in its own way; all of them feed the same hash. Imports no jax.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import numpy as np  # not imported for the digest of a text

SHORT = 8
"""Hexadecimal digits that name a folder."""

Part = Union[str, bytes, "np.ndarray"]


def digest(parts: Iterable[Part]) -> str:
    """Returns the SHA-256 (64 hexadecimal digits) of the parts one after another: texts in UTF-8, the bytes of arrays."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str | bytes):
            # Lone surrogates stand for the bytes of a file name that is no UTF-8.
            total.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
        elif part.size:
            import numpy as np

            # As bytes without a copy: an array of bfloat16 is no buffer by itself.
            total.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def json_digest(content: Any) -> str:
    """Returns the digest of JSON-like content, whatever the order of its keys."""
    return digest([json.dumps(content, sort_keys=True)])


def file_digest(path: pathlib.Path) -> str:
    """Returns the digest of a file's bytes."""
    return digest([path.read_bytes()])


def arrays_digest(arrays: Mapping[str, Any], notes: Iterable[tuple[str, str]] | None = None) -> str:
    """Returns the digest of named arrays in the order of their names; equal digests mean equal bits.

    Args:
        arrays: {name: array}; name, dtype, shape and bytes of each count.
        notes: (name, text) pairs that count too, sorted by name; None: there are none to count.
    """
    import numpy as np

    def parts() -> Iterator[Part]:
        if notes is not None:
            yield json.dumps(sorted(notes))
        for name, leaf in sorted(arrays.items()):
            array = np.asarray(leaf)
            yield f"{name} {array.dtype} {array.shape};"
            yield array

    return digest(parts())


def combined_digest(*parts: "str | np.ndarray") -> str:
    """Returns the digest of texts and arrays, each with its length or its type and shape."""
    framed: list[Part] = []
    for part in parts:
        framed += [f"text {len(part)} {part}"] if isinstance(part, str) else [f"array {part.dtype.str} {part.shape} ", part]
    return digest(framed)
