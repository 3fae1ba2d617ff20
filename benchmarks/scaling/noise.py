"""Images of noise with labels: `--dataset=benchmarks/scaling/noise.py:noise`."""

import numpy as np

from cnnlab.data.source import Source, labelled
from cnnlab.values import Count


def noise(*, examples: Count = 1280, size: Count = 32, channels: Count = 3, classes: Count = 10) -> Source:
    """Makes white noise, u8 [N, size, size, channels]; there is nothing to learn.

    Args:
        examples: size of the training split; the test split has 16.
        size: height and width in pixels.
        channels: channels of an image.
        classes: number of classes.
    """
    draw = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        images = draw.integers(0, 256, (count, size, size, channels), np.uint8)
        return images, (np.arange(count) % classes).astype(np.int32)

    return labelled("noise", {"train": split(examples), "test": split(16)}, tuple(map(str, range(classes))))
