"""The variational task: a linear one against probabilistic PCA, binarisation, measures, draws, and any number of devices."""

import functools
import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from toys import compiled

from cnnlab import knobs
from cnnlab.data import DATASETS
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.models.vae import mlp
from cnnlab.ops import running_gaussian
from cnnlab.ops.elbo import elbo, importance_weighted
from cnnlab.ops.likelihoods import bernoulli, gaussian
from cnnlab.recipes.vae import variational_autoencoder
from cnnlab.tasks.sample_quality import pixel_evaluator
from cnnlab.tasks.variational import CODES, PLAYER, diagnosis, summary, variational
from tests.flipping import require_every_knob_does_something

random = np.random.default_rng(0)
KEY = jax.random.key(0)
D, Z, N = 6, 2, 400
MIXING = random.normal(size=(Z, D)) * [[2.0], [1.0]]
POINTS = random.normal(size=(N, Z)) @ MIXING + 0.3 * random.normal(size=(N, D)) + 1.0


def batch_of(images: np.ndarray) -> dict[str, jax.Array]:
    count = len(images)
    return {
        "image": jnp.asarray(images, jnp.float32),
        "label": jnp.zeros(count, jnp.int32),
        "index": jnp.arange(count, dtype=jnp.int32),
        "mask": jnp.ones(count, bool),
    }


def closed_form() -> types.SimpleNamespace:
    """Probabilistic PCA's maximum-likelihood solution (Tipping and Bishop 1999, eq. 7 and 8)."""
    mean, covariance = POINTS.mean(0), np.cov(POINTS.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[Z:].mean()
    weights = vectors[:, :Z] * np.sqrt(values[:Z] - noise)
    log_p = stats.multivariate_normal(mean, weights @ weights.T + noise * np.eye(D)).logpdf(POINTS)
    return types.SimpleNamespace(mean=mean, weights=weights, noise=noise, values=values[:Z], log_p=log_p)


def linear(bound=None, log_p_samples: int = 3):
    """A VAE without hidden layers, the noise of its Gaussian given as probabilistic PCA has it."""
    model = mlp(image_shape=(1, D, 1), outputs=1, classes=0, latent=Z, widths=())
    noise = gaussian(scale=float(np.sqrt(closed_form().noise)))
    more = {"binarize": "none", "steps": 100, "evaluator": pixel_evaluator(), "log_p_samples": log_p_samples}
    return compiled(variational(model, likelihood=noise, bound=bound or elbo(), **more))


def solved() -> dict:
    """Its parameters at the closed form: the exact posterior, whose covariance is diagonal (eq. 6 and 9)."""
    found = closed_form()
    backwards = found.weights / found.values  # M = WᵀW + σ² is diagonal, with the eigenvalues of the data
    heads = {
        "mean": {"kernel": backwards, "bias": -found.mean @ backwards},
        "log_variance": {"kernel": np.zeros((D, Z)), "bias": np.log(found.noise / found.values)},
    }
    decoder = {"output": {"kernel": found.weights.T, "bias": found.mean}}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), {PLAYER: {**heads, "decoder": decoder}})


def test_with_the_exact_posterior_one_sample_gives_log_p_of_probabilistic_pca():
    batch = batch_of(POINTS.reshape(N, 1, D, 1))
    rows = linear().measure_final(solved(), {}, batch)["rows"]
    np.testing.assert_allclose(rows["log_p"], closed_form().log_p, rtol=2e-4, atol=2e-4)


def test_at_the_closed_form_the_bound_is_tight():
    batch = batch_of(POINTS.reshape(N, 1, D, 1))
    numbers = summary(jax.device_get(linear(elbo(samples=200)).measure(solved(), {}, batch)), bits=False)
    assert numbers["elbo"] == pytest.approx(closed_form().log_p.mean(), abs=0.02)
    assert numbers["bound"] == pytest.approx(closed_form().log_p.mean(), abs=1e-3)
    assert numbers["active_units"] == Z and "bits_per_dim" not in numbers


def test_importance_sampling_finds_log_p_from_a_wrong_posterior():
    off = solved()
    off[PLAYER]["log_variance"]["bias"] += 0.7
    off[PLAYER]["mean"]["bias"] += 0.1
    batch = batch_of(POINTS[:50].reshape(50, 1, D, 1))
    few, many = (jnp.mean(linear(log_p_samples=k).measure_final(off, {}, batch)["rows"]["log_p"]) for k in (1, 1000))
    assert float(many) == pytest.approx(closed_form().log_p[:50].mean(), abs=0.02) and float(few) < float(many) - 0.1


