"""Named streams of randomness: keys are never split in a chain; a step, a turn or a name is folded in (house rule 5)."""

import zlib

import jax


def stream(key: jax.Array, name: str) -> jax.Array:
    """Returns the key [] of the stream `name` below `key`; the same name gives the same stream on every machine."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def of_each(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """Returns a key for each of numbers i32 [B] below `key`, keys [B], such as those of examples by their indices."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


def folded(keys: jax.Array, number: int) -> jax.Array:
    """Returns keys [B] of the stream with this number below each of the keys [B]."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
