"""Reads weights from files of several libraries and from the folder of a run, as NumPy arrays by name; never by pickle.

What a file says about itself (the network's name, the knobs of a run) and what was changed while reading is a `Source`.

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

from cnnlab import home
from cnnlab.compressed import SUFFIX, network
from cnnlab.digests import arrays_digest
from cnnlab.engine import averages
from cnnlab.engine.checkpoint import MANIFEST, STATISTICS, Checkpoints
from cnnlab.errors import CheckpointError
from cnnlab.files import read_json
from cnnlab.interop import torch_files, wrapped
from cnnlab.interop.scheme import NAMES_OF_NETWORK, Leaves, Source, first_few
from cnnlab.ops.quantize import COLLECTION
from cnnlab.runs.early_stopping import reported_step
from cnnlab.runs.network_leaves import COLLECTIONS, weights_of, without_codes

DIGEST = "sha256"
"""Name of the entry of a safetensors header with `leaves_digest` of the leaves and of the other entries."""

NARROW = ("float16", "bfloat16")
"""Names of the types that are converted to f32."""

RAW_STATISTICS = (
    "the run is of a version that averaged the weights but not the statistics of batch normalisation: the averaged weights are "
    "taken with the statistics of the weights before averaging, so the network is not quite the one that was averaged"
)
"""What is said of a run whose averages are not whole."""

VARIANCES = ("running_var", "moving_variance", "var")
"""Last parts of the names of running variances."""


def read(path: str | pathlib.Path) -> Leaves:
    """Reads the weights of a file or of a run, {name: array}, as `load` does."""
    return load(path)[0]


def load(path: str | pathlib.Path) -> tuple[Leaves, Source]:
    """Reads the weights of a file or of a run: ({name: array}, what the file says beyond them).

    It takes .safetensors, .cnnz, .npz (the keys below `state/`, where there are any), .h5 and .keras of keras, .pt, .pth,
    .pth.tar, .ckpt and .bin of torch (torch_files.py, without torch), or the folder of a run: its newest valid checkpoint, with
    the averaged parameters where it has some. Half precision is converted to f32.

    Raises CheckpointError where the file is missing, damaged, of another kind or holds numbers that no network can have.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        restored, said = _run(path)
        leaves, notes = _checked(_weights(restored), path)
        recorded = (read_json(path / "run.json") or {}).get("knobs") or {}
        return leaves, Source(knobs=recorded, notes=(*said, *notes))
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file or folder.\nGive a file of weights or the folder of a run.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise CheckpointError(
            f"{path}: weights are not read from {path.suffix or 'files without a suffix'}.\n"
            f"They come from {', '.join(READERS)}, or from the folder of a run."
        )
    try:
        leaves, header = reader(path)
    except CheckpointError:
        raise
    except Exception as error:  # of five libraries, none of which has one class for a damaged file
        reason = str(error).strip().partition("\n")[0][:200]
        raise CheckpointError(
            f"{path} is damaged or no {path.suffix} file: {type(error).__name__}{f': {reason}' if reason else ''}.\n"
            "Compare its size with the original and copy it again."
        ) from error
    taken = wrapped.network_of(leaves) if path.suffix.lower() not in KERAS_SUFFIXES else (leaves, [])
    leaves, notes = _checked(_weights(taken[0]), path)
    architecture, given_by = _architecture(path, header)
    recorded = header.get("knobs", {})
    recorded = json.loads(recorded) if isinstance(recorded, str) else recorded  # text in .safetensors
    return leaves, Source(architecture, given_by, recorded, (*taken[1], *header.get("notes", []), *notes))


def _weights(leaves: Leaves) -> Leaves:
    """Returns the leaves of a quantised network with kernels for codes, and without the ranges, which are no weights."""
    return without_codes({name: leaf for name, leaf in leaves.items() if not name.startswith(f"{COLLECTION}/")})


def _architecture(path: pathlib.Path, header: Mapping[str, Any]) -> tuple[str, str]:
    """Returns (the network's name in its library in lower case, what gives it); empty where nothing does."""
    for key in NAMES_OF_NETWORK:
        if isinstance(header.get(key), str):
            return header[key].lower().partition(".")[0], f'"{key}" in its header'
    # Hubs keep the weights of a network as model.safetensors or pytorch_model.bin, with its name in config.json.
    if path.stem in ("model", "pytorch_model"):
        config = path.parent / "config.json"
        try:
            name = (read_json(config) or {}).get("architecture")
        except (CheckpointError, ValueError):
            name = None
        return (name.lower().partition(".")[0], f"{config}") if isinstance(name, str) else ("", "")
    # torchvision and timm end a file's name with the beginning of its digest.
    name = re.sub(r"[-_.][0-9a-f]{8}$", "", path.name.lower().partition(".")[0])
    return name, "the file's name (rename it if that is wrong)"


