"""Z1: the fully connected head of AlexNet, ZFNet and VGG, as dense layers or as the convolutions that they are.

A dense layer is a convolution whose kernel is as big as its input, so a classifier slides over a larger image at the price
of one pass (Sermanet et al. 2014, arXiv 1312.6229, section 3.5; Simonyan and Zisserman 2015, arXiv 1409.1556, section 3.2).
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers
from cnnlab.models.layers import Conv, Dropout, flatten
from cnnlab.ops import pooling

Head = Literal["dense", "convolution"]

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
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Layers `fc6`, `fc7` and `output` on x [B, H, W, C], inside a compact module: (logits [B, K], each layer's values).

    Args:
        head: dense pools x to the grid (adaptively, as torchvision) and flattens it. convolution does not pool: a kernel of
            grid x grid, then 1x1, give `class_map` [B, H − grid + 1, W − grid + 1, K], whose mean over space are the logits.
        grid: side of what the first layer sees.
        hidden: units of fc6 and fc7.
        classes: how many; for 0 the logits are the features, which are fc7's values averaged over space.
        dropout: drop probability after fc6 and after fc7.
    """
    slides, seen = head == "convolution", {}
    x = x if slides else flatten(pooling.adaptive_average_pool(x, (grid, grid)))
    for number, (units, kernel) in enumerate(zip(hidden, (grid, 1), strict=True), start=FIRST):
        name = f"fc{number}"
        convolution = Conv(units, kernel, padding="valid", initializer=initializer, name=name) if slides else None
        seen[name] = x = activation((convolution or nn.Dense(units, kernel_init=initializer, name=name))(x))
        seen["features"] = jnp.mean(x, (1, 2)) if slides else x
        x = Dropout(dropout, name=f"dropout{number}")(x, train=train)
    if slides:
        if classes:
            seen["class_map"] = x = Conv(classes, 1, initializer=initializer, name=layers.OUTPUT)(x)
        x = jnp.mean(x, (1, 2))
    else:
        x = layers.output_layer(x, classes, initializer)
    seen["output"] = x
    return x, seen


def convolutionalize(variables: dict[str, Any], *, grid: int) -> dict[str, Any]:
    """Variables of a network with head="dense" -> those of the same network with head="convolution"; the same numbers.

    Args:
        grid: side of what the first fully connected layer sees: 6 for AlexNet and ZFNet, 7 for VGG.
    """
    params = dict(variables["params"])
    for name, side in ((f"fc{FIRST}", grid), (f"fc{FIRST + 1}", 1), (layers.OUTPUT, 1)):
        if name in params:
            kernel = params[name]["kernel"]
            params[name] = {**params[name], "kernel": kernel.reshape(side, side, -1, kernel.shape[-1])}
    return {**variables, "params": params}
