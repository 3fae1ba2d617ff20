"""From a foreign state dict to our variables: names by the family's scheme, layouts by the shapes, a report of it all."""

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
from cnnlab.interop import files
from cnnlab.interop.families import SCHEMES
from cnnlab.interop.scheme import Leaves, Scheme, some
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
"""A foreign leaf's own name -> what it may be called here."""

COUNTERS = ("num_batches_tracked",)
"""Leaves of torch that hold no weight."""

CHANNELS_LAST = ("cnnlab", "keras")
"""Libraries whose kernels are laid out as ours."""


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What became of every leaf; paths are ours, names are theirs."""

    library: str
    matched: dict[str, str]
    """Our path -> their name."""
    missing: list[str]
    """Our paths that nothing filled."""
    unexpected: list[str]
    """Their names that have no place here."""
    ignored: list[str]
    """Their names that are known to have no counterpart here (auxiliary heads, counters)."""
    reshaped: dict[str, str]
    """Our path -> how its layout was changed, where that is more than a transposition."""
    wrong: dict[str, str]
    """Our path -> "shape of the file, shape of the network", where they cannot be reconciled."""
    kept: list[str]
    """Our paths that keep their fresh values because the head is new."""
    caveat: str = ""
    """How the library's network differs from ours."""

    def as_text(self) -> str:
        """One line for each kind that occurs, with its first leaves."""
        counts = [f"{len(self.matched)} leaves of {self.library} matched"]
        for kind in ("missing", "unexpected", "wrong", "reshaped", "kept", "ignored"):
            found = getattr(self, kind)
            if found:
                rows = [f"{path} ({found[path]})" for path in found] if isinstance(found, dict) else found
                counts.append(f"{len(found)} {kind}: {some(rows)}")
        counts += [f"{self.library} differs: {self.caveat}"] if self.caveat else []
        return "\n  ".join(counts)


