"""Who judges drawn images: a recipe's `judge: Choice[JUDGES] = "pixels"`, called with the data set whose images it will see."""

import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.core import OUTPUT, Array, Dataset
from cnnlab.errors import UsageError
from cnnlab.interop.convert import start_from
from cnnlab.models import MODELS
from cnnlab.recipes.classification import classification
from cnnlab.runs.folder import read_run
from cnnlab.tasks.sample_quality import SampleEvaluator, mixture_evaluator, pixel_evaluator
from cnnlab.values import Choice


def by_pixels(*, data: Dataset) -> SampleEvaluator:
    """Pixels, projected at random where they are many: needs no file."""
    return pixel_evaluator()


def by_modes(*, data: Dataset) -> SampleEvaluator:
    """For points of a mixture whose labels tell the cloud, as of the data set gaussians: on which cloud are they, if any?"""
    points = data.images("train", np.arange(data.sizes["train"]))
    return mixture_evaluator(points, np.asarray(data.resident["train"]["label"]))


def by_run(path: str, /, *, data: Dataset, data_dir: str | None = None) -> SampleEvaluator:
    """A frozen classifier: the folder of a run that trained one. Its features are what its last layer sees.

    Images are brought to the size that it was trained with and normalised as its training images were. Raises UsageError
    where the run is no classifier's, or one of images with other channels.

    Args:
        data: whose images it will see.
        data_dir: folder of prepared TFDS sets, for the statistics by which it normalises.
    """
    network, own, variables, image_fit = _loaded(path, data_dir)
    channels, pads = own.image_shape[2], image_fit == "pad"
    if data.image_shape[2] != channels:
        raise UsageError(
            f"--judge=run:{path}: that classifier sees images of {channels} channels, and these have {data.image_shape[2]}.\n"
            "Take one that was trained on images of the same kind."
        )

    def look(images: Array) -> tuple[Array, Array]:
        fitted = _fitted(images, own.image_shape, pads=pads)
        logits, seen = network.apply(variables, _normalised(own, fitted), train=False)
        before = [name for name in seen if name != OUTPUT and not name.startswith("auxiliary")]
        features = seen["features" if "features" in seen else before[-1]] if before else logits
        return logits, features.reshape(features.shape[0], -1)

    return SampleEvaluator("judge", look, own.classes)


EVALUATORS = {"pixels": by_pixels, "modes": by_modes, "run": by_run}
"""`judge(data=…)` is a Judge; `--judge=run:FOLDER` takes a classifier that was trained here."""


@functools.lru_cache(maxsize=4)
def _loaded(path: str, data_dir: str | None) -> tuple[nn.Module, Dataset, Any, str]:
    """Returns the network, the data it was trained on, its variables and `image_fit`, read once in a process."""
    values = read_run(pathlib.Path(path))["knobs"]
    try:
        resolved = knobs.resolve(classification, values, {"data_dir": data_dir})
    except UsageError as error:
        first = str(error).partition("\n")[0]
        raise UsageError(f"--judge=run:{path}: expected the run of a classifier, and this is another task's: {first}") from None
    data = resolved.call().data
    below = {name: value for name, value in values.items() if name.partition(".")[0] == "model"}
    network = knobs.resolve(_network, below).call()(classes=data.classes)
    image = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.float32)
    shapes = jax.eval_shape(functools.partial(network.init, train=False), jax.eval_shape(lambda: jax.random.key(0)), image)
    variables, _ = start_from(shapes, network, path)
    return network, data, variables, resolved.values["data.image_fit"]


def _network(*, model: Choice[MODELS] = "lenet5") -> Any:
    """The knob `model` alone."""
    return model


def _fitted(images: Array, shape: tuple[int, int, int], *, pads: bool) -> Array:
    """images f32 [B, h, w, C] -> [B, H, W, C]: centred in zeros where `pads` and they fit, else resized."""
    missing = [wanted - side for wanted, side in zip(shape[:2], images.shape[1:3], strict=True)]
    if pads and min(missing) >= 0:
        return jnp.pad(images, ((0, 0), *((gap // 2, gap - gap // 2) for gap in missing), (0, 0)))
    return images if missing == [0, 0] else jax.image.resize(images, (images.shape[0], *shape), "linear")


def _normalised(data: Dataset, images: Array) -> Array:
    """images f32 [B, H, W, C] in [0, 1] -> as the data set's own images are fed to a network."""
    unit = 255.0 if data.images("train", np.zeros(1, np.int32)).dtype == np.uint8 else 1.0
    nothing = jnp.zeros(images.shape[0], jnp.int32)
    return data.prepare({}, {"image": images * unit, "label": nothing, "index": nothing}, None)["image"]
