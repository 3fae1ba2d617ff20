"""What is compared with an independent implementation: an oracle's network and ours."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One network of a reference library and the model that must equal it."""

    oracle: str
    """`library:model`."""
    model: str
    """Name in MODELS."""
    size: int
    """Side of the images."""
    knobs: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Our model's knobs, by name as on the command line ({"norm": "batch"})."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the reference is built with, such as num_classes."""
    classes: int = 1000
    gradients: bool = False
    """Also compare the gradients of one batch in training mode: one network of each family."""
    batch: int = 4
    channels: int = 3

    @property
    def name(self) -> str:
        """`torchvision-resnet18`."""
        return self.oracle.replace(":", "-")
