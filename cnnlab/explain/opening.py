"""Opens what is explained: the network of a run, or one with weights from elsewhere, with the images to look at.

Letters in shapes: N images, H W space, C channels, K classes.
"""

import dataclasses
import functools
import json
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import files
from cnnlab.core import Dataset, Params, Prediction, PyTree, Task
from cnnlab.data.decode import MAX_PIXELS
from cnnlab.data.normalize import NORMALIZERS, Normalisation, half, imagenet, needs_images, no_normalization
from cnnlab.data.resize import FITS, crop, settings_of
from cnnlab.engine.averages import evaluated
from cnnlab.errors import DataError, UsageError
from cnnlab.explain.network import Network, make_network
from cnnlab.inputs import InputSpec, fit_in_words
from cnnlab.interop.start import started_from
from cnnlab.knobs import Resolved
from cnnlab.models import MODELS, native_shape
from cnnlab.models.own_network import as_network
from cnnlab.ops.whitening import normalised
from cnnlab.predict.prepare import Preparation, fit_of, preparation_of
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.tasks.classify import classify
from cnnlab.values import Choice, Count, PathText, below_partials

log = logging.getLogger("cnnlab")

IMAGENET_CLASSES = 1000
"""Number of classes of weights for images of ImageNet's size."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A network that is to be explained."""

    title: str
    """Its name, such as that of the run's experiment."""
    network: Network
    inputs: InputSpec
    """What it takes, and the names of its classes."""
    prediction: Prediction
    """What it predicts for an image, with its probabilities."""
    prepare: Preparation
    """Prepares images of files as those of the training were."""
    facts: tuple[tuple[str, str], ...]
    """(what, text) of what is said about it on the page."""
    data: Dataset | None = None
    """Its data set; None: it was opened without."""
    folder: pathlib.Path | None = None
    """Folder of the run; None: it is none of a run."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return self.inputs.class_names

    def probabilities(self, logits: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the probabilities f32 [N, K] of scores [N, K]; where there are none, as of numbers, the scores."""
        found = self.prediction.arrays(jnp.asarray(logits), jnp.asarray(images))
        return np.asarray(found.get("probabilities", logits), np.float32)

    @functools.cached_property
    def has_probabilities(self) -> bool:
        """Whether its scores are turned into probabilities; those of numbers are not."""
        logits = jax.ShapeDtypeStruct((1, len(self.class_names)), jnp.float32)
        images = jax.ShapeDtypeStruct((1, *self.inputs.image_shape), jnp.float32)
        return "probabilities" in jax.eval_shape(self.prediction.arrays, logits, images)

    def normalized(self, pixels: np.ndarray) -> np.ndarray:
        """Returns images u8 or f32 [N, H, W, C] as the network sees them, f32."""
        inputs = self.inputs.for_dtype(str(pixels.dtype))
        return np.asarray(normalised(inputs, jnp.asarray(pixels, jnp.float32)))


def open_run(resolved: Resolved, spec: RunSpec, folder: pathlib.Path, *, best: bool, with_data: bool) -> Opened:
    """Returns the network of a run's newest checkpoint; raises UsageError where its task has no scores of classes.

    Args:
        resolved: the experiment's function and its knobs.
        spec: specification of the run.
        folder: folder of the run.
        best: whether to take the best checkpoint on validation instead of the newest.
        with_data: whether its data set is opened.
    """
    program, state, step = run.restore_run(resolved, spec, folder, best=best, opens_data=with_data)
    experiment = program.experiment
    inputs = experiment.data.inputs
    params, model_state = evaluated(state)
    prediction = _require_scores(experiment.task, params, model_state, inputs)
    facts = (
        ("Run", f"{folder}, step {step:,}"),
        ("Network", str(spec.knobs.get("model", spec.title))),
        ("Data", f"{experiment.data.name}: {len(inputs.class_names)} classes, images of {_size(inputs)}"),
    )
    return Opened(
        title=spec.title,
        network=make_network(experiment.task.predict, params, model_state, inputs.image_shape),
        inputs=inputs,
        prediction=prediction,
        prepare=preparation_of(inputs, spec.knobs),
        facts=facts,
        data=experiment.data if with_data else None,
        folder=folder,
    )


def _size(inputs: InputSpec) -> str:
    return "x".join(map(str, inputs.image_shape))


def _require_scores(task: Task, params: Params, model_state: PyTree, inputs: InputSpec) -> Prediction:
    """Returns what a task predicts; raises UsageError unless it is a score for each class that can be differentiated."""
    images = jax.ShapeDtypeStruct((1, *inputs.image_shape), jnp.float32)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), (params, model_state))
    scores = jax.eval_shape(task.predict, *shapes, images) if task.turns and task.prediction else None
    shape = getattr(scores, "shape", None)
    if task.prediction is None or shape != (1, len(inputs.class_names)):
        raise UsageError(
            "explain: the model of this run has no scores of classes that could be explained.\n"
            "Give the --workdir of a trained classifier."
        )
    return task.prediction


