"""Negative controls: sources from which nothing can be learned, so that a leak or a broken metric becomes visible.

A network whose accuracy is above chance after `shuffle_labels` must have seen the labels through a leak. One that still does
well after `shuffle_pixels` uses brightness and colours, not shapes. Every run, whatever its seed, gets the same source.

After `permute_pixels` a fully connected network learns as well as before; one with convolutions loses what it owes to the
neighbourhood of pixels.
"""

import dataclasses

import numpy as np

from cnnlab.core import Dataset
from cnnlab.data.folds import Folds
from cnnlab.data.source import Images, Source, shuffled
from cnnlab.digests import combined_digest
from cnnlab.errors import UsageError
from cnnlab.values import DrawSeed, Fraction

LABELS_KEY, PIXELS_KEY, PERMUTATION_KEY = 0x1ABE15, 0x914E15, 0x0DE12
"""Keys of the permutations, different from those by which select.py and source.py choose examples."""


def shuffle_labels(source: Source, *, validation: Fraction, split_seed: DrawSeed = None, folds: Folds | None = None) -> Source:
    """Returns the source with its training labels permuted; validation and test keep the true ones.

    The class frequencies do not change. Lazily decoded splits stay lazy.

    Args:
        validation: share of train that `pipeline.build` would hold out where the source has no validation split. It is held
            out here, with its true labels: the same examples, because `build` chooses them by the true labels too.
        split_seed: seed by which that share is drawn, a number; None: the usual draw.
        folds: folds, one of which is held out in place of that share.
    """
    splits = dict(source.splits)
    train, drawn_by = splits["train"], split_seed if isinstance(split_seed, int) else None
    if "validation" not in splits:
        kept, held_out = train.divided(validation, drawn_by) if folds is None else folds.divided(train)
        if len(held_out):
            splits["validation"], train = train.at(held_out), train.at(kept)
    order = shuffled(len(train), LABELS_KEY, len(train))
    splits["train"] = train.having(label=train.labels[order])
    share = f"{validation}{'' if drawn_by is None else f' drawn by {drawn_by}'}"
    fingerprint = combined_digest(source.fingerprint, f"shuffle_labels {folds.key() if folds else share}")
    return dataclasses.replace(source, splits=splits, fingerprint=fingerprint)


def shuffle_drawn_labels(data: Dataset) -> Dataset:
    """Returns data whose examples the seed of a run draws (draws.py), with all training labels permuted among one another.

    Validation keeps the true ones, by which examples are drawn. Raises UsageError for a streamed training split.
    """
    if not (resident := dict(data.resident["train"])):
        raise UsageError(
            f"--control=shuffle_labels: the training images of {data.name} are too many to stay on the device, and the labels "
            "of a stream cannot be permuted where the seed of a run draws its examples.\nGive a smaller --image_size, a larger "
            "--resident_mib, or numbers for --examples_seed and --split_seed."
        )
    labels = np.asarray(resident["label"])
    resident["label"] = labels[shuffled(len(labels), LABELS_KEY, len(labels))]
    fingerprint = combined_digest(data.fingerprint, "shuffle_labels")
    return dataclasses.replace(data, resident={**data.resident, "train": resident}, fingerprint=fingerprint)


def shuffle_pixels(source: Source) -> Source:
    """Returns the source with the pixels of every image of every split permuted, each image by a permutation of its own.

    The channels of a pixel stay together, so that only the histogram of an image is left. One permutation for all images
    would be no control: a network without convolutions learns equally well from those. Images are permuted before they
    are resized; lazily decoded ones when they are read.
    """
    splits = {
        split: part.having(image=_permute_images(part.images, PIXELS_KEY + number))
        for number, (split, part) in enumerate(sorted(source.splits.items()))
    }
    return dataclasses.replace(source, splits=splits, fingerprint=combined_digest(source.fingerprint, "shuffle_pixels"))


def permute_pixels(source: Source) -> Source:
    """Returns the source with the pixels of all images of all splits in the order of one permutation.

    The channels of a pixel stay together. Nothing is lost but the neighbourhood of pixels: a layer that is connected to all
    of them computes what it did before, with its weights in another order. Images are permuted before they are resized.
    """
    splits = {
        split: part.having(image=_permute_images(part.images, PERMUTATION_KEY, alike=True))
        for split, part in source.splits.items()
    }
    return dataclasses.replace(source, splits=splits, fingerprint=combined_digest(source.fingerprint, "permute_pixels"))


def _permute_images(images: Images, key: int, *, alike: bool = False) -> Images:
    """Permutes images [N, H, W, C], the pixels of image i by `shuffled(H · W, key, i)`; where they are `alike`, as image 0."""
    if isinstance(images, np.ndarray):
        out = np.empty_like(images)
        for position, image in enumerate(images):
            out[position] = _permute_pixels(image, key, 0 if alike else position)
        return out
    read = images.read

    def read_permuted(positions: list[int]) -> list[np.ndarray]:
        found = zip(read(positions), positions, strict=True)
        return [_permute_pixels(image, key, 0 if alike else position) for image, position in found]

    return dataclasses.replace(images, read=read_permuted)


def _permute_pixels(image: np.ndarray, key: int, position: int) -> np.ndarray:
    """Permutes the pixels of an image [H, W, C]."""
    height, width, channels = image.shape
    order = shuffled(height * width, key, position)
    # [H, W, C] -> [H·W, C] -> rows in the order of the permutation -> [H, W, C]
    return image.reshape(height * width, channels)[order].reshape(image.shape)
