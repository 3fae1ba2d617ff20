"""Claim C26, second half: a larger weight of the KL smooths the latent space. The decoder's slope in the runs of c26_beta.

Paper:    Higgins et al., beta-VAE: learning basic visual concepts with a constrained variational framework, 2017, section 3
Command:  python launch.py ablate --experiment=c26_beta_smooth
Result:   supported here. Slope of the decoder after 1500 steps: 1.33 ± 0.02 with β = 1. Differences to it, paired by seed,
          n = 5, 95 % t-interval: β = ¼ +1.44 [1.31, 1.57], β = ½ +0.45 [0.39, 0.52], β = 2 −0.49 [−0.52, −0.47], p < 0.001 each
          after Holm. 15 to 17 s a run on 2 CPU cores while many other programs ran.

The slope is how far the decoded image moves, as Euclidean distance over its 64 pixels in [0, 1], when a code sampled from the
prior moves by 1 in each unit. It also falls when units are no longer used (10 are active with β = ¼ and ½, 7 to 9 with 1, 4 or
5 with 2): a decoder that uses fewer units is flatter. A collapsed posterior has the smoothest space of all.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import StudySpec
from experiments.claims.c26_beta import experiment as vae

experiment = partial(vae)

study = StudySpec(
    question="Do images change less from code to code, the more the KL of a VAE weighs?",
    claim="C26",
    vary=("beta:1,0.25,0.5,2",),
    metric="test/decoder_slope",
    verdict=every(
        contrast("C26", "beta=0.25", "higher", "A quarter of the weight of the KL makes the decoder steeper"),
        contrast("C26", "beta=0.5", "higher", "Half the weight too"),
        contrast("C26", "beta=2", "lower", "Twice the weight makes it flatter"),
        scope="digits of 8x8, 1500 steps",
    ),
)
