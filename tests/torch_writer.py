"""Writes files as torch.save writes them, without torch: the zip archive, and the format before torch 1.6."""

import collections
import dataclasses
import io
import pathlib
import pickle
import sys
import types
import zipfile
from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np

KINDS = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


@dataclasses.dataclass(eq=False)
class Part:
    """A tensor that is a part of a storage, with an offset and strides in elements."""

    storage: np.ndarray
    offset: Any
    size: Any
    stride: Any


@dataclasses.dataclass(eq=False)
class Parameter:
    """A torch.nn.Parameter."""

    array: np.ndarray


@dataclasses.dataclass(eq=False)
class Typed:
    """A tensor of a type without a kind of storage of its own, such as float8_e4m3fn."""

    array: np.ndarray


@dataclasses.dataclass(eq=False)
class Stored:
    """A reference to a storage."""

    array: np.ndarray
    is_typed: bool = True


def _modules() -> dict[str, types.ModuleType]:
    """Modules with the names that torch's pickles hold."""
    torch, utils, storage = (types.ModuleType(name) for name in ("torch", "torch._utils", "torch.storage"))
    for kind in KINDS.values():
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    storage.UntypedStorage = type("UntypedStorage", (), {"__module__": "torch.storage"})  # type: ignore[attr-defined]
    for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"):
        function = types.FunctionType((lambda *arguments: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    torch._utils, torch.storage = utils, storage  # type: ignore[attr-defined]
    return {"torch": torch, "torch._utils": utils, "torch.storage": storage}


def index_of(content: Any, protocol: int = 2, *, legacy: bool = False) -> tuple[bytes, dict[str, np.ndarray]]:
    """The pickle of nested dicts and lists with arrays for tensors, and {key: storage}."""
    modules, storages, file = _modules(), {}, io.BytesIO()
    torch, utils = modules["torch"], modules["torch._utils"]
    hooks: Any = collections.OrderedDict

    class DType:
        def __init__(self, name: str) -> None:
            self.name = name

        def __reduce__(self) -> str:
            return self.name

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, Stored):
                return None
            key = next((key for key, known in storages.items() if known is value.array), str(len(storages)))
            storages[key] = value.array
            kind = getattr(torch, f"{KINDS[value.array.dtype.name]}Storage") if value.is_typed else torch.storage.UntypedStorage
            count = value.array.size if value.is_typed else value.array.nbytes
            return ("storage", kind, key, "cpu", count, *([None] if legacy else []))

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, np.ndarray):
                strides = tuple(stride // value.itemsize for stride in value.strides)
                return self.reducer_override(Part(value, 0, value.shape, strides))
            if isinstance(value, Part):
                return utils._rebuild_tensor_v2, (Stored(value.storage), value.offset, value.size, value.stride, False, hooks())
            if isinstance(value, Parameter):
                return utils._rebuild_parameter, (value.array, True, hooks())
            if isinstance(value, Typed):
                strides = tuple(stride // value.array.itemsize for stride in value.array.strides)
                given = (Stored(value.array, is_typed=False), 0, value.array.shape, strides, False, hooks())
                dtype = DType(value.array.dtype.name)
                dtype.__module__ = "torch"
                setattr(torch, dtype.name, dtype)
                return utils._rebuild_tensor_v3, (*given, dtype)
            return NotImplemented

    with mock.patch.dict(sys.modules, modules):
        Pickler(file, protocol).dump(content)
    return file.getvalue(), storages


def write_archive(path: pathlib.Path, index: bytes, storages: Mapping[str, bytes], order: str | None = "little") -> None:
    """Writes the zip archive around an index; `order` None: an archive of before torch 2.1, without its byte order."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", index)
        if order:
            archive.writestr("archive/byteorder", order)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")


def save(path: pathlib.Path, content: Any, *, protocol: int = 2, order: str | None = "little") -> None:
    """Writes the zip archive of torch >= 1.6."""
    index, storages = index_of(content, protocol)
    width = {key: f"{'>' if order == 'big' else '<'}u{array.itemsize}" for key, array in storages.items()}
    contents = {key: array.view(f"u{array.itemsize}").astype(width[key]).tobytes() for key, array in storages.items()}
    write_archive(path, index, contents, order)


def save_legacy(path: pathlib.Path, content: Any) -> None:
    """Writes the format before torch 1.6."""
    index, storages = index_of(content, legacy=True)
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, SYSTEM)]
    parts += [index, pickle.dumps(sorted(storages), 2)]
    parts += [part for key in sorted(storages) for part in (storages[key].size.to_bytes(8, "little"), storages[key].tobytes())]
    path.write_bytes(b"".join(parts))
