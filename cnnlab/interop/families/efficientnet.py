"""Names of EfficientNet of any width and depth."""

import re

import flax.linen as nn

from cnnlab.interop.families.mobilenet import LEAF, parts, timm_inverted, torchvision_ends
from cnnlab.interop.scheme import NOT_HERE, Form, Scheme, Unseen, activation, by_rules, epsilon
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

_TF = "pads as TensorFlow does, below and to the right alone where the stride is 2, and adds 0.001 to variances"
_PLAIN = "pads on all sides alike and adds 1e-5 to variances"

_EPSILON = epsilon(1e-5)
_EPSILONS = (epsilon(1e-5, lambda model: model.width < 1.5), epsilon(1e-3, lambda model: model.width >= 1.5))
"""torchvision's b5, b6 and b7 (from a width of 1.6 on) have the authors' epsilon."""

_SILU = activation("silu", lambda model: model.squeeze != 0)
_RELU6 = activation("relu6", lambda model: model.squeeze == 0)
"""Of timm's networks, those without squeeze-and-excitation are efficientnet_lite."""

_TENSORFLOW = Unseen(
    None,
    (
        Form(r"tf_efficientnet.*", "timm's tf_efficientnet_b0", _TF, NOT_HERE),
        Form(r"efficientnet_.*", "timm's efficientnet_b0", _PLAIN, None),
    ),
)
_SUFFIXED = Unseen(
    None,
    (
        Form(r"efficientnet_b\d[bc]", "pytorchcv's efficientnet_b0b or efficientnet_b0c", _TF, NOT_HERE),
        Form(r"efficientnet_b\d", "pytorchcv's efficientnet_b0", _PLAIN, None),
    ),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    EfficientNet: (
        Scheme("torchvision", _torchvision, unseen=(_SILU, *_EPSILONS)),
        Scheme("timm", timm_inverted, unseen=(_SILU, _RELU6, _TENSORFLOW, _EPSILON)),
        Scheme("pytorchcv", _pytorchcv, unseen=(_SILU, _SUFFIXED, _EPSILON)),
    ),
}
"""The schemes of EfficientNet."""
