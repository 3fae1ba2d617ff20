"""Exports weights as safetensors with our own names, and networks as StableHLO programs that run without cnnlab."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from cnnlab import home
from cnnlab.compressed import SUFFIX, network
from cnnlab.core import Experiment, Params, Prediction, PyTree
from cnnlab.engine.averages import evaluated
from cnnlab.engine.precision import computing_in
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.files import write_bytes, write_json
from cnnlab.inputs import InputSpec, fit_in_words
from cnnlab.interop import files, without_channels
from cnnlab.knobs import Resolved
from cnnlab.ops import trees
from cnnlab.runs import network_file, run
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.network_leaves import network_of, with_codes
from cnnlab.runs.run_files import WHITENING, read_run
from cnnlab.terminal import Terminal
from cnnlab.text import format_bytes

SUFFIXES = (".safetensors", SUFFIX, ".stablehlo")
"""Suffixes of the files that a network can be exported to."""

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms on which an exported program runs."""

LARGEST_PROGRAM = 2**31
"""Largest size in bytes of the container of jax.export."""


def export_run(
    resolved: Resolved,
    spec: RunSpec,
    folder: pathlib.Path,
    target: pathlib.Path,
    *,
    best: bool,
    replace: bool,
    smaller: bool = False,
) -> str:
    """Writes the network of a run's newest checkpoint (or the best on validation) and describes what it wrote.

    It takes the averages where there are some. A .safetensors file holds the weights; a .stablehlo file predicts from images
    [B, H, W, C] as the data set stores them (u8, or f32), which it normalises itself, and has the input specification and the
    class names beside it, in a file of the same name that ends in .json. A .cnnz file holds the weights as .safetensors does,
    in few bytes where they are pruned or share values. The `smaller` network is without the channels that are gone.
    """
    _check_target(target, replace=replace)
    run_json = read_run(folder)
    # With other knobs than the run's own the data may be others, too; the function of the run itself needs none.
    program, state, step = run.restore_run(resolved, spec, folder, best=best, opens_data=bool(spec.changed))
    experiment, notice, knobs = program.experiment, "", run_json["knobs"]
    if smaller:
        left = without_channels.smaller_network(resolved, experiment, state, folder)
        experiment, state, notice, knobs = left.experiment, left.state, f"\n  {without_channels.as_text(left)}", left.knobs
        spec = dataclasses.replace(spec, knobs=left.knobs, given=left.given)
    inputs = experiment.data.inputs
    height, width, channels = inputs.image_shape
    notes = {"experiment": spec.experiment, "step": str(step), "data": run_json["data"]["name"]}
    if target.suffix != ".stablehlo":
        found = with_codes(network_of(state), experiment.task, state)
        what = f"{len(found)} leaves by the names of cnnlab\n  load it by --init_from={target}"
        if target.suffix == SUFFIX:
            seed = run_json["flags"]["seed"]
            content, sizes, _ = network_file.packed(spec, experiment, seed, state, step)
            write_bytes(target, content)
            what += f"\n  measure it by `{home.COMMAND} evaluate --workdir={target}`"
            what += "\n\n" + network.as_table(sizes, len(content), Terminal.of_stdout())
            size = len(content)
        else:
            notes |= {"classes": json.dumps(inputs.class_names), "image": f"{height}x{width}x{channels}"}
            known = {**spec.knobs, **knobs}  # a file has those alone that its experiment does not say
            notes |= {"knobs": json.dumps(known), "inputs": json.dumps(inputs.as_json())}
            what += ", or by safetensors.numpy.load_file"
            size = write_safetensors(target, trees.unflatten(found), notes)
        what += "" if inputs.whiten is None else f"\n  the matrix that whitens images is not in it: it is {folder / WHITENING}"
    else:
        params, model_state = evaluated(state)
        predict, used = _predictor(experiment, spec.precision, params, model_state)
        size = write_stablehlo(target, predict, used, inputs.image_shape, inputs.dtype)
        prediction = experiment.task.prediction
        lines = example_lines(target, inputs, (prediction or Prediction).example)
        beside = {"pillow": _pillow(inputs), "other_sizes": _fit_in_words(inputs), "example": lines}
        write_json(_beside(target), {**inputs.as_json(), **notes, **beside})
        what = _program_in_words(target, inputs, lines)
    return f"{folder}, step {step}\n  {target}: {format_bytes(size)}, {what}{notice}"


