"""Reads the tensors in a file of PyTorch without PyTorch: the zip archive of torch.save, and the format before torch 1.6.

Its index is read by torch_index.py, which runs nothing. Sizes and places that the index gives are compared with the file.

Source: torch/serialization.py, PyTorch 2.13.
"""

import io
import math
import os
import pathlib
import sys
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from cnnlab.errors import CheckpointError
from cnnlab.interop import wrapped
from cnnlab.interop.scheme import NAMES_OF_NETWORK, Leaves
from cnnlab.interop.torch_index import Refused, Tensor, interpreted

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file of the format before torch 1.6."""
PROTOCOL = 1001
"""Second pickle of such a file: the version of its format."""
PICKLE = b"\x80"
"""First byte of a pickle."""


def read(path: pathlib.Path) -> tuple[Leaves, dict[str, Any]]:
    """Reads the tensors of a file as ({name with dots: array}, what its top level says about the network).

    Raises CheckpointError where it holds anything else than tensors, numbers and text, or has a format that is not read; and
    ValueError or an error of zipfile where it is damaged.
    """
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        if head[257:262] == b"ustar":
            raise CheckpointError(
                f"{path} has the oldest format of torch, a tar archive (before 2017), which is not read.\n{ANEW}"
            )
        try:
            if head.startswith(b"PK\x03\x04"):
                tree, contents, is_swapped = _zip_archive(file)
            elif head.startswith(PICKLE):
                tree, contents, is_swapped = _row_of_pickles(file)
            else:
                raise ValueError("its first bytes are those of no file of torch")
        except Refused as refused:
            raise CheckpointError(f"{path} {refused}") from None
    described = dict(wrapped.flattened(tree, lambda leaf: isinstance(leaf, Tensor)))
    if not isinstance(tree, Mapping) or not described:
        raise CheckpointError(f"{path} holds no state dict, {{name: tensor}}, nor one below state_dict or model.")
    leaves = {name: _array(name, tensor, contents[tensor.storage.key], is_swapped) for name, tensor in described.items()}
    return leaves, {key: tree[key] for key in NAMES_OF_NETWORK if isinstance(tree.get(key), str)}


ANEW = (
    "Where torch is installed, and if you trust the file, write it anew:\n"
    "  python -c \"import sys, torch; torch.save(torch.load(sys.argv[1], map_location='cpu', weights_only=False), "
    'sys.argv[2])" IN OUT.pth'
)
SCRIPT = (
    "is a program of TorchScript, which is not run here.\nWhere torch is installed, write its weights alone:\n"
    "  python -c \"import sys, torch; torch.save(torch.jit.load(sys.argv[1], map_location='cpu').state_dict(), sys.argv[2])\" "
    "IN OUT.pth"
)


def _zip_archive(file: IO[bytes]) -> tuple[Any, dict[str, bytes], bool]:
    """Reads the format of torch >= 1.6: (what the index describes, {key: bytes of a storage}, whether bytes are swapped).

    Members that are compressed, or larger in all than the file, could fill the memory and are refused: torch compresses none.
    """
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if any(name.endswith("/constants.pkl") for name in members):
            raise Refused(SCRIPT)
        if len(roots) != 1:
            raise ValueError(f"it is a zip archive with {len(roots)} members data.pkl, and a file of torch has one")
        packed = [name for name, member in members.items() if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise ValueError(f"its member {packed[0]} is compressed, and torch compresses nothing")
        if sum(member.file_size for member in members.values()) > os.fstat(file.fileno()).st_size:
            raise ValueError("its members are larger in all than the file")
        order = f"{roots[0]}byteorder"
        written_in = archive.read(order).decode("ascii") if order in members else "little"
        if written_in not in ("little", "big"):
            raise ValueError(f"its byteorder is {written_in[:20]!r}")
        tree, storages = interpreted(io.BytesIO(archive.read(f"{roots[0]}data.pkl")))
        contents = {}
        for storage in storages.values():
            name = f"{roots[0]}data/{storage.key}"
            if name not in members or members[name].file_size != storage.size:
                found = members[name].file_size if name in members else "no"
                raise ValueError(f"its index describes {storage.size} bytes in {name}, which has {found} bytes")
            contents[storage.key] = archive.read(name)  # compares the checksum, too
    return tree, contents, written_in != sys.byteorder


def _row_of_pickles(file: IO[bytes]) -> tuple[Any, dict[str, bytes], bool]:
    """Reads the format before torch 1.6: magic number, version, system, index, keys, then the storages one after another."""
    if interpreted(file)[0] != MAGIC or interpreted(file)[0] != PROTOCOL:
        raise ValueError("it begins with a pickle that is not the one of torch.save")
    interpreted(file)  # sizes of types and the byte order of the machine, on which nothing depends
    (tree, storages), (keys, _) = interpreted(file), interpreted(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError("its list of storages is not that of its index")
    contents, end = {}, os.fstat(file.fileno()).st_size
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        if count != storages[key].count or storages[key].size > end - file.tell():
            raise ValueError(f"its storage {key[:40]} ends too early, or has another size than in its index")
        contents[key] = file.read(storages[key].size)
    return tree, contents, sys.byteorder != "little"  # torch wrote little-endian numbers on every machine


def _array(name: str, tensor: Tensor, content: bytes, is_swapped: bool) -> np.ndarray:
    """Returns the array of a tensor, a view of its storage where that is in order.

    Raises ValueError where it reaches beyond its storage, or is larger than it (a stride of 0, by which few bytes could become
    an array that fills the memory).
    """
    numbers = [tensor.offset, *tensor.size, *tensor.stride]
    if any(type(number) is not int or number < 0 for number in numbers) or len(tensor.size) != len(tensor.stride):
        raise ValueError(f"its tensor {name} has impossible sizes, strides or offset")
    count, width = math.prod(tensor.size), tensor.dtype.itemsize
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))
    if count and (last >= len(content) // width or count > len(content) // width):
        raise ValueError(f"its tensor {name} reaches beyond its storage")
    if is_swapped:
        content = np.frombuffer(content, f"u{width}").byteswap().tobytes()
    if not count:
        return np.zeros(tensor.size, tensor.dtype)
    flat = np.frombuffer(content[: len(content) // width * width], tensor.dtype)
    strides = tuple(width * stride for stride in tensor.stride)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides, writeable=False)