def _read_class_names(path: str) -> tuple[str, ...]:
    """Returns the names in a file: a JSON list, a JSON object from numbers to names, or one name a line."""
    place = pathlib.Path(path)
    if not place.is_file():
        raise UsageError(f"--class_names={path}: there is no such file.\nGive a JSON list of names, or one name a line.")
    is_json = place.suffix == ".json"
    try:
        text = place.read_text(encoding="utf-8-sig")
        content = json.loads(text) if is_json else [line for line in text.splitlines() if line.strip()]
    except ValueError as error:
        expected = "JSON in UTF-8" if is_json else "text in UTF-8"
        raise DataError(f"{path} is no {expected}: {error}.\nGive a JSON list of names, or one name a line.") from None
    if isinstance(content, dict):
        content = [content.get(str(number)) for number in range(len(content))]
    if not isinstance(content, list) or not content or not all(isinstance(name, str) for name in content):
        raise DataError(f"{path} holds no list of names.\nGive a JSON list of names, one for each class, or one name a line.")
    return tuple(content)


def usual_normalization(model: str, channels: int) -> Callable[..., Normalisation]:
    """Returns how the published weights of a network of MODELS expect images, where nothing else is said."""
    if channels != 3:
        return no_normalization
    return half if model.startswith(("efficientnet_lite", "inception_v", "inception_resnet", "googlenet")) else imagenet


def published(images: np.ndarray) -> Normalisation:
    """As the published weights of the network expect images; `imported` asks `usual_normalization` by the network's name."""
    return imagenet(images)


FIXED = {"published": published, **{name: rule for name, rule in NORMALIZERS.items() if not needs_images(rule)}}
"""Normalisers of weights from elsewhere, whose training images are not there, by name."""


def imported(
    *,
    model: Choice[MODELS] = "lenet5",
    init_from: PathText = "",
    class_names: PathText | None = None,
    classes: Count | None = None,
    image_size: Count | None = None,
    image_fit: Choice[FITS] = crop,
    normalize: Choice[FIXED] = published,
) -> Callable[[str], Opened]:
    """A network with weights from elsewhere.

    Args:
        model: network.
        init_from: its weights: a file of torchvision, timm, pytorchcv or keras, or the folder of a run.
        class_names: file with the names of the classes: a JSON list, or one name a line; none: their numbers.
        classes: number of classes; none: as many as there are names, else 10, or 1000 for images of ImageNet's size.
        image_size: height and width in pixels; none: those that the network was published for.
        image_fit: how images are brought to that size.
        normalize: scaling of the images, by fixed numbers; published: as the published weights of this network expect them.
    """

    def opened(name: str) -> Opened:
        height, width, channels = native_shape(name)
        height, width = (image_size, image_size) if image_size else (height, width)
        names = _read_class_names(class_names) if class_names else ()
        usual = IMAGENET_CLASSES if native_shape(name)[0] > 64 else 10
        count = classes or len(names) or usual
        if names and len(names) != count:
            raise UsageError(f"--class_names has {len(names)} names, and --classes is {count}. Give as many names.")
        names = names or tuple(map(str, range(count)))
        rule = usual_normalization(name, channels) if below_partials(normalize) is published else normalize
        subtract, divide = rule(np.zeros((1, 1, 1, channels), np.uint8))
        inputs = InputSpec((height, width, channels), "uint8", subtract, divide, names, settings_of(image_fit))
        network = as_network(model(classes=count), inputs.image_shape, (count,))
        params, model_state = _weights(network, inputs.image_shape, init_from)
        facts = (
            ("Network", f"{name}, weights of {pathlib.Path(init_from).name}"),
            ("Input", f"{_size(inputs)}, brought to size by {fit_in_words(inputs.fit)}; {_normalization_in_words(inputs)}"),
        )
        task = classify(network)
        prediction = _require_scores(task, params, model_state, inputs)
        made = make_network(task.predict, params, model_state, inputs.image_shape)
        return Opened(name, made, inputs, prediction, Preparation(inputs, fit_of(inputs), MAX_PIXELS), facts)

    return opened


def _weights(network: Any, image_shape: tuple[int, int, int], path: str) -> tuple[Params, PyTree]:
    """Returns (params, model_state) of a network with the weights of a file."""
    batch = {"image": jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, model_state = jax.eval_shape(classify(network).init, key, batch)
    return started_from(network, path)(params, model_state)


def _normalization_in_words(inputs: InputSpec) -> str:
    """Returns how pixels are scaled, on the scale of [0, 1]."""
    subtract, divide = ((array / np.float32(255)).ravel() for array in (inputs.subtract, inputs.divide))
    mean, deviation = (" ".join(f"{number:.4g}" for number in numbers) for numbers in (subtract, divide))
    return f"(pixel − {mean}) / {deviation} for pixels in [0, 1]"


def open_imported(values: Mapping[str, str]) -> Opened:
    """Returns the network of --model with the weights of --init_from; `values` are the knobs of `imported`."""
    from cnnlab import knobs

    for name, what in (("model", "a network by name"), ("init_from", "a file of its weights")):
        if name not in values:
            raise UsageError(
                f"explain which network? Add --workdir=RUN, or --model=NAME with --init_from=FILE ({name}: {what} is missing)."
            )
    resolved = knobs.resolve(imported, values, {knobs.FOLDER: files.absolute(".")})
    return resolved.call()(str(resolved.values["model"]))
