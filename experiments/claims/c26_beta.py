"""Claim C26, first half: the two terms of a VAE's loss trade reconstruction for a small KL. Five weights of the KL on MNIST.

Paper:    Higgins et al., beta-VAE: learning basic visual concepts with a constrained variational framework, 2017, section 3;
          Alemi et al., Fixing a broken ELBO, 2018, arXiv 1711.00464, Figure 3
Command:  python launch.py ablate --experiment=c26_beta
Result:   supported at small scale; docs/claims/c26.md has the numbers.

The direction is exact at the optimum; here it is a check of training. Where L(β) = R + β K is minimised for each of two weights
β < β', the two minima satisfy R + β K ≤ R' + β K' and R' + β' K' ≤ R + β' K. Their sum is (β' − β)(K' − K) ≤ 0: the KL cannot
rise with its weight, and the reconstruction error R cannot fall. Training ends near the optimum at best, and the numbers are
those of test images.

All arms train for 2,000 steps, at one learning rate. Their runs with β = 1, ¼ and 4 are also those of c26_beta_smooth, and the
run with β = 1 is also that of c25_code_space.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.vae import mlp
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.vae import variational_autoencoder
from cnnlab.values import Duration

SMALLEST = 1.0
"""Smallest effect of interest in nats: about a hundredth of the reconstruction error with β = 1."""

UNITS = 10
"""Units of the code."""

experiment = partial(
    variational_autoencoder,
    model=partial(mlp, latent=UNITS, widths=(256,)),
    data=partial(images, dataset="tfds:mnist", batch_size=100, validation=0.0),
    optimizer=partial(adam, lr=0.002),
    duration=Duration(2000, "steps"),
    log_p_samples=0,
)

study = StudySpec(
    question="What does a VAE gain in reconstruction, and pay in KL, the less its KL weighs?",
    claim="C26",
    vary=("beta:1,0.25,0.5,2,4",),
    metric="test/reconstruction_nats",
    smallest_effect=SMALLEST,
    verdict=every(
        contrast("C26", "beta=0.25", "better", "With β = ¼ a VAE reconstructs better than with β = 1", smallest=SMALLEST),
        contrast("C26", "beta=4", "worse", "With β = 4 a VAE reconstructs worse than with β = 1", smallest=SMALLEST),
        on("test/kl_nats", contrast("C26", "beta=0.25", "higher", "With β = ¼ the KL is larger", smallest=SMALLEST)),
        on("test/kl_nats", contrast("C26", "beta=4", "lower", "With β = 4 the KL is smaller", smallest=SMALLEST)),
        shown=(
            contrast("C26", "beta=0.5", "better", "With β = ½ a VAE reconstructs better than with β = 1"),
            contrast("C26", "beta=2", "worse", "With β = 2 a VAE reconstructs worse than with β = 1"),
        ),
        scope="a fully connected VAE with 10 units on MNIST, 2,000 steps of 100 images",
    ),
    card=Card(
        published="Higgins et al. 2017 say that a larger β lowers the quality of reconstructions, and Alemi et al. 2018 draw "
        "the curve of KL and reconstruction error that β moves along; neither gives numbers for this network.",
        would_change="Training that ends so far from its optimum that a larger weight of the KL reconstructs better.",
        deviations="A small network, trained for little more than three epochs, with grey levels as targets of a Bernoulli "
        "likelihood.",
        quick="--seeds=2 --steps=300",
        figure=Figure(x="beta", y="reconstruction error (nats)", log_x=True),
    ),
)
