"""Stacked autoencoders: each layer is pre-trained to reconstruct the output of the layers below it, then all are fine-tuned.

The games follow one another: the player `pretrainN` moves layer N and its decoder, the player `finetune` moves all layers.
Bengio et al. 2007; Vincent et al. 2010 (JMLR 11, section 3.5); Erhan et al. 2010 (JMLR 11).

Letters in shapes: B batch, H W C an image, I O inputs and outputs of a layer, Z units of the code, K classes.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.metric import Metric
from cnnlab.ops import collectives, corruptions, init, running_gaussian
from cnnlab.ops.activations import PARAMETER_FREE
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.keys import stream
from cnnlab.ops.losses import cross_entropy as classification_loss
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.reconstruction_losses import cross_entropy, squared
from cnnlab.tasks import classification_metrics, prediction, reconstruct
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.tasks.reconstruct import BATCHES_REMEMBERED, CODES, Coder, Corrupt
from cnnlab.values import Choice

PRETRAIN = "pretrain"
FINETUNE = "finetune"
OUTPUT = "output"
Finetune = Literal["supervised", "unsupervised"]


@dataclasses.dataclass(frozen=True)
class Stack:
    """Dense layers on the image, each with a decoder of its own, and a linear layer to the classes on top.

    Parameters are groups of leaves: `layerN` {kernel, bias}, `decoderN` {bias and, not tied, kernel}, `output`.
    """

    image_shape: tuple[int, int, int]
    classes: int
    widths: tuple[int, ...]
    activation: Callable[[Array], Array]
    initializer: Callable[..., Array]
    tied: bool

    @property
    def depth(self) -> int:
        """Returns the number of layers that are pre-trained."""
        return len(self.widths)

    def init(self, key: Array) -> Params:
        """Returns initial parameters: kernels by the initialiser, biases and the whole output layer at 0."""
        height, width, channels = self.image_shape
        sizes = (height * width * channels, *self.widths)
        params: Params = {}
        for number, (inputs, units) in enumerate(itertools.pairwise(sizes), start=1):
            params[f"layer{number}"] = self._dense(stream(key, f"layer{number}"), inputs, units)
            decoder = self._dense(stream(key, f"decoder{number}"), units, inputs)
            params[f"decoder{number}"] = {"bias": decoder["bias"]} if self.tied else decoder
        params[OUTPUT] = {
            "kernel": jnp.zeros((sizes[-1], self.classes), jnp.float32),
            "bias": jnp.zeros(self.classes, jnp.float32),
        }
        return params

    def _dense(self, key: Array, inputs: int, units: int) -> dict[str, Array]:
        """Returns the parameters of a dense layer [inputs, units]."""
        return {"kernel": self.initializer(key, (inputs, units), jnp.float32), "bias": jnp.zeros(units, jnp.float32)}

    def layer(self, params: Params, number: int, x: Array) -> Array:
        """Returns the output [B, O] of layer `number` (from 1) for x [B, I]."""
        return self.activation(_affine(x, params[f"layer{number}"]))

    def encode(self, params: Params, images: Array, depth: int) -> Array:
        """Returns the output [B, O] of the first `depth` layers on images [B, H, W, C]; 0: the values of the image."""
        x = images.reshape(len(images), -1)  # [B, H, W, C] -> [B, H·W·C]
        for number in range(1, depth + 1):
            x = self.layer(params, number, x)
        return x

    def decode_layer(self, params: Params, number: int, x: Array) -> Array:
        """Returns the output [B, I] of the decoder of layer `number` for x [B, O], before any activation."""
        decoder = params[f"decoder{number}"]
        # A tied decoder has the layer's kernel [I, O], transposed to [O, I].
        kernel = params[f"layer{number}"]["kernel"].T if self.tied else decoder["kernel"]
        return _affine(x, {"kernel": kernel, "bias": decoder["bias"]})

    def scores(self, params: Params, images: Array) -> Array:
        """Returns the scores of the classes, f32 [B, K], for images [B, H, W, C]."""
        return at_least_f32(_affine(self.encode(params, images, self.depth), params[OUTPUT]))

    def decode(self, params: Params, codes: Array) -> Array:
        """Returns the outputs [B, H, W, C] of the decoders of all layers for codes [B, Z]."""
        x = codes
        for number in range(self.depth, 0, -1):
            x = self.decode_layer(params, number, x)
            x = self.activation(x) if number > 1 else x  # the loss has the sigmoid of the last one
        return x.reshape(-1, *self.image_shape)  # [B, H·W·C] -> [B, H, W, C]


def _affine(x: Array, layer: dict[str, Array]) -> Array:
    """Returns x [B, I] times the kernel [I, O] plus the bias: [B, O]."""
    return x @ layer["kernel"] + layer["bias"][None]


def stacked(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    widths: tuple[int, ...] = (1000, 1000, 1000),
    activation: Choice[PARAMETER_FREE] = jax.nn.sigmoid,
    initializer: Choice[INITIALIZERS] = init.xavier,
    tied: bool = True,
    corruption: Corrupt = corruptions.no_corruption,
    finetune: Finetune = "supervised",
    goal: Goal = CLASS,
) -> Task:
    """The task of pre-training layer by layer, and then of predicting the class or the image by all layers.

    A layer is trained to reconstruct the output of the layers below for the clean image, from a corrupted copy of that output.
    Its loss is the cross-entropy where values are in [0, 1] (the image, sigmoid units), and the squared error elsewhere.

    Args:
        image_shape: (H, W, C) of the images.
        classes: number of classes.
        widths: units of the layers, the one on the image first.
        activation: activation of every layer.
        initializer: initialiser of the kernels; biases and the output layer start at 0.
        tied: whether a decoder's kernel is that of its layer, transposed.
        corruption: (inputs of a layer, keys [B]) -> corrupted inputs; fine-tuning gets clean images.
        finetune: loss of the last player: supervised, the cross-entropy of the class; unsupervised, that of the reconstruction.
        goal: how predictions of the class are measured.
    """
    stack = Stack(image_shape, classes, widths, activation, initializer, tied)
    coder = Coder(
        encode=lambda params, model_state, images: stack.encode(params, images, stack.depth),
        decode=lambda params, model_state, codes: stack.decode(params, codes),
        loss=cross_entropy(),
    )
    supervised = finetune == "supervised"
    groups = players(stack.depth, supervised=supervised)

    def start(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        return stack.init(key), {} if supervised else {CODES: running_gaussian.start(widths[-1])}

    def loss(params: Params, model_state: PyTree, batch: Batch, key: Array, player: str) -> tuple[Array, tuple[PyTree, Stats]]:
        if player == FINETUNE:
            tune = _classify if supervised else functools.partial(_reconstruct, coder)
            return tune(stack, params, model_state, batch)
        keys = collectives.example_keys(stream(key, "corrupt"), len(batch["image"]))
        losses = layer_losses(stack, params, int(player.removeprefix(PRETRAIN)), batch["image"], keys, corruption)
        sums = {f"{player}_loss": jnp.sum(losses), f"{player}_count": jnp.float32(len(losses))}
        return jnp.mean(losses), (model_state, {"sums": sums, "rows": {}})

    # What fine-tuning trains is what held-out splits measure; pre-training adds the losses of its layers.
    held_out = _classification_fields(stack, goal) if supervised else _reconstruction_fields(coder)
    layers = tuple(Metric(f"{player}_loss", higher_is_better=False, log_scale=True) for player in groups if player != FINETUNE)
    fields = {**held_out, "metrics": (*held_out["metrics"], *layers)}
    logged = (*(metric.name for metric in layers), *(goal.logged_metrics if supervised else ("loss",)))
    return Task(init=start, loss=loss, turns=tuple(groups), param_groups=groups, logged_metrics=logged, **fields)


def players(depth: int, *, supervised: bool) -> dict[str, tuple[str, ...]]:
    """Returns {player: the groups that it moves}: `pretrain1` …, then `finetune`."""
    layers, decoders = (tuple(f"{kind}{number}" for number in range(1, depth + 1)) for kind in ("layer", "decoder"))
    groups = {f"{PRETRAIN}{number}": pair for number, pair in enumerate(zip(layers, decoders, strict=True), start=1)}
    return {**groups, FINETUNE: (*layers, OUTPUT) if supervised else (*layers, *decoders)}


def layer_losses(stack: Stack, params: Params, number: int, images: Array, keys: Array, corruption: Corrupt) -> Array:
    """Returns f32 [B]: the loss of layer `number` and its decoder on the clean inputs of the layer, from corrupted ones."""
    clean = jax.lax.stop_gradient(stack.encode(params, images, number - 1))
    outputs = stack.decode_layer(params, number, stack.layer(params, number, corruption(clean, keys)))
    loss = cross_entropy() if number == 1 or stack.activation is jax.nn.sigmoid else squared()
    return loss.losses(outputs, clean)


def _classify(stack: Stack, params: Params, model_state: PyTree, batch: Batch) -> tuple[Array, tuple[PyTree, Stats]]:
    """Returns the loss of supervised fine-tuning, the next model state and statistics."""
    scores = stack.scores(params, batch["image"])
    losses = classification_loss(scores, batch["label"])
    return jnp.mean(losses), (model_state, {"sums": classification_metrics.sums(scores, losses, batch), "rows": {}})


def _reconstruct(
    coder: Coder, stack: Stack, params: Params, model_state: PyTree, batch: Batch
) -> tuple[Array, tuple[PyTree, Stats]]:
    """Returns the loss of unsupervised fine-tuning, the next model state and statistics."""
    codes = stack.encode(params, batch["image"], stack.depth)
    losses, _, sums = reconstruct.compare(coder, params, model_state, codes, batch)
    state = {**model_state, CODES: running_gaussian.update(model_state[CODES], codes, window=BATCHES_REMEMBERED)}
    return jnp.mean(losses), (state, {"sums": sums, "rows": {}})


def _classification_fields(stack: Stack, goal: Goal) -> dict[str, Any]:
    """Returns the fields of a task that predicts the class, measured as the goal says."""

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        scores = stack.scores(params, batch["image"])
        return goal.measure(scores, classification_loss(scores, batch["label"]), batch)

    return {
        "predict": lambda params, model_state, inputs: stack.scores(params, inputs),
        "measure": measure,
        "summary": functools.partial(summary, goal.summary),
        "figures": functools.partial(_figures, goal.figures),
        "metrics": goal.metrics,
        "kept_rows": goal.kept_rows,
        "prediction": goal.prediction,
    }


def _reconstruction_fields(coder: Coder) -> dict[str, Any]:
    """Returns the fields of a task that reconstructs the image."""
    return {
        "predict": coder.reconstruct,
        "measure": functools.partial(reconstruct.measure, coder),
        "summary": functools.partial(summary, reconstruct.summary),
        "figures": functools.partial(reconstruct.draw_figures, coder),
        "metrics": reconstruct.METRICS,
        "prediction": prediction.of_images(),
        "snapshot": functools.partial(reconstruct.snapshot, coder, corruptions.no_corruption),
        "sampler": reconstruct.sampler(coder),
    }


def summary(finetuning_summary: Callable[[Stats], dict[str, float]], stats: Stats) -> dict[str, float]:
    """Returns the metrics of fine-tuning, and `pretrainN_loss`, the mean over examples, while layer N is trained."""
    sums = stats["sums"]
    own = [name.removesuffix("_loss") for name in sums if name.startswith(PRETRAIN) and name.endswith("_loss")]
    found = {f"{player}_loss": float(sums[f"{player}_loss"]) / float(sums[f"{player}_count"]) for player in own}
    rest = {name: value for name, value in sums.items() if not name.startswith(PRETRAIN)}
    return found | (finetuning_summary({"sums": rest, "rows": stats["rows"]}) if "count" in rest else {})


def _figures(
    of_goal: Callable[[Stats, Dataset, str], dict[str, Any]],
    params: Params,
    model_state: PyTree,
    stats: Stats,
    data: Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns the figures of the goal, such as the confusion matrix, and the first layer's kernels as images."""
    return {
        **of_goal(stats, data, split),
        **reconstruct.first_filters({"layer1": params["layer1"]}, data),
    }
