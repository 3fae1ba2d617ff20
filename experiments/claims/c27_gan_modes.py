"""Claim C27, mode collapse: a generator drops modes where its discriminator is far ahead. Eight Gaussians, three losses.

Paper:    I. Goodfellow et al., Generative adversarial networks, 2014, arXiv 1406.2661, section 3; I. Gulrajani et al., Improved
          training of Wasserstein GANs, 2017, arXiv 1704.00028; L. Metz et al., Unrolled generative adversarial networks, 2017,
          arXiv 1611.02163, section 3.1
Command:  python launch.py ablate --experiment=c27_gan_modes --batch_runs=always --jobs=2
Result:   supported at small scale; docs/claims/c27.md has the numbers.

The endpoint is how often a generator finds all eight modes, over 16 seeds, since the number of modes is far from normal: it is
8 or 7 in most runs that learnt, and 1 in a collapse. A mode is found when at least a tenth of its even share of the samples
lies on it. That the non-saturating game drops modes is tested by the number of critic steps, with everything else the same:
with five steps for each step of the generator the discriminator is nearly certain, which the theory of GANs asks for (it is
trained to its optimum) and the practice avoids. How often the saturating loss and WGAN-GP find all modes, and whether WGAN-GP
does so in spite of five critic steps, is shown; the lectures do not claim it.

The rates were chosen by the modes found after 3,000 steps with seeds from 100 on, which the study does not use: 0.001 for the
binary losses (with 0.0003 the generator has learnt too little: 0 to 3 modes with one critic step, 2 to 4 with five) and 0.003
for WGAN-GP (8, 8 and 3 modes, against 0, 0 and 5 with 0.001). There five critic steps collapsed the binary loss to one mode.
--batch_runs=always trains the seeds of an arm in one program, since steps of so small networks are mostly overhead.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import more_often, success_rate
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.gan import mlp
from cnnlab.ops.averaging import ema
from cnnlab.values import Duration
from experiments.gan_gaussians import experiment as on_gaussians

WGAN = "loss=wgan_gp, critic_steps=5, lr=0.003"
MODES = 8.0
"""All modes of the data."""

experiment = partial(
    on_gaussians,
    model=partial(mlp, generator_widths=(64, 64), discriminator_widths=(64, 64), pieces=1, dropout=0.0, output="linear"),
    data=partial(images, dataset="gaussians", batch_size=64),
    duration=Duration(4000, "steps"),
    average=partial(ema, average_decay=0.0),
)

study = StudySpec(
    question="How often does a generator find all of eight modes, by the loss of its game and the steps of its critic?",
    claim="C27",
    vary=(
        "loss:non_saturating,non_saturating,saturating,wgan_gp",
        "critic_steps:1,5,1,5",
        "lr:0.001,0.001,0.001,0.003",
    ),
    design="zip",
    seeds=16,
    first_seed=20,
    metric="test/modes_classes",
    verdict=every(
        more_often(
            "C27",
            "baseline",
            "critic_steps=5",
            MODES,
            "A non-saturating generator drops modes more often with five critic steps than with one",
        ),
        contrast("C27", "critic_steps=5", "worse", "With five critic steps it finds fewer modes", test="signs", smallest=1.0),
        shown=(
            success_rate("C27", "baseline", MODES, 0.5, "A non-saturating generator finds all modes in most runs"),
            success_rate("C27", "critic_steps=5", MODES, 0.5, "With five critic steps it finds all modes in most runs"),
            success_rate("C27", "loss=saturating", MODES, 0.5, "A saturating generator finds all modes in most runs"),
            success_rate("C27", WGAN, MODES, 0.5, "WGAN-GP finds all modes in most runs"),
            more_often(
                "C27",
                WGAN,
                "critic_steps=5",
                MODES,
                "With five critic steps WGAN-GP finds all modes more often than the non-saturating loss",
            ),
        ),
        scope="eight Gaussians in the plane, small networks, 4,000 steps of 64 points",
    ),
    card=Card(
        published="Metz et al. 2017 show a GAN that moves between single modes of such a mixture and never covers all; "
        "Gulrajani et al. 2017 show only critics for it, with a fixed generator. Neither counts modes over seeds.",
        would_change="A non-saturating generator that finds all eight modes as often with five critic steps as with one.",
        deviations="Networks of two layers of 64 units, and Gaussians wider for their circle than those of Metz et al., "
        "where generator and discriminator take one step each.",
        quick="--seeds=2 --batch_runs=always",
        figure=Figure(y="modes found of 8"),
    ),
)
