"""Names of MobileNet and MobileNetV2.

pytorchcv's MobileNetV2 is another network (with one more convolution and no bias in the last layer) and has no scheme.
"""

import re

import flax.linen as nn

from cnnlab.interop.scheme import RELU, Scheme, activation, always, by_rules, epsilon
from cnnlab.models.inverted_residual import Stage
from cnnlab.models.mobilenet import MobileNetV1, MobileNetV2

LEAF = {"0": "conv", "1": "norm"}
"""Number in torchvision's pairs of convolution and norm -> our name."""


def parts(row: Stage, *, squeezed: bool) -> list[str]:
    """Returns our names of the parts of an inverted residual, in order."""
    return [*(["expand"] if row.expansion > 1 else []), "depthwise", *(["se"] if squeezed else []), "project"]


def torchvision_ends(name: str, last: int) -> str:
    """Renames stem, head and output of torchvision, where `last` is the number of the head."""
    name = re.sub(r"^features\.0\.([01])$", lambda found: f"stem/{LEAF[found[1]]}", name)
    name = re.sub(rf"^features\.{last}\.([01])$", lambda found: f"head/{LEAF[found[1]]}", name)
    return re.sub(r"^classifier\.1$", "output", name)


def _torchvision(name: str, model: MobileNetV2) -> str:
    """Renames a layer of torchvision, which numbers blocks over all stages and does not nest the last pair of a block."""
    blocks = [(stage, number, row) for stage, row in enumerate(model.stages(), 1) for number in range(1, row.depth + 1)]
    found = re.fullmatch(r"features\.(\d+)\.conv\.(\d+)(?:\.([01]))?", name)
    if found is None or not 1 <= int(found[1]) <= len(blocks):
        return torchvision_ends(name, len(blocks) + 1)
    stage, number, row = blocks[int(found[1]) - 1]
    ours, index = parts(row, squeezed=False), int(found[2])
    pair = (ours[index], found[3]) if found[3] else (ours[-1], str(index - len(ours) + 1))
    return f"stage{stage}_block{number}/{pair[0]}/{LEAF.get(pair[1], '')}"


_TIMM_ENDS = by_rules(
    (r"^conv_stem$", "stem/conv"),
    (r"^bn1$", "stem/norm"),
    (r"^conv_head$", "head/conv"),
    (r"^bn2$", "head/norm"),
    (r"^classifier$", "output"),
)

_TIMM_SQUEEZE = {"se.conv_reduce": "se/squeeze", "se.conv_expand": "se/excite"}


def _timm_block(name: str, model: nn.Module) -> tuple[int, str, str] | None:
    """Returns (number of the stage from 0, our name of the block, the rest of the name); None outside blocks."""
    found = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", name)
    return (int(found[1]), f"stage{int(found[1]) + 1}_block{int(found[2]) + 1}", found[3]) if found else None


def timm_inverted(name: str, model: nn.Module) -> str | None:
    """Renames a layer of timm, which numbers norms within a block; without widening, its `conv_pw` is the narrowing layer."""
    block, rows = _timm_block(name, model), model.stages()
    if block is None or block[0] >= len(rows):
        return _TIMM_ENDS(name, model)
    convolutions = parts(rows[block[0]], squeezed=False)
    theirs = ["conv_pw", "conv_dw", "conv_pwl"] if len(convolutions) == 3 else ["conv_dw", "conv_pw"]
    ours = {their: f"{our}/conv" for their, our in zip(theirs, convolutions, strict=True)}
    ours |= {f"bn{number}": f"{our}/norm" for number, our in enumerate(convolutions, start=1)} | _TIMM_SQUEEZE
    return f"{block[1]}/{ours.get(block[2], block[2])}"


def _timm_separable(name: str, model: nn.Module) -> str | None:
    block = _timm_block(name, model)
    if block is None:
        return _TIMM_ENDS(name, model)
    ours = {"conv_dw": "depthwise/conv", "bn1": "depthwise/norm", "conv_pw": "pointwise/conv", "bn2": "pointwise/norm"}
    return f"{block[1]}/{ours.get(block[2], block[2])}"


_PYTORCHCV_SEPARABLE = by_rules(
    (r"^features\.", ""),
    (r"\.bn$", ".norm"),
    (r"^init_block\.(conv|norm)$", r"stem/\1"),
    (r"^stage(\d+)\.unit(\d+)\.dw_conv\.", r"stage\1_block\2/depthwise/"),
    (r"^stage(\d+)\.unit(\d+)\.pw_conv\.", r"stage\1_block\2/pointwise/"),
)

UNSEEN = (
    activation("relu6"),
    always("shortcut", True, "has shortcuts between the narrow ends of its blocks"),
    always("linear", True, "has no activation after a narrowing convolution"),
)
"""Properties of MobileNetV2 in every library."""

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    MobileNetV1: (
        Scheme("timm", _timm_separable, unseen=(activation("relu6"), epsilon(1e-5))),
        Scheme("pytorchcv", _PYTORCHCV_SEPARABLE, unseen=(RELU, epsilon(1e-5))),
    ),
    MobileNetV2: (
        Scheme("torchvision", _torchvision, unseen=(*UNSEEN, epsilon(1e-5))),
        Scheme("timm", timm_inverted, unseen=(*UNSEEN, epsilon(1e-5))),
    ),
}
"""Schemes by class of model."""