def shapes_of(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's variables for images [H, W, C], by "collection/layer/leaf"; nothing is allocated."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.eval_shape(lambda: jax.random.key(0)), images)
    return {path: leaf.shape for path, leaf in flatten(variables).items()}


def start_from(
    variables: Any, model: nn.Module, path: str | pathlib.Path, new_head: bool = False
) -> tuple[Any, ConversionReport]:
    """The variables of `model` with the weights of a file or a run in their place, in NumPy, and what became of each.

    Args:
        variables: {"params": …, "batch_stats": …}, arrays or their shapes.
        model: the network that they are of.
        path: what `files.read` takes.
        new_head: leave the last layer as it is given.

    Raises CheckpointError where the file is no good, or of another network.
    """
    fresh = flatten(variables)
    leaves, report = convert(files.read(path), model, {name: leaf.shape for name, leaf in fresh.items()}, new_head=new_head)
    given = {name: np.asarray(leaves[name], leaf.dtype) if name in leaves else leaf for name, leaf in fresh.items()}
    return unflatten(given), report


def convert(
    leaves: Leaves, model: nn.Module, shapes: Mapping[str, tuple[int, ...]], *, new_head: bool = False
) -> tuple[Leaves, ConversionReport]:
    """Our leaves, {"collection/layer/leaf": array}, from theirs, by the scheme of the model's family that fits best.

    Args:
        leaves: a state dict by its own names.
        model: the network they are for.
        shapes: what the network needs, from `shapes_of`.
        new_head: leave out the last layer, which keeps its fresh values.

    Raises CheckpointError where a leaf is missing, unexpected or of another shape.
    """
    schemes = (*SCHEMES.get(type(model), ()), Scheme("cnnlab", lambda name, model: name))
    attempts = [_match(leaves, model, shapes, scheme, new_head) for scheme in schemes]
    filled, report = max(attempts, key=lambda attempt: (len(attempt[0]), -len(attempt[1].unexpected)))
    _require_whole(report, type(model).__name__, shapes)
    return filled, report


def _match(
    leaves: Leaves, model: nn.Module, shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, new_head: bool
) -> tuple[Leaves, ConversionReport]:
    filled: Leaves = {}
    report = ConversionReport(scheme.library, {}, [], [], [], {}, {}, [], scheme.caveat)
    head = {path for path in shapes if path.split("/")[1] == OUTPUT} if new_head else set()
    leaves, notes = scheme.prepare(leaves)
    for name, leaf in leaves.items():
        layer, _, last = name.rpartition("/" if scheme.library == "cnnlab" else ".")
        place = None if last in COUNTERS else scheme.rename(layer, model)
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
            laid, note = _lay(np.asarray(leaf), shapes[path], scheme, place)
            if laid is None:
                report.wrong[path] = note
            else:
                filled[path] = laid
                note = "; ".join(part for part in (notes.get(name), note) if part)
                if note:
                    report.reshaped[path] = note
    report.kept.extend(sorted(head))
    report.missing.extend(path for path in shapes if path not in report.matched and path not in head)
    return filled, report


def _path(place: str, last: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Our leaf for their leaf `last` of the layer that is called `place` here."""
    candidates = [f"{kind}/{place}/{name}" for kind in ("params", "batch_stats") for name in LEAVES.get(last, (last,))]
    return next((path for path in [f"{place}/{last}", *candidates] if path in shapes), None)


def _lay(leaf: np.ndarray, shape: tuple[int, ...], scheme: Scheme, place: str) -> tuple[np.ndarray | None, str]:
    """(the leaf in our layout or None where it cannot be, a note)."""
    theirs, note = leaf.shape, ""
    if scheme.library not in CHANNELS_LAST:
        if leaf.ndim == 2 and place in scheme.flattened and leaf.shape[1] % math.prod(scheme.flattened[place]) == 0:
            leaf = leaf.reshape(leaf.shape[0], -1, *scheme.flattened[place])
            leaf = leaf.transpose(2, 3, 1, 0).reshape(-1, leaf.shape[0])
            note = "flattened channels first there, last here"
        elif leaf.ndim in (2, 4):
            leaf = leaf.T if leaf.ndim == 2 else leaf.transpose(2, 3, 1, 0)
    if leaf.shape == shape:
        return leaf, note
    if leaf.size == math.prod(shape):
        if {leaf.ndim, len(shape)} == {2, 4} and leaf.shape[-1] == shape[-1]:
            return leaf.reshape(shape), f"from {theirs}"  # a dense layer is a convolution over all of its image
        if scheme.library == "keras" and leaf.ndim == len(shape) == 4 and leaf.shape[:2] == shape[:2] and shape[2] == 1:
            return leaf.reshape(shape), f"depth-wise, from {theirs}"
    return None, f"{leaf.shape} in the file, {shape} here"


def _require_whole(report: ConversionReport, network: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """CheckpointError unless every leaf of the network was filled and every leaf of the file has a place."""
    only_head = report.wrong and all(path.split("/")[1] == OUTPUT for path in report.wrong)
    if only_head and not (report.missing or report.unexpected):
        raise CheckpointError(
            f"the file's last layer has another number of classes: {some([f'{p}: {n}' for p, n in report.wrong.items()])}.\n"
            "Say --new_head to start that layer afresh, or give the network as many classes."
        )
    if report.missing or report.unexpected or report.wrong:
        raise CheckpointError(
            f"these weights do not fit {network} (read as {report.library}'s): "
            f"{len(report.matched) - len(report.wrong)} of {len(shapes)} leaves matched.\n"
            + "\n".join(
                f"  {kind}: {some(rows)}"
                for kind, rows in (
                    ("the network needs and the file lacks", report.missing),
                    ("the file has and the network lacks", report.unexpected),
                    ("of another shape", [f"{path} ({note})" for path, note in report.wrong.items()]),
                )
                if rows
            )
            + "\nTake the model that the weights were trained with, with the same knobs."
        )
