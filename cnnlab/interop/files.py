"""Reads weights from files of several libraries and from the folder of a run, as NumPy arrays by name; never by pickle.

A flipped bit is detected in a file of cnnlab (by its digest), in a run (by its manifest) and in an .npz or .keras file (by the
checksums of the archive). Other files have no checksum: there, only wrong sizes and numbers that are not finite are detected.
"""

import io
import json
import pathlib
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlab.core import CLASSIFIER, FROZEN
from cnnlab.digests import arrays_digest
from cnnlab.engine.checkpoint import MANIFEST, Checkpoints
from cnnlab.errors import CheckpointError
from cnnlab.interop.scheme import Leaves, first_few

COLLECTIONS = ("params/", "batch_stats/")
"""Prefixes of the names in files of cnnlab."""

DIGEST = "sha256"
"""Name of the entry of a safetensors header with `leaves_digest` of the leaves and of the other entries."""

NARROW = ("float16", "bfloat16")
"""Names of the types that are converted to f32."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that torch's data parallelism and compilation add to every name."""

HOW_TO_CONVERT = (
    "Where torch is installed, write its tensors as safetensors:\n"
    '  python -c "import sys, torch; from safetensors.torch import save_file; state = torch.load(sys.argv[1], '
    "map_location='cpu', weights_only=True); state = state.get('state_dict', state.get('model', state)); "
    'save_file({k: v.contiguous() for k, v in state.items()}, sys.argv[2])" IN.pt OUT.safetensors'
)


def read(path: str | pathlib.Path) -> Leaves:
    """Reads the weights of a file or of a run, {name: array}; half precision is converted to f32.

    It takes .safetensors, .npz (the keys below `state/`, where there are any), .h5 and .keras of keras, .pt, .pth and .bin of
    torch (where torch is installed), or the folder of a run: its newest valid checkpoint, with the averaged parameters where
    it has some.

    Raises CheckpointError where the file is missing, damaged, of another kind or holds numbers that are not finite.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _checked(_run(path), path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file or folder.\nGive a file of weights or the folder of a run.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise CheckpointError(
            f"{path}: weights are not read from {path.suffix or 'files without a suffix'}.\n"
            f"They come from {', '.join(READERS)}, or from the folder of a run."
        )
    try:
        leaves = reader(path)
    except CheckpointError:
        raise
    except Exception as error:  # of five libraries, none of which has one class for a damaged file
        reason = str(error).strip().partition("\n")[0][:200]
        raise CheckpointError(
            f"{path} is damaged or no {path.suffix} file: {type(error).__name__}{f': {reason}' if reason else ''}.\n"
            "Compare its size with the original and copy it again."
        ) from error
    return _checked(leaves, path)


def leaves_digest(leaves: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> str:
    """Returns the SHA-256 over name, type, shape and bytes of every leaf and over every note: any flipped bit changes it."""
    return arrays_digest(leaves, notes.items())


def _checked(leaves: Leaves, path: pathlib.Path) -> Leaves:
    """Converts narrow types to f32; raises CheckpointError where there are no leaves, or some are not finite numbers."""
    if not leaves:
        raise CheckpointError(f"{path} holds no weights.")
    alien = [f"{name} ({leaf.dtype})" for name, leaf in leaves.items() if leaf.dtype.kind not in "fiub" and not _narrow(leaf)]
    if alien:
        raise CheckpointError(f"{path} holds leaves that are no real numbers: {first_few(alien)}.")
    leaves = {name: leaf.astype(np.float32) if _narrow(leaf) else leaf for name, leaf in leaves.items()}
    bad = [name for name, leaf in leaves.items() if leaf.dtype.kind == "f" and not np.isfinite(leaf).all()]
    if bad:
        raise CheckpointError(
            f"{path}: {len(bad)} of {len(leaves)} leaves hold numbers that are not finite: {first_few(bad)}.\n"
            "The file is damaged, or its training diverged. Take another one."
        )
    return leaves


def _narrow(leaf: np.ndarray) -> bool:
    """Whether a leaf has less than 32 bits and is to be converted to f32."""
    return leaf.dtype.name in NARROW or leaf.dtype.name.startswith("float8")


def _safetensors(path: pathlib.Path) -> Leaves:
    """Reads a .safetensors file. The library checks offsets and shapes; the digest of our own files also checks numbers."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        notes = dict(file.metadata() or {})
        leaves = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — a file, not a dict
    recorded = notes.pop(DIGEST, None)
    ours = any(name.startswith(COLLECTIONS) for name in leaves)
    if recorded is None and ours:
        raise CheckpointError(
            f"{path} is named like a file of cnnlab and lacks its digest: it is damaged, or was written by something else.\n"
            "Copy it again, or write it by `python launch.py export`."
        )
    if recorded is not None and recorded != leaves_digest(leaves, notes):
        raise CheckpointError(f"{path} is damaged: its numbers do not agree with the digest that it holds.\nCopy it again.")
    return leaves if ours else _unwrapped(leaves)


