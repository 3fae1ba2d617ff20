"""The game of two players: who moves what, penalties, noise by example on any devices, resuming, knobs, remarks."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from cnnlab import knobs
from cnnlab.core import Experiment
from cnnlab.engine import train
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.errors import UsageError
from cnnlab.files import read_json
from cnnlab.ops.gan_losses import GAN_LOSSES
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.tasks.gan import _density_map, gan_task
from cnnlab.tasks.sample_quality import pixel_evaluator
from tests.flipping import require_every_knob_does_something
from tests.stages import slow_but

SMALL = {"model": "dcgan", "model.width": 4, "dataset": "digits", "latent": 8, "batch_size": 48, "duration": "6 steps"}
POINTS = {
    "model": "mlp",
    "dataset": "gaussians",
    "dataset.examples": 400,
    "generator_widths": "16",
    "discriminator_widths": "16",
}
POINTS |= {"latent": 4, "batch_size": 32, "duration": "8 steps", "judge": "modes"}
INTERVALS = train.Intervals(log=1, evaluate=100, save=3)


def experiment(**given) -> Experiment:
    return knobs.resolve(adversarial_pair, {**SMALL, **given}).call()


def points(**given) -> Experiment:
    """The same game on two-dimensional points."""
    return knobs.resolve(adversarial_pair, {**POINTS, **given}).call()


def batch_of(made: Experiment) -> dict:
    return made.data.prepare(made.data.resident["train"], next(made.data.train(0, 0)), None)


@pytest.mark.parametrize("loss", slow_but(GAN_LOSSES, "hinge"))
def test_a_player_moves_its_own_parameters_and_state_alone(loss: str):
    made = experiment(loss=loss, spectral=loss == "hinge", critic_steps=2)
    batch = batch_of(made)
    params, state = jax.jit(made.task.init)(jax.random.key(0), batch)
    assert made.task.turns == ("discriminator", "discriminator", "generator")
    for player, other in (("generator", "discriminator"), ("discriminator", "generator")):

        def of_own(own, player=player):
            return made.task.loss({**params, player: own}, state, batch, jax.random.key(1), player)

        gradient, (new, stats) = jax.jit(jax.grad(of_own, has_aux=True))(params[player])
        assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient)), "every parameter is learnt"
        assert tree_digest(new[other]) == tree_digest(state[other])
        assert not jax.tree.leaves(state[player]) or tree_digest(new[player]) != tree_digest(state[player])
        assert float(stats["sums"][f"{player}_count"]) == 48.0


class Linear(nn.Module):
    """A critic whose slope is its kernel everywhere."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(1, name="output")(images.reshape(len(images), -1))[:, 0]


def test_penalties_of_a_linear_critic_are_those_of_its_kernel():
    batch, weight = batch_of(experiment()), 7.0

    def loss_and_kernel(gradient_penalty: float, r1: float | None) -> tuple[float, jax.Array]:
        objective = GAN_LOSSES["wgan_gp"](gradient_penalty=gradient_penalty)
        task = gan_task(Scale(), Linear(), objective=objective, evaluator=pixel_evaluator(), latent=64, r1=r1)
        params, state = jax.jit(task.init)(jax.random.key(0), batch)
        loss, _ = jax.jit(task.loss, static_argnums=4)(params, state, batch, jax.random.key(1), "discriminator")
        return float(loss), params["discriminator"]["output"]["kernel"]

    plain, kernel = loss_and_kernel(0.0, None)
    slope = float(jnp.linalg.norm(kernel))
    assert loss_and_kernel(weight, None)[0] - plain == pytest.approx(weight * (slope - 1) ** 2, rel=1e-3)
    assert loss_and_kernel(0.0, 3.0)[0] - plain == pytest.approx(1.5 * slope**2, rel=1e-3)


class Scale(nn.Module):
    """Codes of 64 as images of 8x8."""

    @nn.compact
    def __call__(self, codes: jax.Array, *, train: bool) -> jax.Array:
        return self.param("scale", nn.initializers.ones, ()) * codes.reshape(-1, 8, 8, 1)