def leaves_digest(leaves: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> str:
    """Returns the SHA-256 over name, type, shape and bytes of every leaf and over every note: any flipped bit changes it."""
    return arrays_digest(leaves, notes.items())


def _checked(leaves: Leaves, path: pathlib.Path) -> tuple[Leaves, list[str]]:
    """Returns (the leaves, narrow types as f32; what is remarkable about them); refuses numbers that no network can have.

    Raises CheckpointError where there are no leaves, or leaves that are not finite numbers, quantised, or negative variances.
    """
    if not leaves:
        raise CheckpointError(f"{path} holds no weights.")
    alien = [f"{name} ({leaf.dtype})" for name, leaf in leaves.items() if leaf.dtype.kind not in "fiub" and not _narrow(leaf)]
    if alien:
        raise CheckpointError(f"{path} holds leaves that are no real numbers: {first_few(alien)}.")
    notes, narrow = [], [name for name, leaf in leaves.items() if _narrow(leaf)]
    if narrow:
        kinds = ", ".join(sorted({leaves[name].dtype.name for name in narrow}))
        notes.append(f"{len(narrow)} of {len(leaves)} leaves are {kinds} and are widened to f32: their digits stay as few")
    whole = [f"{name} ({leaf.dtype})" for name, leaf in leaves.items() if leaf.dtype.kind in "iub" and leaf.ndim > 1]
    if whole:
        raise CheckpointError(
            f"{path}: {len(whole)} of {len(leaves)} leaves are integers: {first_few(whole)}.\n"
            "These are quantised weights, whose scales are not applied here. Convert them to float32 where they were made."
        )
    leaves = {name: leaf.astype(np.float32) if name in narrow else leaf for name, leaf in leaves.items()}
    bad = [name for name, leaf in leaves.items() if leaf.dtype.kind == "f" and not np.isfinite(leaf).all()]
    if bad:
        raise CheckpointError(
            f"{path}: {len(bad)} of {len(leaves)} leaves hold numbers that are not finite: {first_few(bad)}.\n"
            "The file is damaged, or its training diverged. Take another one."
        )
    ends = {name: re.split(r"[./]", name)[-1] for name in leaves}
    negative = [name for name, leaf in leaves.items() if ends[name] in VARIANCES and leaf.size and leaf.min() < 0]
    if negative:
        raise CheckpointError(
            f"{path}: {len(negative)} of {len(leaves)} leaves are running variances with negative numbers: "
            f"{first_few(negative)}.\nThe file is damaged, or was averaged with another. Take another one."
        )
    kernels = {name: leaf for name, leaf in leaves.items() if leaf.ndim > 1}
    zero = [name for name, leaf in kernels.items() if leaf.size and not leaf.any()]
    if zero:
        notes.append(f"{len(zero)} of {len(kernels)} kernels hold nothing but zeros: {first_few(zero)}")
    return leaves, notes


def _narrow(leaf: np.ndarray) -> bool:
    """Whether a leaf has less than 32 bits and is to be converted to f32."""
    return leaf.dtype.name in NARROW or leaf.dtype.name.startswith("float8")


def _safetensors(path: pathlib.Path) -> tuple[Leaves, dict[str, Any]]:
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
            f"Copy it again, or write it by `{home.COMMAND} export`."
        )
    if recorded is not None and recorded != leaves_digest(leaves, notes):
        raise CheckpointError(f"{path} is damaged: its numbers do not agree with the digest that it holds.\nCopy it again.")
    wanted = ("knobs", *NAMES_OF_NETWORK) if ours else NAMES_OF_NETWORK
    return leaves, {name: notes[name] for name in wanted if name in notes}


def _npz(path: pathlib.Path) -> tuple[Leaves, dict[str, Any]]:
    """Reads an .npz archive, of a checkpoint (names below `state/`) or of plain arrays."""
    with open(path, "rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise CheckpointError(f"{path} is a single array, not an archive of named ones. Write it by numpy.savez.")
        names = [name for name in archive.files if name.startswith("state/")] or archive.files
        return {name.removeprefix("state/"): archive[name] for name in names}, {}


KERAS_SUFFIXES = (".h5", ".keras")
"""Suffixes of keras, whose files have no containers."""

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


def _keras(path: pathlib.Path) -> tuple[Leaves, dict[str, Any]]:
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
    return renumbered(leaves), {}


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


def _run(folder: pathlib.Path) -> tuple[Leaves, list[str]]:
    """Reads the newest valid checkpoint of a run, by our own names; returns (leaves, what is remarkable about them)."""
    checkpoints = Checkpoints(folder / "checkpoints", ranked_by=None)
    described = [_shapes(checkpoints.folder / str(step)) for step in checkpoints.steps()]
    shapes: Any = next((leaves for leaves in reversed(described) if leaves), {})
    # A flat dict by path has the same paths as the tree.
    restored = checkpoints.restore(shapes, step=reported_step(checkpoints.newest_meta()))
    if restored is None:
        raise CheckpointError(
            f"{folder} holds no checkpoint.\nGive the folder of a run, such as runs/NAME-HASH/seed_0, or a file of weights."
        )
    state: Any = restored[0]
    has_average = any(path.startswith("average/") for path in state)
    has_statistics = bool(averages.batch_statistics(state)) and not any(path.startswith(STATISTICS) for path in state)
    notes = [RAW_STATISTICS] if has_average and has_statistics else []
    return weights_of(state), notes


def _shapes(step: pathlib.Path) -> Leaves:
    """Returns every leaf of a checkpoint as an array without memory; {} where its manifest cannot be read."""
    try:
        recorded = json.loads((step / MANIFEST).read_text(encoding="utf-8"))["content"]["leaves"]
        return {path: np.broadcast_to(np.zeros((), dtype), shape) for path, (shape, dtype) in recorded.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


READERS: dict[str, Callable[[pathlib.Path], tuple[Leaves, dict[str, Any]]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    SUFFIX: network.read,
    ".h5": _keras,
    ".keras": _keras,
    ".pt": torch_files.read,
    ".pth": torch_files.read,
    ".bin": torch_files.read,
    ".ckpt": torch_files.read,
    ".tar": torch_files.read,
}
"""The reader of each suffix: path -> (leaves, what the file's header says, with "notes" on what was changed)."""
