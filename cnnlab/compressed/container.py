"""The file of a compressed network, .cnnz: a header, streams of Huffman codes and of plain numbers, a digest of all of it.

Every byte that decoding needs is in the file. Integers are little-endian:

    magic b"CNNZ", version u8, length of the header u32
    header: JSON, by zlib: {"meta": …, "arrays": [{"name", "shape", "dtype", "kind", …}, …]}
    body: the streams of the arrays, in their order
    digest: BLAKE2b, 16 bytes, of all bytes before it

A plain array is its numbers. A shared one is its codebook f32, the lengths of the words of its codes (two in a byte) and of its
gaps, then both in these words; there are no gaps where no weight is left out. The code after the last of the codebook is that
of a filler. A sparse one is the numbers that are not zero, the lengths of the words of its gaps, and these; the number of a
filler is zero.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlab.compressed import gaps, huffman
from cnnlab.errors import DamagedFile
from cnnlab.files import naming_errors, write_bytes

MAGIC, VERSION = b"CNNZ", 1
PREFIX = struct.Struct("<4sBI")
DIGEST_BYTES = 16
LARGEST_HEADER = 1 << 26
LARGEST_ARRAY = 1 << 31
"""Bytes of a header that is unpacked, and numbers of an array: a file that says more is refused before memory is taken."""
PLAIN_TYPES = ("float32", "int32", "uint32", "int8", "uint8", "bool")
ADVICE = "Copy it again from where it was written, or compress the run again."


@dataclasses.dataclass(frozen=True)
class Shared:
    """An array f32 whose weights have one of few values, and of which weights may be left out."""

    shape: tuple[int, ...]
    codebook: np.ndarray
    """f32 [k]."""
    codes: np.ndarray
    """i32 [m], the value of each weight that stays, in the order of the array's flattened positions."""
    positions: np.ndarray | None = None
    """i64 [m] of the weights that stay, growing; None: all of them do."""

    def dense(self) -> np.ndarray:
        """Returns the array f32, with zeros where weights are left out."""
        values = self.codebook[self.codes]
        if self.positions is None:
            return values.reshape(self.shape)  # [m] -> shape
        whole = np.zeros(math.prod(self.shape), np.float32)
        whole[self.positions] = values
        return whole.reshape(self.shape)  # [numbers] -> shape


@dataclasses.dataclass(frozen=True)
class Sparse:
    """An array f32 many of whose numbers are zero."""

    shape: tuple[int, ...]
    values: np.ndarray
    """f32 [m], the numbers of which a bit is set."""
    positions: np.ndarray
    """i64 [m] of these, growing."""

    def dense(self) -> np.ndarray:
        """Returns the array f32."""
        whole = np.zeros(math.prod(self.shape), np.float32)
        whole[self.positions] = self.values
        return whole.reshape(self.shape)  # [numbers] -> shape


Stored = np.ndarray | Shared | Sparse


@dataclasses.dataclass(frozen=True)
class Size:
    """What an array takes in the file, in bytes and counts."""

    numbers: int
    kept: int
    """Weights that stay; all numbers of a plain array."""
    entries: int
    """Weights that stay, and fillers."""
    codebook: int
    tables: int
    codes: int
    gaps: int
    plain: int
    code_entropy: float = 0.0
    gap_entropy: float = 0.0
    """Bits of a symbol at least, by the entropy of the counts."""

    @property
    def total(self) -> int:
        """Bytes of all streams of the array."""
        return self.codebook + self.tables + self.codes + self.gaps + self.plain


def packed(arrays: Mapping[str, Stored], meta: Mapping[str, Any]) -> tuple[bytes, dict[str, Size]]:
    """Returns (the content of a file, what each array takes of it).

    Args:
        arrays: {name: array}.
        meta: JSON-like content that is kept beside the arrays.
    """
    described, streams, sizes = [], [], {}
    for name, array in arrays.items():
        row, parts, sizes[name] = _packed(array)
        described.append({"name": name, **row, "streams": [len(part) for part in parts]})
        streams += parts
    header = zlib.compress(json.dumps({"meta": meta, "arrays": described}, separators=(",", ":")).encode(), 9)
    content = b"".join([PREFIX.pack(MAGIC, VERSION, len(header)), header, *streams])
    return content + _digest(content), sizes


