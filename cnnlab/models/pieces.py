"""The network of pretext tasks that ask a question about an image or its pieces: one trunk for all pieces, and a small head.

Letters in shapes: B batch, P pieces of an image, H W space, C channels, F features, K answers.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from cnnlab.core import OUTPUT
from cnnlab.models.trunk import without_output
from cnnlab.ops import init


class PieceClassifier(nn.Module):
    """Answers a question of K answers about the pieces of an image: of each alone, or of all of them together.

    The trunk is the same for every piece (siamese); together, its features are put one after another before the head (Noroozi
    and Favaro 2016, arXiv 1603.09246, figure 3).

    Attributes:
        trunk: a network of models/trunk.py.
        answers: number of answers.
        together: whether the question is about all pieces together.
        hidden: units of a layer of the head before its last one; 0: there is none.
        initializer: initialiser of the kernel of the last layer, so small that all answers are as likely at first.
    """

    trunk: nn.Module
    answers: int
    together: bool
    hidden: int = 0
    initializer: Callable[..., jax.Array] = init.normal

    @nn.compact
    def __call__(self, pieces: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps pieces [B, P, h, w, C] to (logits [B, K], or [B, P, K] of each piece alone, {"features": [B, P, F]})."""
        batch, count = pieces.shape[:2]
        # [B, P, h, w, C] -> [B · P, h, w, C]
        features, _ = without_output(self.trunk, pieces.reshape(-1, *pieces.shape[2:]), train=train)
        features = features.reshape(batch, count, -1)  # [B · P, F] -> [B, P, F]
        x = features.reshape(batch, -1) if self.together else features  # [B, P, F] -> [B, P · F]
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden, kernel_init=init.he, name="hidden")(x))
        logits = nn.Dense(self.answers, kernel_init=self.initializer, name=OUTPUT)(x)
        return logits, {"features": features, OUTPUT: logits}

    def features(self, images: jax.Array) -> jax.Array:
        """Maps whole images [B, H, W, C] to the trunk's features [B, F], as in evaluation."""
        return without_output(self.trunk, images, train=False)[0]


class PieceCounter(nn.Module):
    """Counts something in each piece of an image: numbers from 0 on, whose meaning is not given.

    Attributes:
        trunk: a network of models/trunk.py.
        counts: F, how many things are counted.
    """

    trunk: nn.Module
    counts: int

    @nn.compact
    def __call__(self, pieces: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps pieces [B, P, h, w, C] to (counts [B, P, F], {"output": counts})."""
        # [B, P, h, w, C] -> [B · P, h, w, C]
        features, _ = without_output(self.trunk, pieces.reshape(-1, *pieces.shape[2:]), train=train)
        counts = nn.relu(nn.Dense(self.counts, kernel_init=init.he, name=OUTPUT)(features))
        counts = counts.reshape(*pieces.shape[:2], self.counts)  # [B · P, F] -> [B, P, F]
        return counts, {OUTPUT: counts}

    def features(self, images: jax.Array) -> jax.Array:
        """Maps whole images [B, H, W, C] to the trunk's features [B, F], as in evaluation."""
        return without_output(self.trunk, images, train=False)[0]
