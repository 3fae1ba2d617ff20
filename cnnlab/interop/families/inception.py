"""Names of the Inception families: GoogLeNet, BN-Inception, Inception-v3, Inception-v4 and Inception-ResNet-v2.

An auxiliary head in the file is ignored where the model has none.
"""

import re
from collections.abc import Mapping

import flax.linen as nn

from cnnlab.interop.scheme import RELU, Scheme, always, by_rules, epsilon
from cnnlab.models import inception_bn, inception_v4
from cnnlab.models.googlenet import AUXILIARY, GRID, GoogLeNet
from cnnlab.models.inception_bn import InceptionBN
from cnnlab.models.inception_resnet_v2 import InceptionResNetV2
from cnnlab.models.inception_v3 import InceptionV3
from cnnlab.models.inception_v4 import InceptionV4

STEM = ("1a", "2a", "2b", "3b", "4a")
"""TensorFlow's names of the stem's convolutions in Inception-v3 and Inception-ResNet-v2."""

_PARTS = by_rules((r"[./]bn$", "/norm"), (r"\.conv$", "/conv"))
"""Renames a convolution and its norm, which all of them name alike."""

_GOOGLENET = by_rules(
    (r"^inception(\w+)\.", r"inception_\1/"),
    (r"/branch4\.1", "/branch4/conv1"),  # the pooling is number 0
    (r"/branch1", "/branch1/conv1"),
    (r"/branch(\d)\.0", r"/branch\1/conv1"),
    (r"/branch(\d)\.1", r"/branch\1/conv2"),
    (r"^aux(\d)\.fc1$", r"auxiliary\1/fc"),
    (r"^aux(\d)\.fc2$", r"auxiliary\1/output"),
    (r"^aux(\d)\.conv\.", r"auxiliary\1/conv/"),
    (r"^fc$", "output"),
    (r"\.(?=\w+$)", "/"),
    (r"/bn$", "/norm"),
)


def _googlenet(name: str, model: GoogLeNet) -> str | None:
    """Renames `inception3a.branch2.1.bn` of torchvision to `inception_3a/branch2/conv2/norm`."""
    return _GOOGLENET(name, model) if model.auxiliary or not name.startswith("aux") else None


def _module(grid: int, place: int) -> str:
    """Returns the module at a place of a grid (1, 2 or 3); grids 2 and 3 begin with a reduction, at place 0."""
    return f"inception_{'abc'[grid - 1]}{place}" if place else f"reduction_{'abc'[grid - 2]}"


_SINGLE = {
    "branch1x1": 1,
    "branch5x5": 2,
    "branch7x7": 2,
    "branch3x3": 2,
    "branch3x3dbl": 3,
    "branch7x7dbl": 3,
    "branch_pool": 4,
}
_SINGLE_OF_REDUCTION = {"branch3x3": 1, "branch3x3dbl": 2, "branch7x7x3": 2}
"""Name of a branch of Inception-v3 in torchvision -> its number here."""


def _inception_v3(name: str, model: InceptionV3) -> str | None:
    """Renames `Mixed_7b.branch3x3dbl_3a.conv` of torchvision and timm to `inception_c1/branch3/conv1x3/conv`."""
    if name.startswith("AuxLogits."):
        return _AUXILIARY_V3(name, model) if model.auxiliary else None
    if stem := re.match(r"Conv2d_(\d[ab])_\dx\d\.", name):
        return _PARTS(f"stem/conv{STEM.index(stem[1]) + 1}.{name[stem.end() :]}", model)
    mixed = re.match(r"Mixed_(\d)([a-z])\.(branch_pool|[a-z0-9]+)(?:_(\d)([ab]?))?\.", name)
    if not mixed:
        return {"fc": "output"}.get(name, name)
    module = _module(int(mixed[1]) - 4, ord(mixed[2]) - ord("a"))
    # "a" and "b" after the number of a convolution are the 1x3 and the 3x1 of a fork.
    branch = (_SINGLE_OF_REDUCTION if module.startswith("reduction") else _SINGLE).get(mixed[3])
    convolution = {"a": "1x3", "b": "3x1"}.get(mixed[5] or "", mixed[4] or "1")
    return _PARTS(f"{module}/branch{branch}/conv{convolution}.{name[mixed.end() :]}", model)


_AUXILIARY_V3 = by_rules(
    (r"^AuxLogits\.fc$", "auxiliary/output"),
    (r"^AuxLogits\.conv0\.", "auxiliary/conv1/"),
    (r"^AuxLogits\.conv1\.", "auxiliary/conv2/"),
    (r"/bn$", "/norm"),
)


def _timm_branch(rest: str) -> str:
    """Renames `branch1.0.conv`, `branch2_3a.conv` or `branch0.conv` of timm, which counts branches and convolutions from 0."""
    found = re.match(r"branch(\d)(?:[._](\d)([ab]?))?\.(?=conv$|bn$)", rest)
    if not found:
        return rest
    place = 1 if (found[1], found[2]) == ("3", "1") else int(found[2] or 0) + 1  # the pooling of the fourth is number 0
    convolution = {"a": "1x3", "b": "3x1"}.get(found[3] or "", str(place))
    return f"branch{int(found[1]) + 1}/conv{convolution}.{rest[found.end() :]}"