def _npz(path: pathlib.Path) -> Leaves:
    """Reads an .npz archive, of a checkpoint (names below `state/`) or of plain arrays."""
    with open(path, "rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise CheckpointError(f"{path} is a single array, not an archive of named ones. Write it by numpy.savez.")
        names = [name for name in archive.files if name.startswith("state/")] or archive.files
        return _unwrapped({name.removeprefix("state/"): archive[name] for name in names})


def _torch(path: pathlib.Path) -> Leaves:
    """Reads the state dict in a file of torch, by torch's loader for weights only."""
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"{path}: a {path.suffix} file takes torch to read, and torch is not installed here.\n{HOW_TO_CONVERT}"
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError …
        if type(error).__name__ != "UnpicklingError":
            raise
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors, such as a whole module: that is never read, for it can run code.\n"
            "Where its code is at home, save the network's state_dict() alone."
        ) from error
    for key in ("state_dict", "model"):
        state = state[key] if isinstance(state, Mapping) and isinstance(state.get(key), Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(leaf, torch.Tensor) for leaf in state.values()):
        raise CheckpointError(f"{path} holds no state dict, {{name: tensor}}, nor one below state_dict or model.")
    numbers = {name: leaf.float() if leaf.is_floating_point() and leaf.itemsize < 4 else leaf for name, leaf in state.items()}
    return _unwrapped({name: leaf.detach().numpy() for name, leaf in numbers.items()})


def _unwrapped(leaves: Leaves) -> Leaves:
    """Removes the prefixes of wrapped networks from all names."""
    for prefix in WRAPPERS:
        if leaves and all(name.startswith(prefix) for name in leaves):
            leaves = {name.removeprefix(prefix): leaf for name, leaf in leaves.items()}
    return leaves


KERAS_VARIABLES = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "layer_normalization": ("gamma", "beta"),
    "normalization": ("mean", "variance", "count"),
}
"""Kind of layer -> names of its numbered variables in a .weights.h5."""


def _keras(path: pathlib.Path) -> Leaves:
    """Reads a keras file of either layout as {"layer.variable": array}; a slash in a layer's name becomes an underscore."""
    import h5py

    if path.suffix.lower() == ".keras":
        with zipfile.ZipFile(path) as archive:
            source: Any = io.BytesIO(archive.read("model.weights.h5"))
    else:
        source = path
    with h5py.File(source, "r") as file:
        if "layers" in file and "layer_names" not in file.attrs:
            leaves = _keras_numbered(file["layers"], path)
        else:
            leaves = _keras_named(file.get("model_weights", file))
    return renumbered(leaves)


def _keras_named(group: Any) -> Leaves:
    """Reads the older layout: a group for each layer, whose attributes list the names of its weights."""
    leaves = {}
    for layer in _texts(group.attrs, "layer_names"):
        for name in _texts(group[layer].attrs, "weight_names"):
            above, _, last = name.partition(":")[0].rpartition("/")
            last = re.sub(r"^.*_([Wb])(_\d+)?$", r"\1", last)  # keras 1 wrote block1_conv1_W_1
            leaves[_dotted(above or layer, {"W": "kernel", "b": "bias"}.get(last, last))] = np.asarray(group[layer][name])
    return leaves


def _texts(attributes: Any, name: str) -> list[str]:
    """Reads a list of strings, which keras divides into name0, name1, … if it is long."""
    parts = [attributes[name]] if name in attributes else []
    if not parts:
        while f"{name}{len(parts)}" in attributes:
            parts.append(attributes[f"{name}{len(parts)}"])
    return [text.decode() if isinstance(text, bytes) else str(text) for part in parts for text in part]


