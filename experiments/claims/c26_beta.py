"""Claim C26, first half: a larger weight of the KL makes reconstruction worse. A small VAE on the digits of scikit-learn.

Paper:    Higgins et al., beta-VAE: learning basic visual concepts with a constrained variational framework, 2017, section 3
Command:  python launch.py ablate --experiment=c26_beta
Result:   supported here. Reconstruction of test images after 1500 steps: 22.53 ± 0.05 nats with β = 1. Differences to it,
          paired by seed, n = 5, 95 % t-interval: β = ¼ −3.85 [−3.92, −3.77], β = ½ −2.46 [−2.53, −2.38], β = 2 +2.74 [+2.61,
          +2.86], p < 0.001 each after Holm. 10 to 22 s a run on 2 CPU cores while many other programs ran.

A first grid of 1, ¼, 4 and 16 gave the same result. But with 4 and 16 the posterior collapses (27.03 and 27.04 nats: every
image is reconstructed as the same one), so these two show no trade-off. This grid replaced it; all its arms use their codes.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.data.images import images
from cnnlab.models.vae import mlp
from cnnlab.recipes.vae import variational_autoencoder
from cnnlab.values import Duration

experiment = partial(
    variational_autoencoder,
    model=partial(mlp, latent=10, widths=(200,)),
    data=partial(images, dataset="digits", batch_size=100),
    duration=Duration(1500, "steps"),
    log_p_samples=0,
)

study = StudySpec(
    question="Does a VAE reconstruct worse the more its KL weighs?",
    claim="C26",
    vary=("beta:1,0.25,0.5,2",),
    metric="test/reconstruction_nats",
    verdict=every(
        contrast("C26", "beta=0.25", "better", "A quarter of the weight of the KL reconstructs better"),
        contrast("C26", "beta=0.5", "better", "Half the weight too"),
        contrast("C26", "beta=2", "worse", "Twice the weight reconstructs worse"),
        scope="digits of 8x8, 1500 steps",
    ),
)
