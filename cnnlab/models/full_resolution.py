"""Networks without a decoder: a stack of convolutions at full resolution, and a classifier of patches at every pixel."""

from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import norms
from cnnlab.models.convolutionalize import fully_connected
from cnnlab.models.dense_maps import pixel_logits, with_output
from cnnlab.models.layers import Conv, Dropout, MaxPool
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.pooling import dilated_max_pool
from cnnlab.values import Choice, Count, Fraction, Range


class FullResolution(nn.Module):
    """A stack of padded convolutions at the resolution of the image, then one of 1x1 to the classes.

    Every layer costs as much as the first of another network, and the receptive field grows by kernel − 1 with each. With depth
    0 it is the logistic regression of a pixel's class on its colour, the baseline of data in which colours say much.

    Attributes:
        classes: number of classes.
        depth: number of convolutions before the last.
        width: channels of each.
        kernel: side of the kernels.
        dilated: whether the distance between the taps of a kernel doubles from layer to layer (Yu and Koltun 2016, arXiv
            1511.07122, Table 1), and with it the receptive field.
        norm: applied after every convolution but the last.
        activation: applied after every norm.
        dropout: drop probability before the last convolution.
        initializer: initialiser of the kernels; biases start at 0.
    """

    classes: int
    depth: Annotated[int, Range(0)] = 5
    width: Count = 64
    kernel: Count = 3
    dilated: bool = False
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], each layer, the output)."""
        x, intermediates, plain = images, {}, norms.needs_bias(self.norm)
        for number in range(1, self.depth + 1):
            x = Conv(
                self.width,
                self.kernel,
                dilation=2 ** (number - 1) if self.dilated else 1,
                bias=plain,
                initializer=self.initializer,
                name=f"conv{number}",
            )(x)
            intermediates[f"conv{number}"] = x = self.activation(self.norm(train=train, name=f"norm{number}")(x))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return with_output(pixel_logits(x, self.classes, self.initializer), intermediates)


class PatchClassifier(nn.Module):
    """A classifier of the patch around every pixel, with valid convolutions and pooling; the image is continued by zeros.

    In the form `sliding` it is given the patches one by one, as Ciresan et al. 2012 (Deep neural networks segment neuronal
    membranes in electron microscopy images, NIPS) describe it. In the form `convolution` it computes the same from the same
    parameters in one pass over the image: after a pooling of stride 2, which becomes one of stride 1, the taps of what follows
    are twice as far apart, and the dense layers are convolutions.

    Attributes:
        classes: number of classes.
        widths: channels of each stage, a valid convolution of 3x3 and a pooling by 2.
        grid: side of the maps that the first dense layer takes.
        hidden: units of the two dense layers before the last.
        form: convolution or sliding.
        norm: applied after every convolution. Only `batch`, outside of training, and `none` give the same in both forms.
        activation: applied after every layer but the last.
        dropout: drop probability after the two dense layers.
        initializer: initialiser of the kernels; biases start at 0.
    """

    classes: int
    widths: tuple[int, ...] = (32, 64)
    grid: Count = 4
    hidden: tuple[int, int] = (128, 128)
    form: Literal["convolution", "sliding"] = "convolution"
    norm: Choice[NORMS] = norms.no_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        side = self.grid
        for _ in self.widths:
            side = 2 * side + 2  # before the pooling by 2 and the convolution of 3x3
        return side

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], the output)."""
        batch, height, width, _ = images.shape
        slides, dilation = self.form == "sliding", 1
        around = ((self.patch - 1) // 2, self.patch // 2)
        x = jnp.pad(images, ((0, 0), around, around, (0, 0)))
        x = patches(x, self.patch) if slides else x
        for stage, channels in enumerate(self.widths, start=1):
            x = Conv(channels, 3, padding="valid", dilation=dilation, initializer=self.initializer, name=f"conv{stage}")(x)
            x = self.activation(self.norm(train=train, name=f"norm{stage}")(x))
            if slides:
                x = MaxPool(2, name=f"pool{stage}")(x)
            else:
                x = dilated_max_pool(x, window=2, dilation=dilation)
                dilation *= 2
        _, values = fully_connected(
            x,
            train=train,
            head="convolution",
            grid=self.grid,
            hidden=self.hidden,
            classes=self.classes,
            activation=self.activation,
            dropout=self.dropout,
            initializer=self.initializer,
            dilation=dilation,
        )
        # Sliding: [B·H·W, 1, 1, K] -> [B, H, W, K]; otherwise the shape is that already.
        return with_output(values["class_map"].reshape(batch, height, width, self.classes), {})


def patches(x: jax.Array, side: int) -> jax.Array:
    """Returns the patches of side² pixels at all N places of x [B, H, W, C], row by row: [B · N, side, side, C]."""
    batch, height, width, channels = x.shape
    rows, columns = height - side + 1, width - side + 1
    down = jnp.stack([x[:, i : i + rows] for i in range(side)], axis=2)  # [B, rows, side, W, C]
    both = jnp.stack([down[:, :, :, j : j + columns] for j in range(side)], axis=4)  # [B, rows, side, columns, side, C]
    # [B, rows, side, columns, side, C] -> [B, rows, columns, side, side, C] -> [B·rows·columns, side, side, C]
    return both.transpose(0, 1, 3, 2, 4, 5).reshape(batch * rows * columns, side, side, channels)
