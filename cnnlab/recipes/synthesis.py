"""The recipes of synthesis, in which pictures, or a network that makes them, are trained against a frozen network."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from cnnlab.core import Dataset, Experiment, Phase
from cnnlab.data.images import UnitImages, images, require_labels
from cnnlab.data.normalize import NORMALIZERS, half, no_normalization
from cnnlab.data.pictures import PICTURES
from cnnlab.data.resize import crop
from cnnlab.errors import UsageError
from cnnlab.models import MODELS
from cnnlab.models.canvas import BASES
from cnnlab.models.stylizer import STYLIZERS
from cnnlab.ops.optimizers import OPTIMIZERS, adam
from cnnlab.recipes.frozen_network import Control, chosen_network, frozen_network, started
from cnnlab.tasks.makers import canvas, octave_sizes, transformer
from cnnlab.tasks.objectives import OBJECTIVES, Objective, style_transfer
from cnnlab.tasks.synthesis import Regularisers
from cnnlab.tasks.synthesis import synthesis as synthesis_task
from cnnlab.values import Choice, Count, Duration, NonNegative, PathText, Positive, Range

STEADY = partial(adam, lr=0.05, schedule="constant")
"""Adam as in the authors' code of Olah et al. 2017."""
SIDE = 224
"""Height and width of the images for which the parameters of a network from a file are made."""

TRANSFERS = {"style_transfer": style_transfer}
"""Objectives of fast style transfer."""
PHOTOS = partial(images, dataset="sample_photos", batch_size=2, image_size=128, image_fit=partial(crop, fraction=1.0))


def picture_synthesis(
    *,
    model: Choice[MODELS] = "efficientnet_lite0",
    init_from: PathText | None = None,
    classes: Count = 1000,
    normalize: Choice[NORMALIZERS] = half,
    average_pool: bool = False,
    control: Control = "none",
    objective: Choice[OBJECTIVES] = "class_score",
    data: Choice[PICTURES] = "pictures",
    start: Literal["grey", "picture"] = "grey",
    basis: Choice[BASES] = "fourier",
    octaves: Count = 1,
    octave_scale: Positive = 1.4,
    jitter: Annotated[int, Range(0)] = 0,
    blur: NonNegative = 0.0,
    total_variation: NonNegative = 0.0,
    l2: NonNegative = 0.0,
    optimizer: Choice[OPTIMIZERS] = STEADY,
    duration: Duration = Duration(256, "steps"),
    data_dir: str | None = None,
) -> Experiment:
    """Pictures that do something to a frozen network: the picture is the player.

    Args:
        model: network of a file of weights; a run brings its own.
        init_from: weights of the network: a file of torchvision, timm, pytorchcv or keras, or the folder of a run.
        classes: number of classes of the network of a file.
        normalize: normalisation that the weights of a file expect; a run brings its own.
        average_pool: whether the network's maximum pooling takes means instead (Gatys et al. 2015).
        control: negative control: random_parameters looks through the network as it is initialised.
        objective: what the pictures are to do.
        data: the pictures of the data, each of which a synthesised one starts from, repeats, or has the label of.
        start: what training starts from, before noise: grey, or the picture of the data.
        basis: parameters of a picture: its pixels, or its Fourier coefficients.
        octaves: number of sizes at which a picture is trained, one after another, from coarse to fine.
        octave_scale: ratio of two sizes.
        jitter: largest random shift in pixels, before the network sees a picture.
        blur: standard deviation in pixels of a Gaussian blur, before the network sees a picture.
        total_variation: weight of the squared differences of neighbouring pixels.
        l2: weight of the squared distance to grey.
        optimizer: rule by which the pictures are updated, with its learning rate and schedule over an octave.
        duration: length of training, divided evenly over the octaves.
        data_dir: folder of prepared TFDS sets.
    """
    weights: Any = {"init_from": init_from, "control": control, "classes": classes, "normalize": normalize}
    chosen = chosen_network(model, **weights, side=SIDE, data_dir=data_dir)
    dataset = data(chosen.image_shape[2])
    height, width, channels = dataset.image_shape
    sizes, goal = octave_sizes((height, width), octaves, octave_scale), objective()
    frozen, shapes = frozen_network(chosen, goal.taps, sizes, channels=channels, average_pool=average_pool)
    _require_labels(goal, dataset, shapes)
    details = _details(basis, sizes, count=dataset.sizes["train"], channels=channels)
    maker = canvas(details, sizes=sizes, from_picture=start == "picture")
    regularisers = Regularisers(jitter, blur, total_variation, l2)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    task, begin = synthesis_task(maker, frozen, goal, channels=channels, regularisers=regularisers, steps=steps)
    phases = _phases(task.turns, steps, begin)
    optimizers = {phase.turns[0]: optimizer(steps=phase.steps) for phase in phases}
    return Experiment(task, dataset, optimizers, steps, start=started(chosen, init_from), phases=phases)


