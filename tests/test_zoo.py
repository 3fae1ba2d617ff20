"""What a network of the zoo has to do, whichever it is: shapes at any size, features, taps, gradients, precision, company."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from cnnlab import knobs, train
from cnnlab.errors import UsageError
from cnnlab.models import MODELS
from cnnlab.models.layers import NORMS, smallest_image
from cnnlab.ops import trees
from cnnlab.parallel import STRATEGIES, pick_devices
from experiments.zoo_digits import experiment
from tests.zoo import ZOO, kinds, thin

KEY = jax.random.key(0)
EVERY = ["activation", "norm", "dropout", "initializer", "width"]


def shapes(model, side=32, channels=3, batch=2, **call):
    """(variables, (output, intermediates)) as shapes."""
    images = jax.ShapeDtypeStruct((batch, side, side, channels), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), KEY, images)
    return variables, jax.eval_shape(functools.partial(model.apply, train=False), variables, images)


@functools.cache
def built(name):
    """(model, variables, images) with weights that are random whatever the model's own initialiser."""
    model = MODELS[name](classes=10, **thin(name))
    images = jax.random.normal(KEY, (4, 32, 32, 3))

    @jax.jit
    def start():
        variables = model.init(KEY, images, train=False)
        leaves, structure = jax.tree.flatten(variables["params"])
        noise = [leaf + 0.05 * jax.random.normal(jax.random.fold_in(KEY, i), leaf.shape) for i, leaf in enumerate(leaves)]
        return {**variables, "params": jax.tree.unflatten(structure, noise)}

    return model, start(), images


@pytest.mark.parametrize("name", ZOO)
def test_a_network_has_every_knob_of_the_zoo(name):
    assert set(EVERY) <= {parameter for parameter, *_ in knobs.parameters(MODELS[name])}


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_takes_part_and_the_output_has_its_shape(name):
    model = MODELS[name](classes=10, **thin(name))
    variables, (output, seen) = shapes(model)
    assert output.shape == (2, 10) and seen["output"].shape == output.shape and seen["features"].ndim == 2
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    heads = [name for name in seen if name.startswith("auxiliary")]

    def outputs(params, state, x):
        logits, taps = model.apply({"params": params, **state}, x, train=False)
        return [logits, *(taps[head] for head in heads)]

    params, state = variables["params"], {key: value for key, value in variables.items() if key != "params"}
    jaxpr = jax.make_jaxpr(outputs)(params, state, images).jaxpr
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    idle = [path for path, needed in zip(trees.flatten({"params": params, **state}), used, strict=False) if not needed]
    assert not idle, f"nothing depends on {idle}"


@pytest.mark.parametrize("name", kinds())
def test_without_classes_the_output_is_the_features(name):
    model = MODELS[name](classes=0, **thin(name))
    variables, (output, seen) = shapes(model)
    assert output.shape == seen["features"].shape
    assert not any(path.startswith("params/output") for path in trees.flatten(variables))


@pytest.mark.parametrize("name", kinds())
@pytest.mark.parametrize("side", [33, 47])
def test_odd_sizes_are_taken(name, side):
    _, (output, seen) = shapes(MODELS[name](classes=10, **thin(name)), side=side, channels=1)
    assert output.shape == (2, 10) and len(seen) >= 4


@pytest.mark.parametrize("name", kinds())
def test_too_small_an_image_names_the_layer_and_the_smallest_that_works(name):
    model = MODELS[name](classes=10, **{key: value for key, value in thin(name).items() if key != "stem"})
    smallest = smallest_image(model, 3)
    shapes(model, side=smallest)
    if smallest > 1:
        with pytest.raises(UsageError, match=rf"too small: layer \S+ needs .*\n.*smallest image .* is {smallest}x{smallest}"):
            shapes(model, side=smallest - 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", kinds())
def test_every_normalisation_fits(name, norm):
    _, (output, _) = shapes(MODELS[name](classes=3, **{**thin(name), "norm": NORMS[norm]}))
    assert output.shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", kinds())
def test_predictions_are_the_same_compiled_alone_and_in_company(name):
    model, variables, images = built(name)
    apply = jax.jit(functools.partial(model.apply, train=False))
    together, seen = apply(variables, images)
    alone, _ = apply(variables, images[2:3])
    scale = float(jnp.abs(together).max())
    np.testing.assert_allclose(alone, together[2:3], atol=1e-4 * scale)
    np.testing.assert_array_equal(seen["output"], together)
    with jax.disable_jit():
        eager, _ = model.apply(variables, images[2:3], train=False)
    np.testing.assert_allclose(eager, alone, atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", kinds())
def test_every_parameter_gets_a_finite_gradient(name):
    model, variables, images = built(name)
    state = {key: value for key, value in variables.items() if key != "params"}

    def loss(params):
        (logits, seen), _ = model.apply(
            {"params": params, **state}, images, train=True, mutable=sorted(state), rngs={"dropout": KEY}
        )
        heads = [seen[head] for head in sorted(seen) if head.startswith("auxiliary")]
        return sum(jnp.sum(jnp.sin(head)) for head in [logits, *heads])  # bounded slope, and no symmetry that would cancel

    gradients = trees.flatten(jax.jit(jax.grad(loss))(variables["params"]))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in gradients.values())
    idle = [path for path, leaf in gradients.items() if not bool(jnp.any(leaf != 0))]
    assert not idle, idle


@pytest.mark.slow
@pytest.mark.parametrize("name", kinds())
def test_bf16_gives_bf16_close_to_f32(name):
    model, variables, images = built(name)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables["params"])
    apply = jax.jit(functools.partial(model.apply, train=False))
    exact, _ = apply(variables, images)
    rough, _ = apply({**variables, "params": params}, images.astype(jnp.bfloat16))
    assert rough.dtype == jnp.bfloat16
    distance = jnp.linalg.norm(rough.astype(jnp.float32) - exact) / jnp.linalg.norm(exact)
    assert float(distance) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", kinds())
def test_the_loss_of_a_network_falls(name):
    """A few steps of the zoo's own experiment on one batch of digits."""
    given = {"model": name, "model.width": thin(name)["width"], "model.dropout": 0, "batch_size": 32, "lr": 0.02}
    which = knobs.resolve(experiment, {**given, "schedule": "constant"}).call()
    program = train.build(which, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state, feed = program.init(0), next(which.data.train(0, 0))
    placed = program.strategy.split({key: value[None] for key, value in feed.items()})
    losses = []
    for _ in range(8):
        state, stats = program.steps(state, program.resident["train"], placed)
        losses.append(float(stats["sums"]["loss"][0]))
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0], losses
