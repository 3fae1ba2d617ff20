"""A generative adversarial network on eight Gaussians on a circle, whose modes the generator may miss.

Paper:    L. Metz, B. Poole, D. Pfau, J. Sohl-Dickstein, Unrolled generative adversarial networks, 2017, arXiv 1611.02163
Command:  python launch.py --experiment=gan_gaussians --seeds=3
Result:   over 2 seeds: 7 of 8 modes are found in both seeds, 0.853 ± 0.005 of the samples lie on a mode, D(G(z)) is
          0.437 ± 0.010. A mode is found when at least a tenth of its even share of the samples lies on it. 2 to 7 min a seed
          on 2 CPU cores under heavy load from other programs.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.models.gan import mlp
from cnnlab.ops.averaging import ema
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.values import Duration

experiment = partial(
    adversarial_pair,
    model=partial(mlp, generator_widths=(128, 128), discriminator_widths=(128, 128), pieces=1, dropout=0.0, output="linear"),
    data=partial(images, dataset="gaussians", batch_size=256),
    judge="modes",
    latent=16,
    optimizer=partial(adam, lr=0.001, b1=0.5, schedule="constant"),
    duration=Duration(4000, "steps"),
    average=partial(ema, average_decay=0.99),
)
