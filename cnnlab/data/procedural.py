"""Small synthetic data sets, made from a seed with NumPy: for tests, for claims, and for machines without any data."""

import numpy as np

from cnnlab.data.kinds import Image
from cnnlab.data.source import Source, Split, digest_splits, labelled
from cnnlab.values import Count, NonNegative, Positive, Probability


def xor() -> Source:
    """Makes exclusive or: the four points of {-1, 1}² as f32 images [4, 1, 2, 1]; train and test both hold these four.

    The label is 1 where the two pixels differ. No linear classifier gets more than three right (Minsky and Papert, 1969).
    """
    points = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
    # [4, 2] -> [4, 1, 2, 1]
    split = (points.reshape(4, 1, 2, 1), (points[:, 0] != points[:, 1]).astype(np.int32))
    return labelled("xor", {"train": split, "test": split}, ("equal", "different"))


def stripes(
    *, examples: Count = 1000, size: Count = 16, classes: Count = 4, noise: NonNegative = 0.3, data_seed: int = 0
) -> Source:
    """Makes oriented gratings of random phase and spacing, u8 images [N, size, size, 1]; the class is the orientation.

    The mean image of a class holds no information (the phase is uniform), so single pixels classify poorly and oriented
    filters well. Class k has its stripes at k * 180 / `classes` degrees.

    Args:
        examples: size of the training split; the test split has a quarter of it.
        size: height and width of an image in pixels.
        classes: number of orientations.
        noise: standard deviation of Gaussian noise per pixel, where the grating spans [0, 1].
        data_seed: seed of the examples, which do not depend on the run's seed.
    """
    draw = np.random.Generator(np.random.Philox(data_seed % 2**64))
    total = examples + max(classes, examples // 4)
    labels = (np.arange(total) % classes).astype(np.int32)
    angles = (np.pi * labels / classes)[:, None, None]  # [N, 1, 1], as waves and phases; rows and columns are [1, size, size]
    waves = draw.uniform(0.18, 0.3, (total, 1, 1))  # cycles per pixel: three pixels or more for each stripe
    phases = draw.uniform(0, 2 * np.pi, (total, 1, 1))
    rows, columns = np.mgrid[:size, :size][:, None]
    grating = 0.5 + 0.5 * np.sin(2 * np.pi * waves * (np.cos(angles) * rows - np.sin(angles) * columns) + phases)
    noisy = grating + noise * draw.standard_normal(grating.shape)
    images = np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)[..., None]
    parts = {"train": slice(0, examples), "test": slice(examples, total)}
    splits = {name: (images[part], labels[part]) for name, part in parts.items()}
    names = tuple(f"{180 * number / classes:g} degrees" for number in range(classes))
    return labelled("stripes", splits, names)


def gaussians(
    *,
    modes: Count = 8,
    examples: Count = 8000,
    radius: Positive = 0.4,
    deviation: Positive = 0.02,
    data_seed: int = 0,
) -> Source:
    """Makes a mixture of isotropic Gaussians on a circle around (½, ½), as f32 images [N, 1, 2, 1]; the label is the mode.

    This is a test of generative adversarial networks: a generator that collapses leaves modes out (Metz et al. 2017, arXiv
    1611.02163, section 3.1, whose circle of radius 2 and deviation 0.02 is narrower for its size).

    Args:
        modes: number of Gaussians.
        examples: size of the training split; the test split has a quarter of it.
        radius: radius of the circle; the images' values lie in [0, 1] while it is at most 0.5 less a few deviations.
        deviation: standard deviation of a Gaussian in each direction.
        data_seed: seed of the examples, which do not depend on the run's seed.
    """
    draw = np.random.Generator(np.random.Philox(data_seed % 2**64))
    total = examples + max(modes, examples // 4)
    labels = (np.arange(total) % modes).astype(np.int32)
    angles = 2 * np.pi * labels / modes
    points = 0.5 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1) + deviation * draw.standard_normal((total, 2))
    images = points.astype(np.float32).reshape(total, 1, 2, 1)  # [N, 2] -> [N, 1, 2, 1]
    parts = {"train": slice(0, examples), "test": slice(examples, total)}
    splits = {name: (images[part], labels[part]) for name, part in parts.items()}
    return labelled("gaussians", splits, [f"mode {number}" for number in range(modes)])


def smooth_noise(
    *, examples: Count = 1000, size: Count = 48, scale: Positive = 1.5, colour: Probability = 0.0, data_seed: int = 0
) -> Source:
    """Makes images of smooth noise without content or labels, u8 [N, size, size, 3], alike in every place and direction.

    So nothing tells where in an image a piece lies, but what a camera adds to all images (data/variations/lens.py), and where
    pieces touch each other nothing but the noise that goes on. The mean is 1/2 and the standard deviation about 1/6.

    Args:
        examples: size of the training split; the test split has a quarter of it.
        size: height and width of an image in pixels.
        scale: standard deviation in pixels of the Gaussian by which white noise is smoothed; it goes on beyond the borders.
        colour: share of each channel's variance that is its own; 0: the images are grey.
        data_seed: seed of the examples, which do not depend on the run's seed.
    """
    draw = np.random.Generator(np.random.Philox(data_seed % 2**64))
    total = examples + max(1, examples // 4)
    waves = np.fft.fftfreq(size)
    kernel = np.exp(-2 * (np.pi * scale) ** 2 * (waves[:, None] ** 2 + waves[None] ** 2))  # the Gaussian's transform

    def smoothed(channels: int) -> np.ndarray:
        white = draw.standard_normal((total, size, size, channels))
        smooth = np.fft.ifft2(np.fft.fft2(white, axes=(1, 2)) * kernel[:, :, None], axes=(1, 2)).real
        return smooth / np.sqrt(np.mean(kernel**2))

    noise = np.sqrt(1 - colour) * smoothed(1) + (np.sqrt(colour) * smoothed(3) if colour else np.zeros(3))
    images = np.rint(255 * np.clip(0.5 + noise / 6, 0, 1)).astype(np.uint8)
    parts = {"train": slice(0, examples), "test": slice(examples, total)}
    splits = {name: Split({"image": images[part]}) for name, part in parts.items()}
    return Source("smooth_noise", splits, {"image": Image()}, digest_splits("smooth_noise", splits))
