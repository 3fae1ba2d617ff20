"""Recipes of autoencoders, which learn without labels; stacked autoencoders are fine-tuned with labels."""

import math
from functools import partial
from typing import Any, Literal

import jax

from cnnlab.core import Dataset, Experiment, Phase
from cnnlab.data.few_labels import few_labels_after
from cnnlab.data.images import PIPELINES, UnitImages, WholeSplit, images, require_labels
from cnnlab.data.normalize import no_normalization
from cnnlab.errors import UsageError
from cnnlab.interop.start import part_started_from
from cnnlab.models import AUTOENCODERS
from cnnlab.ops.activations import PARAMETER_FREE
from cnnlab.ops.corruptions import CORRUPTIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.penalties import PENALTIES
from cnnlab.ops.reconstruction_losses import RECONSTRUCTION_LOSSES
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.tasks.chosen_metrics import with_metrics
from cnnlab.tasks.goals import CLASS
from cnnlab.tasks.measures import MEASURES
from cnnlab.tasks.pca import Solver, pca_task
from cnnlab.tasks.reconstruct import PLAYER, reconstruct
from cnnlab.tasks.stacked import FINETUNE, Finetune, stacked
from cnnlab.values import Choice, Choices, Count, DrawSeed, Duration, PathText

UnlabelledImages: Any = Choice(PIPELINES, supplied=("normalize", "examples_per_class", "examples_seed"))
"""The knob `data` of a recipe that pre-trains on all images and uses the labels of some."""

ScheduledOptimizer: Any = Choice(OPTIMIZERS, supplied=("schedule",))
"""The knob of one optimiser of a recipe with several, to all of which the recipe passes one schedule."""


def reconstruction(
    *,
    model: Choice[AUTOENCODERS] = "mlp",
    data: UnitImages = partial(images, batch_size=128),
    loss: Choice[RECONSTRUCTION_LOSSES] = "squared",
    corruption: Choice[CORRUPTIONS] = "none",
    penalty: Choice[PENALTIES] = "none",
    optimizer: Choice[OPTIMIZERS] = "adam",
    duration: Duration = Duration(20, "epochs"),
    init_from: PathText | None = None,
    init_into: Literal["encoder", "decoder"] | None = None,
) -> Experiment:
    """An autoencoder, which reconstructs images from a code: one player.

    Args:
        model: autoencoder; its knob `code` is the number of units of the code.
        data: images, and how they become batches; their pixels lie in [0, 1].
        loss: reconstruction loss; it also sets the output activation.
        corruption: noise added to the training images, whose clean versions are reconstructed.
        penalty: penalty on the code, which is added to the loss.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        init_from: weights to start from: the folder of a run, or a file of weights with this network's names.
        init_into: with init_from, the half that takes the weights, while the other starts at random; none: both take them.
    """
    if init_into is not None and init_from is None:
        raise UsageError("--init_into says what takes the weights of --init_from, which is not given. Leave it out.")
    dataset = data(normalize=no_normalization)
    network = model(image_shape=dataset.image_shape)
    if getattr(penalty, "func", penalty) is PENALTIES["sparse_kl"] and network.code_activation is not jax.nn.sigmoid:
        raise UsageError(
            "--penalty=sparse_kl reads the activation of a unit of the code as a probability, so it must lie in [0, 1].\n"
            "Give --code_activation=sigmoid, or --penalty=sparse_l1."
        )
    task = reconstruct(network, loss=loss(), corruption=corruption, penalty=penalty)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    into = PLAYER if init_into is None else f"{PLAYER}/{init_into}"
    start = None if init_from is None else part_started_from(init_from, into=into)
    return Experiment(task, dataset, {player: optimizer(steps=steps) for player in task.turns}, steps, start=start)


def principal_components(*, data: WholeSplit = "images", components: Count = 30, solver: Solver = "exact") -> Experiment:
    """Principal components of the whole training split, which are the best linear code. One decomposition, no training steps.

    Args:
        data: images; the whole training split is one batch, its pixels lie in [0, 1].
        components: number of units of the code.
        solver: exact, or randomised, which is faster for images with many values.
    """
    dataset = data(batch_size=None, validation=0.0, normalize=no_normalization, augment=())
    values = math.prod(dataset.image_shape)
    most = min(dataset.sizes["train"], values)
    if components > most:
        raise UsageError(
            f"--components={components}: {dataset.sizes['train']} training images of {values} values have at most {most}."
        )
    return Experiment(pca_task(dataset.image_shape, components=components, solver=solver), dataset, {}, steps=0)