def _program_in_words(target: pathlib.Path, inputs: InputSpec, lines: Sequence[str]) -> str:
    """Describes an exported program; `lines` load it."""
    height, width, channels = inputs.image_shape
    values = "u8, 0 … 255" if inputs.dtype == "uint8" else "f32, as the data store them"
    return (
        f"a program with its weights and its preprocessing, for any number B of images, on {', '.join(PLATFORMS)}\n"
        f"  images [B, {height}, {width}, {channels}] ({values}) -> what the task predicts, such as scores of the classes\n"
        f"  {_fit_in_words(inputs)}\n"
        f"  {_beside(target)}: class names, input specification, and these lines\n"
        f"load it by\n" + "\n".join(f"  {line}" for line in lines)
    )


def _check_target(target: pathlib.Path, *, replace: bool) -> None:
    """Raises UsageError where the file cannot be written, or must not be replaced."""
    if target.suffix not in SUFFIXES:
        raise UsageError(f"--to={target}: expected a name that ends in {' (weights) or '.join(SUFFIXES)} (a program).")
    for path in (target, _beside(target)) if target.suffix == ".stablehlo" else (target,):
        if path.exists() and not replace:
            raise UsageError(f"--to={target}: {path} is there already. Give another name, or --overwrite to replace it.")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise UsageError(f"--to={target}: {target.parent} is no folder that can be written to.")


def _beside(target: pathlib.Path) -> pathlib.Path:
    """Returns the file with the class names and the input specification of a program."""
    return target.with_suffix(".json")


def _pillow(inputs: InputSpec) -> dict[str, Any]:
    """Returns how Pillow makes an image of this specification: the mode that it converts to and its size, (width, height)."""
    height, width, channels = inputs.image_shape
    return {"mode": {1: "L", 3: "RGB", 4: "RGBA"}.get(channels), "size": [width, height]}


def _fit_in_words(inputs: InputSpec) -> str:
    """Returns a line on what is to be done with images of another size."""
    height, width, _ = inputs.image_shape
    rules = {
        "none": "all training images had this size",
        "resize": "images of other sizes were resized to it (bilinear)",
        "pad": "smaller images were centred in black",
        "crop": f"the shorter side was resized to {height} / {inputs.fit.get('fraction')} ({inputs.fit.get('filter')}), "
        "then the centre was cut out",
        "canvas": f"images were multiplied by {inputs.fit.get('scale')} and laid in the upper left corner of black",
    }
    own = f"images of other sizes were brought to it by {fit_in_words(inputs.fit)}, which is no rule of cnnlab"
    return f"size {width} x {height}: {rules.get(inputs.fit['name'], own)}"


