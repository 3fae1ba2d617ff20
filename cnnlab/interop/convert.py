"""Converts the state dict of another library to our variables: names by the family's scheme, layouts by the shapes.

The report of a conversion accounts for every leaf on either side.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import OUTPUT
from cnnlab.errors import CheckpointError
from cnnlab.interop import files, lookalikes, wrapped
from cnnlab.interop.families import SCHEMES
from cnnlab.interop.scheme import Leaves, Scheme, Source, first_few
from cnnlab.ops.trees import flatten, unflatten

LEAVES = {
    "weight": ("kernel", "scale"),
    "bias": ("bias",),
    "running_mean": ("mean",),
    "running_var": ("var",),
    "kernel": ("kernel",),
    "depthwise_kernel": ("kernel",),
    "gamma": ("scale",),
    "beta": ("bias",),
    "moving_mean": ("mean",),
    "moving_variance": ("var",),
}
"""Last part of a leaf's name in other libraries -> the names that it may have here."""

COUNTERS = ("num_batches_tracked",)
"""Leaves of torch that are not weights."""

CHANNELS_LAST = ("cnnlab", "keras")
"""Libraries whose kernels have our layout, [height, width, inputs, outputs]."""


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion for every leaf; *paths* are our names, *names* those of the other library."""

    library: str
    matched: dict[str, str]
    """Path -> name of the leaf that fills it."""
    missing: list[str]
    """Paths without a leaf in the file."""
    unexpected: list[str]
    """Names without a counterpart in the network."""
    ignored: list[str]
    """Names that are known to have no counterpart in the network (auxiliary heads, counters)."""
    reshaped: dict[str, str]
    """Path -> how its layout was changed, where that is more than a transposition."""
    wrong: dict[str, str]
    """Path -> both shapes as text, where that of the file does not fit the network."""
    kept: list[str]
    """Paths that keep their initial values because a new head was asked for."""
    notes: tuple[str, ...] = ()
    """What was taken off, left out or changed while reading."""
    caveats: tuple[str, ...] = ()
    """What differs, or may differ, in the function of the two networks, although names and shapes fit."""

    def as_text(self) -> str:
        """Formats one line for each kind of result that occurs, with its first leaves."""
        counts = [f"{len(self.matched)} leaves of {self.library} matched"]
        for kind in ("missing", "unexpected", "wrong", "reshaped", "kept", "ignored"):
            found = getattr(self, kind)
            if found:
                rows = [f"{path} ({found[path]})" for path in found] if isinstance(found, dict) else found
                counts.append(f"{len(found)} {kind}: {first_few(rows)}")
        return "\n  ".join([*counts, *self.notes])


def shapes_of(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a model's variables for images [H, W, C], by "collection/layer/leaf"; nothing is allocated."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.eval_shape(lambda: jax.random.key(0)), images)
    return {path: leaf.shape for path, leaf in flatten(variables).items()}


def start_from(
    variables: Any, model: nn.Module, path: str | pathlib.Path, new_head: bool = False
) -> tuple[Any, ConversionReport]:
    """Replaces the variables of `model` by the weights of a file or a run, as NumPy arrays, and reports on each leaf.

    Args:
        variables: {"params": …, "batch_stats": …}, arrays or their shapes.
        model: the network with these variables.
        path: a file or folder that `files.read` takes.
        new_head: whether the last layer stays as given.

    Raises CheckpointError where the file is damaged or belongs to another network.
    """
    fresh = flatten(variables)
    read, source = files.load(path)
    shapes = {name: leaf.shape for name, leaf in fresh.items()}
    leaves, report = convert(read, model, shapes, new_head=new_head, source=source)
    given = {name: np.asarray(leaves[name], leaf.dtype) if name in leaves else leaf for name, leaf in fresh.items()}
    return unflatten(given), report


def start_part(
    variables: Any, path: str | pathlib.Path, *, name: str, model: nn.Module | None, new_head: bool = False
) -> tuple[Leaves, ConversionReport]:
    """Returns weights for a part of a network, {"collection/layer/leaf": array}, from a file or a run, and the report.

    The file may hold the part alone, a network that contains it (such as a classifier for a trunk), or a run whose
    parameters contain it anywhere; the reading is taken that fills most leaves, and among equals that of the same name.
    What it has beyond the part is left out and counted.

    Args:
        variables: {"params": …, "batch_stats": …} of the part, arrays or their shapes.
        path: a file or folder that `files.read` takes.
        name: path of the part among the parameters, for messages.
        model: the module whose family's names the file may use; None: the file has our names.
        new_head: whether the part's layer `output` is left as given.

    Raises CheckpointError where the file is damaged or does not fill the part.
    """
    shapes = {leaf: array.shape for leaf, array in flatten(variables).items()}
    read, source = files.load(path)
    readings = [("", read, source.notes)]
    readings += [("", view, (*source.notes, done)) for view, done in wrapped.views(read)]
    readings += [(part, view, (*source.notes, f"read from its part {part}")) for part, view in _parts_of_run(read)]
    attempts = [(part, *_best(view, model, shapes, new_head), notes) for part, view, notes in readings]
    _, filled, report, scheme, notes = max(attempts, key=lambda one: (len(one[1]), one[0] == name, -len(one[2].unexpected)))
    left = len(read) - len(report.matched)
    notes = (*notes, f"{left} other leaves of the file are left out") if left else tuple(notes)
    _require_whole(dataclasses.replace(report, unexpected=[]), name, shapes)
    caveats = lookalikes.compared(model, scheme, source) if model is not None else []
    return filled, dataclasses.replace(report, notes=notes, caveats=tuple(caveats))


def names_all(leaves: Leaves, model: nn.Module, shapes: Mapping[str, tuple[int, ...]], new_head: bool) -> bool:
    """Whether leaves of a file have a name for every one of `shapes`, by our names or by one of the schemes of the family.

    Args:
        leaves: a state dict with the names of its library.
        model: the network.
        shapes: shapes of the network's parameters, {"params/layer/leaf": shape}.
        new_head: whether the last layer may be missing.
    """
    return not _best(leaves, model, shapes, new_head)[1].missing


def _parts_of_run(leaves: Leaves) -> list[tuple[str, Leaves]]:
    """Returns (path, its leaves by our names) of every part of the parameters of a run: a player, or a module of one."""
    paths = [name.removeprefix("params/").split("/") for name in leaves if name.startswith("params/")]
    parts = dict.fromkeys("/".join(path[:depth]) for path in paths for depth in range(1, len(path)))
    found = []
    for part in parts:
        player, _, below = part.partition("/")
        # Batch statistics lie beside the parameters, in a collection of the whole state or of the player.
        statistics = [f"batch_stats/{part}/", *(f"{above}batch_stats/{below}/" for above in ("", f"{player}/"))]
        places = {f"params/{part}/": "params/"} | {place.replace("//", "/"): "batch_stats/" for place in statistics}
        view: Leaves = {}
        for name, leaf in leaves.items():
            view |= {new + name.removeprefix(old): leaf for old, new in places.items() if name.startswith(old)}
        found.append((part, view))
    return found


def convert(
    leaves: Leaves,
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    new_head: bool = False,
    source: Source | None = None,
) -> tuple[Leaves, ConversionReport]:
    """Converts leaves to our names, {"collection/layer/leaf": array}, by the best of the schemes of the model's family.

    Args:
        leaves: a state dict with the names of its library.
        model: the network that takes the weights.
        shapes: shapes of the network's variables, from `shapes_of`.
        new_head: whether to leave out the last layer, which keeps its initial values.
        source: what the file says beyond its leaves.

    Raises CheckpointError where a leaf is missing, unexpected or of another shape, or where the file shows another function.
    """
    _refuse_copies(leaves)
    filled, report, scheme = _best(leaves, model, shapes, new_head)
    source = source or Source()
    notes = source.notes
    if not _is_whole(report):
        # Names may have prefixes that no list has: other readings are tried, and what was done is stated.
        for view, done in wrapped.views(leaves):
            other = _best(view, model, shapes, new_head)
            if _is_whole(other[1]) or len(other[0]) > len(filled):
                (filled, report, scheme), notes = other, (*source.notes, done)
            if _is_whole(report):
                break
    _require_whole(report, type(model).__name__, shapes)
    caveats = lookalikes.compared(model, scheme, source)
    return filled, dataclasses.replace(report, notes=notes, caveats=tuple(caveats))


def _best(
    leaves: Leaves, model: nn.Module | None, shapes: Mapping[str, tuple[int, ...]], new_head: bool
) -> tuple[Leaves, ConversionReport, Scheme]:
    """Converts the leaves by the scheme that fills most leaves: a file does not record the library."""
    own = () if model is None else SCHEMES.get(type(model), ())
    schemes = (*own, Scheme("cnnlab", lambda name, model: name))
    attempts = [(*_match(leaves, model, shapes, scheme, new_head), scheme) for scheme in schemes]
    return max(attempts, key=lambda attempt: (len(attempt[0]), -len(attempt[1].unexpected)))


def _is_whole(report: ConversionReport) -> bool:
    """Whether every leaf of the network is filled and every leaf of the file has a counterpart."""
    return not (report.missing or report.unexpected or report.wrong)


def _match(
    leaves: Leaves, model: nn.Module | None, shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, new_head: bool
) -> tuple[Leaves, ConversionReport]:
    """Converts the leaves by one scheme; returns (the leaves that fit, the report)."""
    filled: Leaves = {}
    report = ConversionReport(scheme.library, {}, [], [], [], {}, {}, [])
    head = {path for path in shapes if path.split("/")[1] == OUTPUT} if new_head else set()
    leaves, notes = scheme.prepare(leaves)
    for name, leaf in leaves.items():
        layer, _, last = name.rpartition("/" if scheme.library == "cnnlab" else ".")
        place = None if last in COUNTERS else scheme.rename(layer, model)
        # A scheme renames layers; the name of the leaf within its layer is the same for all families of a library.
        if place is None:
            report.ignored.append(name)
            continue
        path = _path(place, last, shapes)
        if path is None or path in report.matched:
            report.unexpected.append(name)
        elif path in head:
            report.ignored.append(name)
        else:
            report.matched[path] = name
            converted, note = _to_our_layout(np.asarray(leaf), shapes[path], scheme, place)
            if converted is None:
                report.wrong[path] = note
            else:
                filled[path] = converted
                note = "; ".join(part for part in (notes.get(name), note) if part)
                if note:
                    report.reshaped[path] = note
    report.kept.extend(sorted(head))
    report.missing.extend(path for path in shapes if path not in report.matched and path not in head)
    return filled, report


def _path(place: str, last: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Returns the path of the leaf that another library calls `last`, in the layer that is called `place` here."""
    candidates = [f"{kind}/{place}/{name}" for kind in ("params", "batch_stats") for name in LEAVES.get(last, (last,))]
    return next((path for path in [f"{place}/{last}", *candidates] if path in shapes), None)


