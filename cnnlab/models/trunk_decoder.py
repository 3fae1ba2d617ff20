"""The network of pretext tasks that give an image back: a trunk, and a decoder of its deepest map.

Letters in shapes: B batch, H W space, C channels, F features, O outputs of a pixel.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from cnnlab.core import OUTPUT
from cnnlab.errors import UsageError
from cnnlab.models.dense_maps import Upsample, fitted
from cnnlab.models.layers import Conv
from cnnlab.models.trunk import without_output
from cnnlab.ops import init


class TrunkDecoder(nn.Module):
    """Predicts numbers for every pixel, or every cell of several pixels, from the deepest map of a trunk.

    There is no way around the trunk (no skip), so that it has to hold what is predicted. Layers of the trunk above its deepest
    map, such as the dense ones of LeNet-5, learn nothing.

    Attributes:
        trunk: a network of models/trunk.py with maps among its intermediates.
        outputs: O, numbers of a pixel.
        cell: side in pixels of what one output stands for, a power of 2.
        width: channels of the decoder.
        initializer: initialiser of the kernel of the last layer.
    """

    trunk: nn.Module
    outputs: int
    cell: int = 1
    width: int = 64
    initializer: Callable[..., jax.Array] = init.normal

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images [B, H, W, C] to ([B, H / cell, W / cell, O], the trunk's intermediates), its sides rounded down."""
        _, intermediates = without_output(self.trunk, images, train=train)
        maps = [value for value in intermediates.values() if value.ndim == 4]
        if not maps:
            raise UsageError(
                f"--model: {type(self.trunk).__name__} returns no maps [B, H, W, C] among its intermediates, from which an "
                "image could be decoded.\nTake a convolutional network, such as --model=convnet."
            )
        x, size = maps[-1], (images.shape[1] // self.cell, images.shape[2] // self.cell)
        x = nn.relu(Conv(self.width, 3, initializer=init.he, name="first")(x))
        number = 0
        while x.shape[1] > size[0] or x.shape[2] > size[1]:
            number += 1
            x = nn.relu(Conv(self.width, 3, 2, initializer=init.he, name=f"down{number}")(x))
        while x.shape[1] < size[0] or x.shape[2] < size[1]:
            number += 1
            x = nn.relu(Upsample(self.width, "nearest", name=f"up{number}")(x))
        return Conv(self.outputs, 1, initializer=self.initializer, name=OUTPUT)(fitted(x, size)), intermediates

    def features(self, images: jax.Array) -> jax.Array:
        """Maps whole images [B, H, W, C] to the trunk's features [B, F], as in evaluation."""
        return without_output(self.trunk, images, train=False)[0]
