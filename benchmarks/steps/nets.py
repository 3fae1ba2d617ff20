"""The networks whose training steps are compared, and their batches, which are the same for all libraries. Needs NumPy alone.

Letters in shapes: B batch, H W space, C channels, K classes, M places for objects, N anchors, T characters.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np

Batch = dict[str, np.ndarray]
BATCHES = 4
"""Different batches that take turns: every step gets another one from the host."""


@dataclasses.dataclass(frozen=True)
class Net:
    """A network in training."""

    title: str
    batch: int
    columns: Callable[[np.random.Generator, int], Batch]
    """Draws a batch."""
    loss: str
    """classes, squared, pixels, multibox, characters or elbo."""
    optimizer: str = "momentum"
    """momentum: SGD with momentum 0.9; adam."""

    @property
    def has_maps(self) -> bool:
        """Whether there are convolutions, whose layout in memory PyTorch can choose."""
        return self.loss not in ("characters", "elbo")


CLASSES = 10
SSD_SIDE, SSD_MAPS, SSD_OBJECTS = 48, (12, 6, 3), 3
CHARACTERS, WINDOW, UNITS = 65, 64, 192
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
"""Features and stride of the separable convolutions of the depth-wise network."""
PAIRS = ((64, 1), *SEPARABLE)
"""Features and stride of the blocks of ResNet-18."""


def classified(side: int, channels: int) -> Callable[[np.random.Generator, int], Batch]:
    """Images f32 [B, H, W, C] with labels i32 [B]."""

    def draw(random: np.random.Generator, batch: int) -> Batch:
        images = random.normal(size=(batch, side, side, channels)).astype(np.float32)
        return {"image": images, "label": random.integers(0, CLASSES, batch, np.int32)}

    return draw


def masks(random: np.random.Generator, batch: int) -> Batch:
    """Images f32 [B, 64, 64, 3] with a class for every pixel, i32 [B, 64, 64]."""
    images = random.normal(size=(batch, 64, 64, 3)).astype(np.float32)
    return {"image": images, "label": random.integers(0, CLASSES, (batch, 64, 64), np.int32)}


def scenes(random: np.random.Generator, batch: int) -> Batch:
    """Images f32 [B, 48, 48, 1] with up to three objects: corners f32 [B, M, 4] in pixels, label i32, valid bool [B, M]."""
    images = random.normal(size=(batch, SSD_SIDE, SSD_SIDE, 1)).astype(np.float32)
    shape = (batch, SSD_OBJECTS)
    low, side = random.uniform(0, 28, (*shape, 2)), random.uniform(14, 20, (*shape, 2))
    corners = np.concatenate([low, low + side], axis=-1).astype(np.float32)
    valid = np.arange(SSD_OBJECTS)[None] < random.integers(1, SSD_OBJECTS + 1, (batch, 1))
    return {"image": images, "corners": corners, "label": random.integers(0, CLASSES, shape, np.int32), "valid": valid}


def windows(random: np.random.Generator, batch: int) -> Batch:
    """Characters i32 [B, T + 1]: the network reads the first T and predicts the last T."""
    return {"text": random.integers(0, CHARACTERS, (batch, WINDOW + 1), np.int32)}


def shades(random: np.random.Generator, batch: int) -> Batch:
    """Images f32 [B, 28, 28, 1] in [0, 1], which the step draws as black and white."""
    return {"image": random.uniform(size=(batch, 28, 28, 1)).astype(np.float32)}


NETS = {
    "lenet5": Net("LeNet-5, 128 images of 32x32x1", 128, classified(32, 1), "classes"),
    "autoencoder": Net("Convolutional autoencoder, 128 images of 28x28x1", 128, classified(28, 1), "squared"),
    "depthwise": Net("Depth-wise separable network, 64 images of 32x32x3", 64, classified(32, 3), "classes"),
    "resnet18": Net("CIFAR ResNet-18, 64 images of 32x32x3", 64, classified(32, 3), "classes"),
    "unet": Net("U-Net of 16 to 128 channels, 16 images of 64x64x3", 16, masks, "pixels"),
    "ssd": Net("SSD of ssd_scenes, 16 images of 48x48x1, matching and mining included", 16, scenes, "multibox"),
    "lstm": Net("LSTM of 192 units, 16 windows of 64 characters", 16, windows, "characters", "adam"),
    "vae": Net("VAE of vae_mnist, 100 images of 28x28x1", 100, shades, "elbo", "adam"),
}


def batches(name: str) -> list[Batch]:
    """Returns the batches of a network."""
    random, net = np.random.default_rng(0), NETS[name]
    return [net.columns(random, net.batch) for _ in range(BATCHES)]


def anchors() -> np.ndarray:
    """Returns the default boxes of the SSD, f32 [N, 4]: four in each cell of each map (Liu et al. 2016, section 2.2)."""
    found, growth = [], (0.9 / 0.2) ** (1 / (len(SSD_MAPS) - 1))
    for number, cells in enumerate(SSD_MAPS):
        side = SSD_SIDE * 0.2 * growth**number
        between, root, step = side * math.sqrt(growth), math.sqrt(2.0), SSD_SIDE / cells
        sides = [(side, side), (between, between), (side * root, side / root), (side / root, side * root)]
        for row, column in itertools.product(range(cells), repeat=2):
            x, y = (column + 0.5) * step, (row + 0.5) * step
            found += [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for w, h in sides]
    return np.asarray(found, np.float32)
