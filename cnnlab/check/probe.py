"""What a batch of examples leaves in a network: outputs and gradients layer by layer, in one compiled program.

Letters in shapes: B examples, K outputs, D numbers of a layer's output for one example, U units of a kernel.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import inspect
from cnnlab.check.findings import Kernel, Output
from cnnlab.core import Array, Batch, Dataset, Experiment, Feed, Params, PyTree, Task
from cnnlab.engine.program import owned, with_owned
from cnnlab.engine.train import evaluation_batch

EXAMPLES = 256
"""Examples of the batch, fewer where the network is large."""
BYTES = 2**31
"""Memory that their activations and gradients may take, unless the experiment's own batch takes more."""
SIDE = 32
"""Height and width to which images are thinned out before they are compared pixel by pixel."""


@dataclasses.dataclass(frozen=True)
class Probed:
    """The numbers of one state of the network."""

    losses: dict[str, float]
    """{player: its loss}."""
    summary: dict[str, float]
    """The task's numbers of the first player's turn, as training logs them."""
    outputs: list[Output]
    kernels: list[Kernel]
    silent: frozenset[str]
    """Paths of parameters, after the name of their player, whose gradient is exactly 0."""
    arrays: int
    """Number of all arrays of parameters that move."""


def examples_of(data: Dataset, count: int, *, split: str = "train") -> tuple[Feed, Batch]:
    """Returns `count` examples, as a feed and as a batch of NumPy arrays without augmentation; fewer where a split is smaller.

    Those of the training split come as training shows them, in random order; those of another split are its first ones.
    """
    size = min(count, data.sizes[split])
    if split == "train":
        several = itertools.islice(data.train(0, 0), -(-size // min(data.batch_size, size)))
        feed = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:size], *several)  # parts of [B, …] -> [N, …]
    else:
        feed = next(data.evaluate(split, size))
    prepare = jax.jit(lambda resident, feed: data.prepare(resident, feed, None))
    return feed, jax.tree.map(np.asarray, prepare(data.resident.get(split, {}), jax.tree.map(jnp.asarray, feed)))


def probe_size(experiment: Experiment) -> int:
    """Returns the number of examples that are probed at once."""
    data, each = experiment.data, inspect.training_bytes(inspect.of_experiment(experiment), 0, 1)
    fits = max(data.batch_size // data.accumulate, BYTES // max(each, 1))
    return max(1, min(EXAMPLES, fits, evaluation_batch(data)))


def probe_of(task: Task) -> Callable[[Params, PyTree, Batch], Probed]:
    """Returns the function that measures the outputs and gradients of a state; it is compiled once."""
    compiled = jax.jit(functools.partial(_measured, task))

    def probe(params: Params, model_state: PyTree, batch: Batch) -> Probed:
        found = jax.device_get(compiled(params, model_state, batch))
        stats = {"sums": jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found["sums"]), "rows": {}}
        kernels = [
            Kernel(name, float(rms), float(gradient), float(dead), bool(copies))
            for name, (rms, gradient, dead, copies) in found["kernels"].items()
        ]
        return Probed(
            losses={player: float(loss) for player, loss in found["losses"].items()},
            summary=task.summary(stats),
            outputs=[
                Output(key.partition(" ")[2], float(rms), float(spread)) for key, (rms, spread) in found["outputs"].items()
            ],
            kernels=kernels,
            silent=frozenset(path for path, is_zero in found["zero"].items() if is_zero),
            arrays=len(found["zero"]),
        )

    return probe


