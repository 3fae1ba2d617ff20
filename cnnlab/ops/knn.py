"""Nearest neighbours by brute force: matrix products and a running top k, exact for whole pixels.

Letters in shapes: Q queries, N remembered examples, F features of an example.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError

Distance = Literal["l2", "l1"]

EXACT_BLOCK = 1024
"""Features in one matrix product: sums of 1024 products of centred pixels stay within 2^24, so f32 holds them exactly."""

MAX_EXACT_FEATURES = 32_000
"""Features of whole pixels whose squared distance, at most 255² F, fits into 31 bits with room for `_similarity`'s offset."""


def nearest(queries: jax.Array, memory: jax.Array, *, k: int, distance: Distance, chunk: int) -> jax.Array:
    """Returns the positions i32 [Q, k] in memory [N, F] of the k nearest to each of queries [Q, F], nearest first.

    Both are u8 (whole pixels: distances are exact integers) or both f32. Of equal distances the lower position comes first.
    The memory is compared `chunk` examples at a time, so that distances fit into the cache. Raises UsageError where there
    are fewer than k examples, or where whole pixels have too many features to be exact.
    """
    size, features = memory.shape
    if k > size:
        raise UsageError(f"{k} neighbours of {size} remembered examples: give a k of at most {size}.")
    if memory.dtype == jnp.uint8 and features > MAX_EXACT_FEATURES:
        raise UsageError(
            f"images of {features} values are too large to compare exactly (at most {MAX_EXACT_FEATURES}): give smaller images."
        )
    if memory.dtype != jnp.uint8 and distance == "l2":
        # Far from the origin |a|² + |b|² − 2ab would lose the digits of the difference.
        centre = jnp.nanmean(memory, axis=0, keepdims=True)  # [1, F]
        queries, memory = queries - centre, memory - centre
    chunk = min(max(chunk, k), size)
    chunks = -(-size // chunk)
    # [N, F] -> [chunks·chunk, F] -> [chunks, chunk, F]
    padded = jnp.pad(memory, ((0, chunks * chunk - size), (0, 0))).reshape(chunks, chunk, features)
    places = jnp.arange(chunks * chunk, dtype=jnp.int32).reshape(chunks, chunk)  # positions in the memory

    def compare(
        best: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        examples, where = part
        # [Q, chunk]; the padding of the last chunk and what is NaN are infinitely far
        similarity = _similarity(queries, examples, distance)
        similarity = jnp.where((where[None] < size) & ~jnp.isnan(similarity), similarity, -jnp.inf)  # top_k takes NaN first
        found, column = jax.lax.top_k(similarity, k)  # [Q, k]
        # Earlier chunks stand first, and top_k takes the first of equals: ties go to the lower position.
        found = jnp.concatenate([best[0], found], axis=1)  # [Q, 2k]
        position = jnp.concatenate([best[1], where[column]], axis=1)  # [chunk] at [Q, k] -> [Q, k]; [Q, 2k]
        found, column = jax.lax.top_k(found, k)
        return (found, jnp.take_along_axis(position, column, axis=1)), None  # [Q, 2k] at [Q, k] -> [Q, k]

    start = (jnp.full((queries.shape[0], k), -jnp.inf), jnp.zeros((queries.shape[0], k), jnp.int32))
    return jax.lax.scan(compare, start, (padded, places))[0][1]


def votes(neighbours: jax.Array, labels: jax.Array, classes: int, k: jax.Array) -> jax.Array:
    """Counts the labels i32 [N] of the first k (i32 [], may be a tracer) of neighbours i32 [Q, M]: f32 [Q, K]."""
    counted = jnp.arange(neighbours.shape[1], dtype=jnp.int32) < k
    # labels at neighbours: [Q, M] -> one-hot [Q, M, K] -> [Q, K]
    return jnp.sum(jax.nn.one_hot(labels[neighbours], classes) * counted.astype(jnp.float32)[None, :, None], axis=1)


def _similarity(queries: jax.Array, examples: jax.Array, distance: Distance) -> jax.Array:
    """Returns f32 [Q, N] that is larger the closer an example is, and equal exactly where the distances are.

    Integer distances beyond 2^24 do not fit into f32, but the order of positive floats is that of their bits, so the
    integers are read as floats (from 2^23 on, which skips the denormal ones). XLA:CPU has a fast top k for f32 alone.
    """
    distances = _squared_distances(queries, examples) if distance == "l2" else _absolute_distances(queries, examples)
    if distances.dtype == jnp.int32:
        distances = jax.lax.bitcast_convert_type(distances + jnp.int32(1 << 23), jnp.float32)
    return -distances


def _squared_distances(queries: jax.Array, examples: jax.Array) -> jax.Array:
    """Returns squared Euclidean distances [Q, N]: i32 for u8, f32 for f32."""
    if queries.dtype != jnp.uint8:
        return _square_norms(queries)[:, None] + _square_norms(examples)[None] - 2.0 * _products(queries, examples)
    total = jnp.zeros((queries.shape[0], examples.shape[0]), jnp.int32)
    for start in range(0, queries.shape[1], EXACT_BLOCK):
        # Distances do not change when 128 is subtracted from every pixel, and the products become four times smaller.
        left, right = (part[:, start : start + EXACT_BLOCK].astype(jnp.float32) - 128.0 for part in (queries, examples))
        norms = _square_norms(left)[:, None].astype(jnp.int32) + _square_norms(right)[None].astype(jnp.int32)
        total += norms - 2 * _products(left, right).astype(jnp.int32)
    return total


def _absolute_distances(queries: jax.Array, examples: jax.Array) -> jax.Array:
    """Returns sums of absolute differences [Q, N]: i32 for u8, f32 for f32."""
    exact = queries.dtype == jnp.uint8
    left, right = (part.astype(jnp.int16 if exact else jnp.float32) for part in (queries, examples))
    difference = jnp.abs(left[:, None] - right[None])  # [Q, 1, F] − [1, N, F] -> [Q, N, F]
    return jnp.sum(difference, axis=2, dtype=jnp.int32 if exact else jnp.float32)


def _square_norms(rows: jax.Array) -> jax.Array:
    return jnp.sum(rows * rows, axis=1)


def _products(queries: jax.Array, examples: jax.Array) -> jax.Array:
    return jnp.matmul(queries, examples.T, precision=jax.lax.Precision.HIGHEST)


def hold_out(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides the positions of `size` examples into (kept, held out): every tenth is held out, beginning with the first."""
    places = np.arange(size)
    return places[places % 10 != 0], places[places % 10 == 0]