@pytest.mark.slow
def test_the_penalty_of_a_network_equals_finite_differences():
    made = points(loss="wgan_gp", pieces=1)
    batch = batch_of(made)
    params, state = jax.jit(made.task.init)(jax.random.key(0), batch)

    @jax.jit
    def loss_of(own) -> jax.Array:
        return made.task.loss({**params, "discriminator": own}, state, batch, jax.random.key(1), "discriminator")[0]

    own = params["discriminator"]
    gradient, step = jax.jit(jax.grad(loss_of))(own), 1e-2
    for layer, place in (("dense1", (1, 3)), ("output", (5, 0))):
        bumped = [{**own, layer: {**own[layer], "kernel": own[layer]["kernel"].at[place].add(sign * step)}} for sign in (1, -1)]
        slope = float(loss_of(bumped[0]) - loss_of(bumped[1])) / (2 * step)
        assert float(gradient[layer]["kernel"][place]) == pytest.approx(slope, rel=3e-2, abs=2e-3)


class Smooth(nn.Module):
    """A convolutional critic without kinks: where a leaky ReLU turns, the slope jumps, which no gradient tells of."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = jnp.tanh(nn.Conv(4, (3, 3), strides=2, name="conv1")(images))
        x = jnp.tanh(nn.Conv(6, (3, 3), strides=2, name="conv2")(x))
        return nn.Dense(1, name="output")(x.reshape(len(x), -1))[:, 0]


@pytest.mark.slow
def test_the_penalty_of_convolutions_equals_finite_differences_in_every_direction():
    batch = batch_of(experiment())
    objective = GAN_LOSSES["wgan_gp"](gradient_penalty=10.0)
    task = toys.compiled(gan_task(Scale(), Smooth(), objective=objective, evaluator=pixel_evaluator(), latent=64))
    params, state = task.init(jax.random.key(0), batch)

    @jax.jit
    def loss_of(own) -> jax.Array:
        return task.loss({**params, "discriminator": own}, state, batch, jax.random.key(1), "discriminator")[0]

    own, step = params["discriminator"], 1e-3
    gradient = jax.jit(jax.grad(loss_of))(own)
    for key in jax.random.split(jax.random.key(2), 4):
        direction = jax.tree.map(lambda leaf, key=key: jax.random.normal(key, leaf.shape), own)
        ahead, behind = (
            loss_of(jax.tree.map(lambda leaf, way, sign=sign: leaf + sign * step * way, own, direction)) for sign in (1, -1)
        )
        along = sum(float(jnp.sum(leaf * way)) for leaf, way in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        assert float(ahead - behind) / (2 * step) == pytest.approx(along, rel=5e-3, abs=1e-2)


@pytest.mark.slow
def test_two_players_resume_to_the_bit_through_a_run(tmp_path: pathlib.Path):
    resolved = knobs.resolve(adversarial_pair, POINTS)
    for name, stops in (("whole", (None,)), ("parts", (3, None))):
        for stop in stops:
            plan = RunSpec("gan", resolved.values, "f32", source="", stop_after=stop, devices=1, quiet=True)
            assert run.train_seeds(resolved, plan, {0: tmp_path / name}, overwrite=False) == 0
    results = [read_json(tmp_path / name / "result.json") for name in ("whole", "parts")]
    assert results[0]["state_digest"] == results[1]["state_digest"] and results[0]["metrics"] == results[1]["metrics"]
    assert (tmp_path / "parts" / "figures" / "samples.webp").exists()
    assert list((tmp_path / "parts" / "snapshots" / "samples").glob("*.png"))


def test_a_draw_depends_on_its_own_key_class_and_temperature():
    made = experiment(conditional=True)
    params, state = jax.jit(made.task.init)(jax.random.key(0), batch_of(made))
    sampler, keys = made.task.sampler, jax.random.split(jax.random.key(3), 6)
    labels = jnp.arange(6, dtype=jnp.int32)
    draw = jax.jit(sampler.draw)
    images = draw(params, state, keys, labels, jnp.float32(1))
    assert images.shape == (6, 8, 8, 1) and 0.0 <= float(images.min()) < float(images.max()) <= 1.0
    np.testing.assert_allclose(draw(params, state, keys[2:3], labels[2:3], jnp.float32(1))[0], images[2], atol=1e-6)
    assert not np.allclose(draw(params, state, keys, labels + 1, jnp.float32(1)), images)
    cold = draw(params, state, keys, jnp.zeros(6, jnp.int32), jnp.float32(0))
    np.testing.assert_allclose(cold, jnp.broadcast_to(cold[:1], cold.shape), atol=1e-6)
    codes = sampler.codes(params, state, keys, jnp.float32(0.5))
    assert codes.shape == (6, 8) and sampler.conditional
    np.testing.assert_allclose(codes, 0.5 * sampler.codes(params, state, keys, jnp.float32(1)))
    assert not experiment().task.sampler.conditional


def test_the_density_map_points_has_them_where_they_are_and_leaves_out_what_is_outside():
    points = jnp.array([[0.01, 0.01]] * 8 + [[0.99, 0.5]] * 8 + [[-0.01, 0.5], [0.5, 1.2], [7.0, -3.0], [0.5, -0.01]])
    image = np.asarray(_density_map(points))[..., 0]
    dark = {tuple(place) for place in np.argwhere(image < 1)}
    assert dark == {(95, 0), (47, 95)} and image.min() == 0.0


def test_the_diagnosis_names_missing_classes_and_a_certain_discriminator():
    task = points().task
    fine = {"test/modes_classes": 7.0, "train/fake_score": 0.4, "train/sample_gradient": 0.3}
    assert task.diagnosis(fine) == "" and task.diagnosis({}) == ""
    assert "The evaluator finds 3 of 8 classes among samples" in task.diagnosis({**fine, "test/modes_classes": 3.0})
    assert "The discriminator won: D(G(z)) is 0.001" in task.diagnosis({**fine, "train/fake_score": 0.001})
    score = points(loss="wgan_gp").task
    assert score.diagnosis({**fine, "train/fake_score": -3.0}) == ""


def test_two_time_scales_scale_the_discriminators_steps():
    slow, fast = (experiment(discriminator_rate=rate, optimizer="sgd") for rate in (0.5, 1.0))
    ones = {"kernel": jnp.ones((2, 2))}
    moved = {}
    for name, made in (("slow", slow), ("fast", fast)):
        for player, optimizer in made.optimizers.items():
            with jax.numpy_dtype_promotion("standard"):  # as optax wants it
                moved[name, player] = optimizer.update(ones, optimizer.init(ones), ones)[0]["kernel"]
    np.testing.assert_allclose(moved["slow", "discriminator"], 0.5 * moved["fast", "discriminator"])
    np.testing.assert_allclose(moved["slow", "generator"], moved["fast", "generator"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", GAN_LOSSES)
def test_every_loss_finds_one_gaussian(loss: str):
    given = {**POINTS, "loss": loss, "dataset.modes": 2, "dataset.deviation": 0.1, "pieces": 1, "dropout": 0.0}
    given |= {"output": "linear", "duration": "1500 steps", "lr": 0.001, "average_decay": 0.99, "dataset.radius": 0.001}
    made = knobs.resolve(adversarial_pair, {**given, "critic_steps": 2, "batch_size": 64}).call()
    intervals = train.Intervals(log=1500, evaluate=1500, save=1500)
    state, _, _, _ = toys.run(made, intervals=intervals)
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = made.task.sampler.draw(state.average, state.model_state, keys, jnp.zeros(500, jnp.int32), jnp.float32(1))
    at = np.asarray(drawn).reshape(500, 2)
    np.testing.assert_allclose(at.mean(axis=0), [0.5, 0.5], atol=0.06)
    assert 0.02 < at.std(axis=0).mean() < 0.2


@pytest.mark.slow
def test_every_knob_of_the_recipe_does_something():
    base = {**SMALL, "image_size": 16, "image_fit": "pad"}
    others = {"judge": "modes", "dataset": "stripes", "augment": "shift_rotate", "image_size": 32}
    require_every_knob_does_something(adversarial_pair, base, others=others, but=("model",))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "dcgan"])
def test_every_knob_of_a_pair_does_something(model: str):
    base = {name: value for name, value in SMALL.items() if name != "model.width"}
    base |= {"model": model, "image_size": 16}
    others = {"model.norm": "layer", "model.dropout": 0.25}
    require_every_knob_does_something(adversarial_pair, base, below="model", others=others)


@pytest.mark.parametrize("loss", ["saturating", "non_saturating", "wgan_gp"])
def test_every_knob_of_a_loss_does_something(loss: str):
    require_every_knob_does_something(adversarial_pair, {**SMALL, "loss": loss}, below="loss")


def test_wrong_combinations_are_refused_before_anything_is_built():
    with pytest.raises(UsageError, match="a norm over the batch mixes them"):
        experiment(loss="wgan_gp", norm="batch")
    with pytest.raises(UsageError, match="whose side is 4, 5, 6 or 7 doubled"):
        experiment(image_size=30)
