"""The fully connected head of AlexNet, ZFNet and VGG, as dense layers or as the equivalent convolutions.

A dense layer equals a convolution whose kernel is as large as its input, so a classifier can slide over a larger image in one
pass (Sermanet et al. 2014, arXiv 1312.6229, section 3.5; Simonyan and Zisserman 2015, arXiv 1409.1556, section 3.2).
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.models import layers
from cnnlab.models.layers import Conv, Dropout, flatten
from cnnlab.ops import pooling

Head = Literal["dense", "convolution", "pooled"]

FIRST = 6
"""Number of the first fully connected layer, in AlexNet (after five convolutions) and in VGG (after five stages)."""


def fully_connected(
    x: jax.Array,
    *,
    train: bool,
    head: Head,
    grid: int,
    hidden: tuple[int, int],
    classes: int,
    activation: Callable[[jax.Array], jax.Array],
    dropout: float | jax.Array,
    initializer: Callable[..., jax.Array],
    dilation: int = 1,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Applies layers `fc6`, `fc7` and `output` to x [B, H, W, C], inside a compact module.

    Returns (logits [B, K], the values of each layer by name).

    Args:
        head: `dense` pools x to the grid (adaptively, as in torchvision) and flattens it. `convolution` does not pool:
            kernels of grid x grid and then 1x1 give `class_map` [B, H − grid + 1, W − grid + 1, K], whose mean over space
            is the logits.
        grid: height and width of the input of the first layer.
        hidden: units of fc6 and fc7.
        classes: number of classes; for 0 the logits are the features, which are fc7's values averaged over space.
        dropout: drop probability after fc6 and after fc7.
        dilation: distance between the taps of fc6 as a convolution.
    """
    slides, intermediates = head == "convolution", dict[str, jax.Array]()
    if head == "pooled":
        intermediates["features"] = x = jnp.mean(x, (1, 2))  # [B, H, W, C] -> [B, C]
        intermediates["output"] = x = layers.output_layer(x, classes, initializer)
        return x, intermediates
    # Dense: [B, H, W, C] -> [B, grid, grid, C] -> [B, grid·grid·C]. As convolutions, the maps keep their height and width.
    x = x if slides else flatten(pooling.adaptive_average_pool(x, (grid, grid)))
    for number, (units, kernel) in enumerate(zip(hidden, (grid, 1), strict=True), start=FIRST):
        name = f"fc{number}"
        if slides:
            x = Conv(units, kernel, padding="valid", dilation=dilation, initializer=initializer, name=name)(x)
        else:
            x = nn.Dense(units, kernel_init=initializer, name=name)(x)
        intermediates[name] = x = activation(x)
        intermediates["features"] = jnp.mean(x, (1, 2)) if slides else x  # [B, H', W', units] -> [B, units]
        x = Dropout(dropout, name=f"dropout{number}")(x, train=train)
    if slides:
        if classes:
            intermediates["class_map"] = x = Conv(classes, 1, initializer=initializer, name=OUTPUT)(x)
        x = jnp.mean(x, (1, 2))  # [B, H', W', K] -> [B, K]
    else:
        x = layers.output_layer(x, classes, initializer)
    intermediates["output"] = x
    return x, intermediates


def convolutionalize(variables: dict[str, Any], *, grid: int) -> dict[str, Any]:
    """Turns the variables of a network with head="dense" into those of the network with head="convolution".

    The values stay the same; the kernels [height · width · C, units] become [height, width, C, units].

    Args:
        grid: height and width of the input of the first fully connected layer: 6 for AlexNet and ZFNet, 7 for VGG.
    """
    params = dict(variables["params"])
    for name, side in ((f"fc{FIRST}", grid), (f"fc{FIRST + 1}", 1), (OUTPUT, 1)):
        if name in params:
            kernel = params[name]["kernel"]
            # [side·side·C, units] -> [side, side, C, units]
            params[name] = {**params[name], "kernel": kernel.reshape(side, side, -1, kernel.shape[-1])}
    return {**variables, "params": params}
