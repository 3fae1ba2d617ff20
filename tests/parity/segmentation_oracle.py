"""Writes the fixture of networks of segmentation from torchvision and pytorchcv; runs in an environment of its own, with torch.

    python segmentation_oracle.py FILE

For each network the file holds NAME/state/LEAF (f32), NAME/input [B, C, H, W] (f32), and in f64 NAME/logits [B, K, H, W],
NAME/auxiliary where there is such a head, and NAME/signal, the largest change of a logit between images. The networks are
calibrated as those of oracle.py are. The sizes of the images of FCN are odd, as torchvision interpolates to any size; SegNet is
thin, as its width changes nothing but numbers of channels.
"""

import sys

import numpy as np
import torch
from oracle import build, calibrate

CLASSES = 5


def networks() -> dict[str, tuple[torch.nn.Module, tuple[int, int]]]:
    """The networks by name, and the size of their images."""
    from pytorchcv.models.segnet import SegNet

    options = {"weights_backbone": None, "aux_loss": True, "num_classes": CLASSES}
    channels = [[8, 16, 32, 64, 64], [64, 32, 16, 8, 8]]
    thin = SegNet(channels=channels, layers=[[3, 3, 4, 4, 4], [4, 4, 4, 3, 2]], num_classes=CLASSES)
    return {"fcn_resnet50": (build("torchvision:fcn_resnet50", options), (65, 49)), "segnet": (thin, (64, 96))}


def main() -> None:
    """Writes the file."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    arrays = {}
    for name, (model, size) in networks().items():
        images = torch.randn(2, 3, *size)
        calibrate(model, images)
        arrays |= {f"{name}/state/{leaf}": value.numpy().copy() for leaf, value in model.state_dict().items()}
        with torch.no_grad():
            found = model.double()(images.double())
        found = found if isinstance(found, dict) else {"out": found}
        logits = found["out"]
        arrays |= {f"{name}/input": images.numpy(), f"{name}/logits": logits.numpy()}
        arrays[f"{name}/signal"] = (logits[0] - logits[1:]).abs().max().numpy()
        if "aux" in found:
            arrays[f"{name}/auxiliary"] = found["aux"].numpy()
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
