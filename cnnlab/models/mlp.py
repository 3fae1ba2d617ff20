"""The multi-layer perceptron, of any depth and width."""

import functools

import flax.linen as nn
import jax

from cnnlab.models import norms
from cnnlab.models.layers import Dropout, flatten, gaussian_noise
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Fraction, NonNegative


class MLP(nn.Module):
    """A fully connected network on the pixels.

    Attributes:
        classes: number of classes.
        widths: units of each hidden layer, from the image to the output.
        activation: applied after every hidden layer.
        initializer: initialiser of the kernels; biases start at 0.
        norm: applied between each hidden layer and its activation.
        dropout: drop probability after each hidden layer.
        activation_noise: standard deviation of Gaussian noise on the activations of each hidden layer, in training.
    """

    classes: int
    widths: tuple[int, ...] = (256, 128)
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.0
    activation_noise: NonNegative = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], activations of every layer)."""
        x = flatten(images)
        intermediates = {}
        for number, width in enumerate(self.widths, start=1):
            name = f"dense{number}"
            x = nn.Dense(width, use_bias=norms.needs_bias(self.norm), kernel_init=self.initializer, name=name)(x)
            x = self.norm(train=train, name=f"norm{number}")(x)
            intermediates[name] = x = self.activation(x)
            x = gaussian_noise(x, self.activation_noise, train=train, name=f"noise{number}")
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
        intermediates["output"] = x = nn.Dense(self.classes, kernel_init=self.initializer, name="output")(x)
        return x, intermediates


lenet_300_100 = functools.partial(MLP, widths=(300, 100))
"""The fully connected LeNet of 266,610 parameters on 28x28 images (LeCun et al. 1998, section C.3)."""