def test_training_reaches_probabilistic_pca_and_does_not_pass_it():
    """A linear VAE has no other optimum (Lucas et al. 2019, arXiv 1911.02469, theorem 1)."""
    batch, task, optimizer = batch_of(POINTS.reshape(N, 1, D, 1)), linear(elbo(samples=2)), optax.adam(0.02)
    params, state = task.init(KEY, batch)

    @jax.jit
    def trained(own):
        def step(carry, number):
            own, memory = carry
            gradient = jax.grad(lambda p: task.loss({PLAYER: p}, state, batch, jax.random.fold_in(KEY, number), PLAYER)[0])(own)
            with jax.numpy_dtype_promotion("standard"):
                updates, memory = optimizer.update(gradient, memory)
            return (optax.apply_updates(own, updates), memory), None

        return jax.lax.scan(step, (own, optimizer.init(own)), jnp.arange(1500))[0][0]

    rows = linear(log_p_samples=200).measure_final({PLAYER: trained(params[PLAYER])}, state, batch)["rows"]
    best = closed_form().log_p.mean()
    assert best - 0.1 < float(jnp.mean(rows["log_p"])) < best + 0.005


def grey(binarize, **more):
    model = mlp(image_shape=(4, 4, 1), outputs=1, classes=0, latent=2, widths=(8,))
    more = {"bound": elbo(), "steps": 10, "evaluator": pixel_evaluator(), **more}
    return compiled(variational(model, likelihood=bernoulli(), binarize=binarize, **more))


@functools.cache
def shown(binarize: str):
    """(key, batch) -> what a decoder that says ½ everywhere is shown: from the gradient of the loss by its last bias."""

    @jax.jit
    def shown(key: jax.Array, batch: dict) -> jax.Array:
        task = grey(binarize)
        params, state = task.init(KEY, batch)
        params = jax.tree.map(jnp.zeros_like, params)
        gradient = jax.grad(lambda p: task.loss(p, state, batch, key, PLAYER)[0])(params)
        return 0.5 - gradient[PLAYER]["decoder"]["output"]["bias"]

    return shown


def black_and_white(binarize: str, key: jax.Array, **other) -> np.ndarray:
    """A grey image as the network is shown it."""
    return np.asarray(shown(binarize)(key, batch_of(np.full((1, 4, 4, 1), 0.5)) | other))


def test_images_are_drawn_afresh_once_or_not_at_all():
    other, index = jax.random.key(7), {"index": jnp.int32([3])}
    assert np.all(black_and_white("none", KEY) == 0.5)
    for binarize in ("static", "dynamic"):
        assert set(black_and_white(binarize, KEY).tolist()) == {0.0, 1.0}
    assert np.array_equal(black_and_white("static", KEY), black_and_white("static", other))
    assert not np.array_equal(black_and_white("static", KEY), black_and_white("static", KEY, **index))
    assert not np.array_equal(black_and_white("dynamic", KEY), black_and_white("dynamic", other))


def test_several_samples_report_a_tighter_bound():
    task, batch = grey("none", bound=importance_weighted(samples=20)), batch_of(random.uniform(size=(6, 4, 4, 1)))
    numbers = task.summary(jax.device_get(task.measure(*task.init(KEY, batch), batch)))
    assert numbers["bound"] > numbers["elbo"] and task.primary_metric.name == "bound"
    assert task.primary_metric.higher_is_better
    assert numbers["elbo"] == pytest.approx(-numbers["reconstruction_nats"] - numbers["kl_nats"])
    assert numbers["bits_per_dim"] == pytest.approx(-numbers["elbo"] / 16 / np.log(2))


def test_soft_labels_of_one_class_are_that_class_for_several_samples():
    model = mlp(image_shape=(2, 3, 1), outputs=1, classes=4, latent=Z, widths=(5,))
    bound, more = elbo(samples=3), {"binarize": "none", "steps": 100, "evaluator": pixel_evaluator()}
    task = compiled(variational(model, likelihood=bernoulli(), bound=bound, **more))
    batch = batch_of(np.linspace(0, 1, 30).reshape(5, 2, 3, 1)) | {"label": jnp.asarray([0, 1, 2, 3, 1])}
    params, state = task.init(KEY, batch)
    found = [
        task.loss(params, state, {**batch, "label": label}, KEY, PLAYER)[0]
        for label in (batch["label"], jax.nn.one_hot(batch["label"], 4))
    ]
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_the_slope_of_a_linear_decoder_is_the_norm_of_its_kernel():
    images = np.repeat(POINTS, 10, axis=0).reshape(-1, 1, D, 1)
    task, params = linear(), solved()
    params[PLAYER]["decoder"]["output"]["kernel"] *= 0.05  # so that what is drawn stays in [0, 1]
    params[PLAYER]["decoder"]["output"]["bias"] = jnp.full(D, 0.5)
    numbers = task.summary(jax.device_get(task.measure(params, {}, batch_of(images))))
    assert numbers["decoder_slope"] == pytest.approx(0.05 * np.linalg.norm(closed_form().weights), rel=0.03)


