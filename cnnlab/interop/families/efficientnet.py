"""Names of EfficientNet of any width and depth."""

import re
from typing import Any

import flax.linen as nn

from cnnlab.interop.families.mobilenet import LEAF, parts, timm_inverted, torchvision_ends
from cnnlab.interop.scheme import Form, Scheme, Unseen, activation, always, by_rules, epsilon
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

_ENDS = {"_conv_stem": "stem/conv", "_bn0": "stem/norm", "_conv_head": "head/conv", "_bn1": "head/norm", "_fc": "output"}
_PARTS = {
    "_expand_conv": "expand/conv",
    "_bn0": "expand/norm",
    "_depthwise_conv": "depthwise/conv",
    "_bn1": "depthwise/norm",
    "_se_reduce": "se/squeeze",
    "_se_expand": "se/excite",
    "_project_conv": "project/conv",
    "_bn2": "project/norm",
}


def _efficientnet_pytorch(name: str, model: EfficientNet) -> str:
    """Renames `_blocks.3._bn1` of efficientnet_pytorch, which numbers blocks over all stages."""
    blocks = [f"stage{stage}_block{i}" for stage, row in enumerate(model.stages(), 1) for i in range(1, row.depth + 1)]
    found = re.fullmatch(r"_blocks\.(\d+)\.(.+)", name)
    if found is None or int(found[1]) >= len(blocks):
        return _ENDS.get(name, name)
    return f"{blocks[int(found[1])]}/{_PARTS.get(found[2], found[2])}"


_TF = "pads as TensorFlow does, below and to the right alone where the stride is 2"
_PLAIN = "pads on all sides alike"
_SAME = always("padding", "same", _TF)
_SYMMETRIC = always("padding", "symmetric", _PLAIN)

_EPSILONS = (epsilon(1e-5, lambda model: model.width < 1.5), epsilon(1e-3, lambda model: model.width >= 1.5))
"""torchvision's b5, b6 and b7 (from a width of 1.6 on) have the authors' epsilon."""

_SILU = activation("silu", lambda model: model.squeeze != 0)
_RELU6 = activation("relu6", lambda model: model.squeeze == 0)
"""Of timm's networks, those without squeeze-and-excitation are efficientnet_lite."""


def _two_forms(tensorflow: str, plain: str, examples: tuple[str, str]) -> tuple[Unseen, Unseen]:
    """Makes the padding and the epsilon of a library that has both TensorFlow's networks and its own by the same names.

    Args:
        tensorflow: pattern of the names of the former.
        plain: pattern of the names of the latter.
        examples: one of each, with the library.
    """

    def forms(*values: tuple[str, Any]) -> tuple[Form, ...]:
        return tuple(Form(names, example, *v) for names, example, v in zip((tensorflow, plain), examples, values, strict=True))

    return (
        Unseen("padding", forms((_TF, "same"), (_PLAIN, "symmetric"))),
        Unseen("norm.epsilon", forms(("adds 0.001 to variances", 1e-3), ("adds 1e-05 to variances", 1e-5)), changeable=True),
    )


_TIMM = _two_forms(r"tf_efficientnet.*", r"efficientnet_.*", ("timm's tf_efficientnet_b0", "timm's efficientnet_b0"))
_PYTORCHCV = _two_forms(
    r"efficientnet_b\d[bc]",
    r"efficientnet_b\d",
    ("pytorchcv's efficientnet_b0b or efficientnet_b0c", "pytorchcv's efficientnet_b0"),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    EfficientNet: (
        Scheme("torchvision", _torchvision, unseen=(_SILU, _SYMMETRIC, *_EPSILONS)),
        Scheme("timm", timm_inverted, unseen=(_SILU, _RELU6, *_TIMM)),
        Scheme("pytorchcv", _pytorchcv, unseen=(_SILU, *_PYTORCHCV)),
        Scheme("efficientnet_pytorch", _efficientnet_pytorch, unseen=(_SILU, _RELU6, _SAME, epsilon(1e-3))),
    ),
}
"""The schemes of EfficientNet."""
