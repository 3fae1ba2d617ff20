"""Names of the networks of detection in torchvision: SSD300, and RetinaNet, Faster R-CNN and Mask R-CNN on ResNets.

Files of older releases, as the published weights are, lack a number in the names of some convolutions.
"""

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from cnnlab.interop.families import resnet
from cnnlab.interop.scheme import RELU, Form, Leaves, Scheme, Unseen, always, by_rules
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.models.retinanet import RetinaNet
from cnnlab.models.ssd import EXTRAS, SSD300, STAGES

_SSD_ENDS = by_rules(
    (r"^backbone\.conv4_3_norm$", "conv4_3_norm"),
    (r"^backbone\.extra\.0\.7\.1$", "fc6"),
    (r"^backbone\.extra\.0\.7\.3$", "fc7"),
    (r"^head\.classification_head\.module_list\.(\d+)$", r"output/class\1"),
    (r"^head\.regression_head\.module_list\.(\d+)$", r"output/box\1"),
)


def _ssd_layers() -> dict[str, str]:
    """Returns {torchvision's name: ours} of the convolutions of VGG-16, which it counts with activations and poolings."""
    found, number = {}, 0
    for stage, _, depth in STAGES:
        # The second half, from the fourth pooling on, is counted anew.
        place, number = ("backbone.extra.0", 1) if stage == len(STAGES) else ("backbone.features", number)
        for each in range(1, depth + 1):
            found[f"{place}.{number}"] = f"conv{stage}_{each}"
            number += 2
        number += 1
    for number, (stage, *_) in enumerate(EXTRAS, start=1):
        found |= {f"backbone.extra.{number}.{2 * half}": f"conv{stage}_{half + 1}" for half in (0, 1)}
    return found


_SSD_LAYERS = _ssd_layers()


def _ssd(name: str, model: Any) -> str:
    """Renames a layer of torchvision's ssd300_vgg16."""
    return _SSD_LAYERS.get(name) or _SSD_ENDS(name, model) or name


def _named_scale(leaves: Leaves) -> tuple[Leaves, dict[str, str]]:
    """Gives the scale of the normalised map, a leaf of the whole backbone there, the name of a layer."""
    name = "backbone.scale_weight"
    return {"backbone.conv4_3_norm.weight" if key == name else key: leaf for key, leaf in leaves.items()}, {}


def _on_pyramid(rename_head: Callable[[str, nn.Module], str | None]) -> Callable[[str, Any], str | None]:
    """Makes the `rename` of a network on a feature pyramid of a ResNet, whose head is renamed by a function."""

    def rename(name: str, model: Any) -> str | None:
        if name.startswith("backbone.body."):
            return f"backbone/{resnet.torch_name(name.removeprefix('backbone.body.'), model)}"
        if found := re.fullmatch(r"backbone\.fpn\.(inner|layer)_blocks\.(\d+)(?:\.0)?", name):
            return f"pyramid/{'lateral' if found[1] == 'inner' else 'level'}{model.first_level + int(found[2])}"
        if found := re.fullmatch(r"backbone\.fpn\.extra_blocks\.p(\d+)", name):
            return f"pyramid/level{found[1]}"
        return rename_head(name, model)

    return rename


_RETINANET = by_rules((r"^head\.(class|box)\.", r"output/\1/"), (r"^head\.(class|box)$", r"output/\1"))


def _retinanet_tower(name: str, model: nn.Module) -> str | None:
    """Renames `head.class.tower.2`; torchvision counts the activations of older files, too."""
    found = re.fullmatch(r"head\.(class|box)\.tower\.(\d+)", name)
    return f"{found[1]}_tower{int(found[2]) + 1}/conv" if found else _RETINANET(name, model)


