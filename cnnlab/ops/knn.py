"""Nearest neighbours by brute force: matrix products and a running top k, exact for whole pixels.

Letters in shapes: Q queries, N remembered examples, F features of an example.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError

Distance = Literal["l2", "l1"]

WHOLE_FEATURES = 1024
"""Features in one matrix product: sums of 1024 products of centred pixels stay within 2^24, so f32 holds them exactly."""

MOST_WHOLE_FEATURES = 32_000
"""Features of whole pixels whose squared distance, at most 255² F, fits into 31 bits with room for the key below."""


def nearest(queries: jax.Array, memory: jax.Array, *, k: int, distance: Distance, chunk: int) -> jax.Array:
    """i32 [Q, k]: positions in memory [N, F] of the k nearest to each of queries [Q, F], nearest first.

    Both are u8 (whole pixels: distances are exact integers) or both f32. Of equal distances the lower position comes first.
    The memory is compared `chunk` examples at a time, so that distances fit into the cache. Raises UsageError where there
    are fewer than k examples, or where whole pixels have too many features to be exact.
    """
    size, features = memory.shape
    if k > size:
        raise UsageError(f"{k} neighbours of {size} remembered examples: take k of at most {size}.")
    if memory.dtype == jnp.uint8 and features > MOST_WHOLE_FEATURES:
        raise UsageError(f"images of {features} values are too large to compare exactly (at most {MOST_WHOLE_FEATURES}).")
    chunk = min(max(chunk, k), size)
    chunks = -(-size // chunk)
    padded = jnp.pad(memory, ((0, chunks * chunk - size), (0, 0))).reshape(chunks, chunk, features)
    places = jnp.arange(chunks * chunk, dtype=jnp.int32).reshape(chunks, chunk)

    def compare(
        best: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        examples, where = part
        closeness = jnp.where(where[None] < size, _closeness(queries, examples, distance), -jnp.inf)
        found, column = jax.lax.top_k(closeness, k)
        # Earlier chunks stand first, and top_k takes the first of equals: ties go to the lower position.
        found = jnp.concatenate([best[0], found], axis=1)
        position = jnp.concatenate([best[1], where[column]], axis=1)
        found, column = jax.lax.top_k(found, k)
        return (found, jnp.take_along_axis(position, column, axis=1)), None

    start = (jnp.full((queries.shape[0], k), -jnp.inf), jnp.zeros((queries.shape[0], k), jnp.int32))
    return jax.lax.scan(compare, start, (padded, places))[0][1]


def votes(neighbours: jax.Array, labels: jax.Array, classes: int, k: jax.Array) -> jax.Array:
    """f32 [Q, K]: how many of the first k (i32 [], may be a tracer) of neighbours [Q, M] have each label; labels i32 [N]."""
    counted = jnp.arange(neighbours.shape[1], dtype=jnp.int32) < k
    return jnp.sum(jax.nn.one_hot(labels[neighbours], classes) * counted.astype(jnp.float32)[None, :, None], axis=1)


def _closeness(queries: jax.Array, examples: jax.Array, distance: Distance) -> jax.Array:
    """f32 [Q, N]: larger is closer; equal exactly where the distances are.

    Integer distances beyond 2^24 do not fit into f32, but the order of positive floats is that of their bits, so the
    integers are read as floats (from 2^23 on, which skips the denormal ones). XLA:CPU has a fast top k for f32 alone.
    """
    apart = _squared(queries, examples) if distance == "l2" else _absolute(queries, examples)
    if apart.dtype == jnp.int32:
        apart = jax.lax.bitcast_convert_type(apart + jnp.int32(1 << 23), jnp.float32)
    return -apart


def _squared(queries: jax.Array, examples: jax.Array) -> jax.Array:
    """Squared Euclidean distances [Q, N]: i32 of u8, f32 of f32."""
    if queries.dtype != jnp.uint8:
        return _square_norms(queries)[:, None] + _square_norms(examples)[None] - 2.0 * _products(queries, examples)
    total = jnp.zeros((queries.shape[0], examples.shape[0]), jnp.int32)
    for start in range(0, queries.shape[1], WHOLE_FEATURES):
        # Distances do not change when 128 is taken from every pixel, and the products become four times smaller.
        left, right = (part[:, start : start + WHOLE_FEATURES].astype(jnp.float32) - 128.0 for part in (queries, examples))
        norms = _square_norms(left)[:, None].astype(jnp.int32) + _square_norms(right)[None].astype(jnp.int32)
        total += norms - 2 * _products(left, right).astype(jnp.int32)
    return total


def _absolute(queries: jax.Array, examples: jax.Array) -> jax.Array:
    """Sums of absolute differences [Q, N]: i32 of u8, f32 of f32."""
    exact = queries.dtype == jnp.uint8
    left, right = (part.astype(jnp.int16 if exact else jnp.float32) for part in (queries, examples))
    difference = jnp.abs(left[:, None] - right[None])
    return jnp.sum(difference, axis=2, dtype=jnp.int32 if exact else jnp.float32)


def _square_norms(rows: jax.Array) -> jax.Array:
    return jnp.sum(rows * rows, axis=1)


def _products(queries: jax.Array, examples: jax.Array) -> jax.Array:
    return jnp.matmul(queries, examples.T, precision=jax.lax.Precision.HIGHEST)


def hold_out(size: int) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held) positions of `size` examples: every tenth is held out, beginning with the first."""
    places = np.arange(size)
    return places[places % 10 != 0], places[places % 10 == 0]