def example_lines(target: pathlib.Path, inputs: InputSpec, shown: str) -> list[str]:
    """Returns the lines of Python that load an exported program and show what it gives for IMAGE.png, prepared as in training.

    Args:
        target: the file of the program.
        inputs: what the program takes.
        shown: the last line (`Prediction.example`).
    """
    height, width, channels = inputs.image_shape
    scale = "" if inputs.dtype == "uint8" else ".astype('float32') / 255"
    mode = _pillow(inputs)["mode"]
    convert = f".convert({mode!r})"
    resized = f".resize(({width}, {height}), Image.Resampling.BILINEAR)"
    fitted = {"none": resized, "resize": resized}.get(inputs.fit["name"], "")
    # As data/decode.py reads a file: turned as the camera held it, with transparent parts on black.
    opened = "image = ImageOps.exif_transpose(Image.open('IMAGE.png')).convert('RGBA')"
    on_black = "image = Image.alpha_composite(Image.new('RGBA', image.size, 'black'), image)"
    share, how = inputs.fit.get("fraction", 1.0), inputs.fit.get("filter", "bilinear").upper()
    more = {
        "pad": [
            f"x, y = ((image.size[0] - {width}) / 2, (image.size[1] - {height}) / 2)",
            f"image = image.crop((math.ceil(x), math.ceil(y), math.ceil(x) + {width}, math.ceil(y) + {height}))",
        ],
        "crop": [
            f"w, h = (int({height} / {share}) * side // min(image.size) for side in image.size)",
            f"x, y = round((w - {width}) / 2), round((h - {height}) / 2)",
            f"image = image.resize((w, h), Image.Resampling.{how}).crop((x, y, x + {width}, y + {height}))",
        ],
        "canvas": [
            f"w, h = (max(1, int({inputs.fit.get('scale')} * side + 0.5)) for side in image.size)",
            f"image = image.resize((w, h), Image.Resampling.BILINEAR).crop((0, 0, {width}, {height}))",
        ],
    }.get(inputs.fit["name"], [] if fitted else [f"image = image.resize(({width}, {height}))  # {fit_in_words(inputs.fit)}"])
    return [
        "import jax.export, json, math, numpy, pathlib; from PIL import Image, ImageOps",
        f"predict = jax.export.deserialize(bytearray(pathlib.Path({str(target)!r}).read_bytes())).call",
        f"about = json.loads(pathlib.Path({str(_beside(target))!r}).read_text())",
        f"{opened}{fitted}" if mode == "RGBA" else opened,
        *([] if mode == "RGBA" else [f"{on_black}{convert}{fitted}"]),
        *more,
        f"scores = predict(numpy.asarray(image).reshape(1, {height}, {width}, {channels}){scale})",
        shown,
    ]


def _predictor(
    experiment: Experiment, precision: str, params: Params, model_state: PyTree
) -> tuple[Callable[[PyTree, jax.Array], jax.Array], PyTree]:
    """Makes (predict(variables, images as stored) -> the prediction, in the precision of the run; the variables)."""
    data, task, cast = experiment.data, experiment.task, computing_in(precision)

    def of_state(variables: PyTree, images: jax.Array) -> jax.Array:
        return task.predict(cast(variables["params"]), variables["model_state"], images)

    plain = of_state, {"params": params, "model_state": model_state}
    predict, used = task.packed(*jax.tree.map(np.asarray, (params, model_state))) if task.packed else plain

    def of_stored(variables: PyTree, images: jax.Array) -> jax.Array:
        numbers = jnp.zeros(images.shape[0], jnp.int32)
        batch = cast(data.prepare({}, {"image": images, "index": numbers}, None))
        return predict(variables, batch["image"])

    return of_stored, used


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
    path: pathlib.Path,
    predict: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    image_shape: tuple[int, int, int],
    dtype: str = "float32",
) -> int:
    """Writes `predict(variables, images [B, H, W, C])` for any B as serialised StableHLO; returns its size in bytes.

    The variables are part of the program, so that the file alone suffices for `jax.export.deserialize`.
    """
    count = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if count >= LARGEST_PROGRAM:
        raise UsageError(f"a .stablehlo file holds at most 2 GiB and the weights are {count / 2**30:.1f}. Take .safetensors.")
    batch = export.symbolic_shape("batch", constraints=["batch >= 1"])
    images = jax.ShapeDtypeStruct((*batch, *image_shape), jnp.dtype(dtype))
    program = jax.jit(lambda images: predict(variables, images))
    exported = export.export(program, platforms=PLATFORMS)(images)
    content = bytes(exported.serialize())
    write_bytes(path, content)
    return len(content)


def load_stablehlo(path: pathlib.Path) -> Callable[[jax.Array], jax.Array]:
    """Loads the function images [B, H, W, C] -> outputs that `write_stablehlo` wrote."""
    try:
        return export.deserialize(bytearray(path.read_bytes())).call
    except Exception as error:  # FileNotFoundError, or of flatbuffers and MLIR
        raise CheckpointError(f"{path} is missing, damaged or no .stablehlo file ({type(error).__name__}).") from error
