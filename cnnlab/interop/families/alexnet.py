"""Names of AlexNet in torchvision (`alexnet`) and pytorchcv (`alexnet` and `alexnetb`)."""

import dataclasses
import re

import flax.linen as nn

from cnnlab.interop.scheme import RELU, Scheme, always, by_rules
from cnnlab.models.alexnet import GRID, AlexNet

FLATTENED = {"fc6": (GRID, GRID)}

_SEQUENTIAL = {
    **{f"features.{place}": f"conv{number}" for number, place in enumerate((0, 3, 6, 8, 10), start=1)},
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "output",
}
"""Name in torchvision, which numbers all layers of a sequence, those without weights too -> ours."""

_STAGED = by_rules(
    (r"^features\.stage([12])\.unit1\.conv$", r"conv\1"),
    (r"^output\.fc1\.fc$", "fc6"),
    (r"^output\.fc2\.fc$", "fc7"),
    (r"^output\.fc3$", "output"),
)


def sequential(name: str, model: nn.Module) -> str | None:
    """Renames a layer of torchvision."""
    return _SEQUENTIAL.get(name, name)


def staged(name: str, model: nn.Module) -> str | None:
    """Renames a layer of pytorchcv, whose third stage holds conv3, conv4 and conv5."""
    third = re.fullmatch(r"features\.stage3\.unit(\d+)\.conv", name)
    return f"conv{2 + int(third[1])}" if third else _STAGED(name, model)


PYTORCHCV = Scheme("pytorchcv", staged, FLATTENED, unseen=(RELU,))

_ORIGINAL = always(
    "lrn",
    True,
    "has local response normalisation (alexnet)",
    applies=lambda model: model.channels[0] == 96 and model.width == 1,
)
_ONE_TOWER = always(
    "lrn", False, "has no local response normalisation (alexnetb)", applies=lambda model: model.channels[0] == 64
)
_TORCHVISION = (
    RELU,
    always("lrn", False, "has no local response normalisation"),
    always("paddings", (2, 2), "pads its first two convolutions by 2"),
    always("overlapping", True, "pools 3x3 with a stride of 2"),
    always("ceil", False, "leaves incomplete windows of a pooling out"),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    AlexNet: (
        Scheme("torchvision", sequential, FLATTENED, unseen=_TORCHVISION),
        dataclasses.replace(PYTORCHCV, unseen=(RELU, _ORIGINAL, _ONE_TOWER)),
    )
}
