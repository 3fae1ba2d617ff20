"""Evaluators of generated images, from which a recipe chooses one: `judge: Choice[EVALUATORS] = "pixels"`.

The recipe calls the chosen function with the data set whose images the generator imitates, `judge(data=dataset)`, and passes
the SampleEvaluator that it returns to the task. Only by_run reads a file, and only when the recipe is called.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import OUTPUT, Array, Dataset
from cnnlab.data.images import require_labels
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec, unit_value
from cnnlab.interop.convert import start_from
from cnnlab.ops.whitening import normalised
from cnnlab.recipes.run_network import network_of_run
from cnnlab.tasks.sample_quality import SampleEvaluator, mixture_evaluator, pixel_evaluator
from cnnlab.values import PathText


def by_pixels(*, data: Dataset) -> SampleEvaluator:
    """Compares images by their pixels, which are projected at random to fewer numbers where there are many. Needs no file."""
    return pixel_evaluator()


def by_modes(*, data: Dataset) -> SampleEvaluator:
    """Finds the mode on which each generated point lies, if any, for a mixture such as the data set gaussians.

    Args:
        data: training points; the label of a point is the number of its mode.
    """
    require_labels(data, "--judge=modes")
    feed, resident = next(data.evaluate("train", data.sizes["train"])), data.resident["train"]
    # A streamed split brings its labels with it.
    labels = np.asarray(resident["label"])[feed["index"]] if resident else feed["label"]
    return mixture_evaluator(data.images("train", feed["index"]), np.asarray(labels))


def by_run(path: PathText, /, *, data: Dataset, data_dir: str | None = None) -> SampleEvaluator:
    """Compares images by the features of a frozen classifier, which a run of this program trained.

    The features are the inputs of the classifier's last layer. Images are brought to the size of its training images and
    normalised as these were. Raises UsageError where the run did not train a classifier, or where its images have another
    number of channels.

    Args:
        path: folder of the run.
        data: data set whose images are compared.
        data_dir: folder of prepared TFDS sets, which the classifier's data set may need for its statistics.
    """
    network, own, variables = _loaded(path, data_dir)
    channels, pads = own.image_shape[2], own.fit["name"] == "pad"
    if data.image_shape[2] != channels:
        raise UsageError(
            f"--judge=run:{path}: that classifier takes images of {channels} channels, and these have {data.image_shape[2]}.\n"
            "Give the run of a classifier that was trained on images with as many channels."
        )

    def features(images: Array) -> tuple[Array, Array]:
        fitted = _fitted(images, own.image_shape, pads=pads)
        logits, intermediates = network.apply(variables, _normalised(own, fitted), train=False)
        before = [name for name in intermediates if name != OUTPUT and not name.startswith("auxiliary")]
        last = intermediates["features" if "features" in intermediates else before[-1]] if before else logits
        return logits, last.reshape(last.shape[0], -1)  # [B, …] -> [B, F]

    return SampleEvaluator("judge", features, len(own.class_names))


EVALUATORS = {"pixels": by_pixels, "modes": by_modes, "run": by_run}
"""Evaluators by name, for the knob `judge`; `--judge=run:FOLDER` takes a classifier that this program trained."""


@functools.lru_cache(maxsize=4)
def _loaded(path: str, data_dir: str | None) -> tuple[nn.Module, InputSpec, Any]:
    """Returns the classifier of a run, its input specification and its variables, and caches them."""
    network, own = network_of_run(path, data_dir, f"--judge=run:{path}")
    image = jax.ShapeDtypeStruct((1, *own.image_shape), jnp.float32)
    shapes = jax.eval_shape(functools.partial(network.init, train=False), jax.eval_shape(lambda: jax.random.key(0)), image)
    variables, _ = start_from(shapes, network, path)
    return network, own, variables


def _fitted(images: Array, shape: tuple[int, int, int], *, pads: bool) -> Array:
    """Brings images to `shape`, (H, W, C): f32 [B, h, w, C] -> f32 [B, H, W, C].

    With `pads`, images that are no larger are centred in zeros; all others are resized.
    """
    missing = [wanted - side for wanted, side in zip(shape[:2], images.shape[1:3], strict=True)]
    if pads and min(missing) >= 0:
        return jnp.pad(images, ((0, 0), *((gap // 2, gap - gap // 2) for gap in missing), (0, 0)))
    return images if missing == [0, 0] else jax.image.resize(images, (images.shape[0], *shape), "linear")


def _normalised(own: InputSpec, images: Array) -> Array:
    """Returns images f32 [B, H, W, C] in [0, 1] as a network takes them."""
    return normalised(own, images * unit_value(own.dtype))
