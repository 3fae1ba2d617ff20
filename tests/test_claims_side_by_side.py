"""Networks trained side by side take the steps that each takes alone, and steps to a level are counted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.models.mlp import MLP
from cnnlab.models.norms import batch_norm
from cnnlab.ops.losses import cross_entropy
from experiments.claims import side_by_side

MODEL = MLP(classes=3, widths=(4,), norm=batch_norm)


def scored(inputs: jax.Array, labels: jax.Array, params: dict, state: dict) -> tuple[jax.Array, jax.Array]:
    """What `watch` computes."""
    return side_by_side.scores(MODEL, params, state, inputs, labels)


def test_a_scan_takes_the_steps_of_a_plain_loop():
    draw = np.random.default_rng(0)
    inputs, labels = draw.standard_normal((20, 2, 2, 1)).astype(np.float32), draw.integers(0, 3, 20).astype(np.int32)
    positions = side_by_side.shuffled(0, 20, 5, 6)
    assert positions.shape == (6, 5) and len(np.unique(positions[:4])) == 20, "every example once an epoch"
    inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
    start = side_by_side.initial(MODEL, jax.random.key(0), inputs)

    def scan(lr: jax.Array) -> tuple:
        watch = functools.partial(scored, inputs, labels)
        return side_by_side.train(
            MODEL, optax.sgd(lr), start, (inputs, labels), positions, watch=watch, every=3, prepare=lambda x: 2 * x
        )

    (params, state), (losses, accuracies), of_batches = jax.jit(jax.vmap(scan))(jnp.array([0.0, 0.5]))
    assert losses.shape == accuracies.shape == (2, 2) and of_batches.shape == (2, 6)
    expected, statistics = start

    @jax.jit
    def step(params: dict, state: dict, at: np.ndarray) -> tuple:
        def loss(params: dict) -> tuple:
            (logits, _), state_after = MODEL.apply(
                {"params": params, **state}, 2 * inputs[at], train=True, mutable=["batch_stats"]
            )
            return jnp.mean(cross_entropy(logits, labels[at])), state_after

        (value, after), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda w, g: w - 0.5 * g, params, gradient), dict(after), value

    for number, at in enumerate(positions):
        expected, statistics, value = step(expected, statistics, at)
        np.testing.assert_allclose(of_batches[1, number], value, rtol=1e-4)
    for found, wanted in zip(jax.tree.leaves((params, state)), jax.tree.leaves((expected, statistics)), strict=True):
        np.testing.assert_allclose(found[1], wanted, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(losses[1, 1], side_by_side.scores(MODEL, expected, statistics, inputs, labels)[0], rtol=1e-3)


def test_steps_are_counted_to_the_first_time_that_a_level_is_reached():
    curve = np.array([[0.1, 0.1, 0.9], [0.5, 0.2, 0.1], [0.4, 0.3, 0.1]])
    assert side_by_side.steps_to(0.5, curve, 10).tolist() == [20.0, 30.0, 10.0], "30 where it never is"
