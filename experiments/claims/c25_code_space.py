"""Claim C25: codes sampled in an autoencoder's code space decode to garbage, those of a VAE to digits. scikit-learn's digits.

Paper:    D. P. Kingma, M. Welling, Auto-encoding variational Bayes, 2014, arXiv 1312.6114; codes drawn from a fitted Gaussian:
          Ghosh et al., From variational to deterministic autoencoders, 2020, arXiv 1903.12436, section 4
Command:  python launch.py --experiment=convnet_digits --workdir=runs/judge_of_digits
          python launch.py ablate --experiment=c25_code_space --judge=run:runs/judge_of_digits
Result:   supported at small scale: of its two parts the first decides, the second is only shown. Fréchet distance of generated
          images, by the features of a classifier
          with 95.3 % test accuracy (--steps=300); differences to the VAE (9.99 ± 0.58), paired by seed, n = 5, 95 % t-interval.
          Autoencoder, codes from the prior: +3.78 [2.74, 4.82] (p = 0.001 after Holm), supported. Autoencoder, codes from a
          fitted Gaussian: −5.75 [−6.54, −4.95] (p < 0.001), 4.24 ± 0.16 against 9.99, refuted. 13 to 30 s a run on 2 CPU cores
          while many other programs ran.

The images look accordingly. With codes from the prior, the autoencoder gives blots on white or grey. With codes from the
fitted Gaussian it gives strokes of high contrast, most of which are digits or nearly so. The VAE gives blurred digits. Whether
a fitted Gaussian helps the VAE is undecided (−0.49 [−1.23, 0.25]). The KL allows sampling codes without knowledge of the
training codes. It costs sharpness: 10 units describe 64 pixels, and only 7 to 9 of them are active.

The autoencoder is the same network without the KL (beta 0); its codes then have no noise and need not match the prior. Images
are generated once from the prior and once, in the autoencoder's favour, from a Gaussian fitted to its codes. The Fréchet
distance uses the features of a classifier trained by this program, and one generated image for each of the 359 test images.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import StudySpec
from experiments.claims.c26_beta import experiment as vae

experiment = partial(vae)

study = StudySpec(
    question="Are images drawn from an autoencoder's code space further from digits than those drawn from a VAE's?",
    claim="C25",
    vary=("beta:1,0", "codes_from:prior,fitted"),
    metric="test/judge_frechet",
    inputs=("judge",),
    verdict=every(
        contrast("C25", "beta=0", "worse", "Codes of the prior give an autoencoder worse images"),
        # Ghosh et al. predict the opposite, and no lecture claims it.
        shown=(contrast("C25", "beta=0, codes_from=fitted", "worse", "Codes of a fitted Gaussian too"),),
        scope="digits of 8x8, Fréchet distance in the features of a small classifier",
    ),
)