def stacked_autoencoders(
    *,
    widths: tuple[int, ...] = (500, 500, 500),
    activation: Choice[PARAMETER_FREE] = "sigmoid",
    initializer: Choice[INITIALIZERS] = "xavier",
    tied: bool = True,
    data: UnlabelledImages = partial(images, batch_size=128),
    corruption: Choice[CORRUPTIONS] = "masking",
    pretrain: Duration = Duration(10, "epochs"),
    pretrain_optimizer: ScheduledOptimizer = "adam",
    finetune: Finetune = "supervised",
    examples_per_class: Count | None = None,
    examples_seed: DrawSeed = None,
    duration: Duration = Duration(20, "epochs"),
    optimizer: ScheduledOptimizer = "adam",
    schedule: Choice[SCHEDULES] = "cosine",
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
) -> Experiment:
    """Stacked autoencoders: each layer in turn is pre-trained on all images, then all are fine-tuned together.

    Args:
        widths: number of units of each layer, starting from the image.
        activation: nonlinearity of every layer.
        initializer: initialisation of the kernels; biases and the output layer start at 0.
        tied: whether the kernel of each decoder is the transposed kernel of its layer.
        data: images, and how they become batches; their pixels lie in [0, 1].
        corruption: noise added to the input of a layer while it is pre-trained.
        pretrain: length of the pre-training of each layer; 0 steps: none, all layers start from random weights.
        pretrain_optimizer: rule by which a layer and its decoder are updated in pre-training, with its learning rate.
        finetune: loss of fine-tuning: supervised, that of the class; unsupervised, that of the reconstruction.
        examples_per_class: number of training examples of each class for fine-tuning; none: all. An epoch of fine-tuning is one
            pass over these. Pre-training uses all images.
        examples_seed: seed by which these are drawn: a number, or run, by the seed of each run; none: always the same ones.
        duration: length of fine-tuning; --steps, --epochs and --examples_seen set it.
        optimizer: rule by which all layers are updated in fine-tuning, with its learning rate.
        schedule: learning rate over each phase of training, as a fraction of its peak.
        metrics: further metrics of the predicted class on held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which checkpoints and studies rank; none: accuracy, or the loss of unsupervised fine-tuning.
    """
    dataset = data(normalize=no_normalization, examples_per_class=None)
    _require_stack(widths, finetune, dataset, is_measured=bool(metrics or headline))
    task = stacked(
        dataset.image_shape,
        dataset.classes,
        widths=widths,
        activation=activation,
        initializer=initializer,
        tied=tied,
        corruption=corruption,
        finetune=finetune,
        goal=with_metrics(CLASS, metrics, headline, dataset.class_names),
    )
    layer_steps = pretrain.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    dataset, size = _labelled(dataset, len(widths) * layer_steps, examples_per_class, examples_seed)
    lengths = dict.fromkeys(task.turns, layer_steps) | {FINETUNE: duration.steps(size=size, batch_size=dataset.batch_size)}
    chosen = {player: optimizer if player == FINETUNE else pretrain_optimizer for player in task.turns}
    optimizers = {player: chosen[player](steps=lengths[player], schedule=schedule) for player in task.turns}
    phases = tuple(Phase(length, (player,)) for player, length in lengths.items() if length)
    return Experiment(task, dataset, optimizers, sum(lengths.values()), phases=phases)


def _require_stack(widths: tuple[int, ...], finetune: Finetune, data: Dataset, *, is_measured: bool) -> None:
    """Raises UsageError where the knobs of `stacked_autoencoders` do not fit together or the data set.

    is_measured: whether a knob chooses metrics of the predicted class.
    """
    if not widths:
        raise UsageError("--widths: a stack needs at least one layer, as in --widths=500,500,500.")
    if finetune == "supervised":
        require_labels(data, "--finetune=supervised")
    elif is_measured:
        raise UsageError("--metrics and --headline are of classes, and --finetune=unsupervised predicts none. Leave them out.")


def _labelled(data: Dataset, steps: int, examples_per_class: int | None, seed: DrawSeed) -> tuple[Dataset, int]:
    """Returns the data, limited to `examples_per_class` of each class from step `steps` on, and the size of that part.

    Raises UsageError where they have no classes.
    """
    if examples_per_class is None:
        return data, data.sizes["train"]
    require_labels(data, f"--examples_per_class={examples_per_class}")
    return few_labels_after(data, steps=steps, examples_per_class=examples_per_class, examples_seed=seed)
