"""Claim C26, second half: a heavier KL smooths the latent space. The runs of c26_beta, judged by the decoder's slope.

Paper:    Higgins et al., beta-VAE: learning basic visual concepts with a constrained variational framework, 2017, section 3
Command:  python launch.py ablate --experiment=c26_beta_smooth
Result:   supported here. Slope of the decoder after 1500 steps, β − 1 paired by seed, n = 5, 95 % t-interval: β ¼ +1.44
          [1.31, 1.57], β ½ +0.45 [0.39, 0.52], β 2 −0.49 [−0.52, −0.47], p < 0.001 each after Holm; 1.33 ± 0.02 at β 1. 15 to
          17 s a run on 2 CPU cores beside much other work.

The slope is how far the decoded image moves, in Euclidean distance over its 64 pixels in [0, 1], as a code drawn from the
prior moves by 1 in each unit. It falls too where units fall out of use (10 are active at β ¼ and ½, 7 to 9 at 1, 4 or 5 at 2):
a decoder that looks at fewer of them is flatter. A collapsed posterior has the smoothest space of all.
"""

from functools import partial

from cnnlab.ablation.analyse.verdicts import contrast, every
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
    ),
)