def _keras_numbered(group: Any, path: pathlib.Path) -> Leaves:
    """Reads the newer layout: groups by kind of layer, variables by number; the name of the layer is an attribute."""
    leaves: Leaves = {}
    for kind, layer in group.items():
        if "layers" in layer:  # a network within the network
            leaves |= _keras_numbered(layer["layers"], path)
        variables = layer.get("vars", {})
        if not len(variables):
            continue
        name = variables.attrs.get("name", kind)
        names = KERAS_VARIABLES.get(re.sub(r"_\d+$", "", kind), ())
        if names[:1] == ("gamma",) and len(variables) % 2:
            names = names[1:]  # a norm without a scale has an odd number of variables
        if len(variables) > len(names):
            raise CheckpointError(f"{path}: layer {name}, a {kind} of {len(variables)} variables, is not known here.")
        leaves |= {_dotted(name, last): np.asarray(variables[str(n)]) for n, last in enumerate(names[: len(variables)])}
    return leaves


def _dotted(layer: str, last: str) -> str:
    """Returns the name of a variable of a layer, "layer.variable"."""
    return f"{layer.replace('/', '_')}.{last}"


AUTOMATIC = re.compile(r"(conv2d|depthwise_conv2d|separable_conv2d|batch_normalization|dense)(?:_(\d+))?")
"""Names that keras gives to unnamed layers, numbered over a whole session."""


def renumbered(leaves: Leaves) -> Leaves:
    """Renumbers automatic layer names from 0, so that they do not depend on what the session built before."""
    found: dict[str, set[int]] = {}
    parts = {name: AUTOMATIC.fullmatch(name.rpartition(".")[0]) for name in leaves}
    for match in parts.values():
        if match:
            found.setdefault(match[1], set()).add(int(match[2] or 0))
    place = {kind: {number: index for index, number in enumerate(sorted(numbers))} for kind, numbers in found.items()}

    def renamed(name: str) -> str:
        match = parts[name]
        return f"{match[1]}_{place[match[1]][int(match[2] or 0)]}.{name.rpartition('.')[2]}" if match else name

    return {renamed(name): leaf for name, leaf in leaves.items()}


def _run(folder: pathlib.Path) -> Leaves:
    """Reads the newest valid checkpoint of a run, by our own names."""
    checkpoints = Checkpoints(folder / "checkpoints", ranked_by=None)
    described = [_shapes(checkpoints.folder / str(step)) for step in checkpoints.steps()]
    shapes: Any = next((leaves for leaves in reversed(described) if leaves), {})
    restored = checkpoints.restore(shapes)  # a flat dict by path has the same paths as the tree
    if restored is None:
        raise CheckpointError(
            f"{folder} holds no checkpoint.\nGive the folder of a run, such as runs/NAME-HASH/seed_0, or a file of weights."
        )
    state: Any = restored[0]
    return weights_of(state)


def _shapes(step: pathlib.Path) -> Leaves:
    """Returns every leaf of a checkpoint as an array without memory; {} where its manifest cannot be read."""
    try:
        recorded = json.loads((step / MANIFEST).read_text(encoding="utf-8"))["content"]["leaves"]
        return {path: np.broadcast_to(np.zeros((), dtype), shape) for path, (shape, dtype) in recorded.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def weights_of(state: Mapping[str, Any]) -> Leaves:
    """Renames the leaves of a state to "params/layer/leaf" and "batch_stats/layer/leaf".

    It takes the averaged parameters where there are some. The layers of a classifier and the frozen ones form one network.
    """
    owned = "average/" if any(path.startswith("average/") for path in state) else "params/"
    leaves = {path.removeprefix(owned): leaf for path, leaf in state.items() if path.startswith(owned)}
    if {path.partition("/")[0] for path in leaves} <= {CLASSIFIER, FROZEN}:
        leaves = {path.partition("/")[2]: leaf for path, leaf in leaves.items()}
    rest = {path.removeprefix("model_state/"): leaf for path, leaf in state.items() if path.startswith("model_state/")}
    return {**{f"params/{path}": leaf for path, leaf in leaves.items()}, **rest}


READERS: dict[str, Callable[[pathlib.Path], Leaves]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".h5": _keras,
    ".keras": _keras,
    ".pt": _torch,
    ".pth": _torch,
    ".bin": _torch,
}
"""The reader of each suffix."""
