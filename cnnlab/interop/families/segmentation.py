"""Names of the networks of segmentation: torchvision's FCN on ResNets, and pytorchcv's SegNet."""

import re
from typing import Any

import flax.linen as nn

from cnnlab.interop.families import resnet
from cnnlab.interop.scheme import RELU, Scheme, always, epsilon
from cnnlab.models.fcn import DilatedFCN
from cnnlab.models.segnet import SegNet

_HEADS = {
    f"{theirs}.{number}": place
    for theirs, hidden, output in (("classifier", "head", "output"), ("aux_classifier", "auxiliary_head", "auxiliary_output"))
    for number, place in ((0, f"{hidden}/conv"), (1, f"{hidden}/norm"), (4, output))
}


def _torchvision(name: str, model: Any) -> str | None:
    """Renames `backbone.layer4.0.bn3` to `backbone/stage4_block1/norm3`, and `classifier.4` to `output`."""
    if name.startswith("backbone."):
        return f"backbone/{resnet.torch_name(name.removeprefix('backbone.'), model)}"
    return None if name.startswith("aux_classifier.") and not model.auxiliary else _HEADS.get(name, name)


def _pytorchcv(name: str, model: Any) -> str:
    """Renames `up_stage1.unit2.conv` to `decoder5_1/conv`: the decoder counts its stages from the deepest, and unpooling."""
    found = re.fullmatch(r"(down|up)_stage(\d+)\.unit(\d+)\.(conv|bn)", name)
    if found is None:
        return "output" if name == "head" else name
    side, stage, unit, part = found[1], int(found[2]), int(found[3]), {"conv": "conv", "bn": "norm"}[found[4]]
    if side == "down":
        return f"encoder{stage}_{unit}/{part}"
    return f"decoder{len(model.depths) + 1 - stage}_{unit - 1}/{part}"


_DILATED = always("backbone.dilated", 2, "dilates the last two stages")
_SWITCHES = always("unpool", "switches", "unpools by switches")

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    DilatedFCN: (Scheme("torchvision", _torchvision, unseen=(_DILATED, RELU, epsilon(1e-5))),),
    SegNet: (Scheme("pytorchcv", _pytorchcv, unseen=(_SWITCHES, RELU, epsilon(1e-5))),),
}
