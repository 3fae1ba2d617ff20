"""Networks, losses, augmentations and data sets of a user's own file: what they may return, and what is said otherwise."""

import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cnnlab import inspect, knobs, own
from cnnlab.errors import UsageError
from cnnlab.models.own_network import as_network
from cnnlab.recipes.classification import classification
from tests import jitted

NETWORKS = """
import flax.linen as nn
import jax.numpy as jnp
import optax


class Whole(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x.reshape(x.shape[0], -1))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        logits = nn.Dense(self.classes, name="output")(x)
        return logits, {"output": logits}


class Alone(Whole):
    @nn.compact
    def __call__(self, x, train=False):
        return Whole.__call__(self, x, train=train)[0]


class Plain(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes, name="output", dtype=jnp.bfloat16)(x.reshape(x.shape[0], -1))


class Training(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, training=False): ...


class Flat(Plain):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x)


class Seven(Plain):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(7)(x.reshape(x.shape[0], -1))


class Triple(Plain):
    @nn.compact
    def __call__(self, x):
        return x, x, x


class Pixelwise(Plain):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(self.classes, (1, 1), name="output")(x)


class Broken(Plain):
    @nn.compact
    def __call__(self, x):
        return jnp.dot(x, jnp.ones((5, 5)))


class Noisy(Plain):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.classes)(x.reshape(x.shape[0], -1)) + (self.make_rng("noise")[0] if train else 0)


def number(*, classes): return classes
def mean(logits, labels): return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
def wrong(logits, labels): return logits @ labels
def cropped(images, keys): return images[:, 1:]
def unopened(): return {"train": 1}
def nothing(*, steps): return 0.1
def failing(): raise KeyError("no such file")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Returns the path of the file, which is loaded once for all tests."""
    path = tmp_path_factory.mktemp("own") / "networks_of_mine.py"
    path.write_text(NETWORKS)
    before = list(sys.path)
    yield path
    sys.path[:] = before
    path.unlink()
    own.forget_changed()


def made(file: pathlib.Path, name: str) -> Any:
    return getattr(own.load_module(file, where=""), name)(classes=3)


@pytest.mark.parametrize(("name", "adapted"), [("Whole", False), ("Alone", True), ("Plain", True)])
def test_a_network_may_leave_out_train_and_intermediates(file: pathlib.Path, name: str, adapted: bool):
    network = made(file, name)
    classifier = as_network(network, (4, 4, 1), (3,))
    assert (classifier is not network) == adapted
    images, key = jnp.ones((2, 4, 4, 1)), jax.random.key(0)
    how = {} if name == "Plain" else {"train": False}
    with jax.numpy_dtype_promotion("standard"):
        own_variables = network.init(key, images, **how)
        variables = classifier.init(key, images, train=False)
        logits, intermediates = classifier.apply(variables, images, train=False)
        expected = network.apply(own_variables, images, **how)
    expected = expected[0] if isinstance(expected, tuple) else expected
    # The names and values of the parameters are those of the network itself.
    assert jax.tree.all(jax.tree.map(jnp.array_equal, own_variables, variables)) and jnp.array_equal(logits, expected)
    assert list(intermediates) == ["output"]


def test_the_layers_of_an_adapted_network_are_its_own(file: pathlib.Path):
    found = knobs.resolve(inspect.of_model, {"model": f"{file}:Alone", "input": "4,4,1", "classes": "3"}).call()
    assert [(layer.name, layer.params) for layer in found if layer.params] == [("norm", 32), ("output", 51)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "Training"}, r"Training\.__call__ takes training, which nothing sets"),
        (
            {"model": "Flat"},
            r"Flat returns float32 \[B, 8, 8, 10\] for B images of 10 classes\.\nExpected logits, float \[B, 10\]",
        ),
        ({"model": "Seven"}, r"Seven returns float32 \[B, 7\] for B images of 10 classes"),
        ({"model": "Triple"}, r"Triple returns \(float32 .*return logits, \{\"features\": features, \"output\": logits\}"),
        ({"model": "Broken"}, r"^--model: Broken: .*networks_of_mine\.py:\d+: TypeError: .*images \[B, 8, 8, 1\]\)$"),
        ({"model": "Noisy"}, r"networks_of_mine\.py:\d+: InvalidRngError: .*\(while it is called on images"),
        ({"model": "number"}, r"a network is a flax\.linen\.Module, and this is int"),
        ({"loss": "mean"}, r"one number for the whole batch\.\nExpected .* \[B\]\. Leave the mean"),
        ({"loss": "wrong"}, r"--loss: .*networks_of_mine\.py:\d+: Type\w*Error"),
        ({"augment": "cropped"}, r"it returns float32 \[2, 7, 8, 1\] for images float32 \[2, 8, 8, 1\]"),
        ({"dataset": "unopened"}, r"it returns dict\.\nExpected a cnnlab\.data\.source\.Source"),
        ({"optimizer": "nothing"}, r"it returns float\.\nExpected an optax\.GradientTransformation"),
        ({"dataset": "failing"}, r"^the experiment: .*networks_of_mine\.py:\d+: KeyError: 'no such file'$"),
    ],
)
def test_what_a_part_returns_is_checked_before_anything_compiles(file: pathlib.Path, given: dict[str, str], said: str):
    values = {"model": "linear"} | {name: f"{file}:{part}" for name, part in given.items()}
    resolved = knobs.resolve(classification, values, {"data_dir": None})
    with pytest.raises(UsageError, match=f"(?s){said}"), own.explained("the experiment"):
        resolved.call()


def test_a_segmenter_is_taken_as_a_classifier_is(file: pathlib.Path):
    network = made(file, "Pixelwise")
    segmenter = as_network(network, (4, 5, 1), (4, 5, 3))
    variables = jitted.init(segmenter, jax.random.key(0), jnp.ones((2, 4, 5, 1)), train=False)
    logits, intermediates = jitted.apply(segmenter, variables, jnp.ones((2, 4, 5, 1)), train=True)
    assert logits.shape == (2, 4, 5, 3) and list(intermediates) == ["output"]
    with pytest.raises(UsageError, match=r"\[B, 4, 5, 3\] for B images of 3 .*\nExpected logits, float \[B, 3\]: .* nn\.Dense"):
        as_network(network, (4, 5, 1), (3,))
    with pytest.raises(UsageError, match=r"returns bfloat16 \[B, 3\] .*\n.* float \[B, 4, 5, 3\]: end with nn\.Conv\("):
        as_network(made(file, "Plain"), (4, 5, 1), (4, 5, 3))
    with pytest.raises(UsageError, match=r"flax\.linen\.Module, and this is int"):
        as_network(3, (4, 5, 1), (4, 5, 3))
    found = knobs.resolve(inspect.of_model, {"model": f"{file}:Pixelwise", "input": "4,4,1", "classes": "3"}).call()
    assert [layer.output for layer in found if layer.params] == [(4, 4, 3)]


def test_partials_and_compiled_functions_of_an_own_file_are_recognised(file: pathlib.Path):
    module = own.load_module(file, where="")
    assert own.is_own_object(functools.partial(jax.jit(module.mean))) and own.is_own_object(module.Whole)
    assert not own.is_own_object(jax.nn.relu) and not own.is_own_object(classification)
