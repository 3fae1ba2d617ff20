"""The vector-quantised autoencoder: straight-through gradients, a codebook that follows, any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import compiled

from cnnlab.models.vq_vae import vq_vae
from cnnlab.ops.likelihoods import bernoulli
from cnnlab.recipes.vae import quantized_autoencoder
from cnnlab.tasks.variational import PLAYER
from cnnlab.tasks.vq_vae import diagnosis, nearest_entries, update_codebook, vq_vae_task
from tests.flipping import require_every_knob_does_something

KEY = jax.random.key(0)
random = np.random.default_rng(0)
BATCH = {
    "image": jnp.asarray(random.uniform(size=(6, 8, 8, 1)), jnp.float32),
    "label": jnp.zeros(6, jnp.int32),
    "index": jnp.arange(6, dtype=jnp.int32),
    "mask": jnp.ones(6, bool),
}


def task(**how):
    model = vq_vae(image_shape=(8, 8, 1), outputs=1, entries=4, dimension=3, widths=(4, 4), blocks=0)
    return compiled(vq_vae_task(model, likelihood=bernoulli(), **({"commitment": 0.25, "decay": 0.9, "restart": 0.0} | how)))


def state_of(codebook: jax.Array, counts: jax.Array, grid: tuple[int, int]) -> dict[str, jax.Array]:
    usage = jnp.full((*grid, len(codebook)), 1.0 / len(codebook))
    return {"codebook": codebook, "counts": counts, "sums": codebook * counts[:, None], "usage": usage}


def test_the_nearest_entry_is_chosen():
    vectors, codebook = random.normal(size=(2, 3, 5, 4)), random.normal(size=(7, 4))
    expected = ((vectors[..., None, :] - codebook) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(
        nearest_entries(jnp.asarray(vectors, jnp.float32), jnp.asarray(codebook, jnp.float32)), expected
    )


@pytest.mark.slow
def test_the_nearest_entry_is_chosen_far_from_the_origin():
    random = np.random.default_rng(4)
    entries, vectors = ((5000 + random.normal(size=(count, 3))).astype(np.float32) for count in (16, 40))
    expected = ((vectors[:, None].astype(np.float64) - entries[None]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest_entries(jnp.asarray(vectors), jnp.asarray(entries)), expected)


def test_the_gradient_of_the_decoder_passes_the_codes_unchanged():
    """Without commitment the encoder's gradient is that of the decoder's input, as if the entries were the vectors."""
    free = task(commitment=0.0)
    params, state = free.init(KEY, BATCH)

    def of_shift(shift: jax.Array) -> jax.Array:
        bias = params[PLAYER]["encoder"]["vectors"]["bias"] + shift
        vectors = {**params[PLAYER]["encoder"]["vectors"], "bias": bias}
        own = {**params[PLAYER], "encoder": {**params[PLAYER]["encoder"], "vectors": vectors}}
        return free.loss({PLAYER: own}, state, BATCH, KEY, PLAYER)[0]

    def of_entries(shift: jax.Array) -> jax.Array:
        moved = {**state, "codebook": state["codebook"] + shift[None]}
        fixed = {name: params[PLAYER][name] for name in params[PLAYER]}
        model = vq_vae(image_shape=(8, 8, 1), outputs=1, entries=4, dimension=3, widths=(4, 4), blocks=0)
        vectors = model.apply({"params": fixed}, BATCH["image"], method="encode")
        out = model.apply({"params": fixed}, moved["codebook"][nearest_entries(vectors, state["codebook"])], method="decode")
        return -jnp.mean(bernoulli().log_p(out, BATCH["image"]))

    zeros = jnp.zeros(3)
    found = jax.grad(of_shift)(zeros)
    np.testing.assert_allclose(found, jax.jit(jax.grad(of_entries))(zeros), rtol=1e-4)
    assert np.any(found != 0)


def test_entries_follow_the_mean_of_the_vectors_that_choose_them():
    codebook = jnp.float32([[0.0, 0.0], [10.0, 0.0]])
    state = state_of(codebook, jnp.ones(2), (2, 2))
    vectors = jnp.asarray(random.normal(size=(50, 2, 2, 2)) * 0.1 + [1.0, 2.0], jnp.float32)
    step = jax.jit(
        lambda state, key: update_codebook(
            state, vectors, nearest_entries(vectors, state["codebook"]), key, decay=0.9, restart=0.0
        )
    )
    for number in range(100):
        state = step(state, jax.random.fold_in(KEY, number))
    np.testing.assert_allclose(state["codebook"][0], vectors.reshape(-1, 2).mean(0), rtol=1e-3)
    np.testing.assert_allclose(state["counts"], [200.0, 0.0], atol=0.1)
    np.testing.assert_allclose(state["usage"][1, 1], [1.0, 0.0], atol=1e-3)


def test_entries_that_none_chooses_start_again_at_a_vector_of_the_batch():
    codebook = jnp.float32([[0.0, 0.0], [99.0, 99.0], [99.0, 98.0]])
    vectors = jnp.asarray(random.normal(size=(5, 2, 2, 2)), jnp.float32)
    state = state_of(codebook, jnp.float32([20.0, 0.1, 0.1]), (2, 2))
    moved = update_codebook(state, vectors, nearest_entries(vectors, codebook), KEY, decay=0.9, restart=1.0)["codebook"]
    apart = np.abs(np.asarray(moved)[1:, None] - np.asarray(vectors).reshape(1, -1, 2)).max(-1).min(-1)
    assert np.all(apart < 1e-3)
    stay = update_codebook(state, vectors, nearest_entries(vectors, codebook), KEY, decay=0.9, restart=0.0)["codebook"]
    np.testing.assert_allclose(stay[1:], codebook[1:], rtol=1e-3)


def test_codes_cost_the_logarithm_of_their_number():
    params, state = task().init(KEY, BATCH)
    numbers = task().summary(jax.device_get(task().measure(params, state, BATCH)))
    assert numbers["elbo"] == pytest.approx(-numbers["reconstruction_nats"] - 4 * np.log(4), rel=1e-6)
    assert 1.0 <= numbers["perplexity"] <= numbers["used_entries"] <= 4
    assert "collapsed" in diagnosis({"test/perplexity": 1.0}) and diagnosis({"test/perplexity": 3.0}) == ""


def test_draws_follow_what_each_place_was_used_for():
    params, state = task().init(KEY, BATCH)
    state["usage"] = jax.nn.one_hot(jnp.full((2, 2), 3), 4)
    keys, labels = jax.random.split(KEY, 5), jnp.zeros(5, jnp.int32)
    drawn = task().sampler.draw(params, state, keys, labels, jnp.float32(0.5))
    np.testing.assert_allclose(drawn, np.broadcast_to(drawn[:1], drawn.shape), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("below", [None, "model"])
def test_every_knob_does_something(below: str | None):
    base = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 16, "batch_size": 8, "duration": "40 steps"}
    base |= {"image_size": 20} if below is None else {}
    require_every_knob_does_something(quantized_autoencoder, base, below=below)
