"""Weights that fit by names and shapes and come from another function: proven, stated in a line, or refused."""

import functools
import json
import pathlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnlab.errors import CheckpointError
from cnnlab.interop import convert, files, lookalikes
from cnnlab.interop.families import SCHEMES
from cnnlab.interop.scheme import Scheme, Source
from cnnlab.models import MODELS, norms
from cnnlab.ops.activations import ACTIVATIONS


def scheme(model, library: str) -> Scheme:
    return next(each for each in SCHEMES[type(model)] if each.library == library)


def lines(name: str, library: str, architecture: str = "", **given) -> list[str]:
    model = MODELS[name](classes=10, **given)
    return lookalikes.compared(model, scheme(model, library), Source(architecture, "config.json beside it"))


GROUP_NORM = norms.group_norm
SAID = [
    ("resnet50_v1", "torchvision", {}, "take --model=resnet50_v1_5"),
    ("resnet101_v1", "timm", {}, "take --model=resnet101_v1_5"),
    ("resnet50_v1_5", "timm", {}, "resnetblur50"),
    ("resnet18", "torchvision", {}, "resnetblur50"),
    ("resnet50_v1_5", "pytorchcv", {}, "take --model=resnet50_v1"),
    ("resnet50_v1", "pytorchcv", {}, "take --model=resnet50_v1_5"),
    ("resnet50_v1_5", "pytorchcv", {}, "resnetd50b"),
    ("se_resnet50", "pytorchcv", {}, "take --model.stride_at=first"),
    ("preact_resnet50", "pytorchcv", {}, "preresnet50b"),
    ("resnext50_32x4d", "pytorchcv", {"stride_at": "first"}, "take --model=resnext50_32x4d"),
    ("resnet50_v1_5", "keras", {}, "take --model=resnet50_v1"),
    ("resnet18", "torchvision", {"stride_at": "second"}, "take --model=resnet18"),
    ("resnet18", "torchvision", {"stem": "small"}, "one whose stem has a stride or a pooling"),
    ("resnet50_v1_5", "timm", {"norm": GROUP_NORM}, "take --model.norm.groups=32"),
    ("resnet50_v1_5", "timm", {"norm": norms.layer_norm}, "take --model.norm=group"),
    ("efficientnet_b0", "timm", {}, "tf_efficientnet_b0, which pads"),
    ("efficientnet_b0", "timm", {}, "take --model.norm.epsilon=0.001"),
    ("efficientnet_b0", "pytorchcv", {}, "efficientnet_b0c"),
    ("efficientnet_b0", "torchvision", {"padding": "same"}, "take --model=efficientnet_b0"),
    ("efficientnet_b0", "keras", {}, "take --model.padding=same"),
    ("efficientnet_b0", "efficientnet_pytorch", {}, "take --model.padding=same"),
    ("efficientnet_b0", "torchvision", {"width": 2.0, "depth": 3.1}, "take --model.norm.epsilon=0.001"),
    ("efficientnet_b0", "timm", {"squeeze": 0.0}, "take --model.activation=relu6"),
    ("efficientnet_b0", "keras", {}, "take --model.norm.epsilon=0.001"),
    ("mobilenet_v1", "timm", {}, "take --model.activation=relu6"),
    ("mobilenet_v1", "pytorchcv", {"activation": ACTIVATIONS["relu6"]}, "take --model=mobilenet_v1"),
    ("mobilenet_v2", "torchvision", {"linear": False}, "take --model=mobilenet_v2"),
    ("vgg11_a_lrn", "torchvision", {}, "take --model=vgg11_a"),
    ("vgg16_d", "keras", {}, "in the order BGR"),
    ("alexnet_ungrouped", "pytorchcv", {"lrn": False}, "take --model=alexnet_ungrouped"),
    ("squeezenet1_1", "pytorchcv", {}, "squeezeresnet"),
    ("squeezenet1_0", "torchvision", {"bypass": True}, "take --model=squeezenet1_0"),
    ("densenet121", "keras", {}, "take --model.norm.epsilon=1.001e-05"),
    ("googlenet_bn", "torchvision", {}, "transform_input"),
    ("inception_v3", "torchvision", {"norm": norms.batch_norm}, "take --model.norm.epsilon=0.001"),
    ("inception_v3", "keras", {}, "leaves the padding out of an average"),
    ("densenet121", "torchvision", {"activation": ACTIVATIONS["gelu"]}, "take --model=densenet121"),
]


@pytest.mark.parametrize(("name", "library", "given", "words"), SAID)
def test_what_names_and_shapes_do_not_tell_is_stated(name: str, library: str, given: dict, words: str):
    found = lines(name, library, **given)
    assert any(words in line for line in found), found
    assert all("\n" not in line for line in found)


PROVEN = [
    ("resnet50_v1_5", "torchvision", "resnet50"),
    ("resnet50_v1", "pytorchcv", "resnet50"),
    ("resnet50_v1_5", "pytorchcv", "resnet50b"),
    ("efficientnet_b0", "timm", "efficientnet_b0"),
    ("efficientnet_b0", "torchvision", ""),
    ("efficientnet_lite0", "timm", "tf_efficientnet_lite0"),
    ("efficientnet_lite0", "efficientnet_pytorch", "efficientnet_lite0"),
    ("squeezenet1_0", "pytorchcv", "squeezenet_v1_0"),
    ("resnext50_32x4d", "torchvision", ""),
    ("vgg13_b_bn", "torchvision", ""),
    ("mobilenet_v2", "timm", ""),
    ("densenet121", "torchvision", ""),
    ("inception_v3", "pytorchcv", ""),
]


