"""Samples images from a trained model: `sample_run` writes a sheet and the images of one command.

Letters in shapes: N images, R rows, H W space, C channels, Z units of a code.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cnnlab import figures, files
from cnnlab.core import Array, Sampler
from cnnlab.engine.averages import evaluated
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved
from cnnlab.ops.keys import of_each, stream
from cnnlab.ops.slerp import slerp
from cnnlab.progress import ProgressLine
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.without_data import experiment_without_data

log = logging.getLogger("cnnlab")

DRAWN_AT_ONCE = 64
"""Number of images sampled in one call."""
INTERPOLATED = 10
"""Number of images in a row from one code to another."""


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """The images that are to be sampled."""

    count: int = 64
    temperature: float = 1.0
    """1: the model's own distribution; less: nearer to its most likely images."""
    label: int | None = None
    """Class of all images, for a conditional model; None: all classes in turn."""
    interpolate: bool = False
    """Whether rows go from one code to another, instead of independent images."""
    seed: int = 0


def sample_run(
    resolved: Resolved, spec: RunSpec, folder: pathlib.Path, wanted: SampleRequest, *, target: pathlib.Path | None, best: bool
) -> str:
    """Samples from a run's newest checkpoint (or the best on validation), and writes SHEET.png and SHEET.npz beside it.

    Image number i of a seed is the same for any number of images. Raises UsageError, before anything is restored, where the
    model cannot give what is wanted.

    Args:
        resolved: the experiment's function and its knobs.
        spec: specification of the run.
        folder: folder of the run.
        wanted: images to sample.
        target: path of the sheet, a .png; None: one in the run's folder, named after `wanted`.
        best: whether to restore the best checkpoint on validation instead of the newest.
    """
    experiment = experiment_without_data(resolved, folder) or run.call(resolved)
    sampler = experiment.task.sampler
    if sampler is None:
        raise UsageError(
            f"{folder} holds a run of {spec.title}, whose model draws no images: it was trained for another task.\n"
            "Give the --workdir of an autoencoder, a VAE, a GAN or a PixelCNN; a network that writes needs a --prompt."
        )
    _check(sampler, wanted, experiment.data.classes, experiment.data.class_names)
    target = target or folder / "samples" / f"{_name(wanted)}.png"
    if target.suffix != ".png":
        raise UsageError(f"--to={target}: expected a .png file; the images themselves go beside it, as .npz.")
    _, host, step = run.restore_run(resolved, spec, folder, best=best, opens_data=False)
    params, model_state = evaluated(host)

    def draw(keys: Array, labels: Array) -> Array:
        return sampler.draw(params, model_state, keys, labels, jnp.float32(wanted.temperature))

    def decode(codes: Array, labels: Array) -> Array:
        assert sampler.decode is not None
        return sampler.decode(params, model_state, codes, labels)

    labels = _labels(wanted, max(experiment.data.classes, 1))
    if wanted.interpolate:
        assert sampler.codes is not None
        rows = -(-wanted.count // INTERPOLATED)  # whole rows: the last one is not cut short
        ends = sampler.codes(params, model_state, keys_of(wanted.seed, 2 * rows), jnp.float32(wanted.temperature))
        images = _in_parts(decode, _between(ends), labels)
    else:
        images = _in_parts(draw, keys_of(wanted.seed, wanted.count), labels)
    files.make_folder(target.parent)
    sheet = Image.fromarray(figures.sheet(images, columns=INTERPOLATED if wanted.interpolate else None))
    files.replace_file(target, functools.partial(sheet.save, format="PNG"))
    files.replace_file(target.with_suffix(".npz"), lambda file: np.savez(file, images=images, labels=labels))
    height, width, channels = images.shape[1:]
    kind = "rows between codes" if wanted.interpolate else f"temperature {wanted.temperature:g}"
    return (
        f"{spec.title}, step {step}: {len(images)} images of {height}x{width}x{channels}, {kind}, seed {wanted.seed}\n"
        f"  in {target} and {target.with_suffix('.npz').name}"
    )


def _check(sampler: Sampler, wanted: SampleRequest, classes: int, names: tuple[str, ...]) -> None:
    """Raises UsageError where the sampler cannot give the wanted images."""
    if wanted.interpolate and sampler.decode is None:
        raise UsageError("--interpolate: this model draws pixel by pixel and has no codes to go between. Leave it out.")
    if wanted.label is not None and not sampler.conditional:
        raise UsageError("--class: this model was not trained by class (it is not conditional). Leave it out.")
    if wanted.label is not None and not 0 <= wanted.label < classes:
        raise UsageError(f"--class={wanted.label}: expected 0 to {classes - 1} ({', '.join(names)}).")


def _name(wanted: SampleRequest) -> str:
    """Returns the name of the sheet, without its suffix."""
    parts = ["between" if wanted.interpolate else "draws", f"{wanted.count}"]
    parts += [f"class{wanted.label}"] if wanted.label is not None else []
    parts += [f"t{wanted.temperature:g}"] if wanted.temperature != 1 else []
    return "_".join([*parts, f"seed{wanted.seed}"])


def keys_of(seed: int, count: int, purpose: str = "sample") -> Array:
    """Returns a key for each image or text, key [N]; each purpose has a stream of its own."""
    key = stream(jax.random.key(seed), purpose)
    return of_each(key, jnp.arange(count, dtype=jnp.int32))


def _labels(wanted: SampleRequest, classes: int) -> np.ndarray:
    """Returns labels i32 [N]: the class that is wanted, or each in turn; between codes, one class for each row."""
    count = -(-wanted.count // INTERPOLATED) * INTERPOLATED if wanted.interpolate else wanted.count
    if wanted.label is not None:
        return np.full(count, wanted.label, np.int32)
    numbers = np.arange(count) // INTERPOLATED if wanted.interpolate else np.arange(count)
    return (numbers % classes).astype(np.int32)


def _between(ends: Array) -> Array:
    """Returns the codes f32 [R · INTERPOLATED, Z] of R rows, from code 2 r to code 2 r + 1 of ends f32 [2 R, Z]."""
    shares = jnp.linspace(0.0, 1.0, INTERPOLATED, dtype=jnp.float32)
    # two of [R, Z] -> [R, INTERPOLATED, Z] -> [R · INTERPOLATED, Z]
    rows = jax.vmap(lambda a, b: jax.vmap(lambda share: slerp(a, b, share))(shares))(ends[0::2], ends[1::2])
    return rows.reshape(-1, ends.shape[-1])


def _in_parts(draw: Callable[[Any, Any], Array], first: Array, labels: np.ndarray) -> np.ndarray:
    """Returns draw(first [N, …], labels [N]), f32 [N, H, W, C], in parts of one size, so that it is compiled once."""
    compiled, count = jax.jit(draw), len(labels)
    at_once = min(DRAWN_AT_ONCE, count)
    progress = ProgressLine(quiet=not log.isEnabledFor(logging.INFO))
    images = []
    for start in range(0, count, at_once):
        # The last part is filled up with its last image, which is cut off again below.
        index = jnp.minimum(jnp.arange(start, start + at_once), count - 1)
        images.append(np.asarray(compiled(first[index], labels[np.asarray(index)])))
        if count > at_once:
            done = min(start + at_once, count)
            progress.show(f"{done} of {count} images sampled", last=done == count)
    return np.concatenate(images)[:count]  # parts of [at_once, H, W, C] -> [N, H, W, C]