def _to_our_layout(leaf: np.ndarray, shape: tuple[int, ...], scheme: Scheme, place: str) -> tuple[np.ndarray | None, str]:
    """Returns (the leaf in our layout, or None where its shape does not fit; a note about the change)."""
    theirs, note = leaf.shape, ""
    if scheme.library not in CHANNELS_LAST:
        if leaf.ndim == 2 and place in scheme.flattened and leaf.shape[1] % math.prod(scheme.flattened[place]) == 0:
            # torch flattens an image channels first, we flatten it channels last, so the inputs have to be reordered:
            # [units, C·H·W] -> [units, C, H, W] -> [H, W, C, units] -> [H·W·C, units]
            leaf = leaf.reshape(leaf.shape[0], -1, *scheme.flattened[place])
            leaf = leaf.transpose(2, 3, 1, 0).reshape(-1, leaf.shape[0])
            note = "flattened channels first there, last here"
        elif leaf.ndim in (2, 4):
            # dense [outputs, inputs] -> [inputs, outputs]; convolution [outputs, inputs, H, W] -> [H, W, inputs, outputs]
            leaf = leaf.T if leaf.ndim == 2 else leaf.transpose(2, 3, 1, 0)
    if leaf.shape == shape:
        return leaf, note
    if leaf.size == math.prod(shape):
        if {leaf.ndim, len(shape)} == {2, 4} and leaf.shape[-1] == shape[-1]:
            # A dense layer is a convolution over all of its image: [H·W·C, units] <-> [H, W, C, units].
            return leaf.reshape(shape), f"from {theirs}"
        if scheme.library == "keras" and leaf.ndim == len(shape) == 4 and leaf.shape[:2] == shape[:2] and shape[2] == 1:
            # keras keeps a depth-wise kernel as [H, W, C, 1], we keep it as a grouped one, [H, W, 1, C].
            return leaf.reshape(shape), f"depth-wise, from {theirs}"
    return None, f"{leaf.shape} in the file, {shape} here"


