"""Claim C27, mode collapse: how many of eight Gaussians a generator finds with each of three losses.

Paper:    I. Goodfellow et al., Generative adversarial networks, 2014, arXiv 1406.2661, section 3; I. Gulrajani et al., Improved
          training of Wasserstein GANs, 2017, arXiv 1704.00028; L. Metz et al., Unrolled generative adversarial networks, 2017,
          arXiv 1611.02163, section 3.1
Command:  python launch.py ablate --experiment=c27_gan_modes
Result:   not shown here. Modes found of 8, n = 8 paired seeds, 95 % t-interval: non-saturating 7.4 ± 0.9, saturating 8.0 ± 0.0,
          difference +0.6 [−0.1, 1.4] (p = 0.19 after Holm); WGAN-GP 6.0 ± 2.8, difference −1.4 [−3.8, 1.0] (p = 0.22). 20 to
          65 s a run, two at once, on 2 CPU cores while other programs ran.

With two of the losses some seeds lose modes. The non-saturating generator misses one or two in three of eight seeds (it finds
6, 6 and 7). WGAN-GP has not converged in three of eight (2, 2 and 4 modes, 6 to 7 % of the samples on any mode) and finds all
modes in the other five. The saturating generator finds all eight in every seed, with D(G(z)) at 0.38 to 0.47: with one critic
step the discriminator is never certain (c27_generator_gradient has what follows where it is). Each loss has the number of
critic steps of its paper: one, and five for WGAN-GP. A mode is found when at least a tenth of its even share of the samples
lies on it.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.ops.averaging import ema
from experiments.gan_gaussians import experiment as on_gaussians

experiment = partial(on_gaussians, average=partial(ema, average_decay=0.0))

study = StudySpec(
    question="How many of eight modes does a generator find, by the loss of its game?",
    claim="C27",
    vary=("loss:non_saturating,saturating,wgan_gp", "critic_steps:1,1,5"),
    design="zip",
    seeds=8,
    first_seed=10,
    metric="test/modes_classes",
    verdict=every(
        contrast("C27", "loss=saturating", "worse", "The saturating loss finds fewer modes than the non-saturating"),
        contrast("C27", "loss=wgan_gp, critic_steps=5", "better", "WGAN-GP finds more"),
        scope="eight Gaussians in the plane",
    ),
)
