"""The small network that learns CIFAR-10 to 94 % in seconds (Jordan 2024, arXiv 2404.00498, sections 3.1 and 3.2)."""

from functools import partial

import flax.linen as nn
import jax

from cnnlab.models import layers, norms
from cnnlab.models.image_size import require_size
from cnnlab.models.layers import MaxPool
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, gelu
from cnnlab.ops.bounds import largest
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice

PATCH = 2
"""Side of the patches that the first layer takes."""


class Airbench94(nn.Module):
    """A first layer of 2x2 patches, three stages of two 3x3 convolutions with a pooling after the first, a maximum over space.

    The first layer `whitening` has two filters for each number of a patch: its kernel can be set to the directions in which
    patches vary, and to their negatives (ops/whitening.py), and stay so. The logits are divided by the number of features.

    Attributes:
        classes: number of classes.
        widths: channels of each stage; the image shrinks by 2 in each.
        norm: applied before each activation.
        activation: applied after the first layer and after every norm.
        initializer: initialiser of the stages' kernels; the last layer's has standard deviation 1, biases start at 0.
    """

    classes: int
    widths: tuple[int, ...] = (64, 256, 256)
    norm: Choice[NORMS] = partial(norms.batch_norm, momentum=0.6, epsilon=1e-12)
    activation: Choice[ACTIVATIONS] = gelu
    initializer: Choice[INITIALIZERS] = init.partial_identity

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], every stage's output, the pooled features and the logits)."""
        filters = 2 * PATCH * PATCH * images.shape[-1]
        x = layers.Conv(filters, PATCH, padding="valid", initializer=init.lecun, name="whitening")(images)
        x, intermediates = self.activation(x), {}
        for stage, width in enumerate(self.widths, start=1):
            smallest = 2 ** len(self.widths) + PATCH - 1
            require_size(x, 2, layer=f"the pooling in stage{stage}", smallest=smallest, image=images.shape)
            for number in (1, 2):
                name = f"stage{stage}_conv{number}"
                bias = norms.needs_bias(self.norm)
                x = layers.Conv(width, 3, bias=bias, initializer=self.initializer, name=name)(x)
                x = MaxPool(2)(x) if number == 1 else x
                x = self.activation(self.norm(train=train, name=name.replace("conv", "norm"))(x))
            intermediates[f"stage{stage}"] = x
        x = largest(x.reshape(x.shape[0], -1, x.shape[-1]), axis=1)  # [B, H, W, C] -> [B, H·W, C] -> [B, C]
        intermediates["features"] = x
        unit = partial(init.normal, std=1.0)
        logits = nn.Dense(self.classes, use_bias=False, kernel_init=unit, name="output")(x)
        intermediates["output"] = logits = logits / x.shape[-1]
        return logits, intermediates
