"""The recipe of generative adversarial networks, which experiments fill in with defaults of their own."""

from functools import partial

import optax

from cnnlab.core import Experiment
from cnnlab.data.images import UnitImages, require_labels
from cnnlab.data.normalize import no_normalization
from cnnlab.models import GANS
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.gan_losses import GAN_LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS, adam
from cnnlab.recipes.evaluators import EVALUATORS
from cnnlab.tasks.gan import DISCRIMINATOR, GENERATOR, Prior, gan_task
from cnnlab.values import Choice, Count, Duration, NonNegative, Positive

RADFORD = partial(adam, lr=0.0002, b1=0.5, schedule="constant")
"""Adam with the settings of Radford et al. 2016 (section 4)."""


def adversarial_pair(
    *,
    model: Choice[GANS] = "dcgan",
    data: UnitImages = "images",
    loss: Choice[GAN_LOSSES] = "non_saturating",
    critic_steps: Count = 1,
    r1: NonNegative | None = None,
    conditional: bool = False,
    latent: Count = 100,
    prior: Prior = "normal",
    judge: Choice[EVALUATORS] = "pixels",
    optimizer: Choice[OPTIMIZERS] = RADFORD,
    discriminator_rate: Positive = 1.0,
    duration: Duration = Duration(20, "epochs"),
    average: Choice[AVERAGES] = ema,
) -> Experiment:
    """A generative adversarial network: two players, the discriminator and the generator.

    Args:
        model: pair of networks.
        data: images, and how they become batches; their pixels lie in [0, 1].
        loss: losses that the two players lower.
        critic_steps: number of updates of the discriminator for each update of the generator.
        r1: weight of the R1 penalty, half the squared norm of the discriminator's gradient at real images; none: no penalty.
        conditional: whether both networks also take the label, so that images of a class can be generated.
        latent: number of units of the code from which the generator makes an image.
        prior: distribution of the codes: normal, or uniform in [-1, 1].
        judge: how generated images are evaluated: by their pixels, by modes (data set gaussians), or by the features of a
            classifier, run:FOLDER.
        optimizer: rule by which the weights of both players are updated, with its learning rate and schedule.
        discriminator_rate: ratio of the discriminator's learning rate to the generator's (Heusel et al. 2017,
            arXiv 1706.08500).
        duration: length of training; --steps, --epochs and --examples_seen set it.
        average: average of the parameters over training, which generates and is evaluated; ema with average_decay=0: no
            average.
    """
    dataset = data(normalize=no_normalization)
    if conditional:
        require_labels(dataset, "--conditional")
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    objective = loss()
    is_penalised = objective.gradient_penalty is not None or r1 is not None
    generator, discriminator = model(dataset.image_shape, is_penalised=is_penalised)
    task = gan_task(
        generator,
        discriminator,
        objective=objective,
        evaluator=judge(data=dataset),
        latent=latent,
        prior=prior,
        classes=dataset.classes if conditional else 0,
        critic_steps=critic_steps,
        r1=r1,
    )
    optimizers = {
        GENERATOR: optimizer(steps=steps),
        DISCRIMINATOR: optax.chain(optimizer(steps=steps * critic_steps), optax.scale(discriminator_rate)),
    }
    return Experiment(task, dataset, optimizers, steps, average(steps))
