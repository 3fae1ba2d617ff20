"""Strategies that run a step on devices: `jit` over a mesh (the default), `fsdp` (parameters split too) or `pmap`.

All three train on the same global batches with the same noise, so their loss curves agree; the step does not depend on them.

Letters in shapes: B examples of a global batch, k steps of a dispatch, N devices.
"""

import dataclasses
import functools
import os
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnlab import home
from cnnlab.core import PyTree, Strategy, TrainState
from cnnlab.digests import digest
from cnnlab.engine import processes
from cnnlab.errors import UsageError
from cnnlab.ops.collectives import AXIS, split_over

Rule = Callable[[tuple[int, ...]], PartitionSpec]
"""Function from the shape of an array of the state to its layout."""

FSDP_SMALLEST = 1024
"""Number of elements below which fsdp leaves an array whole: a split bias costs more in messages than it saves in memory."""


def use_compilation_cache() -> None:
    """Keeps compiled programs below the user's cache directory, so that a second start compiles nothing.

    The folder is named after the processor and jaxlib: a program compiled for another processor is refused or crashes.
    $JAX_COMPILATION_CACHE_DIR names another place.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # The flags say which instructions a compiled program may use.
        cpu = pathlib.Path("/proc/cpuinfo")
        flags = (
            [
                line
                for line in cpu.read_text(encoding="utf-8").splitlines()
                if line.startswith(("flags", "Features", "model name"))
            ]
            if cpu.exists()
            else []
        )
        machine = digest(["\n".join([platform.machine(), platform.processor(), *sorted(set(flags))])])
        folder = home.cache_folder() / "jax" / f"{jaxlib.__version__}-{machine[:12]}"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pick_devices(count: int | None) -> tuple[Any, ...]:
    """Returns the first `count` devices, or all of them; raises UsageError where there are fewer."""
    devices = jax.devices()
    if count is None:
        return tuple(devices)
    if processes.count() > 1 and count != len(devices):
        raise UsageError(
            f"--devices={count}: {processes.count()} processes have {len(devices)} devices together, and use all of them.\n"
            "Leave the flag out, or start other processes."
        )
    if count > len(devices):
        raise UsageError(
            f"--devices={count}: this process sees {len(devices)} {devices[0].platform} device(s).\n"
            f"To try it on a CPU, add --fake_devices={count}."
        )
    return tuple(devices[:count])


def _keys_to_data(state: TrainState) -> TrainState:
    """Returns the state with its key as u32 data, which any array function takes."""
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def _data_to_keys(state: TrainState) -> TrainState:
    """Returns the state with its u32 data as a key."""
    return dataclasses.replace(state, key=jax.random.wrap_key_data(state.key))


def _host(tree: PyTree) -> PyTree:
    """Returns the tree with NumPy leaves."""
    return jax.tree.map(processes.fetch, tree)


def _on_mesh(name: str, devices: Sequence[Any], rule: Rule) -> Strategy:
    """Returns a strategy of jit: batches are split over the mesh, `rule` lays out the state, XLA inserts communication."""
    mesh = Mesh(np.array(devices), (AXIS,))
    everywhere, by_row = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, AXIS))
    owners = np.array([device.process_index for device in devices])
    rows = processes.own_rows(owners, jax.process_index()) if processes.count() > 1 else None

    def to_devices(state: TrainState) -> TrainState:
        put = jax.tree.map(lambda leaf: processes.place(leaf, NamedSharding(mesh, rule(np.shape(leaf)))), state)
        return _data_to_keys(put)

    # Without the constraint XLA may choose another layout for the result, and the next call would compile again.
    def keep_layout(state: TrainState) -> TrainState:
        data = jax.tree.map(
            lambda leaf: jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, rule(leaf.shape))), _keys_to_data(state)
        )
        return _data_to_keys(data)

    def compile_steps(steps: Callable[..., Any], options: dict[str, Any] | None = None) -> Callable[..., Any]:
        def laid_out(state: TrainState, resident: PyTree, feeds: PyTree) -> tuple[TrainState, PyTree]:
            with split_over(mesh):
                state, stats = steps(state, resident, feeds)
            if processes.count() > 1:  # every process reads the whole statistics
                stats = jax.lax.with_sharding_constraint(stats, everywhere)
            return keep_layout(state), stats

        return jax.jit(laid_out, donate_argnums=0, compiler_options=options)

    return Strategy(
        name=name,
        devices=tuple(devices),
        to_devices=to_devices,
        to_host=lambda state: _host(_keys_to_data(state)),
        replicate=lambda tree: processes.place(tree, everywhere),
        shard_batch=lambda feeds: processes.place_rows(feeds, by_row, owners) if rows else jax.device_put(feeds, by_row),
        compile_steps=compile_steps,
        compile_measure=lambda measure: jax.jit(split_over(mesh)(measure), out_shardings=everywhere),
        rows=rows,
    )


def jit(devices: Sequence[Any]) -> Strategy:
    """Returns the data-parallel strategy: every device holds the whole state and a part of each batch."""
    return _on_mesh("jit", devices, lambda shape: PartitionSpec())


def fsdp(devices: Sequence[Any]) -> Strategy:
    """Returns the fully sharded strategy: the state is split too, along the largest axis that the devices divide."""
    return _on_mesh("fsdp", devices, functools.partial(_fsdp_layout, len(devices)))


def _fsdp_layout(count: int, shape: tuple[int, ...]) -> PartitionSpec:
    """Returns the layout of an array of the state over `count` devices."""
    fits = [axis for axis, size in enumerate(shape) if size % count == 0]
    if not fits or int(np.prod(shape)) < FSDP_SMALLEST:
        return PartitionSpec()
    largest = max(fits, key=lambda axis: shape[axis])
    return PartitionSpec(*(AXIS if axis == largest else None for axis in range(len(shape))))


def fsdp_bytes(shapes: PyTree, count: int) -> tuple[int, int]:
    """Returns the bytes of a state on each of `count` devices under fsdp: of arrays that are split, and of whole ones."""
    found = {True: 0, False: 0}
    for leaf in jax.tree.leaves(shapes):
        size = int(np.prod(leaf.shape)) * leaf.dtype.itemsize
        is_split = AXIS in _fsdp_layout(count, leaf.shape)
        found[is_split] += size // count if is_split else size
    return found[True], found[False]


def pmap(devices: Sequence[Any]) -> Strategy:
    """Returns the strategy of one program for each device, with explicit collectives: an independent check of `jit`.

    jax.pmap is in maintenance since jax 0.8.
    """
    if processes.count() > 1:
        raise UsageError("--strategy=pmap is for one process. Take --strategy=jit or fsdp with several.")
    count = len(devices)
    by_device = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))

    def replicate(tree: PyTree) -> PyTree:
        # [...] -> [N, …], a copy for each device
        return jax.tree.map(lambda leaf: jax.device_put(np.broadcast_to(leaf, (count, *np.shape(leaf))), by_device), tree)

    def shard_batch(feeds: PyTree) -> PyTree:
        def parts(leaf: np.ndarray) -> jax.Array:
            steps, batch, *rest = leaf.shape
            # [k, B, …] -> [k, N, B / N, …] -> [N, k, B / N, …]
            by_part = leaf.reshape(steps, count, batch // count, *rest).swapaxes(0, 1)
            return jax.device_put(by_part, by_device)

        return jax.tree.map(parts, feeds)

    def compile_steps(steps: Callable[..., Any], options: dict[str, Any] | None = None) -> Callable[..., Any]:
        # jax.pmap takes no options of the compiler: on a CPU, --remat saves no memory under it.
        return jax.pmap(steps, axis_name=AXIS, devices=devices, donate_argnums=0, out_axes=(0, None))

    def compile_measure(measure: Callable[..., Any]) -> Callable[..., Any]:
        mapped = jax.pmap(measure, axis_name=AXIS, devices=devices, out_axes={"sums": None, "rows": 0})

        def merged(*arguments: Any) -> Any:
            stats = mapped(*arguments)
            # [N, B / N, …] -> [B, …]; the sums are those of all devices already
            rows = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), stats["rows"])
            return {"sums": stats["sums"], "rows": rows}

        return merged

    return Strategy(
        name="pmap",
        devices=tuple(devices),
        to_devices=lambda state: _data_to_keys(replicate(state)),
        to_host=lambda state: _host(jax.tree.map(lambda leaf: leaf[0], _keys_to_data(state))),
        replicate=replicate,
        shard_batch=shard_batch,
        compile_steps=compile_steps,
        compile_measure=compile_measure,
    )


STRATEGIES: dict[str, Callable[[Sequence[Any]], Strategy]] = {"jit": jit, "pmap": pmap, "fsdp": fsdp}


def check_batch(batch_size: int, strategy: Strategy, accumulate: int = 1) -> None:
    """Raises UsageError where the global batch, or one of its `accumulate` parts, cannot be split evenly over the devices."""
    count = len(strategy.devices)
    if batch_size % (count * accumulate):
        unit = count * accumulate
        below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
        near = f"{below} or {above}" if below else str(above)
        if batch_size % count:
            what, other = f"a global batch of {batch_size}", "other --devices"
        else:
            what = f"--accumulate={accumulate}: each part, {batch_size // accumulate} of a batch of {batch_size},"
            other = "a smaller --accumulate"
        raise UsageError(f"{what} cannot be split evenly over {count} devices.\nTake --batch_size={near}, or {other}.")
