"""LSUV: orthonormal kernels that are scaled until the outputs of every layer have variance 1 on the first batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.core import FROZEN, TrainState
from cnnlab.engine.program import init_state
from cnnlab.errors import UsageError
from cnnlab.models.convnet import ConvNet
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import normal
from cnnlab.recipes.classification import classification
from cnnlab.tasks.classify import PLAYER, classify
from cnnlab.tasks.lsuv import lsuv, output_variances
from cnnlab.tasks.network_player import joined

IMAGES = 3 * np.random.default_rng(0).normal(size=(32, 8, 8, 1)).astype(np.float32) + 1
NETWORK = ConvNet(classes=10, widths=(6, 8), depth=2, activation=ACTIVATIONS["tanh"], initializer=normal)


def begun(frozen: tuple[str, ...] = (), **settings) -> tuple[TrainState, TrainState]:
    """The state before and after."""
    batch = {"image": IMAGES}
    params, model_state = jax.jit(classify(NETWORK, frozen=frozen).init)(jax.random.key(0), batch)
    params, model_state = jax.tree.map(np.asarray, (params, model_state))
    before = TrainState(np.zeros((), np.int32), None, params, model_state, {}, params)
    return before, lsuv(NETWORK, **settings)(before, batch)


def test_the_outputs_of_every_layer_get_variance_one_and_kernels_are_orthonormal_up_to_a_factor():
    before, after = begun(tolerance=0.02)
    found = jax.jit(lambda params: output_variances(NETWORK, {"params": params, **after.model_state}, jnp.asarray(IMAGES)))
    variances = found(after.params[PLAYER])
    assert set(variances) == {f"stage{stage}_conv{number}" for stage in (1, 2) for number in (1, 2)} | {"output"}
    np.testing.assert_allclose(list(variances.values()), 1.0, atol=0.02)
    kernel = after.params[PLAYER]["stage2_conv2"]["kernel"].reshape(-1, 8)
    product = kernel.T @ kernel
    np.testing.assert_allclose(product / product[0, 0], np.eye(8), atol=1e-4)
    np.testing.assert_array_equal(after.average[PLAYER]["output"]["kernel"], after.params[PLAYER]["output"]["kernel"])
    assert jax.tree.structure(after.params) == jax.tree.structure(before.params)


@pytest.mark.slow
def test_a_looser_tolerance_leaves_variances_as_they_are():
    """One pass suffices where outputs are proportional to a kernel, so the number of passes is a bound that is not reached."""
    tight, loose = (begun(tolerance=tolerance)[1].params[PLAYER] for tolerance in (0.02, 1e6))
    kernel = loose["stage1_conv1"]["kernel"].reshape(-1, 6)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-4)
    assert not np.array_equal(tight["stage1_conv1"]["kernel"], loose["stage1_conv1"]["kernel"])


def test_layers_that_do_not_move_stay_as_they_are():
    before, after = begun(frozen=("stage1_.*",))
    assert set(after.params[FROZEN]) == set(before.params[FROZEN]) >= {"stage1_conv1"}
    for path in ("stage1_conv1", "stage1_conv2"):
        np.testing.assert_array_equal(after.params[FROZEN][path]["kernel"], before.params[FROZEN][path]["kernel"])
    assert not np.array_equal(joined(after.params)["output"]["kernel"], joined(before.params)["output"]["kernel"])


def test_the_knob_gives_a_phase_that_begins_with_it():
    small = {"model": "linear", "dataset": "stripes", "dataset.examples": 60, "dataset.size": 8, "batch_size": 8}
    made = knobs.resolve(classification, small | {"data_init": "lsuv"}).call()
    (phase,) = made.phases
    assert phase.begin is not None and phase.steps == made.steps
    batch = made.data.prepare(made.data.resident["train"], next(made.data.train(0, 0)), None)
    state = jax.jit(lambda batch: init_state(dataclasses.replace(made, phases=()), np.uint32(0), batch))(batch)
    variance = jnp.var(jax.jit(made.task.predict)(phase.begin(state, batch).params, {}, batch["image"]))
    np.testing.assert_allclose(variance, 1.0, atol=0.1)
    with pytest.raises(UsageError, match="--data_init scales weights that are drawn"):
        knobs.resolve(classification, small | {"data_init": "lsuv", "init_from": "nowhere.npz"}).call()
