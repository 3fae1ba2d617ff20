"""What training programs save around a network is taken off, chosen or left out, and stated."""

import pathlib
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnlab.errors import CheckpointError
from cnnlab.interop import convert, files, wrapped
from cnnlab.models import MODELS
from tests import torch_writer

STATE = {"conv1.weight": np.ones((4, 3, 3, 3), np.float32), "fc.bias": np.arange(5, dtype=np.float32)}
LENET = MODELS["lenet5"](classes=5)
SHAPES = convert.shapes_of(LENET, (28, 28, 1))


def below(prefix: str, leaves: dict[str, Any] = STATE) -> dict[str, Any]:
    return {f"{prefix}{name}": leaf for name, leaf in leaves.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "net.",
        "backbone.",
        "_orig_mod.module.",
        "state_dict.module.model.",
        "model_state_dict.",
        "model_ema.",
        "module._orig_mod.net.",
    ],
)
def test_prefixes_that_all_names_share_are_stripped_and_named(prefix: str):
    leaves, notes = wrapped.network_of(below(prefix))
    assert leaves.keys() == STATE.keys() and any(f"the prefix {prefix} " in note for note in notes)
    assert ("averaged" in " ".join(notes)) == ("ema" in prefix)


def test_a_prefix_of_some_names_alone_stays():
    leaves = {**below("module."), "other.weight": np.ones(2)}
    assert wrapped.network_of(leaves) == (leaves, [])
    assert wrapped.network_of({"features.0.weight": np.ones(2)})[0].keys() == {"features.0.weight"}, (
        "it may be the layer's name"
    )


def test_averaged_weights_are_taken_before_the_last_ones_and_the_choice_is_stated():
    averaged = {name: leaf * 2 for name, leaf in STATE.items()}
    leaves, notes = wrapped.network_of(
        below("state_dict.") | below("state_dict_ema.module.", averaged) | {"optimizer.state.0": np.ones(3)}
    )
    assert np.array_equal(leaves["conv1.weight"], averaged["conv1.weight"])
    assert notes[0] == "the averaged weights (state_dict_ema) are taken and 2 of state_dict left out"
    assert notes[-1] == "1 leaves of training are left out: optimizer.state.0"


def test_the_counter_of_an_averaged_model_is_left_out():
    leaves, notes = wrapped.network_of({**below("module."), "n_averaged": np.array(3)})
    assert leaves.keys() == STATE.keys() and "n_averaged" in notes[-1]


@pytest.mark.parametrize("name", ["last.pth.tar", "epoch=3.ckpt", "pytorch_model.bin", "x.pt"])
def test_containers_of_training_programs_are_opened(name: str, tmp_path: pathlib.Path):
    weights = {f"model.{leaf}": array.astype(np.float16) for leaf, array in STATE.items()}
    moments = {"state": {0: {"exp_avg": np.ones(3), "step": 7}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    content = {"epoch": 3, "arch": "resnet50", "state_dict": weights, "optimizer": moments, "lr_schedulers": [{}]}
    torch_writer.save(tmp_path / name, content)
    leaves, source = files.load(tmp_path / name)
    assert leaves.keys() == STATE.keys() and leaves["fc.bias"].dtype == np.float32
    assert source.architecture == "resnet50" and "header" in source.given_by
    said = "\n".join(source.notes)
    assert "the prefix state_dict.model. " in said and "1 leaves of training" in said
    assert "2 of 2 leaves are float16" in said


def ours(names: dict[str, str]) -> dict[str, np.ndarray]:
    """A state dict for LeNet-5, by our layers' names with dots."""
    state = {}
    for path, shape in SHAPES.items():
        _, layer, last = path.split("/")
        state[f"{names.get(layer, '')}{layer}.{'weight' if last == 'kernel' else last}"] = np.ones(shape, np.float32)
    return state


def as_lenet(leaves: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], convert.ConversionReport]:
    """Reads names with dots as ours, whose layouts they have."""
    from cnnlab.interop.scheme import Scheme

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "CHANNELS_LAST", ("toy",))
        patch.setitem(convert.SCHEMES, type(LENET), (Scheme("toy", lambda name, model: name),))
        return convert.convert(leaves, LENET, SHAPES)


@pytest.mark.parametrize(
    ("leaves", "words"),
    [
        (below("trainer_net.", ours({})), "the first part of every name is taken off: trainer_net."),
        ({(f"tail.{k}" if k.startswith("output") else f"body.{k}"): v for k, v in ours({}).items()}, "body., tail."),
        (
            {(k if k.startswith("output") else f"body.{k}"): v for k, v in ours({}).items()},
            "the prefix body. is taken off where it is",
        ),
        (
            below("encoder_q.", ours({})) | below("encoder_k.", ours({})) | {"queue": np.ones((2, 2))},
            "only what is below encoder_q. is taken",
        ),
        ({**below("model.", ours({})), "criterion.weight": np.ones(5)}, "1 other leaves are left out"),
    ],
)
def test_names_under_unknown_prefixes_are_read_and_the_reading_is_stated(leaves: dict[str, np.ndarray], words: str):
    filled, report = as_lenet(leaves)
    assert filled.keys() == SHAPES.keys() and words in report.as_text()


def test_a_file_without_its_last_layer_asks_for_a_new_head():
    with pytest.raises(CheckpointError, match=r"the file has no last layer[^\n]*\n.*--new_head"):
        as_lenet({name: leaf for name, leaf in below("wrapper.", ours({})).items() if "output" not in name})


@pytest.mark.parametrize(
    ("leaf", "name", "words"),
    [
        (np.array([1, -0.5], np.float32), "bn.running_var", "running variances with negative numbers: bn.running_var"),
        (np.array([1, -0.5], np.float32), "layer/bn.moving_variance", "running variances with negative numbers"),
        (np.ones((3, 3), np.uint8), "conv.weight", "quantised"),
        (np.ones((3, 3, 2, 2), np.int8), "conv.weight", "integers: conv.weight (int8)"),
    ],
)
def test_numbers_that_no_network_can_have_are_refused(leaf: np.ndarray, name: str, words: str, tmp_path: pathlib.Path):
    save_file({**STATE, name: leaf}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as error:
        files.load(tmp_path / "x.safetensors")
    assert words in str(error.value) and error.value.exit_code == 3


def test_kernels_of_zeros_and_half_precision_are_stated(tmp_path: pathlib.Path):
    leaves = {**STATE, "conv2.weight": np.zeros((4, 4, 3, 3), np.float16), "bn.num_batches_tracked": np.array(7)}
    save_file(leaves, tmp_path / "x.safetensors")
    found, source = files.load(tmp_path / "x.safetensors")
    assert "1 of 2 kernels hold nothing but zeros: conv2.weight" in source.notes
    assert any("1 of 4 leaves are float16" in note for note in source.notes) and "bn.num_batches_tracked" in found
