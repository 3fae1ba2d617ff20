"""Foreign state dicts into our variables: every layout, and one readable sentence for what does not fit."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import CheckpointError
from cnnlab.interop import convert
from cnnlab.interop.scheme import Scheme, by_rules
from cnnlab.models import layers, norms
from cnnlab.models.layers import Conv


class Toy(nn.Module):
    """A convolution with a norm, a layer on a flattened 2x3 image, a gate and an output."""

    classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        x = Conv(4, 3, bias=False, name="conv")(images)
        x = norms.batch_norm(train=train, name="norm")(x)
        x = x * nn.Dense(4, name="gate")(jnp.mean(x, (1, 2)))[:, None, None]
        x = nn.Dense(5, name="hidden")(layers.flatten(x))
        return layers.output_layer(x, self.classes, nn.initializers.ones), {}


RENAME = by_rules(("^bn$", "norm"), ("^fc$", "output"), ("^classifier$", "hidden"), ignored=("aux",))
TORCH = Scheme("torchvision", RENAME, {"hidden": (2, 3)})
KERAS = Scheme("keras", RENAME)
SHAPE = (2, 3, 3)
RANDOM = np.random.default_rng(0)
STATE = {
    "conv.weight": (4, 3, 3, 3),
    "bn.weight": (4,),
    "bn.bias": (4,),
    "bn.running_mean": (4,),
    "bn.running_var": (4,),
    "bn.num_batches_tracked": (),
    "gate.weight": (4, 4, 1, 1),
    "gate.bias": (4,),
    "classifier.weight": (5, 4 * 2 * 3),
    "classifier.bias": (5,),
    "fc.weight": (10, 5),
    "fc.bias": (10,),
    "aux.conv.weight": (7, 7),
}


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A state dict of torch for the toy, whose schemes are known."""
    monkeypatch.setitem(convert.SCHEMES, Toy, (TORCH, KERAS))
    leaves = {name: RANDOM.normal(size=shape).astype(np.float32) for name, shape in STATE.items()}
    return leaves | {"bn.running_var": np.abs(leaves["bn.running_var"])}


def converted(state, model=None, **how):
    model = model or Toy()
    return convert.convert(state, model, convert.shapes_of(model, SHAPE), **how)


def refused(state, model=None, **how) -> str:
    with pytest.raises(CheckpointError) as error:
        converted(state, model, **how)
    return str(error.value)


def test_torch_layouts_are_transposed_and_every_leaf_is_accounted_for(state):
    leaves, report = converted(state)
    assert set(leaves) == set(convert.shapes_of(Toy(), SHAPE))
    np.testing.assert_array_equal(leaves["params/conv/kernel"][1, 2, 0, 3], state["conv.weight"][3, 0, 1, 2])
    np.testing.assert_array_equal(leaves["params/output/kernel"], state["fc.weight"].T)
    np.testing.assert_array_equal(leaves["params/gate/kernel"], state["gate.weight"][:, :, 0, 0].T)
    np.testing.assert_array_equal(leaves["batch_stats/norm/var"], state["bn.running_var"])
    assert report.library == "torchvision" and report.matched["params/norm/scale"] == "bn.weight"
    assert set(report.ignored) == {"bn.num_batches_tracked", "aux.conv.weight"}
    assert {*report.matched.values(), *report.ignored} == set(state)
    assert set(report.reshaped) == {"params/gate/kernel", "params/hidden/kernel"}
    assert "11 leaves of torchvision matched" in report.as_text() and "2 ignored: " in report.as_text()


def test_a_layer_on_flattened_channels_gives_the_same_numbers_in_our_order(state):
    leaves, _ = converted(state)
    images = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)  # [H, W, C]
    theirs = state["classifier.weight"] @ images.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(images.reshape(-1) @ leaves["params/hidden/kernel"], theirs, rtol=1e-5)


def test_a_dense_layer_and_a_convolution_over_its_whole_image_hold_the_same_numbers(state):
    state["classifier.weight"] = RANDOM.normal(size=(5, 4, 2, 3)).astype(np.float32)
    state["fc.weight"] = state["fc.weight"][:, :, None, None]
    leaves, report = converted(state)
    np.testing.assert_array_equal(leaves["params/output/kernel"], state["fc.weight"][:, :, 0, 0].T)
    assert report.reshaped["params/output/kernel"] == "from (10, 5, 1, 1)"
    images = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)
    theirs = np.einsum("ochw,hwc->o", state["classifier.weight"], images)
    np.testing.assert_allclose(images.reshape(-1) @ leaves["params/hidden/kernel"], theirs, rtol=1e-5)


def test_a_state_of_several_devices_is_known_by_its_equal_copies(state):
    text = refused({name: np.stack([leaf] * 8) for name, leaf in state.items()})
    assert text.startswith("the leading axis 8 of every leaf looks like a device axis") and "leaf[0]" in text


def test_a_missing_an_unexpected_and_a_wrong_leaf_are_named(state):
    del state["bn.running_var"]
    state["conv2.weight"] = np.zeros((2, 2), np.float32)
    state["gate.bias"] = np.zeros(3, np.float32)
    text = refused(state)
    assert text.startswith("these weights do not fit Toy (read as torchvision's): 9 of 11 leaves matched.")
    assert "the network needs and the file lacks: batch_stats/norm/var" in text
    assert "the file has and the network lacks: conv2.weight" in text
    assert "of another shape: params/gate/bias ((3,) in the file, (4,) here)" in text