def write(path: pathlib.Path, arrays: Mapping[str, Stored], meta: Mapping[str, Any]) -> dict[str, Size]:
    """Writes a file, whole or not at all; returns what each array takes. The arguments are those of `packed`."""
    content, sizes = packed(arrays, meta)
    write_bytes(path, content)
    return sizes


def read(path: pathlib.Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Returns (the arrays by name, the meta content) of a file.

    Raises DamagedFile where any bit differs from what was written, and for content that `write` would not write.
    """
    with naming_errors(path):
        content = path.read_bytes()
    try:
        return _unpacked(content)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, struct.error, zlib.error) as error:
        raise DamagedFile(path, str(error).partition("\n")[0] or type(error).__name__, ADVICE) from None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _packed(array: Stored) -> tuple[dict[str, Any], list[bytes], Size]:
    """Returns (the row of the header, the streams, the sizes) of an array."""
    if isinstance(array, np.ndarray):
        if array.dtype.name not in PLAIN_TYPES:
            raise ValueError(f"numbers of type {array.dtype} have no place in the file; it takes {', '.join(PLAIN_TYPES)}")
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        plain: dict[str, Any] = {"kind": "plain", "shape": list(array.shape), "dtype": array.dtype.name}
        return plain, [data], Size(array.size, array.size, array.size, 0, 0, 0, 0, len(data))
    if isinstance(array, Sparse):
        return _packed_sparse(array)
    codes, filler = array.codes, len(array.codebook)
    row: dict[str, Any] = {"kind": "shared", "shape": list(array.shape), "values": filler}
    between = np.zeros(0, np.int64)
    if array.positions is not None:
        bits = gaps.best_bits(array.positions, gaps.entropy(np.bincount(codes, minlength=1)))
        between, is_filler = gaps.to_gaps(array.positions, bits)
        codes = np.full(len(between), filler)
        codes[~is_filler] = array.codes
        row["gap_bits"] = bits
    row["entries"] = len(codes)
    code_counts = np.bincount(codes, minlength=filler + 1)
    gap_counts = np.bincount(between, minlength=2 ** row.get("gap_bits", 0))
    lengths, gap_lengths = huffman.code_lengths(code_counts), huffman.code_lengths(gap_counts)
    book = array.codebook.astype("<f4").tobytes()
    tables = [_nibbles(lengths), _nibbles(gap_lengths) if len(between) else b""]
    packed = [huffman.encode(codes, lengths), huffman.encode(between, gap_lengths)]
    size = Size(
        numbers=math.prod(array.shape),
        kept=len(array.codes),
        entries=len(codes),
        codebook=len(book),
        tables=sum(map(len, tables)),
        codes=len(packed[0]),
        gaps=len(packed[1]),
        plain=0,
        code_entropy=gaps.entropy(code_counts),
        gap_entropy=gaps.entropy(gap_counts),
    )
    return row, [book, *tables, *packed], size


def _packed_sparse(array: Sparse) -> tuple[dict[str, Any], list[bytes], Size]:
    """Returns what `_packed` does of an array without its zeros."""
    bits = gaps.best_bits(array.positions, 8 * array.values.itemsize)
    between, is_filler = gaps.to_gaps(array.positions, bits)
    values = np.zeros(len(between), "<f4")
    values[~is_filler] = array.values
    counts = np.bincount(between, minlength=2**bits)
    lengths = huffman.code_lengths(counts)
    parts = [values.tobytes(), _nibbles(lengths) if len(between) else b"", huffman.encode(between, lengths)]
    size = Size(
        numbers=math.prod(array.shape),
        kept=len(array.values),
        entries=len(between),
        codebook=0,
        tables=len(parts[1]),
        codes=0,
        gaps=len(parts[2]),
        plain=len(parts[0]),
        gap_entropy=gaps.entropy(counts),
    )
    return {"kind": "sparse", "shape": list(array.shape), "entries": len(between), "gap_bits": bits}, parts, size


def _unpacked(content: bytes) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Returns what `read` does; raises ValueError and the like where it cannot."""
    if len(content) < PREFIX.size + DIGEST_BYTES:
        raise ValueError("it is cut off")
    magic, version, length = PREFIX.unpack_from(content)
    if magic != MAGIC:
        raise ValueError("it does not begin as a file of a compressed network")
    if version != VERSION:
        raise ValueError(f"it is of version {version} of the format, and this program reads version {VERSION}")
    if _digest(content[:-DIGEST_BYTES]) != content[-DIGEST_BYTES:]:
        raise ValueError("its digest is that of other bytes")
    unpacker, end = zlib.decompressobj(), PREFIX.size + length
    header = unpacker.decompress(content[PREFIX.size : end], LARGEST_HEADER)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("its header is cut off or too long")
    described, at = json.loads(header), end
    arrays: dict[str, Stored] = {}
    for row in described["arrays"]:
        parts = []
        for count in row["streams"]:
            if count < 0 or at + count > len(content) - DIGEST_BYTES:
                raise ValueError(f"array {row['name']}: its bytes are missing")
            parts.append(content[at : at + count])
            at += count
        arrays[row["name"]] = _array(row, parts)
    if at != len(content) - DIGEST_BYTES:
        raise ValueError("it has bytes that no array has")
    return arrays, described["meta"]


def _array(row: Mapping[str, Any], parts: list[bytes]) -> Stored:
    """Returns an array from its row of the header and its streams."""
    shape = tuple(row["shape"])
    numbers = math.prod(shape)
    if not all(isinstance(side, int) and side >= 0 for side in shape) or numbers > LARGEST_ARRAY:
        raise ValueError(f"array {row['name']}: no array has the shape {shape}")
    if row["kind"] == "plain":
        if row["dtype"] not in PLAIN_TYPES:
            raise ValueError(f"array {row['name']}: numbers of type {row['dtype']} are not read")
        return np.frombuffer(parts[0], np.dtype(row["dtype"]).newbyteorder("<")).astype(row["dtype"]).reshape(shape)
    if row["kind"] == "sparse":
        return _sparse(row, shape, parts)
    entries, values = row["entries"], row["values"]
    book, table, gap_table, packed, packed_gaps = parts
    codebook = np.frombuffer(book, "<f4").astype(np.float32)
    if len(codebook) != values or not 0 <= entries <= numbers:
        raise ValueError(f"array {row['name']}: its counts do not fit together")
    codes = huffman.decode(packed, _lengths(table, values + 1), entries)
    if "gap_bits" not in row:
        if entries != numbers or np.any(codes >= values):
            raise ValueError(f"array {row['name']}: weights are missing")
        return Shared(shape, codebook, codes)
    positions = _positions(row, numbers, gap_table, packed_gaps)
    kept = codes < values
    return Shared(shape, codebook, codes[kept], positions[kept])


def _sparse(row: Mapping[str, Any], shape: tuple[int, ...], parts: list[bytes]) -> Sparse:
    """Returns an array without its zeros from its row of the header and its streams."""
    numbers, table, packed_gaps = parts
    values = np.frombuffer(numbers, "<f4").astype(np.float32)
    if len(values) != row["entries"]:
        raise ValueError(f"array {row['name']}: its counts do not fit together")
    positions = _positions(row, math.prod(shape), table, packed_gaps)
    kept = values.view(np.uint32) != 0
    return Sparse(shape, values[kept], positions[kept])


def _positions(row: Mapping[str, Any], numbers: int, table: bytes, packed_gaps: bytes) -> np.ndarray:
    """Returns the positions i64 of all entries of an array of so many numbers, fillers included."""
    entries = row["entries"]
    lengths = _lengths(table, 2 ** int(row["gap_bits"])) if entries else np.zeros(0, np.uint8)
    positions = gaps.to_positions(huffman.decode(packed_gaps, lengths, entries))
    if len(positions) and positions[-1] >= numbers:
        raise ValueError(f"array {row['name']}: weights lie beyond its end")
    return positions


def _nibbles(lengths: np.ndarray) -> bytes:
    """Returns lengths of words, two in a byte, the first in its upper half."""
    even = np.append(lengths, np.zeros(len(lengths) % 2, np.uint8))
    return (even[::2] << 4 | even[1::2]).astype(np.uint8).tobytes()


def _lengths(table: bytes, count: int) -> np.ndarray:
    """Returns the lengths u8 [count] of words from `_nibbles`."""
    both = np.frombuffer(table, np.uint8)
    lengths = np.stack([both >> 4, both & 15], axis=1).reshape(-1)  # [⌈count / 2⌉, 2] -> [2 · ⌈count / 2⌉]
    if len(lengths) != count + count % 2:
        raise ValueError(f"a table of {count} words takes {(count + 1) // 2} bytes, and there are {len(table)}")
    return lengths[:count]
