"""Names of SqueezeNet in torchvision (`squeezenet1_N`) and pytorchcv (`squeezenet_v1_N`; with bypass `squeezeresnet_v1_N`)."""

import re
from collections.abc import Iterator

import flax.linen as nn

from cnnlab.interop.scheme import RELU, Form, Scheme, Unseen
from cnnlab.models.squeezenet import FIRES, SqueezeNet


def _order(model: SqueezeNet) -> Iterator[str]:
    """Yields our name of each module of the sequence `features`, or an empty one for a module without weights."""
    yield from ("conv1", "")
    for number in FIRES:
        if number in model.pools:
            yield ""
        yield f"fire{number}"


def sequential(name: str, model: SqueezeNet) -> str | None:
    """Renames a layer of torchvision."""
    if name == "classifier.1":
        return "output"
    place, _, inner = name.removeprefix("features.").partition(".")
    module = dict(enumerate(_order(model))).get(int(place)) if place.isdigit() else None
    return f"{module}/{inner}/conv".replace("//", "/") if module else name


def staged(name: str, model: SqueezeNet) -> str | None:
    """Renames a layer of pytorchcv, whose stages each begin with a pooling."""
    unit = re.fullmatch(r"features\.stage(\d+)\.unit(\d+)\.(\w+)\.conv", name)
    if unit and int(unit[1]) <= len(model.pools):
        return f"fire{sorted(model.pools)[int(unit[1]) - 1] + int(unit[2]) - 1}/{unit[3]}/conv"
    return {"features.init_block.conv": "conv1/conv", "output.final_conv": "output"}.get(name, name)


_PLAIN = "has no shortcuts around its fire modules"
_NO_BYPASS = Unseen("bypass", (Form(".*", "torchvision's squeezenet", _PLAIN, False),))
_BYPASS = Unseen(
    "bypass",
    (
        Form(r"squeezeresnet.*", "pytorchcv's squeezeresnet", "adds shortcuts around its fire modules", True),
        Form(r"squeezenet.*", "pytorchcv's squeezenet", _PLAIN, False),
    ),
)

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    SqueezeNet: (
        Scheme("torchvision", sequential, unseen=(RELU, _NO_BYPASS)),
        Scheme("pytorchcv", staged, unseen=(RELU, _BYPASS)),
    )
}
