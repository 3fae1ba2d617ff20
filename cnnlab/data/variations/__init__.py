"""Variations: random changes of training examples, on the device, inside the compiled step (`--augment=flip,pad_crop`).

A variation is `f(examples, keys, *, knobs) -> examples`, where `examples` are columns of kinds (Examples) and `keys` one PRNG
key for each, keys [B]; or, where it changes pixels in their place, `f(images, keys, *, knobs) -> images`, f32 [B, H, W, C] in
[0, 1]. It changes example i by keys[i] alone, so that the result does not depend on how a batch is split over devices. It may
also ask for columns of the feed, as keyword arguments without a default: `index` i32 [B], the example's place in the split,
and `epoch` i32 [B], the number of times that training has shown it before.

Geometric variations draw one motion for each example (motion.py), by which every column moves as its kind does.
"""

from collections.abc import Callable
from typing import Any

from cnnlab.data.variations.colour import (
    brightness,
    color_distortion,
    color_jitter,
    contrast,
    drop_channel,
    grayscale,
    hue,
    saturation,
)
from cnnlab.data.variations.crop import alternating_flip_crop, flip_crop, pad_crop, random_crop, random_resized_crop
from cnnlab.data.variations.elastic import elastic
from cnnlab.data.variations.erase import cutout, random_erasing
from cnnlab.data.variations.lens import random_fringe
from cnnlab.data.variations.mirror import alternating_flip, flip, vertical_flip
from cnnlab.data.variations.mix import cutmix, mixup
from cnnlab.data.variations.noise import blur, noise
from cnnlab.data.variations.rand_augment import rand_augment, trivial_augment
from cnnlab.data.variations.warp import quarter_turns, rotate, scale, shear, shift, shift_rotate, translate

AUGMENTS: dict[str, Callable[..., Any]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
    "color_jitter": color_jitter,
    "color_distortion": color_distortion,
    "grayscale": grayscale,
    "drop_channel": drop_channel,
    "random_fringe": random_fringe,
    "noise": noise,
    "blur": blur,
    "cutout": cutout,
    "random_erasing": random_erasing,
    "flip": flip,
    "vertical_flip": vertical_flip,
    "alternating_flip": alternating_flip,
    "pad_crop": pad_crop,
    "flip_crop": flip_crop,
    "alternating_flip_crop": alternating_flip_crop,
    "random_crop": random_crop,
    "random_resized_crop": random_resized_crop,
    "shift": shift,
    "shift_rotate": shift_rotate,
    "rotate": rotate,
    "quarter_turns": quarter_turns,
    "scale": scale,
    "translate": translate,
    "shear": shear,
    "elastic": elastic,
    "mixup": mixup,
    "cutmix": cutmix,
    "rand_augment": rand_augment,
    "trivial_augment": trivial_augment,
}
"""Variations by name, for `Choices[AUGMENTS]`; the first is the example in the errors about a user's own."""
