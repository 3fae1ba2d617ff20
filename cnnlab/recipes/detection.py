"""The recipe of detection, which experiments fill in with defaults of their own (functools.partial)."""

import dataclasses
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import Dataset, Experiment
from cnnlab.data.images import PIPELINES, require_validation
from cnnlab.data.kinds import Boxes, InstanceMasks, Label
from cnnlab.data.kinds.proposals import PROPOSALS
from cnnlab.data.kinds.recorded import kinds_of
from cnnlab.data.proposals import PROPOSERS, proposes
from cnnlab.errors import UsageError
from cnnlab.interop.start import network_started_from, require_start
from cnnlab.models import DETECTORS
from cnnlab.models.taps import kept
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.heads import Head
from cnnlab.ops.optimizers import OPTIMIZERS, scale_by_layer
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.tasks import stages_in_turns
from cnnlab.tasks.detect import PLAYER, Training, detect
from cnnlab.tasks.detection_metrics import BoxMetrics, Suppression
from cnnlab.tasks.instance_metrics import InstanceMetrics
from cnnlab.values import Choice, Count, Duration, Fraction, PathText, Probability


def detection(
    *,
    model: Choice[DETECTORS] = "ssd",
    data: Choice[PIPELINES] = "images",
    proposals: Choice[PROPOSERS] = "none",
    least_score: Fraction = 0.01,
    nms_threshold: Probability = 0.5,
    most_detections: Count = 100,
    optimizer: Choice[OPTIMIZERS] = "adam",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(20, "epochs"),
    training: Training = "joint",
    early_stopping: Count | None = None,
    average: Choice[AVERAGES] = ema,
    init_from: PathText | None = None,
    new_head: bool = False,
    frozen: tuple[str, ...] = (),
    lr_multipliers: tuple[str, ...] = (),
) -> Experiment:
    """Detection: one player, the detector, in one stage or two, finds the objects of an image and their classes.

    Args:
        model: network of detection, with its loss.
        data: images with the boxes of their objects, and how they become batches.
        proposals: what proposes boxes that may hold an object, once for each image, for a network that classifies these.
        least_score: what the score of a detection exceeds.
        nms_threshold: largest IoU of two detections of a class: of more, the one of the lower score is left out.
        most_detections: detections of an image at most; COCO's scoring takes 100.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        training: joint: all layers learn together; alternating: the stages of Faster R-CNN learn in turns, in four steps of
            equal length, the first two on features of their own (Ren et al. 2015, section 3.2).
        early_stopping: validations in a row without an improvement after which training ends, with the best weights; none: off.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        init_from: weights to start from: of the whole network, or, where it has a backbone, a file of that network alone.
        new_head: with init_from, whether the last layer is initialised anew (needed where the classes differ).
        frozen: regular expressions of layers that are not trained, such as backbone; features: all but the last.
        lr_multipliers: REGEX=FACTOR for the learning rate of the matching layers, such as backbone=0.1; the first match counts.
    """
    require_start(init_from, new_head=new_head)
    # A pipeline of one's own need not know proposals.
    dataset = require_validation(data(**({"proposals": proposals} if proposes(proposals) else {})), early_stopping)
    column, kind = boxes_of(dataset)
    network = require_proposals(model(classes=len(kind.names)), dataset)
    head = checked_head(network, dataset.image_shape)
    suppression = Suppression(least_score, nms_threshold, most=most_detections)
    metrics = BoxMetrics(kind.names, column, head.terms, suppression, kind.published)
    if hasattr(head, "instances"):
        metrics = with_masks(network, metrics, dataset)
    if training == "alternating":
        require_none_of(frozen=frozen, lr_multipliers=lr_multipliers, early_stopping=early_stopping)
    task = detect(network, metrics=metrics, frozen=frozen, training=training)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    phases = () if training == "joint" else stages_in_turns.phases(steps)
    lengths = {phase.turns[0]: phase.steps for phase in phases} or {PLAYER: steps}
    rules = {player: regularizer(scale_by_layer(optimizer(steps=each), lr_multipliers)) for player, each in lengths.items()}
    start = None if init_from is None else network_started_from(network, init_from, new_head=new_head)
    start = stages_in_turns.started(start, PLAYER) if start and phases else start
    return Experiment(task, dataset, rules, steps, average(steps), start, phases, early_stopping)


