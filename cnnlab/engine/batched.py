"""Runs of one family that take their steps in one vectorised program.

Letters in shapes: B examples of a batch, M members.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Feed, PyTree
from cnnlab.engine.program import Program


def batch_programs(members: Sequence[Program]) -> Program:
    """Returns the members of one family as one program that takes their steps batched, for `fit`.

    Each member keeps its own batches, randomness and traced knobs. What is batched is the members' parameters too, so that
    convolutions become grouped ones: good for an accelerator that a single small network leaves idle, bad for a CPU.
    """
    first = members[0]
    # M of [] -> [M]
    traced_knobs = {path: np.stack([member.traced_knobs[path] for member in members]) for path in first.traced_knobs}
    train = functools.partial(_batched_feeds, first.experiment.data.train)
    experiment = dataclasses.replace(first.experiment, data=dataclasses.replace(first.experiment.data, train=train))
    return dataclasses.replace(
        first, experiment=experiment, phase_steps=first.batched_phase_steps, traced_knobs=traced_knobs, members=tuple(members)
    )


def _batched_feeds(train: Callable[..., Iterator[Feed]], seeds: tuple[int, ...], step: int, **more: Any) -> Iterator[Feed]:
    """Yields the feeds of M seeds as one, [B, M, …]."""
    for feeds in zip(*(train(seed, step, **more) for seed in seeds), strict=True):
        yield jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *feeds)  # M of [B, …] -> [B, M, …]


def stack_members(trees: Sequence[PyTree]) -> PyTree:
    """Returns the trees of M members as one with a leading axis M."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # M of […] -> [M, …]


def select_member(tree: PyTree, member: int) -> PyTree:
    """Returns the part of a tree that belongs to one of the batched runs."""
    return jax.tree.map(lambda leaf: leaf[member], tree)  # [M, …] -> […]
