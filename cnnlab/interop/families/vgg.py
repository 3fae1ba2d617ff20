"""Names of VGG in torchvision and timm (`vggN`, `vggN_bn`) and pytorchcv (`vggN`, `bn_vggN`, `bn_vggNb`).

pytorchcv's `bn_vggN` has no biases in its convolutions: `--model.bias=false`.
"""

from collections.abc import Iterator

import flax.linen as nn

from cnnlab.interop.scheme import RELU, Scheme, always, by_rules, epsilon
from cnnlab.models import norms
from cnnlab.models.vgg import VGG

FLATTENED = {"fc6": (7, 7)}

_HEADS = by_rules(
    (r"^classifier\.0$", "fc6"),
    (r"^classifier\.3$", "fc7"),
    (r"^classifier\.6$", "output"),
    (r"^pre_logits\.fc1$", "fc6"),
    (r"^pre_logits\.fc2$", "fc7"),
    (r"^head\.fc$", "output"),
)

_STAGED = by_rules(
    (r"^features\.stage(\d+)\.unit(\d+)\.conv$", r"conv\1_\2"),
    (r"^features\.stage(\d+)\.unit(\d+)\.bn$", r"norm\1_\2"),
    (r"^output\.fc1\.fc$", "fc6"),
    (r"^output\.fc2\.fc$", "fc7"),
    (r"^output\.fc3$", "output"),
)


def _order(model: VGG) -> Iterator[str]:
    """Yields our name of each layer of the sequence `features`, or an empty one for a layer without weights."""
    for stage, depth in enumerate(model.depths, start=1):
        for number in range(1, depth + 1):
            yield f"conv{stage}_{number}"
            if model.norm is not norms.no_norm:
                yield f"norm{stage}_{number}"
            yield ""
        yield ""


def sequential(name: str, model: VGG) -> str | None:
    """Renames a layer of torchvision or timm."""
    numbered = {f"features.{number}": ours for number, ours in enumerate(_order(model)) if ours}
    return numbered.get(name) or _HEADS(name, model)


UNSEEN = (RELU, always("lrn", False, "has no local response normalisation"), epsilon(1e-5))

SCHEMES: dict[type[nn.Module], tuple[Scheme, ...]] = {
    VGG: (
        Scheme("torchvision", sequential, FLATTENED, unseen=UNSEEN),
        Scheme("timm", sequential, FLATTENED, unseen=UNSEEN),
        Scheme("pytorchcv", _STAGED, FLATTENED, unseen=UNSEEN),
    )
}
