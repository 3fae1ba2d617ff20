"""What can be measured, by name: the parts, and the cases of each. Nothing here imports jax."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.parts import loops, named
from benchmarks.parts.steps import steps
from benchmarks.parts.ways import CONVOLVING, SHARED, accumulate, allocator, devices, kernels
from benchmarks.tables import Table


@dataclasses.dataclass(frozen=True)
class Case:
    """One table."""

    seconds: float
    """How long it takes on two idle cores, PyTorch included."""
    measure: Callable[..., Table]
    """(settings, …) -> table; its keyword arguments with a default can be set on the command line."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Cases that belong together."""

    measures: str
    cases: Mapping[str, Case]
    by_default: bool = False
    """Whether it is measured where no name is given."""


STEP_SECONDS = {
    "lenet5": 50,
    "autoencoder": 50,
    "depthwise": 80,
    "resnet18": 130,
    "unet": 80,
    "ssd": 80,
    "lstm": 50,
    "vae": 50,
}
SHAPES = ("64x32x32x64", "64x16x16x128", "64x8x8x256")
LISTS = ("flip,pad_crop", "flip,pad_crop,color_jitter", "random_resized_crop,flip", "rand_augment")


def _cases(measure: Callable[..., Table], seconds: float, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Case]:
    return {name: Case(seconds, functools.partial(measure, **values)) for name, values in given.items()}


PARTS: dict[str, Part] = {
    "steps": Part(
        "a training step of eight networks: cnnlab, Flax as its examples do, PyTorch eager, channels_last and compiled",
        {net: Case(seconds, functools.partial(steps, net=net)) for net, seconds in STEP_SECONDS.items()},
        by_default=True,
    ),
    "loops": Part(
        "the loop over its bare step, from the command to the first step, compilation of ResNet-50, `--help`",
        {
            "fit": Case(45, loops.fit),
            "start_lenet5": Case(30, functools.partial(loops.start, net="lenet5")),
            "start_resnet18": Case(55, functools.partial(loops.start, net="resnet18")),
            "compile_resnet50": Case(70, loops.compile_resnet50),
            "help": Case(5, loops.show_help),
        },
        by_default=True,
    ),
    "allocator": Part(
        "whole steps by what malloc does with large blocks",
        _cases(
            allocator,
            40,
            {
                f"{experiment}_b{batch}": {"experiment": experiment, "batch": batch}
                for experiment in ("lenet5_mnist", "convnet_fashion")
                for batch in (128, 512)
            },
        ),
    ),
    "devices": Part(
        "whole steps of twelve experiments on one device and on two that share the cores",
        _cases(devices, 40, {experiment: {"experiment": experiment} for experiment in SHARED}),
    ),
    "kernels": Part(
        "whole steps by the library whose convolutions XLA:CPU calls",
        _cases(kernels, 40, {experiment: {"experiment": experiment} for experiment in CONVOLVING}),
    ),
    "accumulate": Part(
        "whole steps on 512 images at once and in four parts",
        _cases(accumulate, 60, {name: {"experiment": name} for name in ("lenet5_mnist", "convnet_fashion")}),
    ),
    "norms": Part(
        "batch normalisation: shifted moments, plain ones, Flax's layer",
        _cases(named.norms, 25, {shape: {"shape": shape} for shape in SHAPES}),
    ),
    "remat": Part("what --remat saves and costs", {"modes": Case(60, named.remat)}),
    "variations": Part(
        "varying a batch, against torchvision.transforms.v2",
        _cases(named.variations, 25, {names.replace(",", "+"): {"names": names} for names in LISTS}),
    ),
    "checkpoint": Part("how long a save keeps training waiting, and a restore takes", {"resnet50": Case(40, named.checkpoint)}),
    "sampling": Part(
        "images drawn pixel by pixel, naively and from kept activations",
        _cases(named.sampling, 60, {str(size): {"size": size} for size in (7, 14, 28)}),
    ),
    "streaming": Part("images that are streamed, from a folder of JPEGs", {"jpegs": Case(90, named.streaming)}),
    "identity": Part("the digests of a run's code and of its initial weights", {"run": Case(40, named.identity)}),
    "soak": Part("whether the memory of a long run is flat", {"run": Case(150, named.soak)}),
}
