"""Names of EfficientNet of any width and depth."""

import re

import flax.linen as nn

from cnnlab.interop.families.mobilenet import LEAF, parts, timm_inverted, torchvision_ends
from cnnlab.interop.scheme import Scheme, by_rules
from cnnlab.models.efficientnet import EfficientNet


def _torchvision(name: str, model: EfficientNet) -> str:
    """Renames `features.2.0.block.1.1` of torchvision, which numbers parts of blocks, to `stage2_block1/depthwise/norm`."""
    rows = model.stages()
    found = re.fullmatch(r"features\.(\d+)\.(\d+)\.block\.(\d+)\.(0|1|fc1|fc2)", name)
    if found is None or not 1 <= int(found[1]) <= len(rows):
        return torchvision_ends(name, len(rows) + 1)
    part = parts(rows[int(found[1]) - 1], squeezed=model.squeeze != 0)[int(found[3])]
    leaf = {**LEAF, "fc1": "squeeze", "fc2": "excite"}[found[4]]
    return f"stage{found[1]}_block{int(found[2]) + 1}/{part}/{leaf}"


def _pytorchcv(name: str, model: EfficientNet) -> str | None:
    """Renames a layer of pytorchcv, where a stage ends where the image shrinks, so that it holds several of ours."""
    units: list[list[str]] = []
    for stage, row in enumerate(model.TABLE_1, start=1):
        if stage == 1 or row.strides > 1:
            units.append([])
        units[-1] += [f"stage{stage}_block{number}/" for number in range(1, model.stages()[stage - 1].depth + 1)]
    found = re.match(r"features\.stage(\d+)\.unit(\d+)\.", name)
    if found and int(found[1]) <= len(units) and int(found[2]) <= len(units[int(found[1]) - 1]):
        name = units[int(found[1]) - 1][int(found[2]) - 1] + name[found.end() :]
    return _PYTORCHCV_PARTS(name, model)


_PYTORCHCV_PARTS = by_rules(
    (r"^features\.", ""),
    (r"\.bn$", ".norm"),
    (r"^init_block\.conv\.", "stem/"),
    (r"^final_block\.", "head/"),
    (r"^output\.fc$", "output"),
    (r"/se\.conv1$", "/se/squeeze"),
    (r"/se\.conv2$", "/se/excite"),
    (r"/conv1\.", "/expand/"),
    (r"/(?:dw_conv|conv2)\.", "/depthwise/"),
    (r"/(?:pw_conv|conv3)\.", "/project/"),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    EfficientNet: (
        Scheme("torchvision", _torchvision),
        Scheme("timm", timm_inverted),
        Scheme("pytorchcv", _pytorchcv),
    ),
}
"""The schemes of EfficientNet."""