@pytest.mark.parametrize(("name", "library", "architecture"), PROVEN)
def test_what_is_proven_needs_no_line(name: str, library: str, architecture: str):
    assert lines(name, library, architecture) == []


REFUSED = [
    ("resnet50_v1", "torchvision", "resnet50", "take --model=resnet50_v1_5"),
    ("resnet50_v1_5", "timm", "resnetblur50", "no knob here makes them equal"),
    ("resnet50_v1_5", "timm", "resnetaa50", "averages before it shrinks"),
    ("resnet50_v1", "pytorchcv", "seresnet50b", "take --model=resnet50_v1_5"),
    ("resnet50_v1_5", "pytorchcv", "resnetd50b", "dilates"),
    ("efficientnet_b0", "timm", "tf_efficientnet_b0", "take --model.padding=same"),
    ("efficientnet_b0", "pytorchcv", "efficientnet_b0b", "take --model.padding=same"),
    ("squeezenet1_1", "pytorchcv", "squeezeresnet_v1_1", "take --model.bypass=true"),
]


@pytest.mark.parametrize(("name", "library", "architecture", "words"), REFUSED)
def test_a_network_whose_name_shows_another_function_is_refused(name: str, library: str, architecture: str, words: str):
    with pytest.raises(CheckpointError, match="compute something else") as error:
        lines(name, library, architecture)
    assert words in str(error.value) and "config.json beside it" in str(error.value)


def test_kernels_that_are_standardised_are_refused_by_their_norms():
    with pytest.raises(CheckpointError, match="standardises its kernels"):
        lines("preact_resnet50", "timm", norm=functools.partial(GROUP_NORM, groups=32))


@pytest.mark.parametrize(
    ("name", "header", "config", "expected"),
    [
        ("resnet50-0676ba61.safetensors", {}, {}, "resnet50"),
        ("tf_efficientnet_b0_aa-827b6e33.safetensors", {}, {}, "tf_efficientnet_b0_aa"),
        ("model.safetensors", {}, {"architecture": "resnetblur50.bt_in1k"}, "resnetblur50"),
        ("best.safetensors", {"arch": "ResNet50b"}, {"architecture": "other"}, "resnet50b"),
        ("model.safetensors", {}, {}, ""),
    ],
)
def test_the_name_of_the_network_is_taken_from_the_header_the_hub_or_the_file(name, header, config, expected, tmp_path):
    save_file({"a.weight": np.ones((2, 2), np.float32)}, tmp_path / name, metadata=header or None)
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert files.load(tmp_path / name)[1].architecture == expected


def test_own_weights_in_a_network_of_other_knobs_are_named():
    model = MODELS["lenet5"](classes=10)
    own = Scheme("cnnlab", lambda name, model: name)
    known = {"model": "lenet5", "model.activation": "tanh", "batch_size": "8"}
    (line,) = lookalikes.compared(model, own, Source(knobs=known))
    assert "the network that was trained had activation=tanh, and the one here has activation=relu" in line
    assert lookalikes.compared(model, own, Source(knobs={"model": "lenet5"})) == []
    assert lookalikes.compared(model, own, Source(knobs={"model": "a_network_of_mine"})) == []


def test_a_slip_is_stated_when_a_run_starts_and_not_only_in_the_report(tmp_path: pathlib.Path, caplog):
    from cnnlab.interop.start import started_from
    from cnnlab.ops import trees

    model = MODELS["squeezenet1_1"](classes=3, width=0.125, bypass=True)
    shapes = convert.shapes_of(model, (64, 64, 3))
    names = {
        f"features.{number}": f"fire{fire}" for number, fire in zip((3, 4, 6, 7, 9, 10, 11, 12), range(2, 10), strict=True)
    }
    state = {}
    for path, shape in shapes.items():
        layer, _, last = path.removeprefix("params/").rpartition("/")
        layer = {"conv1/conv": "features.0", "output": "classifier.1"}.get(layer, layer)
        for theirs, ours in names.items():
            layer = layer.replace(f"{ours}/", f"{theirs}.").removesuffix("/conv")
        leaf = np.full(shape, 0.1, np.float32)
        state[f"{layer}.{'weight' if last == 'kernel' else 'bias'}"] = (
            leaf.transpose(3, 2, 0, 1).copy() if leaf.ndim == 4 else leaf
        )
    state = {name: leaf.T.copy() if leaf.ndim == 2 else leaf for name, leaf in state.items()}
    save_file({f"net.{name}": leaf for name, leaf in state.items()}, tmp_path / "x.safetensors")
    fresh = trees.unflatten({path.removeprefix("params/"): np.zeros(shape, np.float32) for path, shape in shapes.items()})
    with caplog.at_level("INFO", logger="cnnlab"):
        started_from(model, str(tmp_path / "x.safetensors"))({"classifier": fresh}, {})
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1 and "torchvision's squeezenet has no shortcuts" in warned[0] and "x.safetensors" in warned[0]
    assert "the prefix net. of all names is stripped" in caplog.text
