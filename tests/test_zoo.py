"""What a network of the zoo has to do, whichever it is: shapes at any size, features, taps, gradients, precision, company."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from cnnlab import knobs
from cnnlab.choices import parameters
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import UsageError
from cnnlab.models import MODELS
from cnnlab.models.image_size import smallest_image
from cnnlab.models.norms import NORMS
from cnnlab.ops import trees
from experiments.zoo_digits import experiment
from tests import jitted
from tests.stages import slow_but
from tests.zoo import DEEP, ZOO, deep_later, fields, kinds, thin

KEY = jax.random.key(0)
MOST_STEPS = 80
"""In which a network has to lower its loss on one batch by a tenth; without norms some take half of them."""
EAGER = ("alexnet_two_tower", "zfnet", "vgg11_a", "resnet18", "squeezenet1_0", "mobilenet_v1")
"""Networks that are run uncompiled too; each operation of those with many shapes takes its own time to compile."""
EVERY = ["activation", "norm", "dropout", "initializer", "width"]


@functools.cache
def shapes(model, side=32, channels=3, batch=2):
    """(variables, (output, intermediates)) as shapes, from one trace."""
    images = jax.ShapeDtypeStruct((batch, side, side, channels), jnp.float32)
    outputs, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), KEY, images)
    return variables, outputs


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


def test_a_network_has_every_knob_of_the_zoo():
    missing = {name: set(EVERY) - {parameter for parameter, *_ in parameters(MODELS[name])} for name in ZOO}
    assert {name: lacking for name, lacking in missing.items() if lacking} == {}


@pytest.mark.parametrize("name", slow_but(ZOO, *(name for name in kinds() if name not in DEEP)))
def test_every_parameter_takes_part_and_the_output_has_its_shape(name):
    model = MODELS[name](classes=10, **thin(name))
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), KEY, images)
    seen = {}

    def outputs(params, state, x):
        logits, taps = model.apply({"params": params, **state}, x, train=False)
        seen.update({name: tap.shape for name, tap in taps.items()})
        return [logits, *(tap for name, tap in taps.items() if name.startswith("auxiliary"))]

    params, state = variables["params"], {key: value for key, value in variables.items() if key != "params"}
    jaxpr, (output, *_) = jax.make_jaxpr(outputs, return_shape=True)(params, state, images)
    jaxpr = jaxpr.jaxpr
    assert output.shape == seen["output"] == (2, 10) and len(seen["features"]) == 2
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    idle = [path for path, needed in zip(trees.flatten({"params": params, **state}), used, strict=False) if not needed]
    assert not idle, f"nothing depends on {idle}"


@pytest.mark.parametrize("name", deep_later(kinds()))
def test_without_classes_the_output_is_the_features(name):
    model = MODELS[name](classes=0, **thin(name))
    variables, (output, seen) = shapes(model)
    assert output.shape == seen["features"].shape
    assert not any(path.startswith("params/output") for path in trees.flatten(variables))


@pytest.mark.parametrize("name", deep_later(kinds()))
@pytest.mark.parametrize("side", [33, pytest.param(47, marks=pytest.mark.slow)])
def test_odd_sizes_are_taken(name, side):
    _, (output, seen) = shapes(MODELS[name](classes=10, **thin(name)), side=side, channels=1)
    assert output.shape == (2, 10) and len(seen) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.thorough) if name in DEEP else name for name in kinds()])
def test_too_small_an_image_names_the_layer_and_the_smallest_that_works(name):
    model = MODELS[name](classes=10, **{key: value for key, value in thin(name).items() if key != "stem"})
    smallest = smallest_image(model, 3)
    shapes(model, side=smallest)
    if smallest > 1:
        with pytest.raises(UsageError, match=rf"too small: layer \S+ needs .*\n.*smallest image .* is {smallest}x{smallest}"):
            shapes(model, side=smallest - 1)


@pytest.mark.parametrize("norm", slow_but(NORMS, "none"))
@pytest.mark.parametrize("name", deep_later(kinds()))
def test_every_normalisation_fits(name, norm):
    _, (output, _) = shapes(MODELS[name](classes=3, **{**thin(name), "norm": NORMS[norm]}))
    assert output.shape == (2, 3)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", kinds())
def test_predictions_do_not_depend_on_company_compilation_or_much_on_precision(name):
    model, variables, images = built(name)
    apply = jax.jit(functools.partial(model.apply, train=False))
    exact, seen = apply(variables, images)
    np.testing.assert_array_equal(seen["output"], exact)
    scale = float(jnp.abs(exact).max())
    others, _ = apply(variables, images.at[jnp.array([0, 1, 3])].multiply(2.0))
    np.testing.assert_allclose(others[2], exact[2], atol=1e-4 * scale)
    assert not np.allclose(others[1], exact[1], atol=1e-2 * scale)
    if name in EAGER:
        eager, _ = jitted.apply_uncompiled(model, variables, images[2:3], train=False)
        np.testing.assert_allclose(eager, exact[2:3], atol=1e-4 * scale)
    rough, _ = apply(
        {**variables, "params": jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables["params"])},
        images.astype(jnp.bfloat16),
    )
    assert rough.dtype == jnp.bfloat16
    assert float(jnp.linalg.norm(rough.astype(jnp.float32) - exact)) < 0.15 * float(jnp.linalg.norm(exact))


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in ZOO if name != "cifar_resnet1202"])  # too deep to compile here
def test_the_loss_falls_and_every_parameter_moves(name):
    """A few steps of the zoo's own experiment on one batch of digits."""
    given = {
        "model": name,
        "model.width": thin(name)["width"],
        "model.dropout": 0,
        "batch_size": 32,
        "optimizer": "adam",
        "lr": 0.005,
    }
    heads = {"model.auxiliary": True} if "auxiliary" in fields(name) else {}
    which = knobs.resolve(experiment, {**given, **heads, "schedule": "constant"}).call()
    program = build_program(which, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state, feed = jitted.init(program, 0), next(which.data.train(0, 0))
    placed = program.strategy.shard_batch({key: value[None] for key, value in feed.items()})
    before, losses = trees.flatten(program.strategy.to_host(state).params), []
    while len(losses) < MOST_STEPS and not (losses and losses[-1] < 0.9 * losses[0]):
        state, stats = program.phase_steps[0](state, program.step_inputs("train"), placed)
        losses.append(float(stats["sums"]["loss"][0]))
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0], losses
    after = trees.flatten(program.strategy.to_host(state).params)
    assert all(np.isfinite(leaf).all() for leaf in after.values())
    still = [path for path, leaf in after.items() if np.array_equal(leaf, before[path])]
    assert not still, still
