"""Reads the index of a file of PyTorch, a pickle, as a description of tensors; nothing of it is run.

A pickle is a program that may call any function by its name. `interpreted` follows the few instructions that dicts, lists,
numbers, text and descriptions of tensors are made of, knows the names in NAMES, and refuses every other instruction and name.
Nothing is imported or called by name, whatever the file asks for.

Source: torch/_utils.py and the pickles of torch.save, PyTorch 0.4 to 2.13.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import IO, Any

import ml_dtypes
import numpy as np

STORAGES = {
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
    "torch.storage.UntypedStorage": np.dtype(np.uint8),
}
"""Kind of storage -> type of its numbers; an untyped one counts bytes."""
DTYPES = {
    "torch.float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "torch.float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "torch.uint16": np.dtype(np.uint16),
    "torch.uint32": np.dtype(np.uint32),
    "torch.uint64": np.dtype(np.uint64),
}
"""Types of tensors without a kind of storage of their own, which torch._utils._rebuild_tensor_v3 is given."""
LONGEST_KEY = 1000
"""Largest number of letters in the name of an entry."""


class Refused(ValueError):
    """The index holds something else than tensors, numbers, text and their containers."""


@dataclasses.dataclass(frozen=True)
class Name:
    """The name of a function or class in the index, `module.name`; nothing of that name is looked up."""

    text: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """Describes an array of numbers that lies in the file apart from the index."""

    key: str
    dtype: np.dtype
    count: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.count * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Describes a tensor: part of a storage, with sizes and strides in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: np.dtype


def interpreted(stream: IO[bytes]) -> tuple[Any, dict[str, Storage]]:
    """Returns (what the next pickle of a stream describes, its storages by key); the stream then stands behind that pickle.

    Raises Refused for an instruction or a name that tensors do not need, and ValueError where the pickle is damaged.
    """
    machine = _Machine()
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name == "STOP":
            break
        machine.follow(instruction.name, argument)
    (result,) = machine.take(len(machine.stack))
    return result, machine.storages


PUSHED = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
}
"""Instructions whose argument is a value."""
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class _Machine:
    """Follows the instructions of a pickle on a stack of values, of which none is called."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def follow(self, name: str, argument: Any) -> None:
        """Follows one instruction, by its name in pickletools."""
        push, take = self.stack.append, self.take
        match name:
            case "PROTO" | "FRAME":
                pass
            case _ if name in PUSHED:
                push(argument)
            case _ if name in CONSTANTS:
                push(CONSTANTS[name])
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(take(int(name[-1]))))
            case "TUPLE":
                push(tuple(self.since_mark()))
            case "APPEND" | "APPENDS":
                items = take(1) if name == "APPEND" else self.since_mark()
                self.top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = take(2) if name == "SETITEM" else self.since_mark()
                self.top(dict).update(zip(map(_key, items[::2]), items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top(object)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top(object)
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "GLOBAL":
                push(_name(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                module, last = take(2)
                push(_name(f"{module}.{last}" if isinstance(module, str) and isinstance(last, str) else "no text"))
            case "BINPERSID":
                push(self.storage(*take(1)))
            case "REDUCE":
                push(_described(*take(2)))
            case "BUILD":
                # Attributes of a dict, such as the _metadata of a state dict, are left out.
                take(1)
                self.top(dict)
            case _:
                raise Refused(f"holds more than tensors: its index has the instruction {name}.{ALONE}")

    def take(self, count: int) -> list[Any]:
        """Takes the last values off the stack, none of them from before the last mark."""
        below = len(self.stack) - count
        if below < (self.marks[-1] if self.marks else 0):
            raise ValueError("an instruction of its index takes more values than there are")
        taken, self.stack[below:] = self.stack[below:], []
        return taken

    def since_mark(self) -> list[Any]:
        """Takes the values since the last mark off the stack, and the mark."""
        taken = self.take(len(self.stack) - self.marks[-1]) if self.marks else self.take(len(self.stack) + 1)
        self.marks.pop()
        return taken

    def top(self, kind: type) -> Any:
        """Returns the last value, which has to be of a kind."""
        (value,) = self.take(1)
        self.stack.append(value)
        if not isinstance(value, kind):
            raise Refused(f"holds more than tensors: its index changes {_shown(value)}.{ALONE}")
        return value

    def storage(self, reference: Any) -> Storage:
        """Returns the storage that ("storage", kind, key, device, number of elements) describes."""
        match reference:
            case ("storage", Name(kind), str(key), _, int(count)) | ("storage", Name(kind), str(key), _, int(count), None):
                if kind in STORAGES and count >= 0:
                    storage = Storage(key, STORAGES[kind], count)
                    if self.storages.setdefault(key, storage).size != storage.size:
                        raise ValueError(f"its index describes storage {key[:40]} with two sizes")
                    return storage
        raise Refused(f"holds more than tensors: its index refers to {_shown(reference)}.{ALONE}")


ALONE = (
    " Such a file can run code when torch loads it; nothing of it was run.\n"
    "Where its code is at home, save the weights alone: torch.save(model.state_dict(), FILE)."
)


def _shown(value: Any) -> str:
    """Returns a few words for a value of an index."""
    return value.text[:80] if isinstance(value, Name) else f"a value of type {type(value).__name__}"


def _key(key: Any) -> str | int | float | None:
    """Returns the key of a dict; raises Refused for one that is neither short text nor a number."""
    if key is None or isinstance(key, int | float) or (isinstance(key, str) and len(key) <= LONGEST_KEY):
        return key
    raise Refused(f"holds more than tensors: {_shown(key)} is the key of an entry.{ALONE}")


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in items}  # Python 2 wrote the items as an argument


def _tensor(storage: Storage, offset: Any, size: Any, stride: Any, *others: Any) -> Tensor:
    return Tensor(storage, offset, tuple(size), tuple(stride), storage.dtype)


def _typed_tensor(
    storage: Storage, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Name, *others: Any
) -> Tensor:
    return Tensor(storage, offset, tuple(size), tuple(stride), DTYPES[dtype.text])


def _parameter(tensor: Tensor, *others: Any) -> Tensor:
    return tensor


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
"""What a call in an index stands for, a function of this file: the function of that name is never called."""
NAMES = {*STORAGES, *DTYPES, *CALLS}
"""Every name that an index may hold."""


def _name(text: str) -> Name:
    """Returns a name that tensors need; raises Refused for any other."""
    if text not in NAMES:
        raise Refused(f"holds more than tensors: its index asks for {text[:80]}.{ALONE}")
    return Name(text)


def _described(function: Any, arguments: Any) -> Any:
    """Returns what the call of a function by name stands for."""
    if not isinstance(function, Name) or function.text not in CALLS or not isinstance(arguments, tuple):
        raise Refused(f"holds more than tensors: its index calls {_shown(function)}.{ALONE}")
    kind = object if function.text == "collections.OrderedDict" else Tensor if function.text.endswith("_parameter") else Storage
    if not all(isinstance(first, kind) for first in arguments[:1]):
        raise Refused(f"holds more than tensors: its index calls {function.text} with something else.{ALONE}")
    return CALLS[function.text](*arguments)
