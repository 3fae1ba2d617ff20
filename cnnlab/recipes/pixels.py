"""The recipe of autoregressive models, which generate an image pixel by pixel."""

from typing import Literal

from cnnlab.core import Experiment
from cnnlab.data.images import UnitImages, require_labels
from cnnlab.data.normalize import no_normalization
from cnnlab.models import PIXEL_MODELS
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.pixel_distributions import PIXEL_DISTRIBUTIONS
from cnnlab.tasks.autoregress import autoregress
from cnnlab.values import Choice, Duration


def pixel_by_pixel(
    *,
    model: Choice[PIXEL_MODELS] = "pixelcnn",
    data: UnitImages = "images",
    output: Choice[PIXEL_DISTRIBUTIONS] = "bernoulli",
    conditional: bool = False,
    sampling: Literal["cached", "naive"] = "cached",
    optimizer: Choice[OPTIMIZERS] = "adam",
    duration: Duration = Duration(20, "epochs"),
    average: Choice[AVERAGES] = ema,
) -> Experiment:
    """An autoregressive model of images, trained by maximum likelihood.

    Args:
        model: network.
        data: images, and how they become batches; their pixels lie in [0, 1].
        output: distribution of a pixel: Bernoulli (black or white), a softmax over grey levels, or a mixture of logistics.
        conditional: whether the network also takes the label, so that images of a class can be generated.
        sampling: how images are generated: cached reuses activations, naive evaluates the whole network for every pixel; both
            give the same images.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        average: average of the parameters over training, which is evaluated and generates; ema with average_decay=0: no
            average.
    """
    dataset = data(normalize=no_normalization)
    if conditional:
        require_labels(dataset, "--conditional")
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    distribution, channels, classes = output(), dataset.image_shape[2], dataset.classes if conditional else 0
    groups = channels if distribution.autoregressive_channels else 1
    network = model(outputs=distribution.parameter_count(channels), groups=groups, classes=classes)
    task = autoregress(network, output=distribution, image_shape=dataset.image_shape, classes=classes, sampling=sampling)
    optimizers = {player: optimizer(steps=steps) for player in task.turns}
    return Experiment(task, dataset, optimizers, steps, average(steps))
