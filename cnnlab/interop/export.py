"""Exports weights as safetensors with our own names, and networks as StableHLO programs that run without cnnlab."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from cnnlab.engine.checkpoint import leaves
from cnnlab.engine.program import Program, computing_in
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.files import write_bytes
from cnnlab.interop import files
from cnnlab.knobs import Resolved
from cnnlab.ops import trees
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.run_files import read_run

SUFFIXES = (".safetensors", ".stablehlo")
"""Suffixes of the files that a network can be exported to."""

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms on which an exported program runs."""

LARGEST_PROGRAM = 2**31
"""Largest size in bytes of the container of jax.export."""


def export_run(
    resolved: Resolved, spec: RunSpec, folder: pathlib.Path, target: pathlib.Path, *, best: bool, replace: bool
) -> str:
    """Writes the network of a run's newest checkpoint (or the best on validation) and describes what it wrote.

    It takes the averaged parameters where there are some. A .safetensors file holds the weights; a .stablehlo file predicts
    from images f32 [B, H, W, C] as the data set stores them (u8 as 0 … 255), which it normalises itself.
    """
    _check_target(target, replace=replace)
    about = read_run(folder)
    program, state, step = run.restore_run(resolved, spec, folder, best=best)
    data = program.experiment.data
    height, width, channels = data.image_shape
    if target.suffix == ".safetensors":
        variables = trees.unflatten(files.weights_of(leaves(state)))
        notes = {"experiment": spec.experiment, "step": str(step), "data": data.name, "knobs": json.dumps(about["knobs"])}
        notes |= {"classes": json.dumps(data.class_names), "image": f"{height}x{width}x{channels}"}
        size = write_safetensors(target, variables, notes)
        count = len(jax.tree.leaves(variables))
        what = f"{count} leaves by the names of cnnlab\n  load it by --init_from={target}, or by safetensors.numpy.load_file"
    else:
        used = {"params": state.average or state.params, "model_state": state.model_state}
        size = write_stablehlo(target, _predictor(program, spec.precision), used, data.image_shape)
        what = (
            f"a program with its weights, images f32 [B, {height}, {width}, {channels}] as {data.name} stores them -> what the "
            f"task predicts, for any B, on {', '.join(PLATFORMS)}\n"
            f"  load it by jax.export.deserialize(bytearray(pathlib.Path({str(target)!r}).read_bytes())).call"
        )
    return f"{folder}, step {step}\n  {target}: {size / 2**20:.2f} MiB, {what}"


def _check_target(target: pathlib.Path, *, replace: bool) -> None:
    """Raises UsageError where the file cannot be written, or must not be replaced."""
    if target.suffix not in SUFFIXES:
        raise UsageError(f"--to={target}: expected a name that ends in {' (weights) or '.join(SUFFIXES)} (a program).")
    if target.exists() and not replace:
        raise UsageError(f"--to={target}: the file is there already. Give another name, or --overwrite to replace it.")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise UsageError(f"--to={target}: {target.parent} is no folder that can be written to.")


def _predictor(program: Program, precision: str) -> Callable[[Any, jax.Array], jax.Array]:
    """Makes predict({"params", "model_state"}, images as stored) -> the prediction, in the precision of the run."""
    data, task, cast = program.experiment.data, program.experiment.task, computing_in(precision)

    def predict(variables: Any, images: jax.Array) -> jax.Array:
        numbers = jnp.zeros(images.shape[0], jnp.int32)
        batch = cast(data.prepare({}, {"image": images, "label": numbers, "index": numbers}, None))
        return task.predict(cast(variables["params"]), variables["model_state"], batch["image"])

    return predict


def write_safetensors(path: pathlib.Path, variables: Any, metadata: Mapping[str, str]) -> int:
    """Writes {"params": …, "batch_stats": …} with our names ("params/stem/kernel"); returns the file's size in bytes.

    The header holds the metadata and a digest of everything, which `files.read` compares.
    """
    from safetensors.numpy import save

    leaves = {name: np.ascontiguousarray(leaf) for name, leaf in trees.flatten(variables).items()}
    notes = dict(metadata)
    content = save(leaves, {**notes, files.DIGEST: files.leaves_digest(leaves, notes)})
    write_bytes(path, content)
    return len(content)


def write_stablehlo(
    path: pathlib.Path, predict: Callable[[Any, jax.Array], jax.Array], variables: Any, image_shape: tuple[int, int, int]
) -> int:
    """Writes `predict(variables, images f32 [B, H, W, C])` for any B as serialised StableHLO; returns its size in bytes.

    The variables are part of the program, so that the file alone suffices for `jax.export.deserialize`.
    """
    count = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if count >= LARGEST_PROGRAM:
        raise UsageError(f"a .stablehlo file holds at most 2 GiB and the weights are {count / 2**30:.1f}. Take .safetensors.")
    batch = export.symbolic_shape("batch", constraints=["batch >= 1"])
    images = jax.ShapeDtypeStruct((*batch, *image_shape), jnp.float32)
    program = jax.jit(lambda images: predict(variables, images))
    exported = export.export(program, platforms=PLATFORMS)(images)
    content = bytes(exported.serialize())
    write_bytes(path, content)
    return len(content)


def load_stablehlo(path: pathlib.Path) -> Callable[[jax.Array], jax.Array]:
    """Loads the function images f32 [B, H, W, C] -> outputs that `write_stablehlo` wrote."""
    try:
        return export.deserialize(bytearray(path.read_bytes())).call
    except Exception as error:  # FileNotFoundError, or of flatbuffers and MLIR
        raise CheckpointError(f"{path} is missing, damaged or no .stablehlo file ({type(error).__name__}).") from error
