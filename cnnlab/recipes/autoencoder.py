"""Recipes of autoencoders: what learns from images alone."""

import math
from typing import Literal

import jax

from cnnlab.core import Dataset, Experiment, Phase
from cnnlab.data import DATASETS
from cnnlab.data.few_labels import then_few_labels
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.errors import UsageError
from cnnlab.models import AUTOENCODERS
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.corruptions import CORRUPTIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.penalties import PENALTIES
from cnnlab.ops.reconstruction_losses import RECONSTRUCTION_LOSSES
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.tasks.pca import Solver, pca_task
from cnnlab.tasks.reconstruct import reconstruct
from cnnlab.tasks.stacked import FINETUNE, Finetune, stacked
from cnnlab.values import Choice, Count, Duration, Fraction


def reconstruction(
    *,
    model: Choice[AUTOENCODERS] = "mlp",
    dataset: Choice[DATASETS] = "digits",
    loss: Choice[RECONSTRUCTION_LOSSES] = "squared",
    corruption: Choice[CORRUPTIONS] = "none",
    penalty: Choice[PENALTIES] = "none",
    optimizer: Choice[OPTIMIZERS] = "adam",
    schedule: Choice[SCHEDULES] = "cosine",
    batch_size: Count = 128,
    duration: Duration = Duration(20, "epochs"),
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
) -> Experiment:
    """Images from themselves, through a code: one player, the autoencoder.

    Args:
        model: autoencoder; its `code` is how many numbers an image becomes.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        loss: how outputs are read and compared with the image.
        corruption: of the images of training, which are to be given back clean.
        penalty: of the code, beside the loss.
        optimizer: how the autoencoder moves.
        schedule: learning rate over training, relative to its peak.
        batch_size: examples a step over all devices.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside where the data set has no validation split.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros.
    """
    data = build(
        dataset(),
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=NORMALIZERS["none"],
    )
    network = model(image_shape=data.image_shape)
    if getattr(penalty, "func", penalty) is PENALTIES["sparse_kl"] and network.code_activation is not jax.nn.sigmoid:
        raise UsageError(
            "--penalty=sparse_kl takes the units of the code for coins, whose activation lies in [0, 1].\n"
            "Give --code_activation=sigmoid, or --penalty=sparse_l1."
        )
    task = reconstruct(network, loss=loss(), corruption=corruption, penalty=penalty)
    steps = duration.steps(size=data.sizes["train"], batch_size=data.batch_size)
    return Experiment(task, data, {player: optimizer(schedule(steps)) for player in task.turns}, steps)


def principal_components(
    *,
    dataset: Choice[DATASETS] = "digits",
    components: Count = 30,
    solver: Solver = "exact",
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
) -> Experiment:
    """Principal components of the whole training split: the best linear code. One decomposition, nothing learned by steps.

    Args:
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        components: units of the code.
        solver: exact, or randomised for images of many values.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros.
    """
    data = build(
        dataset(),
        batch_size=None,
        validation=0.0,
        image_size=image_size,
        image_fit=image_fit,
        normalize=NORMALIZERS["none"],
    )
    most = min(data.sizes["train"], math.prod(data.image_shape))
    if components > most:
        raise UsageError(
            f"--components={components}: {data.sizes['train']} training images of {math.prod(data.image_shape)} values have at "
            f"most {most}."
        )
    return Experiment(pca_task(data.image_shape, components=components, solver=solver), data, {}, steps=0)


def stacked_autoencoders(
    *,
    widths: tuple[int, ...] = (500, 500, 500),
    activation: Choice[ACTIVATIONS] = "sigmoid",
    initializer: Choice[INITIALIZERS] = "xavier",
    tied: bool = True,
    dataset: Choice[DATASETS] = "digits",
    corruption: Choice[CORRUPTIONS] = "masking",
    pretrain: Duration = Duration(10, "epochs"),
    pretrain_optimizer: Choice[OPTIMIZERS] = "adam",
    finetune: Finetune = "supervised",
    duration: Duration = Duration(20, "epochs"),
    optimizer: Choice[OPTIMIZERS] = "adam",
    schedule: Choice[SCHEDULES] = "cosine",
    batch_size: Count = 128,
    validation: Fraction = 0.1,
    examples_per_class: Count | None = None,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
) -> Experiment:
    """Autoencoders one upon another: layer after layer is pre-trained on all images, then all are fine-tuned together.

    Args:
        widths: units of the layers, from the image on.
        activation: of every layer.
        initializer: of the kernels; biases and the layer to the classes start at 0.
        tied: a decoder's kernel is its layer's, transposed.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        corruption: of what a layer is to give back while it is pre-trained.
        pretrain: length of the pre-training of each layer; 0 steps: none, all layers start at random.
        pretrain_optimizer: how a layer and its decoder move in pre-training.
        finetune: supervised, by the class; or unsupervised, by the reconstruction through all layers.
        duration: length of fine-tuning; --steps, --epochs and --examples set it.
        optimizer: how all layers move in fine-tuning.
        schedule: learning rate over each part of training, relative to its peak.
        batch_size: examples a step over all devices.
        validation: share of the training split set aside where the data set has no validation split.
        examples_per_class: training examples of each class that fine-tuning sees, the same for every seed; none: all. An epoch
            of fine-tuning is one pass over these. Pre-training sees all images.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros.
    """
    if not widths:
        raise UsageError("--widths: a stack needs at least one layer, as in --widths=500,500,500.")
    data = build(
        dataset(),
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=NORMALIZERS["none"],
    )
    task = stacked(
        data.image_shape,
        data.classes,
        widths=widths,
        activation=activation,
        initializer=initializer,
        tied=tied,
        corruption=corruption,
        finetune=finetune,
    )
    layer_steps = pretrain.steps(size=data.sizes["train"], batch_size=batch_size)
    data, size = _labelled(data, len(widths) * layer_steps, examples_per_class)
    steps = duration.steps(size=size, batch_size=batch_size)
    lengths = {player: steps if player == FINETUNE else layer_steps for player in task.turns}
    moves = {player: optimizer if player == FINETUNE else pretrain_optimizer for player in task.turns}
    return Experiment(
        task,
        data,
        {player: moves[player](schedule(lengths[player])) for player in task.turns},
        sum(lengths.values()),
        phases=tuple(Phase(length, (player,)) for player, length in lengths.items() if length),
    )


def _labelled(data: Dataset, steps: int, examples_per_class: int | None) -> tuple[Dataset, int]:
    """(the data, of which fine-tuning, from step `steps` on, sees few examples where that is asked; how many it sees)."""
    if examples_per_class is None:
        return data, data.sizes["train"]
    return then_few_labels(data, steps=steps, examples_per_class=examples_per_class)