def test_a_collapsed_posterior_is_reported():
    assert "collapsed" in diagnosis({"test/active_units": 0.0}) and diagnosis({"test/active_units": 3.0}) == ""


def test_draws_depend_on_their_own_key_and_a_low_temperature_draws_the_middle():
    task, batch = grey("none"), batch_of(random.uniform(size=(2, 4, 4, 1)))
    params, state = task.init(KEY, batch)
    keys, labels = jax.random.split(KEY, 5), jnp.zeros(5, jnp.int32)
    many = task.sampler.draw(params, state, keys, labels, jnp.float32(1))
    np.testing.assert_allclose(task.sampler.draw(params, state, keys[3:4], labels[:1], jnp.float32(1)), many[3:4], rtol=1e-6)
    cold = task.sampler.draw(params, state, keys, labels, jnp.float32(0))
    np.testing.assert_allclose(cold, np.broadcast_to(cold[:1], cold.shape), rtol=1e-6)
    codes = task.sampler.codes(params, state, keys, jnp.float32(1))
    np.testing.assert_allclose(task.sampler.decode(params, state, codes, labels), many, rtol=1e-6)


@pytest.mark.parametrize("codes_from", ["fitted", "box"])
def test_codes_can_come_from_what_is_fitted_to_those_of_training(codes_from: str):
    task, batch = grey("none", codes_from=codes_from, bound=elbo(beta=0.0)), batch_of(random.uniform(size=(64, 4, 4, 1)))
    params, state = task.init(KEY, batch)
    params[PLAYER]["mean"]["bias"] = jnp.float32([50.0, -50.0])
    _, (state, _) = task.loss(params, state, batch, KEY, PLAYER)
    keys, temperature = jax.random.split(KEY, 200), jnp.float32(1)
    codes = task.sampler.codes(params, state, keys, temperature)
    drawn = {"fitted": running_gaussian.draw, "box": running_gaussian.draw_box}[codes_from](state[CODES], keys, temperature)
    np.testing.assert_allclose(codes, drawn, rtol=1e-6)
    np.testing.assert_allclose(codes.mean(0), state[CODES]["mean"], atol=0.5)
    np.testing.assert_allclose(codes.mean(0), [50.0, -50.0], atol=5)


SMALL = {
    "dataset": "digits",
    "batch_size": 40,
    "duration": "12 steps",
    "model.widths": "16",
    "latent": 4,
    "binarize": "dynamic",
    "anneal": 0.5,
    "free_bits": 0.01,
    "codes_from": "fitted",
    "log_p_samples": 20,
}


@functools.cache
def small():
    return knobs.resolve(variational_autoencoder, SMALL).call()


def test_what_is_dear_is_measured_at_the_end_alone():
    experiment = small()
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state = program.init(0)
    often, once = (experiment.task.summary(train.evaluate(program, state, "test", final=final)) for final in (False, True))
    assert {name: once[name] for name in often} == often
    assert set(once) - set(often) >= {"log_p", "pixels_frechet"} and once["log_p"] > once["elbo"]


@pytest.mark.slow
@pytest.mark.parametrize("below", [None, "model", "likelihood", "bound"])
def test_every_knob_does_something(below: str | None):
    base = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 16, "batch_size": 8, "duration": "40 steps"}
    base |= {"image_size": 20} if below is None else {}
    options = {
        "model": ("mlp", "conv"),
        "likelihood": ("gaussian", "discretized_logistic"),
        "bound": ("elbo", "importance_weighted"),
    }
    for option in options.get(below or "", ("",)):
        chosen = {below: option} if below else {}
        require_every_knob_does_something(variational_autoencoder, {**base, **chosen}, below=below, but=("judge",))


def test_the_mean_image_of_mnist_has_the_nats_that_any_model_must_beat():
    """205.805 nats: what a model reaches that says the same of every image."""
    if "CNNLAB_TFDS" not in os.environ:
        pytest.skip("$CNNLAB_TFDS names no folder with mnist prepared")
    source = DATASETS["tfds"]("mnist", data_dir=os.environ["CNNLAB_TFDS"])
    train_images, test_images = (source.splits[name].images for name in ("train", "test"))
    mean = np.mean([train_images[np.arange(i, i + 1000)].mean(0) for i in range(0, 60000, 1000)], axis=0) / 255
    clipped = np.clip(mean, 1e-6, 1 - 1e-6)
    logits, nats = jnp.asarray(np.log(clipped / (1 - clipped)), jnp.float32)[None], []
    for start in range(0, 10000, 1000):
        images = jnp.asarray(test_images[np.arange(start, start + 1000)] / 255, jnp.float32)
        nats.append(-float(jnp.mean(bernoulli().log_p(logits, images))))
    assert np.mean(nats) == pytest.approx(205.805, abs=0.005)
