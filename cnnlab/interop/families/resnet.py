"""Names of the residual families: ResNet, its ResNeXt, wide and squeeze-and-excitation forms, and pre-activation."""

import re

import flax.linen as nn

from cnnlab.interop.scheme import Scheme, by_rules
from cnnlab.models.preact_resnet import PreActResNet
from cnnlab.models.resnet import ResNet


def _torch(name: str, model: nn.Module) -> str:
    """Renames `layer2.0.bn3` of torchvision and timm, which count blocks from 0, to `stage2_block1/norm3`."""
    name = re.sub(r"^layer(\d+)\.(\d+)\.", lambda found: f"stage{found[1]}_block{int(found[2]) + 1}/", name)
    return _TORCH_PARTS(name, model) or name


_TORCH_PARTS = by_rules(
    (r"^conv1$", "stem/conv"),
    (r"^bn1$", "stem/norm"),
    (r"^fc$", "output"),
    (r"/bn(\d)$", r"/norm\1"),
    (r"/downsample\.0$", "/shortcut/conv"),
    (r"/downsample\.1$", "/shortcut/norm"),
    (r"/se\.fc1$", "/se/squeeze"),
    (r"/se\.fc2$", "/se/excite"),
)

_PYTORCHCV = by_rules(
    (r"^features\.", ""),
    (r"^init_block\.(?:conv\.)?conv$", "stem/conv"),
    (r"^init_block\.(?:conv\.)?bn$", "stem/norm"),
    (r"^stage(\d+)\.unit(\d+)\.", r"stage\1_block\2/"),
    (r"/body\.conv(\d)\.conv$", r"/conv\1"),
    (r"/body\.conv(\d)\.bn$", r"/norm\1"),
    (r"/identity_conv\.conv$", "/shortcut/conv"),
    (r"/identity_conv\.bn$", "/shortcut/norm"),
    (r"/se\.(?:conv|fc)1$", "/se/squeeze"),
    (r"/se\.(?:conv|fc)2$", "/se/excite"),
)


def _timm_preact(name: str, model: nn.Module) -> str:
    """Renames `stages.1.blocks.0.norm3` of timm, which counts stages from 0 too, to `stage2_block1/norm3`."""
    name = re.sub(r"^stages\.(\d+)\.blocks\.(\d+)\.", lambda found: f"stage{int(found[1]) + 1}_block{int(found[2]) + 1}/", name)
    return _TIMM_PREACT_PARTS(name, model) or name


_TIMM_PREACT_PARTS = by_rules(
    (r"^stem\.conv$", "stem_conv"),
    (r"^head\.fc$", "output"),
    (r"/downsample\.conv$", "/shortcut"),
)

_PYTORCHCV_PREACT = by_rules(
    (r"^features\.", ""),
    (r"^init_block(?:\.conv)?$", "stem_conv"),
    (r"^init_block\.bn$", "stem_norm"),
    (r"^post_activ\.bn$", "norm"),
    (r"^stage(\d+)\.unit(\d+)\.", r"stage\1_block\2/"),
    (r"/body\.conv(\d)\.conv$", r"/conv\1"),
    (r"/body\.conv(\d)\.bn$", r"/norm\1"),
    (r"/identity_conv$", "/shortcut"),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    ResNet: (Scheme("torchvision", _torch), Scheme("timm", _torch), Scheme("pytorchcv", _PYTORCHCV)),
    PreActResNet: (Scheme("timm", _timm_preact), Scheme("pytorchcv", _PYTORCHCV_PREACT)),
}
"""Schemes by class of model. torchvision and timm use the same names for ResNet, so a report names torchvision for both."""
