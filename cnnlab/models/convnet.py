"""A small modern convolutional network, a first baseline on images of 8x8 to 64x64."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers, norms
from cnnlab.models.image_size import require_size
from cnnlab.models.layers import POOLS, Dropout, gaussian_noise, spatial_dropout
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, NonNegative


class ConvNet(nn.Module):
    """Stages of 3x3 convolutions with a norm, with pooling by 2 in between and a mean over space at the end.

    Attributes:
        classes: number of classes.
        widths: channels of each stage; the image shrinks by 2 between stages.
        depth: number of convolutions in each stage.
        kernel: side of the convolutions' kernels.
        convolution: `separable`: every convolution but the first, which sees the image, is a depth-wise one, its norm and
            activation, and then one of 1x1 (Howard et al. 2017, arXiv 1704.04861, Figure 3).
        norm: applied between each convolution and its activation.
        activation: applied after every convolution.
        pool: pooling between stages.
        dropout: drop probability before the last layer.
        spatial_dropout: drop probability of whole maps after every convolution.
        activation_noise: standard deviation of Gaussian noise on the activations of every convolution, in training.
        initializer: initialiser of the kernels; biases start at 0.
    """

    classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    depth: Count = 2
    kernel: Count = 3
    convolution: Literal["full", "separable"] = "full"
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    pool: Choice[POOLS] = POOLS["max"]
    dropout: Fraction = 0.0
    spatial_dropout: Fraction = 0.0
    activation_noise: NonNegative = 0.0
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], every stage's output, the pooled features and the logits)."""
        x, intermediates = images, {}
        for stage, width in enumerate(self.widths, start=1):
            if stage > 1:
                # Pooling of one pixel by 2 would leave nothing, without an error of its own.
                smallest = 2 ** (len(self.widths) - 1)
                require_size(x, 2, layer=f"the pooling before stage{stage}", smallest=smallest, image=images.shape)
                x = self.pool(x)
            for number in range(1, self.depth + 1):
                name, is_separable = f"stage{stage}_conv{number}", self.convolution == "separable" and stage + number > 2
                if is_separable:
                    x = self._depthwise(x, name=name.replace("conv", "depthwise"), train=train)
                convolution = layers.Conv(
                    width,
                    1 if is_separable else self.kernel,
                    bias=norms.needs_bias(self.norm),
                    initializer=self.initializer,
                    name=name,
                )
                x = self.norm(train=train, name=name.replace("conv", "norm"))(convolution(x))
                x = gaussian_noise(self.activation(x), self.activation_noise, train=train, name=name.replace("conv", "noise"))
                x = spatial_dropout(x, self.spatial_dropout, train=train, name=name.replace("conv", "spatial_dropout"))
            intermediates[f"stage{stage}"] = x
        intermediates["features"] = x = jnp.mean(x, axis=(1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = nn.Dense(self.classes, kernel_init=self.initializer, name="output")(x)
        return x, intermediates

    def _depthwise(self, x: jax.Array, *, name: str, train: bool) -> jax.Array:
        """Filters each map of x [B, H, W, C] by a kernel of its own: [B, H, W, C]."""
        channels = x.shape[-1]
        convolution = layers.Conv(
            channels,
            self.kernel,
            groups=channels,
            bias=norms.needs_bias(self.norm),
            initializer=self.initializer,
            name=name,
        )
        return self.activation(self.norm(train=train, name=name.replace("depthwise", "depthwise_norm"))(convolution(x)))
