"""The recipe of distillation, which experiments fill in with defaults of their own (functools.partial)."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from cnnlab.core import CLASSIFIER, TEACHER, Array, Dataset, Experiment, Params, Phase, PyTree
from cnnlab.data.images import PIPELINES, require_labels
from cnnlab.data.stream_order import shuffled_order
from cnnlab.data.unlabelled import with_unlabelled
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.interop.start import part_started_from
from cnnlab.models import MODELS
from cnnlab.models.own_network import as_network
from cnnlab.models.taps import intermediate_shapes, require_layers
from cnnlab.ops.attacks import no_attack
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.recipes.run_network import network_of_run
from cnnlab.tasks.adversarial import robust
from cnnlab.tasks.chosen_metrics import with_metrics
from cnnlab.tasks.distil import HINTED, distil
from cnnlab.tasks.goals import Goal, goal_of
from cnnlab.tasks.hints import HINTS, Hints, Regressor, regressor_for
from cnnlab.tasks.measures import MEASURES
from cnnlab.tasks.teachers import Teachers
from cnnlab.values import Choice, Choices, Count, DrawSeed, Duration, PathText, Positive, Probability, Range

Divided: Any = Choice(PIPELINES, supplied=("order", "examples_per_class", "examples_seed"))
"""The knob `data` of a recipe that uses the labels of some training examples, and may use the images alone of the others."""
NotNegative = Annotated[int, Range(0)]


def distillation(
    *,
    model: Choice[MODELS] = "mlp",
    teacher: Choice[MODELS] = "convnet",
    teachers: Count = 1,
    teacher_from: tuple[PathText, ...] | None = None,
    teacher_duration: Duration = Duration(10, "epochs"),
    hints: Choice[HINTS] = "none",
    tau: Positive = 4.0,
    soft_weight: Probability = 0.9,
    data: Divided = "images",
    examples_per_class: Count | None = None,
    examples_seed: DrawSeed = None,
    unlabelled_ratio: NotNegative = 0,
    optimizer: Choice[OPTIMIZERS] = "momentum",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(20, "epochs"),
    average: Choice[AVERAGES] = ema,
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
    data_dir: str | None = None,
) -> Experiment:
    """Image classification by a student, which learns from the labels and from what a teacher says, or several.

    The teachers are trained first, in the same run, or are those of earlier ones; then come the hints, if there are any, and
    then the student. --soft_weight=0 trains the student alone.

    Args:
        model: network of the student.
        teacher: network of the teachers; with the folder of a run in --teacher_from it is that of the run.
        teachers: number of teachers that are trained in the run, from other weights each; the student learns their mean.
        teacher_from: weights of the teachers: folders of runs of classification, or files; none: they are trained first.
        teacher_duration: length of the teachers' training, where they are trained.
        hints: what a layer of the student learns from one of the teacher in a stage before the soft targets.
        tau: temperature, the number by which logits are divided before both are compared.
        soft_weight: weight of what the teachers say; the labels have the rest.
        data: images with labels, and how they become batches; its batch size is that of the labelled examples.
        examples_per_class: number of training examples of each class whose label is used, by teacher and student; none: all.
        examples_seed: seed by which these are drawn: a number, or run, by the seed of each run; none: always the same ones.
        unlabelled_ratio: number of the other images in a step of the student for each labelled one; it learns what the
            teachers say of them. 0: they are not used.
        optimizer: rule by which the weights of all are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of the student's training; --steps, --epochs and --examples_seen set it.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which checkpoints and studies rank; none: accuracy.
        data_dir: folder of prepared TFDS sets.
    """
    dataset, goal = _data(data, examples_per_class, examples_seed, unlabelled_ratio, metrics, headline)
    student, own = _network(model, dataset), _network(teacher, dataset)
    taught, hinted = _teachers(own, teachers, teacher_from, dataset, data_dir, goal), hints()
    regressor = None if hinted is None else _regressor(hinted, student, taught, dataset)
    task = distil(student, taught, temperature=tau, soft_weight=soft_weight, hints=hinted, regressor=regressor, goal=goal)
    task = robust(task, attack=no_attack, probes=goal.probes, loss=cross_entropy, column=goal.column, inputs=dataset.inputs)
    lengths = _lengths(dataset, None if teacher_from else teacher_duration, hinted, duration)
    rules = {player: regularizer(optimizer(steps=max(length, 1))) for player, length in lengths.items()}
    steps, phases = sum(lengths.values()), tuple(Phase(length, (player,)) for player, length in lengths.items())
    start = functools.partial(_started, taught, teacher_from) if teacher_from else None
    return Experiment(task, dataset, rules, steps, average(steps), start, phases)


def _lengths(data: Dataset, of_teachers: Duration | None, hints: Hints | None, of_student: Duration) -> dict[str, int]:
    """Returns {player: steps of its phase}, in their order."""
    all_ = {TEACHER: of_teachers, HINTED: hints and hints.length, CLASSIFIER: of_student}
    return {player: each.steps(size=data.sizes["train"], batch_size=data.batch_size) for player, each in all_.items() if each}


def _data(
    data: Callable[..., Dataset],
    examples_per_class: int | None,
    examples_seed: DrawSeed,
    ratio: int,
    metrics: Sequence[Any],
    headline: str | None,
) -> tuple[Dataset, Goal]:
    """Returns (the data, what both learn); UsageError for data without classes, and where no image is without its label."""
    if ratio and examples_per_class is None:
        raise UsageError(
            f"--unlabelled_ratio={ratio} takes images whose labels are hidden, and none are.\n"
            "Say of how many images of each class the labels are used: --examples_per_class=100, for example."
        )
    few = {} if ratio else {"examples_per_class": examples_per_class, "examples_seed": examples_seed}
    found = data(**{"examples_per_class": None, "examples_seed": None, **few}, order=shuffled_order)
    require_labels(found, "distillation")
    goal = with_metrics(goal_of(found.name, found.stored, cross_entropy), metrics, headline, found.class_names)
    if ratio and examples_per_class is not None:
        found = with_unlabelled(found, examples_per_class=examples_per_class, examples_seed=examples_seed, ratio=ratio)
    return found, goal


def _network(model: Callable[..., nn.Module], data: Dataset) -> nn.Module:
    """Returns a network for the images and the classes of the data."""
    return as_network(model(classes=data.classes), data.image_shape, (data.classes,))


def _teachers(
    own: nn.Module, count: int, paths: Sequence[str] | None, data: Dataset, data_dir: str | None, goal: Goal
) -> Teachers:
    """Returns the teachers: so many of a network, or those of runs and files."""
    if not paths:
        return Teachers((own,) * count, ((lambda images: images),) * count, goal)
    if count > 1:
        raise UsageError(
            f"--teachers={count} trains teachers in this run, and --teacher_from names those of others.\n"
            "Leave one of the two out."
        )
    networks, sees = zip(*(_of_run(own, path, data, data_dir) for path in paths), strict=True)
    return Teachers(networks, sees, goal)


def _regressor(hints: Hints, student: nn.Module, teachers: Teachers, data: Dataset) -> Regressor | None:
    """Returns the regressor between the layers; UsageError where these do not fit, and for several teachers."""
    teacher, *others = teachers.networks
    if others:
        count = len(teachers.networks)
        raise UsageError(f"--hints takes a layer of the teacher, and there are {count}.\nTake --hints=none, or one teacher.")
    shapes = []
    for network, name, flag in ((student, hints.layer, "layer"), (teacher, hints.teacher_layer, "teacher_layer")):
        returned = intermediate_shapes(network, data.image_shape)
        try:
            require_layers([name], list(returned))
        except UsageError as error:
            raise UsageError(f"--hints.{flag}: {error}") from None
        shapes.append(returned[name])
    return regressor_for(hints, *shapes)


def _started(teachers: Teachers, paths: Sequence[str], params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
    """Implements Experiment.start: the weights of every teacher."""
    places = [f"{TEACHER}/{name}" for name in teachers.names] or [TEACHER]
    for place, path, network in zip(places, paths, teachers.networks, strict=True):
        params, model_state = part_started_from(path, into=place, model=network)(params, model_state)
    return params, model_state


def _of_run(teacher: nn.Module, path: str, data: Dataset, data_dir: str | None) -> tuple[nn.Module, Callable[[Array], Array]]:
    """Returns (the teacher, how it takes images that are normalised for the student).

    The teacher is that of a run where `path` is the folder of one; UsageError where it takes other images or has other classes.
    """
    if not pathlib.Path(path).is_dir():
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
