"""Rematerialisation: what the backward pass computes again, or fetches from the host, instead of keeping it on the device.

A loss is traced and cut into segments at the places where the fewest bytes cross; only what crosses is kept, and the backward
pass computes one segment again at a time, last to first (Chen et al. 2016, Training deep nets with sublinear memory cost,
arXiv 1604.06174). So it serves every task and network, and neither knows of it. To compute the whole loss again at once, as
one `jax.checkpoint` around it would, lowers no peak: all activations are there again when the backward pass begins.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from cnnlab.core import Array, PyTree
from cnnlab.engine.accumulation import LossOf
from cnnlab.errors import UsageError
from cnnlab.ops.cpu.passes import CONVOLVED

MODES = ("none", "full", "save_matmuls", "offload")
"""What the backward pass computes again: nothing; all but what crosses between two segments; the same without convolutions and
matrix products, whose outputs are kept; as full, with what crosses kept in the host's memory."""
HOST = "pinned_host"
"""Memory of the host from which a device reads by itself, as jax calls it."""
CROSSING = "crossing"
"""Name of the values that cross between two segments."""
MOST_SEGMENTS = 64
KEEPING_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Compiler options for a CPU: else XLA removes the barriers in front of what is computed again, finds it equal to what was
there, and keeps that instead: the temporaries of ResNet-20 and 64 images of 32 x 32 x 3 are then 156 MB in every mode."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a traced loss."""

    program: Jaxpr
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    """The values that later segments or the caller read."""


def check_remat(mode: str, devices: Sequence[Any]) -> None:
    """Raises UsageError where the devices cannot do what a mode needs."""
    kinds = [memory.kind for memory in devices[0].addressable_memories()]
    if mode == "offload" and HOST not in kinds:
        raise UsageError(
            f"--remat=offload: {devices[0].platform} devices reach no memory of the host ({HOST}), only {', '.join(kinds)}.\n"
            "Take --remat=full, which computes the same again and keeps a few more values on the device."
        )


def compiler_options(mode: str, devices: Sequence[Any]) -> dict[str, str] | None:
    """Returns the options with which a step has to be compiled for a mode to have an effect; None: the usual ones."""
    return KEEPING_BARRIERS if mode != "none" and devices[0].platform == "cpu" else None


def rematerialized(loss_of: LossOf, mode: str) -> LossOf:
    """Returns the same loss with a derivative that keeps what `mode` (of MODES) says; for none the function itself."""
    if mode == "none":
        return loss_of
    policies = jax.checkpoint_policies
    # dots_saveable has convolutions, too, but those of lax alone.
    products = policies.save_from_both_policies(policies.dots_saveable, policies.save_only_these_names(CONVOLVED))
    policy = products if mode == "save_matmuls" else policies.nothing_saveable
    in_segments = functools.partial(_in_segments, loss_of, policy)
    if mode != "offload":
        return in_segments
    moved = policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[], names_which_can_be_offloaded=[CROSSING], offload_src="device", offload_dst=HOST
    )
    return jax.checkpoint(in_segments, policy=moved)


def _in_segments(loss_of: LossOf, policy: Callable[..., Any], *arguments: PyTree) -> tuple[Array, Any]:
    """Implements LossOf segment by segment, each under the policy that says what its backward pass keeps."""
    leaves, structure = jax.tree.flatten(arguments)

    def flat_loss(*leaves: Array) -> tuple[Array, Any]:
        return loss_of(*jax.tree.unflatten(structure, leaves))

    traced, shapes = jax.make_jaxpr(flat_loss, return_shape=True)(*leaves)
    values: dict[Var, Any] = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    values |= dict(zip(traced.jaxpr.invars, leaves, strict=True))
    parts = segments(traced)
    for part in parts:
        # The backward pass begins with the last segment, whose activations are there at that moment in any case.
        is_last = part is parts[-1]
        evaluate = functools.partial(jax.core.eval_jaxpr, part.program, ())
        found = (evaluate if is_last else jax.checkpoint(evaluate, policy=policy))(*(values[each] for each in part.inputs))
        values |= zip(part.outputs, found if is_last else checkpoint_name(found, CROSSING), strict=True)
    results = [atom.val if isinstance(atom, Literal) else values[atom] for atom in traced.jaxpr.outvars]
    loss, more = jax.tree.unflatten(jax.tree.structure(shapes), results)
    return loss, more


def segments(traced: ClosedJaxpr) -> list[Segment]:
    """Returns the parts into which a traced function is cut, in their order."""
    jaxpr = traced.jaxpr
    last_use = _last_use(jaxpr)
    ends = [*_cuts(jaxpr, last_use), len(jaxpr.eqns)]
    parts = []
    for start, end in itertools.pairwise([0, *ends]):
        equations = jaxpr.eqns[start:end]
        made = dict.fromkeys(variable for equation in equations for variable in equation.outvars)
        read = [atom for equation in equations for atom in equation.invars if isinstance(atom, Var)]
        inputs = tuple(dict.fromkeys(variable for variable in read if variable not in made))
        outputs = tuple(variable for variable in made if last_use.get(variable, -1) >= end)
        info = jaxpr.debug_info.with_unknown_names()
        program = jaxpr.replace(constvars=(), invars=inputs, outvars=outputs, eqns=equations, debug_info=info)
        parts.append(Segment(program, inputs, outputs))
    return parts


def _last_use(jaxpr: Jaxpr) -> dict[Var, int]:
    """Returns {variable: number of the last equation that reads it}; what the caller reads has the number of equations."""
    found = {atom: number for number, each in enumerate(jaxpr.eqns) for atom in each.invars if isinstance(atom, Var)}
    return found | {atom: len(jaxpr.eqns) for atom in jaxpr.outvars if isinstance(atom, Var)}


def _cuts(jaxpr: Jaxpr, last_use: dict[Var, int]) -> list[int]:
    """Returns the numbers of the equations before which a program is cut: of 1, 2, … evenly spaced cuts those that keep least.

    What a choice keeps is estimated as all that crosses its cuts and what its largest segment computes, in bytes.
    """
    count = len(jaxpr.eqns)
    made, change = np.zeros(count), np.zeros(count + 1)
    for number, equation in enumerate(jaxpr.eqns):
        for variable in equation.outvars:
            if variable in last_use:
                aval: Any = variable.aval
                size = aval.size * aval.dtype.itemsize
                made[number] += size
                change[min(number + 1, count)] += size
                change[min(last_use[variable] + 1, count)] -= size
    # crossing[n]: bytes that are computed before equation n and read there or later
    crossing, so_far = np.cumsum(change), np.cumsum(made)
    best: tuple[float, list[int]] = (np.inf, [])
    for parts in range(2, min(MOST_SEGMENTS, count) + 1):
        borders = so_far[-1] * (np.arange(parts) + 0.5) / parts
        cuts: list[int] = []
        for low, high in itertools.pairwise(borders):
            # Each cut is within half a segment of its even place, where least crosses.
            near = 1 + np.flatnonzero((low <= so_far[:-1]) & (so_far[:-1] < high))
            cuts += [int(near[np.argmin(crossing[near])])] if len(near) else []
        computed = np.diff([0.0, *so_far[np.array(cuts, int) - 1], so_far[-1]])
        best = min(best, (float(crossing[cuts].sum() + computed.max()), cuts), key=lambda choice: choice[0])
    return best[1]