def test_not_more_than_ten_leaves_of_a_kind_are_named(state):
    text = refused(state | {f"more{i}.weight": np.zeros(1, np.float32) for i in range(30)})
    assert text.count("more") == 10 + 1 and "… and 20 more" in text


def test_weights_of_another_family_are_refused_in_a_few_lines(state):
    text = refused({f"layer{i}.0.conv1.weight": np.zeros((4, 3, 3, 3), np.float32) for i in range(50)})
    assert "0 of 11 leaves matched" in text and "layer0.0.conv1.weight" in text
    assert len(text.splitlines()) <= 5 and max(map(len, text.splitlines())) < 400
    assert "array" not in text


def test_another_number_of_classes_asks_for_a_new_head(state):
    text = refused(state, Toy(classes=7))
    assert text.startswith(
        "the file's last layer has another number of classes: params/output/kernel: (5, 10) in the file, (5, 7)"
    )
    assert "--new_head" in text


def test_a_new_head_keeps_its_fresh_values_and_takes_all_others(state):
    for given in (state, {name: leaf for name, leaf in state.items() if not name.startswith("fc.")}):
        leaves, report = converted(given, Toy(classes=7), new_head=True)
        assert report.kept == ["params/output/bias", "params/output/kernel"]
        assert set(leaves) == set(convert.shapes_of(Toy(), SHAPE)) - set(report.kept)
        assert not (report.missing or report.unexpected or report.wrong) and "2 kept" in report.as_text()


def test_a_new_head_excuses_no_other_layer(state):
    del state["conv.weight"]
    assert "lacks: params/conv/kernel" in refused(state, Toy(classes=7), new_head=True)


def test_two_leaves_for_one_place_are_refused(state):
    assert "the file has and the network lacks: norm.bias" in refused(state | {"norm.bias": state["bn.bias"]})


def test_a_keras_kernel_stays_as_it_is_and_a_depthwise_one_moves_its_channels():
    class Depthwise(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool):
            return Conv(6, (3, 2), groups=3, name="conv")(images), {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(convert.SCHEMES, Depthwise, (Scheme("keras", lambda name, model: name),))
        state = {"conv.depthwise_kernel": RANDOM.normal(size=(3, 2, 3, 2)), "conv.bias": np.zeros(6)}
        leaves, report = converted(state, Depthwise())
    kernel = leaves["params/conv/kernel"]
    assert kernel.shape == (3, 2, 1, 6) and "depth-wise" in report.reshaped["params/conv/kernel"]
    images = RANDOM.normal(size=(3, 2, 3))
    theirs = np.einsum("hwc,hwcm->cm", images, state["conv.depthwise_kernel"]).reshape(-1)
    ours = [np.sum(images[:, :, out // 2] * kernel[:, :, 0, out]) for out in range(6)]
    np.testing.assert_allclose(ours, theirs)


def test_our_own_names_need_no_scheme(state):
    leaves, _ = converted(state)
    again, report = converted(leaves)
    assert report.library == "cnnlab" and not report.reshaped
    assert all(np.array_equal(again[path], leaves[path]) for path in leaves)


def test_flatten_and_unflatten_are_inverse():
    leaves = {"a/b/c": 1, "a/d": 2, "e": 3}
    assert convert.flatten(convert.unflatten(leaves)) == leaves


def test_starting_from_a_file_fills_every_leaf_in_the_type_of_the_network(state, tmp_path: pathlib.Path):
    np.savez(tmp_path / "weights.npz", **{name: leaf.astype(np.float64) for name, leaf in state.items()})
    model = Toy()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    given, report = convert.start_from(variables, model, tmp_path / "weights.npz")
    assert jax.tree.structure(given) == jax.tree.structure(dict(variables)) and len(report.matched) == 11
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(given))
    np.testing.assert_array_equal(given["params"]["output"]["kernel"], state["fc.weight"].T)


def test_starting_with_a_new_head_leaves_it_as_it_was_given(state, tmp_path: pathlib.Path):
    np.savez(tmp_path / "weights.npz", **state)
    model = Toy(classes=3)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False))
    given, report = convert.start_from(shapes, model, tmp_path / "weights.npz", new_head=True)
    assert given["params"]["output"] == shapes["params"]["output"] and len(report.kept) == 2
    np.testing.assert_array_equal(given["batch_stats"]["norm"]["mean"], state["bn.running_mean"])


@pytest.mark.parametrize("model", convert.SCHEMES, ids=lambda model: model.__name__)
def test_every_scheme_survives_names_that_are_not_its_own(model: type[nn.Module]):
    names = [
        "",
        "conv",
        "layer1.0.conv1",
        "features.0.0.block.1",
        "features.99",
        "blocks.1.2",
        "Conv2d_1a_3x3.conv",
        "block1_conv1",
    ]
    for scheme in convert.SCHEMES[model]:
        for name in names:
            assert scheme.rename(name, model(classes=10)) is None or isinstance(scheme.rename(name, model(classes=10)), str)