def _retinanet_leaves(leaves: Leaves) -> tuple[Leaves, dict[str, str]]:
    """Counts the convolutions of a tower by one in files of all releases, and names the bias of the last one apart."""
    given = {}
    is_old = any(re.fullmatch(r"head\.\w+_head\.conv\.\d+\.weight", name) for name in leaves)
    for name, leaf in leaves.items():
        part = {"head.classification_head.": "head.class", "head.regression_head.": "head.box"}
        start = next((start for start in part if name.startswith(start)), "")
        rest = name.removeprefix(start)
        if tower := re.fullmatch(r"conv\.(\d+)(?:\.0)?\.(\w+)", rest) if start else None:
            number = int(tower[1]) // 2 if is_old else int(tower[1])
            name = f"{part[start]}.tower.{number}.{tower[2]}"
        elif start:
            # The bias lies beside the convolution here: `output/class/bias` and `output/class/conv/kernel`.
            last = rest.rpartition(".")[2]
            name = f"{part[start]}.bias" if last == "bias" else f"{part[start]}.conv.{last}"
        given[name] = leaf
    return given, {}


_FASTER_RCNN = by_rules(
    (r"^rpn\.head\.conv(\.0\.0)?$", "proposal/conv"),
    (r"^rpn\.head\.cls_logits$", "proposal/logit"),
    (r"^rpn\.head\.bbox_pred$", "proposal/box"),
    (r"^roi_heads\.box_head\.fc6$", "region1"),
    (r"^roi_heads\.box_head\.fc7$", "region2"),
    (r"^roi_heads\.box_predictor\.cls_score$", "output/class"),
    (r"^roi_heads\.box_predictor\.bbox_pred$", "output/box"),
    ignored=(r"^roi_heads\.mask_",),
)

_MASK_ENDS = {"roi_heads.mask_predictor.conv5_mask": "mask/double", "roi_heads.mask_predictor.mask_fcn_logits": "output/mask"}


def _mask_rcnn_head(name: str, model: nn.Module) -> str | None:
    """Renames `roi_heads.mask_head.2.0`, or mask_fcn3 in files of older releases, and the layers of Faster R-CNN."""
    if found := re.fullmatch(r"roi_heads\.mask_head\.(?:(\d+)\.0|mask_fcn(\d+))", name):
        return f"mask/conv{found[2] or int(found[1]) + 1}"
    return _MASK_ENDS.get(name) or _FASTER_RCNN(name, model)


def _mask_rcnn_leaves(leaves: Leaves) -> tuple[Leaves, dict[str, str]]:
    """Turns the kernel of the transposed convolution, which is [inputs, outputs, H, W] and not flipped there."""
    name = "roi_heads.mask_predictor.conv5_mask.weight"
    if name not in leaves:
        return leaves, {}
    # [inputs, outputs, H, W] -> [outputs, inputs, H, W], rows and columns from the last on
    return {**leaves, name: leaves[name].swapaxes(0, 1)[:, :, ::-1, ::-1]}, {name: "a transposed convolution, flipped"}


_EPSILON = Unseen(
    "backbone.norm.epsilon",
    (
        Form(r"\w+_resnet50_fpn_coco", "torchvision's published one", "adds nothing to the variance in its norms", 1e-12, True),
        Form(".*", "a torchvision network that was trained since", "adds 1e-05 to the variance in its norms", 1e-5),
    ),
    changeable=True,
)
_HALF_CELL = always("pool", "half_cell", "pools regions half a cell off")
_SIDES = always("sides", "torchvision", "has the default boxes of COCO, none larger than the image")
_FROM_255 = "images in [0, 255] minus the mean colour (123, 117, 104)"

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    SSD300: (Scheme("torchvision", _ssd, prepare=_named_scale, unseen=(RELU, _SIDES), inputs=_FROM_255),),
    RetinaNet: (Scheme("torchvision", _on_pyramid(_retinanet_tower), prepare=_retinanet_leaves, unseen=(RELU, _EPSILON)),),
    FasterRCNN: (Scheme("torchvision", _on_pyramid(_FASTER_RCNN), {"region1": (7, 7)}, unseen=(RELU, _HALF_CELL, _EPSILON)),),
    MaskRCNN: (
        Scheme(
            "torchvision",
            _on_pyramid(_mask_rcnn_head),
            {"region1": (7, 7)},
            prepare=_mask_rcnn_leaves,
            unseen=(RELU, _HALF_CELL, _EPSILON),
        ),
    ),
}
"""Schemes by class of model. A file of Mask R-CNN starts Faster R-CNN: the layers of masks are left out."""