def _details(basis: Callable[..., Any], sizes: Sequence[tuple[int, int]], *, count: int, channels: int) -> list[Any]:
    """Returns a canvas of `count` pictures for each size, all but the first without noise, which would be seen untrained."""
    quiet: Sequence[Mapping[str, Any]] = [{}, *[{"noise": 0.0}] * (len(sizes) - 1)]
    return [basis(count=count, height=h, width=w, channels=channels, **q) for (h, w), q in zip(sizes, quiet, strict=True)]


def _phases(players: Sequence[str], steps: int, begin: Callable[..., Any] | None) -> tuple[Phase, ...]:
    """Returns a phase for each player, which divide the steps evenly; the last ones have one more where they do not go up."""
    count = len(players)
    lengths = [(steps + place) // count for place in range(count)]
    if steps and not all(lengths):
        raise UsageError(f"--duration={steps} steps: {count} octaves need at least one step each. Give more, or fewer octaves.")
    starts = [begin, *[None] * (count - 1)]
    return tuple(Phase(length, (player,), one) for length, player, one in zip(lengths, players, starts, strict=True))


def _require_labels(objective: Objective, data: Dataset, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UsageError where an objective needs labels and the data have none, or have more classes than the network."""
    if not objective.needs_labels:
        return
    require_labels(data, "this objective")
    (layer,) = objective.taps
    if len(shapes[layer]) != 1:
        raise UsageError(
            f"--layer={layer}: its activations {list(shapes[layer])} are no logits. Expected a layer such as output."
        )
    if data.classes > (classes := shapes[layer][0]):
        raise UsageError(
            f"{data.name} has a picture of class {data.classes - 1}, and the classes of the network are 0 … {classes - 1}.\n"
            "Give --labels of classes that there are."
        )


def fast_style_transfer(
    *,
    transformer_network: Choice[STYLIZERS] = "johnson",
    model: Choice[MODELS] = "efficientnet_lite0",
    init_from: PathText | None = None,
    classes: Count = 1000,
    normalize: Choice[NORMALIZERS] = half,
    average_pool: bool = False,
    control: Control = "none",
    objective: Choice[TRANSFERS] = "style_transfer",
    data: UnitImages = PHOTOS,
    total_variation: NonNegative = 0.0,
    optimizer: Choice[OPTIMIZERS] = partial(adam, lr=0.001),
    duration: Duration = Duration(500, "steps"),
    data_dir: str | None = None,
) -> Experiment:
    """Fast style transfer: a network that takes any photo to a picture in the style is the player.

    Args:
        transformer_network: network that is trained.
        model: network of a file of weights; a run brings its own.
        init_from: weights of the network: a file of torchvision, timm, pytorchcv or keras, or the folder of a run.
        classes: number of classes of the network of a file.
        normalize: normalisation that the weights of a file expect; a run brings its own.
        average_pool: whether the network's maximum pooling takes means instead.
        control: negative control: random_parameters looks through the network as it is initialised.
        objective: the style, and the weights of style and content.
        data: photos, and how they become batches; their pixels lie in [0, 1].
        total_variation: weight of the squared differences of neighbouring pixels.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        data_dir: folder of prepared TFDS sets.
    """
    weights: Any = {"init_from": init_from, "control": control, "classes": classes, "normalize": normalize}
    chosen = chosen_network(model, **weights, side=SIDE, data_dir=data_dir)
    dataset = data(normalize=no_normalization)
    height, width, channels = dataset.image_shape
    goal = objective()
    frozen, _ = frozen_network(chosen, goal.taps, [(height, width)], channels=channels, average_pool=average_pool)
    maker = transformer(transformer_network(channels=channels), (height, width))
    regularisers = Regularisers(total_variation=total_variation)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    task, begin = synthesis_task(maker, frozen, goal, channels=channels, regularisers=regularisers, steps=steps)
    rules = dict.fromkeys(task.turns, optimizer(steps=steps))
    return Experiment(task, dataset, rules, steps, start=started(chosen, init_from), phases=(Phase(steps, task.turns, begin),))
