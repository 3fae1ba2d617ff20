"""The scheme by which a library names the weights of a family of networks: one small table for a whole family."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

Leaves = dict[str, np.ndarray]

NAMES_OF_NETWORK = ("architecture", "arch", "model_name")
"""Entries of a file's header with the name of the network in its library."""

SHOWN = 10
"""Number of leaves that an error lists."""


def first_few(rows: list[str]) -> str:
    """Formats the first rows of a long list, and the number of the others."""
    return ", ".join(rows[:SHOWN]) + (f" … and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def unchanged(leaves: Leaves) -> tuple[Leaves, dict[str, str]]:
    """Returns the leaves as they are: the `prepare` of most libraries."""
    return leaves, {}


NOT_HERE = "no knob here"
"""Value of a `Form` that no knob of our network can express."""


@dataclasses.dataclass(frozen=True)
class Form:
    """One of the forms that a property has among the networks of a library."""

    networks: str
    """Pattern that the names of these networks in the library match as a whole ("resnet\\d+b")."""
    example: str
    """One of these networks, with its library: "timm's resnetblur50"."""
    has: str
    """What these networks have, after "it": "shrinks the image in the 3x3"."""
    value: Any
    """The value of our knob that is the same, or `NOT_HERE`."""
    rare: bool = False
    """Whether weights of this form are so rare that they are mentioned only where our network has it."""


@dataclasses.dataclass(frozen=True)
class Unseen:
    """A property of a library's networks that names and shapes do not show."""

    knob: str | None
    """Our knob below the model ("stride_at", "norm.epsilon"); None where our network always has the form of value None."""
    forms: tuple[Form, ...]
    """The forms that the networks of these names and shapes have in the library."""
    applies: Callable[[Any], bool] = lambda model: True
    """Whether the property matters for our model."""
    changeable: bool = False
    """Whether training often goes on with another value on purpose: a difference is then stated and never refused."""


def always(knob: str, value: Any, has: str, *, applies: Callable[[Any], bool] = lambda model: True) -> Unseen:
    """Makes the `Unseen` of a knob that has one value in all networks of the library."""
    return Unseen(knob, (Form(".*", "", has, value),), applies, changeable=True)


def epsilon(value: float, applies: Callable[[Any], bool] = lambda model: True) -> Unseen:
    """Makes the `Unseen` of the constant that the library's batch norms add to the variance."""
    return always("norm.epsilon", value, f"adds {value:g} to the variance in its norms", applies=applies)


def activation(name: str, applies: Callable[[Any], bool] = lambda model: True) -> Unseen:
    """Makes the `Unseen` of the activation."""
    return always("activation", name, f"has the activation {name}", applies=applies)


RELU = activation("relu")


@dataclasses.dataclass(frozen=True)
class Source:
    """What a file of weights says beyond its leaves."""

    architecture: str = ""
    """Name of the network in its library ("resnetblur50"), in lower case; empty where it is not given."""
    given_by: str = ""
    """What gives that name: "config.json beside it", "its header" or "the file's name"."""
    knobs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Knobs of the run, where the weights are ours."""
    notes: tuple[str, ...] = ()
    """What was taken off, left out or changed while reading, one line each."""


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The names that a library gives to the layers of a family."""

    library: str
    """`torchvision`, `timm`, `pytorchcv`, `efficientnet_pytorch` or `keras`."""
    rename: Callable[[str, Any], str | None]
    """(layer's name in the library, without that of the leaf; our model) -> path of the layer here ("stage1_block1/conv1");
    None for a layer without a counterpart, such as an auxiliary head."""
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Our dense layers that follow a flattened [height, width, C], which torch flattens channels first: path -> (height,
    width)."""
    prepare: Callable[[Leaves], tuple[Leaves, dict[str, str]]] = unchanged
    """Leaves of the library -> (leaves that our network can take, {name: what was changed}), such as a bias that is merged."""
    unseen: tuple[Unseen, ...] = ()
    """What the names and shapes of the library do not show of a network's function."""
    caveat: str = ""
    """How the library's networks differ from ours whatever the knobs."""
    inputs: str = ""
    """What the published weights of the library expect of an image, where that is not the usual."""


def by_rules(*rules: tuple[str, str], ignored: tuple[str, ...] = ()) -> Callable[[str, nn.Module], str | None]:
    """Makes a `rename` that applies `re.sub` (pattern, replacement) in order; layers that match `ignored` are left out."""

    def rename(name: str, model: nn.Module) -> str | None:
        if any(re.match(pattern, name) for pattern in ignored):
            return None
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return name

    return rename
