"""Names of DenseNet for ImageNet and, in pytorchcv, for CIFAR.

For CIFAR, pytorchcv's networks without bottleneck use compression and a stem of twice the growth, which those of the paper do
not: `--model.compression=0.5 --model.channels=none`.
"""

import flax.linen as nn

from cnnlab.interop.scheme import RELU, Scheme, by_rules, epsilon
from cnnlab.models.densenet import DenseNet

_TORCH = by_rules(
    (r"^features\.", ""),
    (r"^conv0$", "stem/conv"),
    (r"^norm0$", "stem/norm"),
    (r"^norm5$", "norm"),
    (r"^classifier$", "output"),
    (r"^denseblock(\d+)\.denselayer(\d+)\.(conv|norm)\.?(\d)$", r"stage\1_layer\2/\3\4"),  # "conv.1" in weights of 2017
    (r"^transition(\d+)\.(conv|norm)$", r"transition\1/\g<2>1"),
)


def _pytorchcv(name: str, model: nn.Module) -> str | None:
    """Renames a layer of pytorchcv, where the transition 1 of the paper is the first unit of stage 2."""
    for stage in range(2, len(model.blocks) + 1):
        name = name.replace(f"stage{stage}.trans{stage}.conv.", f"transition{stage - 1}/1")
    return _PYTORCHCV_PARTS(name, model)


_PYTORCHCV_PARTS = by_rules(
    (r"^features\.", ""),
    (r"^init_block\.conv$", "stem/conv"),
    (r"^init_block\.bn$", "stem/norm"),
    (r"^init_block$", "stem"),
    (r"^post_activ\.bn$", "norm"),
    (r"^stage(\d+)\.unit(\d+)\.conv\.", r"stage\1_layer\2/1"),
    (r"^stage(\d+)\.unit(\d+)\.conv(\d)\.", r"stage\1_layer\2/\3"),
    (r"/(\d)conv$", r"/conv\1"),
    (r"/(\d)bn$", r"/norm\1"),
)

_UNSEEN = (RELU, epsilon(1e-5))
"""Growth, compression, bottlenecks and the stem of timm's antialiased networks are visible in names and shapes."""

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    DenseNet: (
        Scheme("torchvision", _TORCH, unseen=_UNSEEN),
        Scheme("timm", _TORCH, unseen=_UNSEEN),
        Scheme("pytorchcv", _pytorchcv, unseen=_UNSEEN),
    ),
}
"""torchvision and timm use the same names, so that a report names torchvision for both."""
