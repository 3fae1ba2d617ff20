"""The network of contrastive learning: a trunk and a small network on its features, which is thrown away after training.

Letters in shapes: B batch, H W space, C channels, F features, D numbers of a projection.
"""

import flax.linen as nn
import jax

from cnnlab.core import OUTPUT
from cnnlab.models.trunk import without_output
from cnnlab.ops import init


class Projector(nn.Module):
    """A trunk, whose features a perceptron with ReLUs brings to the space in which views are compared.

    Chen et al. 2020 (arXiv 2002.05709), section 4.2: what is compared loses what the views do not share, such as colours; the
    features before it keep more.

    Attributes:
        trunk: a network of models/trunk.py.
        hidden: units of the layers between the features and the projection; (): the projection is linear.
        dimension: D.
    """

    trunk: nn.Module
    hidden: tuple[int, ...]
    dimension: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images [B, H, W, C] to (projections [B, D], {"features": [B, F]})."""
        features, _ = without_output(self.trunk, images, train=train)
        x = features
        for number, width in enumerate(self.hidden, start=1):
            x = nn.relu(nn.Dense(width, kernel_init=init.he, name=f"hidden{number}")(x))
        return nn.Dense(self.dimension, kernel_init=init.lecun, name=OUTPUT)(x), {"features": features}

    def features(self, images: jax.Array) -> jax.Array:
        """Maps images [B, H, W, C] to the trunk's features [B, F], as in evaluation."""
        return without_output(self.trunk, images, train=False)[0]
