"""The networks as tests want them: thin, on small images, and one of each kind where all would take too long."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import pytest

from cnnlab.models import MODELS

WIDTH = 0.125


def kind(name: str) -> type[nn.Module]:
    """The class of a model of MODELS."""
    return getattr(MODELS[name], "func", MODELS[name])


def fields(name: str) -> set[str]:
    """The knobs of a model."""
    return {field.name for field in dataclasses.fields(kind(name))}


def thin(name: str) -> dict[str, Any]:
    """Knobs that make a network cheap: few channels, and the stem for small images where it has one."""
    cheap = {"width": WIDTH, "stem": "small"}
    return {knob: value for knob, value in cheap.items() if knob in fields(name)}


ZOO = [name for name in MODELS if "width" in fields(name)]
"""The networks of the verified zoo, which have all knobs of it."""


DEEP = (
    "cifar_resnet1202",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "cifar_densenet100_24",
    "cifar_densenet_bc190_40",
    "cifar_densenet_bc250_24",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
)
"""Networks of so many layers that tracing them takes many times as long as the others."""


@functools.cache
def kinds() -> list[str]:
    """The first model of each class of the zoo."""
    return list({kind(name): name for name in reversed(ZOO)}.values())[::-1]


def deep_later(names: list[str]) -> list[Any]:
    """The names as parameters of a test; the deep networks are for the slow stage."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in names]
