"""Claim C27, sharpness: a GAN's images are as sharp as real ones, those of a VAE are blurred. Both fully connected, on MNIST.

Paper:    I. Goodfellow et al., Generative adversarial networks, 2014, arXiv 1406.2661, section 6; A. B. L. Larsen et al.,
          Autoencoding beyond pixels using a learned similarity metric, 2016, arXiv 1512.09300
Command:  python launch.py ablate --experiment=c27_gan_vae
Result:   not run yet.

Sharpness is the Laplacian energy of 10,000 drawn images over that of the 10,000 test images. The endpoint is the magnitude of
its logarithm, test/sharpness_gap: 0 is as sharp as real images, and white noise, which has far more energy than any digit,
loses as a blur does. So that a sharp image must also look like a digit, the precision of the GAN's draws must not fall short of
the VAE's by more than 25 points; otherwise the claim is not tested.

The VAE shows the expected image of a code and does not sample its pixels, as is usual for VAEs; pixel noise would add energy.
An earlier study on digits of 8x8 compared the ratio itself: 0.345 ± 0.022 for the VAE, 1.018 ± 0.034 for the GAN.
"""

from functools import partial
from typing import Any

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import bounded, contrast, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.core import Experiment
from cnnlab.data.images import UnitImages, images
from cnnlab.models import gan as gan_models
from cnnlab.models import vae as vae_models
from cnnlab.ops.optimizers import adam
from cnnlab.ops.schedules import constant
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.recipes.vae import variational_autoencoder
from cnnlab.values import Choice, Count, Duration, Positive

SMALLEST = 0.2
"""Smallest effect of interest, in units of ln: the VAE's gap is larger by that. On digits of 8x8 it was larger by 1.0."""


def vae(*, data: Any, latent: int, duration: Duration, lr: Positive = 0.001) -> Experiment:
    """Returns a VAE that shows the expected image of each code.

    Args:
        lr: learning rate of Adam at the peak of the schedule.
    """
    return knobs.resolve(variational_autoencoder, {"log_p_samples": 0}).call(
        model=partial(vae_models.mlp, latent=latent, widths=(256, 256)),
        data=data,
        optimizer=partial(adam, lr=lr),
        duration=duration,
    )


def gan(*, data: Any, latent: int, duration: Duration, lr: Positive = 0.0005) -> Experiment:
    """Returns a GAN with the non-saturating loss.

    Args:
        lr: learning rate of Adam of both players.
    """
    widths = (256, 256)
    return knobs.resolve(adversarial_pair, {}).call(
        model=partial(gan_models.mlp, generator_widths=widths, discriminator_widths=widths, pieces=1),
        data=data,
        latent=latent,
        optimizer=partial(adam, lr=lr, b1=0.5, schedule=constant),
        duration=duration,
    )


METHODS = {"vae": vae, "gan": gan}


def experiment(
    *,
    method: Choice[METHODS] = "vae",
    data: UnitImages = partial(images, dataset="tfds:mnist", batch_size=100, validation=0.0),
    latent: Count = 32,
    duration: Duration = Duration(3000, "steps"),
) -> Experiment:
    """A generator of digits with two hidden layers of 256 units, trained by one of two methods.

    Args:
        method: vae, which shows the expected image of each code; gan, with the non-saturating loss.
        data: images, and how they become batches; their pixels lie in [0, 1].
        latent: number of units of the code.
        duration: length of training; --steps, --epochs and --examples_seen set it.
    """
    return method(data=data, latent=latent, duration=duration)


study = StudySpec(
    question="Are images that a GAN draws as sharp as real ones, and those of a VAE not?",
    claim="C27",
    vary=("method:vae,gan",),
    metric="test/sharpness_gap",
    smallest_effect=SMALLEST,
    verdict=every(
        contrast("C27", "method=gan", "better", "A GAN's images are closer in sharpness to real ones", smallest=SMALLEST),
        shown=(
            on("test/sharpness", contrast("C27", "method=gan", "higher", "A GAN's images have more fine detail")),
            on("test/pixels_frechet", contrast("C27", "method=gan", "better", "They are closer to real ones", scale="log")),
        ),
        requires=(
            on(
                "test/pixels_precision",
                bounded(
                    "C27",
                    "method=gan",
                    "not worse",
                    0.25,
                    "The GAN draws digits, and not only sharp images",
                    source="a GAN that draws noise falls short by nearly all of the VAE's precision",
                ),
            ),
        ),
        scope="fully connected generators on MNIST, 3,000 steps of 100 images",
    ),
    card=Card(
        published="Goodfellow et al. 2014 and Larsen et al. 2016 show images and give no number for their sharpness.",
        would_change="A VAE whose expected images have the fine detail of real ones, or a GAN whose images have too much.",
        deviations="The VAE's images are expectations, without the noise of its pixels. Small fully connected networks.",
        quick="--seeds=1 --steps=500",
        figure=Figure(y="|ln sharpness| of drawn images"),
    ),
)
