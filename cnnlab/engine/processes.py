"""The processes that train one run together: how they start, what they agree on, and how host values pass between them.

One process is the usual case, in which every function here does nothing. Of several, each runs the same command on the same
global batches, and holds the parts of arrays that lie on its own devices: of a streamed split it reads these rows alone.
Process 0 alone reads and writes the run's folder; what it read, the others get from it. Imports of jax.distributed are left to
`start`, which must come before jax's first use.
"""

import dataclasses
import json
import socket
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnlab.core import PyTree, Rows
from cnnlab.errors import UsageError

HEARTBEAT_SECONDS = 30
"""Seconds after which a process that is gone, such as one on a host that lost its power, ends the others."""


@dataclasses.dataclass(frozen=True)
class Group:
    """The processes of a run as a command names them."""

    count: int | None = None
    """Number of processes; None: as the cluster (Slurm, a TPU pod) says."""
    index: int | None = None
    """Number of this process, from 0; None: as the cluster says."""
    coordinator: str | None = None
    """HOST:PORT of process 0; None: as the cluster says."""
    start_timeout: int = 120
    """Seconds to wait for the others at the start."""


def start(group: Group) -> None:
    """Connects this process with the others; raises UsageError where they do not all come.

    On a CPU a coordinator that never answers ends the process in C++ code, without an exception: the parent process
    (cli/supervise.py) makes a sentence of that.
    """
    if group.index == 0 and group.coordinator:
        _require_free(group.coordinator)
    # Its handler in C++ takes SIGTERM alone, and shows nobody that it came: agreed_stop.py is for all three signals.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address=group.coordinator,
            num_processes=group.count,
            process_id=group.index,
            initialization_timeout=group.start_timeout,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
        _connect_devices(group.start_timeout)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        place = f"at {group.coordinator}" if group.coordinator else "as the cluster names them"
        name = "this process" if group.index is None else f"process {group.index} of {group.count}"
        raise UsageError(
            f"{name} could not join the others {place}: {reason}\n"
            "Start all of them with the same --num_processes and --coordinator, each with its own --process_id."
        ) from error


def _require_free(coordinator: str) -> None:
    """Raises UsageError where another program listens on the port of HOST:PORT, on which jax would crash now and then."""
    port = int(coordinator.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose last user has just left is free
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"process 0 cannot listen on port {port} (--coordinator={coordinator}): {error}.\n"
                "Expected a port of this host that no other program uses. Name another one in every process."
            ) from error


def _connect_devices(timeout: int) -> None:
    """Opens the connections between the devices of all processes, while all are there.

    On a CPU the first collective gives up 30 s after its first process, which may have its program or its data much earlier
    than the last. So here all wait for one another, at most `timeout` seconds, with the program compiled.
    """
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    by_device, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("devices",), ()))
    ones = jax.make_array_from_callback((mesh.size,), by_device, lambda index: np.ones(1, np.float32))
    total = jax.jit(jnp.sum, out_shardings=everywhere).lower(ones).compile()
    client().wait_at_barrier("cnnlab/connect", timeout * 1000)
    jax.block_until_ready(total(ones))
    _shared_bytes(np.zeros(1, np.uint8), 1)  # which connects one device of each process


def count() -> int:
    """Returns the number of processes."""
    return jax.process_count()


def is_main() -> bool:
    """Returns whether this process reads and writes the run's folder."""
    return jax.process_index() == 0


def place(tree: PyTree, sharding: Any) -> PyTree:
    """Returns host arrays, which are the same in every process, on the devices of all of them."""
    if count() == 1:
        return jax.device_put(tree, sharding)

    def placed(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(placed, tree)


def own_rows(owners: np.ndarray, process: int) -> Rows:
    """Returns the rows of a global batch that the devices of a process hold.

    Args:
        owners: process of each device i64 [N], in the order in which the devices share a batch.
        process: number of the process.
    """
    return lambda size: np.flatnonzero(np.repeat(owners == process, size // len(owners)))


def place_rows(tree: PyTree, sharding: Any, owners: np.ndarray) -> PyTree:
    """Returns feeds [k, B, …] on the devices of all processes, each of which gives its `own_rows` of them, [k, b, …].

    Args:
        tree: host arrays of this process.
        sharding: layout of [k, B, …], whose second axis is split over the devices.
        owners: as `own_rows` takes them.
    """
    me = jax.process_index()
    share = len(owners) // np.count_nonzero(owners == me)

    def placed(leaf: np.ndarray) -> jax.Array:
        steps, own, *rest = leaf.shape
        rows = own_rows(owners, me)(own * share)

        def of_device(index: Any) -> np.ndarray:  # a slice of each axis
            # The rows of a device are neighbours in the global batch, hence among those of its process.
            first = int(np.searchsorted(rows, index[1].start))
            return leaf[:, first : first + index[1].stop - index[1].start]

        return jax.make_array_from_callback((steps, own * share, *rest), sharding, of_device)

    return jax.tree.map(placed, tree)


def fetch(leaf: Any) -> np.ndarray:
    """Returns a copy of an array on the host; every process must call it, since parts may lie on others' devices."""
    if count() > 1 and isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.array(leaf, copy=True)  # the donated buffer lives on in the next step


def _shared_bytes(value: np.ndarray | None, size: int) -> np.ndarray:
    """Returns the u8 [size] of process 0 in every process; the others give None."""
    given = np.zeros(size, np.uint8) if value is None else value
    return np.asarray(multihost_utils.broadcast_one_to_all(given)).astype(np.uint8)


def agreed(find: Callable[[], Any]) -> Any:
    """Returns what process 0 finds, as JSON has it, in every process; the others do not look."""
    if count() == 1:
        return find()
    text = np.frombuffer(json.dumps(find()).encode(), np.uint8) if is_main() else None
    # The length first, since all must give arrays of one shape.
    size = np.zeros(8, np.uint8) if text is None else np.frombuffer(np.uint64(len(text)).tobytes(), np.uint8)
    length = int(_shared_bytes(size, 8).view(np.uint64)[0])
    return json.loads(_shared_bytes(text, length).tobytes().decode())


def agreed_state(restore: Callable[[], tuple[PyTree, dict[str, Any], int] | None], shapes: PyTree) -> Any:
    """Returns the (host tree, notes, step) that process 0 restores, to the bit, in every process; None where it finds none.

    Args:
        restore: reads the newest checkpoint; called in process 0 alone.
        shapes: the tree as shapes and dtypes.
    """
    if count() == 1:
        return restore()
    found = restore() if is_main() else None
    about = agreed(lambda: None if found is None else {"meta": found[1], "step": found[2]})
    if about is None:
        return None

    def shared(shape: Any, leaf: Any) -> np.ndarray:
        # As bytes, since a sum of floats, which a broadcast is, would lose the sign of a zero.
        raw = None if leaf is None else np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        size = int(np.prod(shape.shape)) * np.dtype(shape.dtype).itemsize
        return _shared_bytes(raw, size).view(shape.dtype).reshape(shape.shape)  # [bytes] -> the leaf's own shape

    leaves, structure = jax.tree.flatten(shapes)
    given = jax.tree.leaves(found[0]) if found else [None] * len(leaves)
    state = jax.tree.unflatten(structure, [shared(shape, leaf) for shape, leaf in zip(leaves, given, strict=True)])
    return state, about["meta"], about["step"]


def client() -> Any:
    """Returns jax's connection with the coordinator, which has no public name."""
    from jax._src import distributed

    return distributed.global_state.client
