"""The recipe of generative adversarial networks, which experiments fill in with defaults of their own."""

from functools import partial
from typing import Literal

import optax

from cnnlab.core import Experiment
from cnnlab.data import DATASETS
from cnnlab.data.augment import AUGMENTS
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.models import GANS
from cnnlab.ops.gan_losses import GAN_LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS, adam
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.recipes.evaluators import EVALUATORS
from cnnlab.tasks.gan import DISCRIMINATOR, GENERATOR, Prior, gan_task
from cnnlab.values import Choice, Count, Duration, Fraction, NonNegative, Positive

RADFORD = partial(adam, lr=0.0002, b1=0.5)
"""Adam as Radford et al. 2016 set it (section 4)."""


def adversarial_pair(
    *,
    model: Choice[GANS] = "dcgan",
    dataset: Choice[DATASETS] = "digits",
    loss: Choice[GAN_LOSSES] = "non_saturating",
    critic_steps: Count = 1,
    r1: NonNegative | None = None,
    conditional: bool = False,
    latent: Count = 100,
    prior: Prior = "normal",
    judge: Choice[EVALUATORS] = "pixels",
    optimizer: Choice[OPTIMIZERS] = RADFORD,
    discriminator_rate: Positive = 1.0,
    schedule: Choice[SCHEDULES] = "constant",
    augment: Choice[AUGMENTS] = "none",
    batch_size: Count | None = 64,
    duration: Duration = Duration(20, "epochs"),
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
    average_decay: Fraction = 0.0,
) -> Experiment:
    """A generative adversarial network: two players, the discriminator and the generator.

    Args:
        model: the pair of networks.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        loss: what the two lower.
        critic_steps: turns of the discriminator for each of the generator.
        r1: weight of half the squared slope of the discriminator at real images; none: no such penalty.
        conditional: whether both are told the label, so that images of a class can be drawn.
        latent: numbers in the generator's code.
        prior: of the codes, normal or uniform in [-1, 1].
        judge: of drawn images: pixels, modes (of the data set gaussians) or run:FOLDER, a classifier that was trained here.
        optimizer: how both move.
        discriminator_rate: its learning rate relative to the generator's (two time scales: Heusel et al. 2017, arXiv
            1706.08500).
        schedule: learning rate over training, relative to its peak.
        augment: random changes of the training images, on the device.
        batch_size: examples a step over all devices; none: the whole training split.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside where the data set has no validation split.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros.
        average_decay: of the moving average of the parameters that draws and is evaluated; 0: none.
    """
    data = build(
        dataset(),
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=NORMALIZERS["none"],
        augment=augment,
    )
    steps = duration.steps(size=data.sizes["train"], batch_size=data.batch_size)
    objective = loss()
    is_penalised = objective.gradient_penalty is not None or r1 is not None
    generator, discriminator = model(data.image_shape, is_penalised=is_penalised)
    task = gan_task(
        generator,
        discriminator,
        objective=objective,
        judge=judge(data=data),
        latent=latent,
        prior=prior,
        classes=data.classes if conditional else 0,
        critic_steps=critic_steps,
        r1=r1,
    )
    optimizers = {
        GENERATOR: optimizer(schedule(steps)),
        DISCRIMINATOR: optax.chain(optimizer(schedule(steps * critic_steps)), optax.scale(discriminator_rate)),
    }
    return Experiment(task, data, optimizers, steps, average_decay)
