"""What the device can do at most: copies of memory and matrix products."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from benchmarks.accelerator.board import Case, Row, Settings
from benchmarks.accelerator.timing import seconds_of

DTYPES = {"bf16": jnp.bfloat16, "f32": jnp.float32}
PRECISIONS = {"bf16": None, "f32": "highest", "f32 as XLA does by default": "default"}


def copy(settings: Settings) -> Iterator[Row]:
    """Measures the bandwidth of `x + 1`: every byte is read once and written once."""
    count = 2**20 if settings.tiny else 2**28
    array = jnp.ones((count,), jnp.float32)
    add = jax.jit(lambda x: x + jnp.float32(1))
    seconds = seconds_of(lambda: add(array))
    yield Row("copy of memory", 2 * array.nbytes / seconds / 1e9, "GB/s")


def products(settings: Settings) -> Iterator[Row]:
    """Measures square matrix products, many in one program so that the dispatch does not count."""
    size, times = (256, 2) if settings.tiny else (8192, 8)
    for name, precision in PRECISIONS.items():
        dtype = DTYPES[name.split()[0]]
        square = jnp.ones((size, size), dtype) / jnp.asarray(size, dtype)

        def chain(a: jax.Array, precision: str | None = precision) -> jax.Array:
            return jax.lax.fori_loop(0, times, lambda _, x: jnp.matmul(x, a, precision=precision), a)

        compiled = jax.jit(chain)
        seconds = seconds_of(lambda compiled=compiled, square=square: compiled(square))
        yield Row(f"matrix product {size}³, {name}", 2 * size**3 * times / seconds / 1e12, "TFLOP/s")


CASES = (
    Case("ceilings", "copy", 10, copy),
    Case("ceilings", "products", 20, products),
)
