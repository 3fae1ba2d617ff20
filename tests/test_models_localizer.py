"""The two-headed network: both heads learn, and the trunk hears the sum of their losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab import inspect, knobs
from cnnlab.errors import UsageError
from cnnlab.models import norms
from cnnlab.models.alexnet import alexnet
from cnnlab.models.localizer import Localizer
from cnnlab.models.squeezenet import squeezenet1_1
from cnnlab.models.vgg import VGG
from cnnlab.runs.catalogue import catalogue
from tests import jitted

KEY = jax.random.key(0)
trunk = functools.partial(VGG, classes=0, depths=(1, 1, 1, 1, 1), hidden=(256, 256), grid=1, width=1 / 8, dropout=0.0)


def scene():
    """Images with one bright square each, its class (how bright) and its box in units of the image."""
    random = np.random.default_rng(0)
    images = 0.1 * random.normal(size=(8, 32, 32, 3))
    classes = np.arange(8) % 2
    boxes = []
    for image, label in zip(images, classes, strict=True):
        top, left, side = random.integers(0, 16), random.integers(0, 16), random.integers(8, 16)
        image[top : top + side, left : left + side] += 1.0 + label
        boxes.append(np.array([top, left, side, side]) / 32)
    return jnp.asarray(images, jnp.float32), classes, jnp.asarray(np.stack(boxes), jnp.float32)


def losses(network, params, images, classes, boxes):
    """(cross-entropy, squared error of the box)."""
    output, _ = jitted.apply(network, {"params": params}, images, train=True)
    log = jax.nn.log_softmax(output["logits"])
    return -jnp.mean(log[np.arange(len(classes)), classes]), jnp.mean((output["box"] - boxes) ** 2)


@pytest.mark.slow
def test_trunk_gets_the_sum_of_both_heads_gradients():
    network = Localizer(classes=2, trunk=trunk())
    scenery = scene()

    @jax.jit
    def gradients(key):
        params = network.init(key, scenery[0], train=False)["params"]
        (one, zero), pull = (jnp.ones(()), jnp.zeros(())), jax.vjp(lambda p: losses(network, p, *scenery), params)[1]
        return [pull(weights)[0] for weights in ((one, zero), (zero, one), (one, one))]

    of_classes, of_boxes, together = gradients(KEY)
    for own, other, head in ((of_classes, of_boxes, "output"), (of_boxes, of_classes, "box")):
        assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(own[head]))
        assert all(bool(jnp.all(leaf == 0)) for leaf in jax.tree.leaves(other[head]))
        assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(own["trunk"]))
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-4, atol=1e-5 * float(jnp.abs(c).max())),
        of_classes,
        of_boxes,
        together,
    )


@pytest.mark.slow
def test_both_heads_learn_together():
    network, optimizer, scenery = Localizer(classes=2, trunk=trunk()), optax.adam(2e-3), scene()

    @jax.jit
    def learn(params):
        def step(carry, _):
            params, state = carry
            parts = jnp.stack(losses(network, params, *scenery))
            gradient = jax.grad(lambda p: sum(losses(network, p, *scenery)))(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), parts

        return jax.lax.scan(step, (params, optimizer.init(params)), None, length=60)[1]

    params = jax.jit(functools.partial(network.init, train=False))(KEY, scenery[0])["params"]
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to whole powers
        history = np.asarray(learn(params))
    assert np.all(history[-1] < 0.2 * history[0]), (history[0], history[-1])


def test_boxes_are_shared_or_one_for_each_class():
    images = jnp.ones((2, 32, 32, 3))
    network = squeezenet1_1(classes=0, width=1 / 8, stem="small")
    for boxes, shape in (("shared", (2, 4)), ("per_class", (2, 5, 4))):
        localizer = Localizer(classes=5, trunk=network, boxes=boxes)
        (output, seen), variables = jax.eval_shape(functools.partial(localizer.init_with_output, train=False), KEY, images)
        assert output["logits"].shape == (2, 5) and output["box"].shape == shape
        assert seen["features"].shape == (2, 64) and seen["box"].shape == shape and "fire9" in seen
        assert set(variables["params"]) == {"trunk", "output", "box"}


def test_batch_statistics_of_the_trunk_move_in_training():
    network = Localizer(classes=2, trunk=trunk(norm=norms.batch_norm))
    images = scene()[0]

    @jax.jit
    def means(key):
        variables = network.init(key, images, train=False)
        _, moved = network.apply(variables, images, train=True, mutable=["batch_stats"])
        return [collections["batch_stats"]["trunk"]["norm1_1"]["mean"] for collections in (variables, moved)]

    before, after = means(KEY)
    assert not np.array_equal(before, after)


def test_trunk_names_the_smallest_image():
    network = Localizer(classes=2, trunk=alexnet(classes=0))
    with pytest.raises(UsageError, match="smallest image for this network is 63x63"):
        jax.eval_shape(functools.partial(network.init, train=False), KEY, jnp.ones((1, 40, 40, 3)))


def test_the_localizer_is_listed_and_its_heads_are_inspected():
    rows = knobs.resolve(inspect.of_model, {"model": "vgg16_localizer", "input": "224,224,3"}).call()
    heads = {row.name: row for row in rows[-2:]}
    features, classes = 4096, 1000  # the paper: 4 numbers for each of 1,000 classes
    assert heads["output"].params == classes * (features + 1)
    assert heads["box"].params == 4 * classes * (features + 1) and heads["box"].macs == 4 * classes * features
    assert {"localizer", "vgg16_localizer"} == set(catalogue()["networks of localisation"])