def _timm_v4(name: str, model: InceptionV4) -> str | None:
    """Renames `features.6.branch1.0.bn` of timm, one sequence of modules, to `inception_a1/branch2/conv1/norm`."""
    found = re.match(r"features\.(\d+)\.", name)
    if not found:
        return {"last_linear": "output"}.get(name, name)
    place, rest = int(found[1]), name[found.end() :]
    if place < 3:
        return _PARTS(f"stem/conv{place + 1}.{rest}", model)
    if place < 6:
        alone = {3: "branch2", 5: "branch1"}.get(place)  # a single convolution beside a pooling
        rest = re.sub(r"^conv\.", f"{alone}/conv1.", rest) if alone else _timm_branch(rest)
        return _PARTS(f"stem/mixed{place - 2}/{rest}", model)
    module = dict(enumerate(module for module, _ in inception_v4.modules(model.depths))).get(place - 6)
    return _PARTS(f"{module}/{_timm_branch(rest)}", model)


def _timm_resnet(name: str, model: InceptionResNetV2) -> str | None:
    """Renames `repeat_1.4.branch1.2.bn` of timm to `inception_b5/branch2/conv3/norm`."""
    if stem := re.match(r"conv2d_(\d[ab])\.", name):
        place = "final" if stem[1] == "7b" else f"stem/conv{STEM.index(stem[1]) + 1}"
        return _PARTS(f"{place}.{name[stem.end() :]}", model)
    if repeated := re.match(r"repeat(?:_(\d))?\.(\d+)\.", name):
        module, rest = _module(int(repeated[1] or 0) + 1, int(repeated[2]) + 1), name[repeated.end() :]
    else:
        first, _, rest = name.partition(".")
        module = {**_TIMM_RESNET, "block8": _module(3, model.depths[2])}.get(first, first)
    return _PARTS(f"{module}/{_timm_branch(rest)}".replace("/conv2d", "/project").removesuffix("/"), model)


_TIMM_RESNET: Mapping[str, str] = {
    "mixed_5b": "entry",
    "mixed_6a": "reduction_a",
    "mixed_7a": "reduction_b",
    "classif": "output",
}


_UNIT = re.compile(r"features\.stage(\d)\.unit(\d+)\.")


def _pytorchcv(name: str, model: nn.Module) -> str | None:
    """Renames `features.stage2.unit3.branches.branch2.conv_list.conv1.bn` of pytorchcv to `inception_b2/branch2/conv1/norm`."""
    if unit := _UNIT.match(name):
        grid, number = int(unit[1]), int(unit[2])
        name = f"{_module(grid, number - (grid > 1))}/{name[unit.end() :]}"
    return _PYTORCHCV(name, model)


def _pytorchcv_bn(name: str, model: InceptionBN) -> str | None:
    """Renames `features.stage2.unit2.branches.branch1.conv` of pytorchcv to `inception_4a/branch1/conv1/conv`."""
    if unit := _UNIT.match(name):
        modules = list(inception_bn.MODULES)
        starts = [0, *(place for place, channels in enumerate(inception_bn.MODULES.values()) if not channels[0])]
        name = f"inception_{modules[starts[int(unit[1]) - 1] + int(unit[2]) - 1]}/{name[unit.end() :]}"
    return _PYTORCHCV(_PYTORCHCV_BN_STEM(name, model) or name, model)


_PYTORCHCV_BN_STEM = by_rules(
    (r"^features\.init_block\.conv1\.", "conv1."),
    (r"^features\.init_block\.conv2\.conv1\.", "conv2."),
    (r"^features\.init_block\.conv2\.conv2\.", "conv3."),
)


_PYTORCHCV = by_rules(
    (r"^features\.init_block\.block\.branches\.", "entry/"),
    (r"^features\.init_block\.block(\d)\.branches\.", r"stem/mixed\1/"),
    (r"^features\.init_block\.", "stem/"),
    (r"^features\.final_conv\.", "final."),
    (r"^output\.fc$", "output"),
    (r"/branches\.", "/"),
    (r"/conv$", "/project"),
    (r"\.conv_list\.", "."),
    (r"/(branch\d)\.(?:conv\.)?(?=conv$|bn$)", r"/\1/conv1."),
    (r"/(branch\d)\.", r"/\1/"),
    (r"\.(conv|bn)$", r"/\1"),
    (r"/bn$", "/norm"),
)

FLATTENED = {f"{head}/fc": (GRID, GRID) for head in AUXILIARY.values()}

HALVES = (
    "images in [0, 1] normalised by a mean and a standard deviation of 0.5, which torchvision's `transform_input` does inside "
    "its network"
)

UNSEEN = (RELU, epsilon(1e-3))

SCALES = always("scales", (0.17, 0.10, 0.20), "scales the branches of its blocks by 0.17, 0.10 and 0.20")

_GOOGLENET_UNSEEN = (
    *UNSEEN,
    always("lrn", False, "has no local response normalisation"),
    always("pooling", "torchvision", "pools 2x2 before its last modules"),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    GoogLeNet: (Scheme("torchvision", _googlenet, FLATTENED, unseen=_GOOGLENET_UNSEEN, inputs=HALVES),),
    InceptionBN: (Scheme("pytorchcv", _pytorchcv_bn, unseen=(RELU, epsilon(1e-5))),),
    InceptionV3: (
        Scheme("torchvision", _inception_v3, unseen=UNSEEN, inputs=HALVES),
        Scheme("timm", _inception_v3, unseen=UNSEEN, inputs=HALVES),
        Scheme("pytorchcv", _pytorchcv, unseen=UNSEEN),
    ),
    InceptionV4: (
        Scheme("timm", _timm_v4, unseen=UNSEEN, inputs=HALVES),
        Scheme("pytorchcv", _pytorchcv, unseen=UNSEEN),
    ),
    InceptionResNetV2: (
        Scheme("timm", _timm_resnet, unseen=(*UNSEEN, SCALES), inputs=HALVES),
        Scheme("pytorchcv", _pytorchcv, unseen=(*UNSEEN, SCALES)),
    ),
}
"""torchvision and timm use the same names for Inception-v3, so that a report names torchvision for both."""
