"""Names of the residual families: ResNet, its ResNeXt, wide and squeeze-and-excitation forms, and pre-activation."""

import re
from typing import Any

import flax.linen as nn

from cnnlab.interop.scheme import NOT_HERE, RELU, Form, Scheme, Unseen, always, by_rules, epsilon
from cnnlab.models import norms
from cnnlab.models.preact_resnet import PreActResNet
from cnnlab.models.resnet import ResNet


def torch_name(name: str, model: nn.Module) -> str:
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


def _is_deep(model: Any) -> bool:
    """Whether the blocks are bottlenecks, whose stride may be in the first convolution or in the second."""
    return bool(model.block == "bottleneck")


def _is_basic(model: Any) -> bool:
    return not _is_deep(model)


def _has_batch_norm(model: Any) -> bool:
    """Whether the norms have running statistics, which a file shows."""
    return norms_name(model) == "batch"


def norms_name(model: Any) -> str:
    """Returns the name of the model's norm."""
    function = getattr(model.norm, "func", model.norm)
    return next((name for name, norm in norms.NORMS.items() if norm is function), "")


FIRST, SECOND = "shrinks the image in the first 1x1 of a block (v1)", "shrinks the image in the 3x3 of a block (v1.5)"

_BASIC = Unseen(
    "stride_at", (Form(".*", "every library's network of these names", "shrinks in the first 3x3", "first"),), _is_basic
)

_STRIDE_TORCH = Unseen(
    "stride_at",
    (
        Form(r".*caffe.*|.*msra.*|.*_v1", "a ResNet in the style of Caffe (Detectron, mmdetection)", FIRST, "first", rare=True),
        Form(r".*resnet.*|.*resnext.*", "torchvision's or timm's resnet50", SECOND, "second"),
    ),
    _is_deep,
)

_ANTIALIASED = Unseen(
    None,
    (
        Form(
            r".*res\w*?(?:blur|aa)\d+.*", "timm's resnetblur50 or resnetaa50", "blurs or averages before it shrinks", NOT_HERE
        ),
        Form(r".*resnet\d+.*", "torchvision's or timm's resnet50", "does not blur before it shrinks", None),
    ),
    lambda model: model.groups == 1 and not model.se and model.stem == "imagenet",
)
"""The filters of timm are no part of its state dicts; its antialiased ResNeXt and SE networks have other stems."""

_SMALL_STEM = Unseen(
    "stem",
    (
        Form("", "a network for small images", "has a 3x3 stem of stride 1 without pooling", "small"),
        Form("", "one whose stem has a stride or a pooling", "shrinks the image in the stem", NOT_HERE),
    ),
    lambda model: model.stem == "small",
)

_STRIDE_PYTORCHCV = Unseen(
    "stride_at",
    (
        Form(r"(?:se|pre|sepre)*resnet\d+b", "pytorchcv's resnet50b, seresnet50b or preresnet50b", SECOND, "second"),
        Form(r"(?:se|pre|sepre)*resnet\d+", "pytorchcv's resnet50, seresnet50 or preresnet50", FIRST, "first"),
    ),
    lambda model: _is_deep(model) and model.stem == "imagenet" and getattr(model, "groups", 1) == 1,
)

_STRIDE_PYTORCHCV_ALWAYS = Unseen(
    "stride_at",
    (Form(".*", "pytorchcv's ResNeXt and its networks for CIFAR", SECOND, "second"),),
    lambda model: _is_deep(model) and not _STRIDE_PYTORCHCV.applies(model),
)

_DILATED = Unseen(
    None,
    (
        Form(r"resnetd\d+b?", "pytorchcv's resnetd50b", "dilates its last stages in place of their stride", NOT_HERE),
        Form(r".*resnet\d+b?", "pytorchcv's resnet50 or resnet50b", "does not dilate", None),
    ),
    lambda model: _STRIDE_PYTORCHCV.applies(model) and not getattr(model, "se", False),
)

GROUPS = (
    Unseen(
        "norm",
        (Form(".*", "timm's resnet50_gn", "has group norm", "group"),),
        lambda model: norms_name(model) in ("group", "layer", "instance"),
    ),
    Unseen(
        "norm.groups",
        (Form(".*", "timm's resnet50_gn", "has norms of 32 groups", 32),),
        lambda model: norms_name(model) == "group",
    ),
)
"""Norms without running statistics have a scale and a shift for each channel, whatever they average over."""

_KERNELS = Unseen(
    None,
    (Form(".*", "timm's resnetv2_50x1_bit", "standardises its kernels and has group norm of 32 groups", NOT_HERE),),
    lambda model: not _has_batch_norm(model),
)
"""Of timm's pre-activation networks with this stem, those with batch norm have plain kernels and the others do not."""

_EPSILON = epsilon(1e-5)
_SHRINKS = always("dilated", 0, "shrinks the image in all stages but the first")
_SECOND = Unseen("stride_at", (Form(".*", "timm's resnetv2_50", SECOND, "second"),), _is_deep)
_TORCH_UNSEEN = (_BASIC, _STRIDE_TORCH, _ANTIALIASED, _SMALL_STEM, _SHRINKS, *GROUPS, RELU, _EPSILON)
_PYTORCHCV_UNSEEN = (_BASIC, _STRIDE_PYTORCHCV, _STRIDE_PYTORCHCV_ALWAYS, _DILATED, _SHRINKS, RELU, _EPSILON)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    ResNet: (
        Scheme("torchvision", torch_name, unseen=_TORCH_UNSEEN),
        Scheme("timm", torch_name, unseen=_TORCH_UNSEEN),
        Scheme("pytorchcv", _PYTORCHCV, unseen=_PYTORCHCV_UNSEEN),
    ),
    PreActResNet: (
        Scheme("timm", _timm_preact, unseen=(_BASIC, _SECOND, _KERNELS, RELU, _EPSILON)),
        Scheme("pytorchcv", _PYTORCHCV_PREACT, unseen=_PYTORCHCV_UNSEEN),
    ),
}
"""Schemes by class of model. torchvision and timm use the same names for ResNet, so a report names torchvision for both."""