def _require_whole(report: ConversionReport, network: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError unless every leaf of the network is filled and every leaf of the file has a counterpart."""
    # A last layer of another size, and nothing else, is the usual case of transfer: the error names the flag for it.
    only_head = report.wrong and all(_is_output(path) for path in report.wrong)
    if only_head and not (report.missing or report.unexpected):
        raise CheckpointError(
            "the file's last layer has another number of classes: "
            f"{first_few([f'{p}: {n}' for p, n in report.wrong.items()])}.\n"
            "Say --new_head to start that layer afresh, or give the network as many classes."
        )
    if report.missing and all(map(_is_output, report.missing)) and not (report.unexpected or report.wrong):
        raise CheckpointError(
            f"the file has no last layer: it lacks {first_few(report.missing)}.\nSay --new_head to start that layer afresh."
        )
    if not _is_whole(report):
        raise CheckpointError(
            f"these weights do not fit {network} (read as {report.library}'s): "
            f"{len(report.matched) - len(report.wrong)} of {len(shapes)} leaves matched.\n"
            + "\n".join(
                f"  {kind}: {first_few(rows)}"
                for kind, rows in (
                    ("the network needs and the file lacks", report.missing),
                    ("the file has and the network lacks", report.unexpected),
                    ("of another shape", [f"{path} ({note})" for path, note in report.wrong.items()]),
                )
                if rows
            )
            + "\nTake the model that the weights were trained with, with the same knobs."
        )


def _refuse_copies(leaves: Leaves) -> None:
    """Raises CheckpointError where every leaf is repeated along one more axis in front, as in a state of several devices."""
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves.values()}
    (count,) = counts if len(counts) == 1 else (0,)
    differs = any(np.ptp(leaf[0]) > 0 for leaf in leaves.values() if leaf.ndim and leaf[0].size)  # constants equal anything
    if len(leaves) > 1 and count > 1 and differs and all(np.array_equal(leaf[0], leaf[-1]) for leaf in leaves.values()):
        raise CheckpointError(
            f"the leading axis {count} of every leaf looks like a device axis: all hold {count} equal copies.\n"
            "Expected one copy. Save the first of them where the file was made: jax.tree.map(lambda leaf: leaf[0], state)."
        )


def _is_output(path: str) -> bool:
    """Whether a leaf, "collection/layer/leaf", belongs to the last layer."""
    return path.split("/")[1] == OUTPUT
