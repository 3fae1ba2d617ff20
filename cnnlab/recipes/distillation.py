"""The recipe of distillation, which experiments fill in with defaults of their own (functools.partial)."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from cnnlab.core import CLASSIFIER, TEACHER, Array, Dataset, Experiment, Phase
from cnnlab.data.images import PIPELINES, require_labels
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.interop.start import part_started_from
from cnnlab.models import MODELS
from cnnlab.models.own_network import as_network
from cnnlab.ops.attacks import no_attack
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.recipes.run_network import network_of_run
from cnnlab.tasks.adversarial import robust
from cnnlab.tasks.chosen_metrics import with_metrics
from cnnlab.tasks.distil import distil
from cnnlab.tasks.goals import Goal, goal_of
from cnnlab.tasks.measures import MEASURES
from cnnlab.values import Choice, Choices, Duration, PathText, Positive, Probability


def distillation(
    *,
    model: Choice[MODELS] = "mlp",
    teacher: Choice[MODELS] = "convnet",
    teacher_from: PathText | None = None,
    teacher_duration: Duration = Duration(10, "epochs"),
    tau: Positive = 4.0,
    soft_weight: Probability = 0.9,
    data: Choice[PIPELINES] = "images",
    optimizer: Choice[OPTIMIZERS] = "momentum",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(20, "epochs"),
    average: Choice[AVERAGES] = ema,
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
    data_dir: str | None = None,
) -> Experiment:
    """Image classification by a student, which learns from the labels and from what a teacher says.

    The teacher is trained first, in the same run, or is that of an earlier one. --soft_weight=0 trains the student alone.

    Args:
        model: network of the student.
        teacher: network of the teacher; with the folder of a run in --teacher_from it is that of the run.
        teacher_from: weights of the teacher: the folder of a run of classification, or a file; none: it is trained first.
        teacher_duration: length of the teacher's training, where it is trained.
        tau: temperature, the number by which logits are divided before both are compared.
        soft_weight: weight of what the teacher says; the labels have the rest.
        data: images with labels, and how they become batches.
        optimizer: rule by which the weights of both are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of the student's training; --steps, --epochs and --examples_seen set it.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which checkpoints and studies rank; none: accuracy.
        data_dir: folder of prepared TFDS sets.
    """
    dataset = data()
    goal = _goal(dataset, metrics, headline)
    student, own = (
        as_network(each(classes=dataset.classes), dataset.image_shape, (dataset.classes,)) for each in (model, teacher)
    )
    own, see = _of_run(own, teacher_from, dataset, data_dir)
    task = distil(student, own, see=see, temperature=tau, soft_weight=soft_weight, goal=goal)
    task = robust(task, attack=no_attack, probes=goal.probes, loss=cross_entropy, column=goal.column, inputs=dataset.inputs)
    size, each = dataset.sizes["train"], dataset.batch_size
    lengths = {
        TEACHER: 0 if teacher_from else teacher_duration.steps(size=size, batch_size=each),
        CLASSIFIER: duration.steps(size=size, batch_size=each),
    }
    rules = {player: regularizer(optimizer(steps=max(length, 1))) for player, length in lengths.items()}
    steps, phases = sum(lengths.values()), tuple(Phase(length, (player,)) for player, length in lengths.items())
    start = part_started_from(teacher_from, into=TEACHER, model=own) if teacher_from else None
    return Experiment(task, dataset, rules, steps, average(steps), start, phases)


def _goal(data: Dataset, metrics: Sequence[Any], headline: str | None) -> Goal:
    """Returns what both learn, the class, with the metrics of choice; UsageError for data without it."""
    require_labels(data, "distillation")
    return with_metrics(goal_of(data.name, data.stored, cross_entropy), metrics, headline, data.class_names)


def _of_run(
    teacher: nn.Module, path: str | None, data: Dataset, data_dir: str | None
) -> tuple[nn.Module, Callable[[Array], Array]]:
    """Returns (the teacher, how it takes images that are normalised for the student).

    The teacher is that of a run where `path` is the folder of one; UsageError where it takes other images or has other classes.
    """
    if path is None or not pathlib.Path(path).is_dir():
        return teacher, lambda images: images
    network, inputs = network_of_run(path, data_dir, f"--teacher_from={path}")
    ours = data.inputs
    if inputs.image_shape != ours.image_shape or tuple(inputs.class_names) != tuple(ours.class_names):
        raise UsageError(
            f"--teacher_from={path}: the teacher takes images {_sizes(inputs)} of {len(inputs.class_names)} classes, and "
            f"{data.name} has {_sizes(ours)} of {len(ours.class_names)}.\nExpected the same size and the same classes."
        )
    if inputs.whiten is not None or ours.whiten is not None:
        raise UsageError(
            "--teacher_from: images that are whitened by a matrix do not fit another network. Take --normalize=standard."
        )
    subtract, divide = (
        np.float32(value) for value in ((inputs.subtract - ours.subtract) / ours.divide, inputs.divide / ours.divide)
    )
    return network, lambda images: (images - jnp.asarray(subtract, images.dtype)) / jnp.asarray(divide, images.dtype)


def _sizes(inputs: InputSpec) -> str:
    return "x".join(map(str, inputs.image_shape))
