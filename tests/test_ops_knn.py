"""Nearest neighbours against NumPy in integers, with ties, at every chunk size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops.knn import nearest, votes

random = np.random.default_rng(0)


def by_hand(queries, memory, k, distance):
    """Stable argsort of exact distances: of equals the lower position first."""
    difference = queries[:, None].astype(np.int64) - memory[None].astype(np.int64)
    apart = (difference**2).sum(2) if distance == "l2" else np.abs(difference).sum(2)
    return np.argsort(apart, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("distance", ["l2", "l1"])
@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize("levels", [2, 256])
def test_nearest_of_whole_pixels_is_exact_with_ties_in_order(distance, chunk, levels):
    queries, memory = (random.integers(0, levels, (n, 12)).astype(np.uint8) for n in (9, 50))
    found = jax.jit(lambda q, m: nearest(q, m, k=6, distance=distance, chunk=chunk))(queries, memory)
    np.testing.assert_array_equal(found, by_hand(queries, memory, 6, distance))


def test_nearest_is_exact_where_f32_is_not():
    features = 3009  # squared distances near 195 million, where f32 counts by sixteens, in several matrix products
    memory = np.full((3, features), 255, np.uint8)
    memory[:, 0] = [2, 1, 0]
    queries = np.zeros((1, features), np.uint8)
    assert np.float32(255**2 * (features - 1)) == np.float32(255**2 * (features - 1) + 4)
    for chunk in (1, 2, 3):
        found = nearest(jnp.asarray(queries), jnp.asarray(memory), k=3, distance="l2", chunk=chunk)
        np.testing.assert_array_equal(found, [[2, 1, 0]])


@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_nearest_of_real_values_agrees_with_scikit_learn(distance):
    from sklearn.neighbors import NearestNeighbors

    queries, memory = (random.normal(size=(n, 5)).astype(np.float32) for n in (11, 60))
    expected = NearestNeighbors(n_neighbors=4, p=int(distance[1]), algorithm="brute").fit(memory).kneighbors(queries)[1]
    found = nearest(jnp.asarray(queries), jnp.asarray(memory), k=4, distance=distance, chunk=16)
    np.testing.assert_array_equal(found, expected)


def test_nearest_keeps_its_digits_far_from_the_origin_and_ranks_nan_last():
    random = np.random.default_rng(5)
    memory = (3000 + random.normal(size=(60, 8))).astype(np.float32)
    queries = (3000 + random.normal(size=(20, 8))).astype(np.float32)
    distances = ((queries[:, None].astype(np.float64) - memory[None]) ** 2).sum(axis=2)
    found = nearest(jnp.asarray(queries), jnp.asarray(memory), k=3, distance="l2", chunk=16)
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[:, :3])
    damaged = jnp.asarray(memory).at[7].set(jnp.nan)
    for distance in ("l1", "l2"):
        assert not np.isin(nearest(jnp.asarray(queries), damaged, k=59, distance=distance, chunk=16), 7).any()


def test_nearest_refuses_what_it_cannot_answer():
    small = np.zeros((3, 4), np.uint8)
    with pytest.raises(UsageError, match="4 neighbours of 3 remembered examples"):
        nearest(small, small, k=4, distance="l2", chunk=2)
    with pytest.raises(UsageError, match="too large to compare exactly"):
        large = jax.ShapeDtypeStruct((2, 40_000), jnp.uint8)
        jax.eval_shape(lambda q, m: nearest(q, m, k=1, distance="l2", chunk=2), large, large)


def test_votes_count_the_first_k():
    labels = jnp.array([2, 0, 0, 1], jnp.int32)
    found = jnp.array([[0, 1, 2], [3, 2, 1]], jnp.int32)
    np.testing.assert_array_equal(votes(found, labels, 3, jnp.int32(1)), [[0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(votes(found, labels, 3, jnp.int32(3)), [[2, 0, 1], [2, 1, 0]])
