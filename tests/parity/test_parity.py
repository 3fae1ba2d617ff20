"""Every architecture against an independent implementation with the same weights: logits, and gradients in training mode."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.interop import convert
from cnnlab.models import MODELS
from cnnlab.models.layers import Dropout
from cnnlab.values import Choice
from tests.parity import fixtures
from tests.parity.cases import Case

pytestmark = [pytest.mark.parity, pytest.mark.slow]

PARITY = [pytest.param(case, id=f"{case.name}-{case.model}") for case in fixtures.CASES]


def network(*, model: Choice[MODELS] = "resnet18"):
    return model


def loaded(case: Case) -> tuple:
    """(model, variables f32, fixture): our model with the reference's weights, imported by the family's own scheme."""
    path = fixtures.path(case)
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures` makes them (torch in an environment of its own)")
    fixture = dict(np.load(path))
    given = {"model": case.model, **{f"model.{name}": value for name, value in case.knobs.items()}}
    model = knobs.resolve(network, given).call()(classes=case.classes)
    state = {name.removeprefix("state/"): leaf for name, leaf in fixture.items() if name.startswith("state/")}
    shapes = convert.shapes_of(model, (case.size, case.size, case.channels))
    leaves, report = convert.convert(state, model, shapes)
    assert not (report.missing or report.unexpected or report.wrong)
    return model, convert.unflatten(leaves), fixture


def logits_in(dtype, model, variables, images) -> np.ndarray:
    with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
        apply = jax.jit(lambda v, x: model.apply(v, x, train=False)[0])
        return np.asarray(apply(cast, jnp.asarray(images.transpose(0, 2, 3, 1), dtype)))


@pytest.mark.parametrize("case", PARITY)
def test_logits_equal_the_reference(case):
    model, variables, fixture = loaded(case)
    signal, logits = float(fixture["signal"]), fixture["logits"]
    assert signal >= 1e-2 * np.abs(logits).max(), "the reference hardly depends on the image: this comparison proves nothing"
    for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 1e-3)):
        ours = logits_in(dtype, model, variables, fixture["input"])
        np.testing.assert_allclose(ours, logits, rtol=0, atol=tolerance * signal, err_msg=str(dtype))


@pytest.mark.parametrize("case", [case for case in PARITY if case.values[0].gradients])
def test_gradients_in_training_equal_the_reference(case):
    model, variables, fixture = loaded(case)
    names = {name.removeprefix("grad/"): leaf for name, leaf in fixture.items() if name.startswith("grad/")}
    shapes = {path: leaf.shape for path, leaf in convert.flatten({"params": variables["params"]}).items()}
    expected, _ = convert.convert(names, model, shapes)

    def loss(params, rest, images):
        (logits, _), _ = model.apply({"params": params, **rest}, images, train=True, mutable=sorted(rest))
        log = jax.nn.log_softmax(logits)
        labels = np.arange(case.batch) % case.classes
        return -jnp.mean(log[np.arange(case.batch), labels])

    def without_dropout(call, args, kwargs, context):
        return args[0] if isinstance(context.module, Dropout) else call(*args, **kwargs)

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, np.float64), variables)
        params = cast.pop("params")
        with nn.intercept_methods(without_dropout):
            found = jax.jit(jax.grad(loss))(params, cast, jnp.asarray(fixture["input"].transpose(0, 2, 3, 1), np.float64))
    for path, gradient in convert.flatten({"params": found}).items():
        scale = np.abs(expected[path]).max()
        np.testing.assert_allclose(gradient, expected[path], rtol=0, atol=1e-9 * max(scale, 1e-4), err_msg=path)