def _measured(task: Task, params: Params, model_state: PyTree, batch: Batch) -> dict[str, Any]:
    """Returns the arrays of `Probed`: outputs {"NUMBER layer": f32 [2]}, kernels {layer: f32 [4]}, bool [] of each gradient."""
    found: dict[str, Any] = {"losses": {}, "outputs": {}, "kernels": {}, "zero": {}}
    for number, player in enumerate(dict.fromkeys(task.turns)):
        own = owned(task, params, player)

        def loss_of(own: PyTree, player: str = player, number: int = number) -> tuple[Array, Any]:
            seen: dict[str, Array] = {}
            with nn.intercept_methods(functools.partial(_record, seen, len(batch["index"]))):
                value, (_, stats) = task.loss(
                    with_owned(task, params, player, own), model_state, batch, jax.random.key(number), player
                )
            return value, (seen, stats["sums"])

        (loss, (seen, sums)), gradient = jax.value_and_grad(loss_of, has_aux=True)(own)
        found["losses"][player] = loss
        if number == 0:
            found["outputs"], found["sums"] = seen, sums
        for (path, kernel), slope in zip(jax.tree.leaves_with_path(own), jax.tree.leaves(gradient), strict=True):
            name = "/".join(str(entry.key) for entry in path)
            found["zero"][f"{player}/{name}"] = jnp.all(slope == 0)
            if name.endswith("/kernel") and kernel.ndim > 1:
                found["kernels"][name.removesuffix("/kernel")] = _kernel_numbers(kernel, slope)
    return found


def _kernel_numbers(kernel: Array, gradient: Array) -> Array:
    """Returns f32 [4]: root mean square of the weights, of their gradient, share of dead units, whether units are copies."""
    weights, slopes = (leaf.reshape(-1, leaf.shape[-1]) for leaf in (kernel, gradient))  # [..., U] -> [inputs, U]
    dead = jnp.mean(jnp.all(slopes == 0, axis=0).astype(jnp.float32))
    several = weights.shape[1] > 1
    copies = several & jnp.all(weights == weights[:, :1]) & jnp.all(slopes == slopes[:, :1])
    return jnp.stack([_rms(weights), _rms(slopes), dead, copies.astype(jnp.float32)])


def _rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))


def _record(
    seen: dict[str, Array],
    batch_size: int,
    call: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    context: nn.module.InterceptorContext,
) -> Any:
    """Calls a module; keeps f32 [2] of its first output, where it has parameters of its own and an axis of examples.

    The keys of `seen` begin with a number, since jax returns a dict in the order of its keys.
    """
    result = call(*args, **kwargs)
    own = {name for name, leaf in context.module.variables.get("params", {}).items() if hasattr(leaf, "shape")}
    name, output = "/".join(context.module.path), result[0] if isinstance(result, tuple) else result
    is_new = all(key.partition(" ")[2] != name for key in seen)
    is_layer = own and context.method_name == "__call__" and is_new and getattr(output, "ndim", 0) > 1
    if is_layer and output.shape[0] == batch_size:
        flat = output.astype(jnp.float32).reshape(batch_size, -1)  # [B, …] -> [B, D]
        spread = jnp.sqrt(jnp.mean(jnp.var(flat, axis=0)))
        seen[f"{len(seen):05d} {name}"] = jnp.stack([_rms(flat), spread])
    return result


def outputs_of(task: Task, params: Params, model_state: PyTree, batch: Batch) -> np.ndarray:
    """Returns what the task predicts for a batch, f32 [B, …]."""
    return np.asarray(jax.jit(task.predict)(params, model_state, batch["image"]))


def neighbours_agree(images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns (share of examples whose nearest neighbour by pixels has the same label, that share for labels in random order).

    Args:
        images: f32 [B, H, W, C].
        labels: i32 [B].
    """
    down, across = (max(1, side // SIDE) for side in images.shape[1:3])
    thinned = images[:, ::down, ::across]
    flat = thinned.reshape(len(images), -1).astype(np.float64)  # [B, h, w, C] -> [B, D]
    squares = np.sum(flat**2, axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * flat @ flat.T  # [B, B]
    np.fill_diagonal(distances, np.inf)
    agree = float(np.mean(labels[np.argmin(distances, axis=1)] == labels))
    counts = np.bincount(labels)
    return agree, float(np.sum(counts * (counts - 1)) / (len(labels) * max(len(labels) - 1, 1)))