def require_none_of(**knobs: Any) -> None:
    """Raises UsageError for a knob that has no meaning where the stages learn in turns."""
    for name, value in knobs.items():
        if value:
            raise UsageError(
                f"--{name} and --training=alternating: which layers learn when, and for how long, is what alternating training "
                "says.\nLeave one of them out."
            )


def boxes_of(data: Dataset) -> tuple[str, Boxes]:
    """Returns the column of boxes and its kind; raises UsageError for a data set without one."""
    kinds = kinds_of(data)
    found = next(((name, kind) for name, kind in kinds.items() if isinstance(kind, Boxes)), None)
    if found is None:
        raise UsageError(
            f"detection needs the boxes of objects, and {data.name} has no column of boxes (its columns: {', '.join(kinds)}).\n"
            "Give a data set with boxes, such as --dataset=scenes or tfds:NAME."
        )
    return found


def require_proposals(network: Any, data: Dataset) -> Any:
    """Returns the network; raises UsageError where it is given proposals, and a data set has none."""
    takes, kinds = inspect.signature(type(network).__call__).parameters, kinds_of(data)
    if PROPOSALS in takes and PROPOSALS not in kinds:
        raise UsageError(
            f"--model: {type(network).__name__} classifies boxes that are proposed, and {data.name} has no column {PROPOSALS} "
            f"(its columns: {', '.join(kinds)}).\nGive --proposals=selective_search, or take --model=faster_rcnn, which "
            "proposes boxes itself."
        )
    return network


def with_masks(network: Any, metrics: BoxMetrics, data: Dataset) -> BoxMetrics:
    """Returns the metrics of boxes and masks for a network that finds both; raises UsageError where the data set has none."""
    kinds = kinds_of(data)
    masks = next((name for name, kind in kinds.items() if isinstance(kind, InstanceMasks)), None)
    if masks is None:
        raise UsageError(
            f"--model: {type(network).__name__} learns a mask of each object, and {data.name} has no column of them (its "
            f"columns: {', '.join(kinds)}).\nGive a data set with masks of objects, such as --dataset=scenes or nuclei:PATH "
            "with --dataset.instances, or take --model=faster_rcnn, which learns boxes."
        )
    groups = next(((name, kind.names) for name, kind in kinds.items() if isinstance(kind, Label)), ("", ()))
    own = {field.name: getattr(metrics, field.name) for field in dataclasses.fields(metrics)}
    return InstanceMetrics(**own, masks=masks, group_column=groups[0], group_names=groups[1])


def checked_head(network: Any, image_shape: tuple[int, int, int]) -> Head:
    """Returns the head of a detector for images (H, W, C).

    Raises UsageError for a network of a user's own file that has none, or whose outputs are not what its head reads.
    """
    name = type(network).__name__
    if not isinstance(network, nn.Module) or not callable(getattr(network, "head", None)):
        raise UsageError(
            f"--model: {name} is no detector.\nExpected a flax.linen.Module with a method head(image_size) that says what its "
            "outputs [B, N, P] mean; see docs/detection.md."
        )
    head: Head = network.head(image_shape[:2])
    outputs, _ = returned_for_one(network, image_shape)
    shape = outputs.shape  # [1, N, P]
    try:
        jax.eval_shape(head.decode, jax.ShapeDtypeStruct(shape[1:], jnp.float32))
    except (TypeError, ValueError) as error:
        raise UsageError(f"--model: {name} returns outputs {list(shape)}, which its head cannot read: {error}") from None
    return head


@kept
def returned_for_one(network: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """Returns the shapes and types of what a network returns for one image (H, W, C)."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key, images: network.init_with_output(key, images, train=False)[0], key, images)
