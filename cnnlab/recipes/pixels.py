"""The recipe of images told pixel by pixel."""

from typing import Literal

from cnnlab.core import Experiment
from cnnlab.data import DATASETS
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.models import PIXEL_MODELS
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.pixel_distributions import PIXEL_DISTRIBUTIONS
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.tasks.autoregress import autoregress
from cnnlab.values import Choice, Count, Duration, Fraction


def pixel_by_pixel(
    *,
    model: Choice[PIXEL_MODELS] = "pixelcnn",
    output: Choice[PIXEL_DISTRIBUTIONS] = "bernoulli",
    conditional: bool = False,
    sampling: Literal["cached", "naive"] = "cached",
    dataset: Choice[DATASETS] = "digits",
    optimizer: Choice[OPTIMIZERS] = "adam",
    schedule: Choice[SCHEDULES] = "cosine",
    batch_size: Count | None = 64,
    duration: Duration = Duration(20, "epochs"),
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
    average_decay: Fraction = 0.0,
) -> Experiment:
    """An autoregressive model of images, which raises their log p.

    Args:
        model: network.
        output: distribution of a pixel: black and white, a softmax over grey levels, or a mixture of logistics.
        conditional: whether images are told by their class.
        sampling: by kept activations, or naively by the whole network for every pixel; the images are the same.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        optimizer: how the network moves.
        schedule: learning rate over training, relative to its peak.
        batch_size: examples a step over all devices; none: the whole training split.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside where the data set has no validation split.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros.
        average_decay: of the moving average of the parameters that is evaluated and drawn from; 0: none.
    """
    data = build(
        dataset(),
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=NORMALIZERS["none"],
    )
    steps = duration.steps(size=data.sizes["train"], batch_size=data.batch_size)
    told, channels, classes = output(), data.image_shape[2], data.classes if conditional else 0
    network = model(
        outputs=told.parameter_count(channels), groups=channels if told.autoregressive_channels else 1, classes=classes
    )
    task = autoregress(network, output=told, image_shape=data.image_shape, classes=classes, sampling=sampling)
    optimizers = {player: optimizer(schedule(steps)) for player in task.turns}
    return Experiment(task, data, optimizers, steps, average_decay)
