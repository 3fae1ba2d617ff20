"""Writes what torchvision.transforms.v2 gives for fixed parameters; runs in the environment of the reference libraries.

python variations_oracle.py FILE.npz
"""

import sys

import numpy as np
import torch

if torch.version.cuda is None:
    # torchvision is built for torch with CUDA: beside a CPU build its operators are absent, which no variation needs.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

BILINEAR = InterpolationMode.BILINEAR


def main() -> None:
    """Writes {name: f32 [H, W, C]}; `image` is what all others are made of."""
    image = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
    found = {
        "image": image,
        "brightness": F.adjust_brightness(image, 1.3),
        "contrast": F.adjust_contrast(image, 0.6),
        "saturation": F.adjust_saturation(image, 1.5),
        "hue": F.adjust_hue(image, 0.17),
        "grey": F.rgb_to_grayscale(image, 3),
        "sharpness": F.adjust_sharpness(image, 1.6),
        "autocontrast": F.autocontrast(image),
        "blur": F.gaussian_blur(image, [9, 9], [1.3, 1.3]),
        "vertical_flip": F.vertical_flip(image),
        "resized_crop": F.resized_crop(image, 3, 5, 10, 12, [20, 24], antialias=False),
        "rotate": F.rotate(image, 25.0, interpolation=BILINEAR),
        "translate": F.affine(image, 0.0, [4, -3], 1.0, [0.0, 0.0], interpolation=BILINEAR),
        "scale": F.affine(image, 0.0, [0, 0], 1.4, [0.0, 0.0], interpolation=BILINEAR),
        "shear": F.affine(image, 0.0, [0, 0], 1.0, [20.0, 0.0], interpolation=BILINEAR),
    }
    np.savez(sys.argv[1], **{name: one.permute(1, 2, 0).numpy() for name, one in found.items()})


if __name__ == "__main__":
    main()
