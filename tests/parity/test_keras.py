"""keras.applications as a second reference: its own weight files, read and imported, give its logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.interop import convert, files
from cnnlab.interop.families import keras
from cnnlab.models import MODELS
from cnnlab.models.layers import AveragePool, Conv
from cnnlab.values import Choice
from tests.parity.keras_fixtures import CASES, KerasCase

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def network(*, model: Choice[MODELS] = "lenet5"):
    return model


def changed(case: KerasCase):
    """An interceptor that gives our layers the geometry of keras where no knob does."""

    def intercept(call, args, kwargs, context):
        module = context.module
        if "padding" in case.differs and isinstance(module, Conv) and module.strides == 2:
            object.__setattr__(module, "padding", "same")
        if "average" in case.differs and isinstance(module, AveragePool):
            object.__setattr__(module, "count_padding", False)
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)


def loaded(case: KerasCase):
    """(model, variables, fixture, report)."""
    if not case.path(".npz").exists():
        pytest.skip("no fixture: `python -m tests.parity.keras_fixtures` makes them (keras in an environment of its own)")
    given = {"model": case.model, **{f"model.{name}": value for name, value in case.knobs.items()}}
    model = knobs.resolve(network, given).call()(classes=case.options["classes"])
    state = files.read(case.path(case.layout))
    leaves, report = convert.convert(state, model, convert.shapes_of(model, (case.size, case.size, 3)))
    return model, convert.unflatten(leaves), dict(np.load(case.path(".npz"))), report


@pytest.mark.parametrize("case", [pytest.param(case, id=case.reference) for case in CASES])
def test_logits_equal_keras(case: KerasCase, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convert, "SCHEMES", {**convert.SCHEMES, **keras.SCHEMES})
    model, variables, fixture, report = loaded(case)
    signal, logits = float(fixture["signal"]), fixture["logits"]
    assert signal >= 1e-2 * np.abs(logits).max(), "the reference hardly depends on the image: this comparison proves nothing"
    assert report.library == "keras" and not (report.missing or report.unexpected or report.wrong)
    for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 1e-3)):
        with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"), changed(case):
            cast = jax.tree.map(lambda leaf, to=dtype: jnp.asarray(leaf, to), variables)
            apply = jax.jit(lambda v, x: model.apply(v, x, train=False)[0])
            ours = np.asarray(apply(cast, jnp.asarray(fixture["input"], dtype)))
        np.testing.assert_allclose(ours, logits, rtol=0, atol=tolerance * signal, err_msg=str(dtype))
