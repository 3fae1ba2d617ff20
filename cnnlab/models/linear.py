"""A single linear layer, which the loss turns into one of the classic linear classifiers.

`--loss=cross_entropy` gives softmax regression, `sigmoid` one-against-all logistic regression, `hinge` the linear SVM,
`squared` least squares and `perceptron` Rosenblatt's perceptron.
"""

import flax.linen as nn
import jax

from cnnlab.models.layers import flatten
from cnnlab.ops import init
from cnnlab.ops.activations import step
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice


def mcculloch_pitts(inputs: jax.Array, weights: jax.Array, threshold: jax.Array) -> jax.Array:
    """Returns f32 [B] of 0 and 1: the unit fires where inputs [B, D] · weights [D] reach the threshold [].

    It computes AND, OR and NOT, but no weights and threshold give XOR (McCulloch and Pitts 1943; Minsky and Papert 1969).
    """
    return step(inputs @ weights - threshold)


class Linear(nn.Module):
    """A linear classifier: one template of weights for each class, of the size of the image.

    Attributes:
        classes: number of classes.
        initializer: initialiser of the templates; from zeros the loss starts at ln K exactly, and the problem is convex.
        bias: whether each class has an offset.
    """

    classes: int
    initializer: Choice[INITIALIZERS] = init.zeros
    bias: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (scores f32 [B, K], intermediates)."""
        x = flatten(images)
        x = nn.Dense(self.classes, use_bias=self.bias, kernel_init=self.initializer, name="output")(x)
        return x, {"output": x}
