"""Predicts the bytes that a training step needs on each device, from the compiled program: nothing is trained."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from cnnlab import text
from cnnlab.core import PyTree
from cnnlab.engine.program import Program, stack_steps
from cnnlab.errors import UsageError
from cnnlab.terminal import Column, Terminal, table

COMPILED = {
    "argument": "arguments (state, data, batch)",
    "output": "outputs beyond them (new state, statistics)",
    "temp": "temporaries (activations, gradients)",
    "generated_code": "generated code",
}
"""{prefix of a field of jax's memory analysis: what it is in words}."""


@dataclasses.dataclass(frozen=True)
class Held:
    """Arrays of one kind that lie on the devices."""

    what: str
    """What they are, such as `parameters of classifier`."""
    is_split: bool
    """Whether each device holds a part of them; otherwise it holds them whole."""
    leaves: int
    """Number of arrays."""
    whole: int
    """Bytes of all of them, once."""
    per_device: int


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """The memory of a training step; all bytes are those of one device."""

    strategy: str
    devices: int
    platform: str
    batch_size: int
    """Examples of a step on all devices together."""
    accumulate: int
    """Parts in which a step takes them, one after another."""
    remat: str
    """What its backward pass computes again (engine/remat.py)."""
    held: tuple[Held, ...]
    compiled: dict[str, int]
    """{key of COMPILED: bytes} of the phase that needs most; {} where the backend does not say."""
    other_splits: int
    """Bytes of resident data that training does not read: those that are measured."""

    @property
    def total(self) -> int:
        """Predicted bytes while a step runs; where the backend does not say, those of the arrays that lie there."""
        held = sum(each.per_device for each in self.held)
        return sum(self.compiled.values()) + self.other_splits if self.compiled else held


def training_memory(program: Program) -> TrainingMemory:
    """Returns the memory of a program that sends one step at a time; its state of zeros is placed, its steps are compiled.

    Raises UsageError where nothing is trained.
    """
    data, strategy = program.experiment.data, program.strategy
    if not program.experiment.task.turns:
        raise UsageError("--train: this experiment trains nothing, it only remembers. Leave --train out.")
    # Zeros take no memory on the host before they are placed.
    state = strategy.to_devices(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), program.shapes))
    shared = program.step_inputs("train")
    feeds = strategy.shard_batch(stack_steps([next(data.train(0, 0))]))
    groups = {f"parameters of {player}": tree for player, tree in state.params.items()}
    groups |= {f"optimiser state of {player}": tree for player, tree in state.opt_state.items()}
    groups |= {"model state": state.model_state, "averages": (state.average, state.average_statistics)}
    groups |= {"loss scale": state.loss_scale} if state.loss_scale else {}
    groups |= {"resident data": program.resident, "batch": feeds}
    is_copied = strategy.name == "pmap"
    held = [
        each for what, tree in groups.items() for each in _held(what, tree, copies=len(strategy.devices) if is_copied else 1)
    ]
    steps = [_compiled_bytes(steps, state, shared, feeds) for steps in dict.fromkeys(program.phase_steps)]
    of_training = {id(leaf) for leaf in jax.tree.leaves(shared)}
    return TrainingMemory(
        strategy.name,
        len(strategy.devices),
        strategy.devices[0].platform,
        data.batch_size,
        data.accumulate,
        program.remat,
        tuple(held),
        max(steps, key=lambda found: sum(found.values())),
        sum(_on_a_device(leaf) for leaf in _unique(program.resident) if id(leaf) not in of_training),
    )


def _compiled_bytes(steps: Any, *arguments: Any) -> dict[str, int]:
    """Returns {key of COMPILED: bytes} of compiled steps; {} where the backend gives none."""
    analysis = steps.lower(*arguments).compile().memory_analysis()
    if analysis is None:
        return {}
    found = {name: int(getattr(analysis, f"{name}_size_in_bytes", 0)) for name in COMPILED}
    # The new state is written over the old one, which is donated.
    return found | {"output": found["output"] - int(getattr(analysis, "alias_size_in_bytes", 0))}


def _unique(tree: PyTree) -> Iterable[Any]:
    """Returns the arrays of a tree, each once; two splits may share one."""
    return {id(leaf): leaf for leaf in jax.tree.leaves(tree)}.values()


def _on_a_device(leaf: jax.Array) -> int:
    """Returns the bytes of an array on one device."""
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _held(what: str, tree: PyTree, *, copies: int) -> list[Held]:
    """Returns the arrays of a tree that are split over the devices, and those that each device holds whole.

    Args:
        what: what they are.
        tree: arrays on the devices.
        copies: length of the leading axis of copies, one for each device, that pmap gives to whole arrays; 1: there is none.
    """
    found: dict[bool, list[tuple[int, int]]] = {}
    for leaf in _unique(tree):
        own = _on_a_device(leaf)
        whole = leaf.nbytes // (1 if what == "batch" else copies)
        found.setdefault(own < whole, []).append((whole, own))
    return [
        Held(what, is_split, len(sizes), *(sum(column) for column in zip(*sizes, strict=True)))
        for is_split, sizes in sorted(found.items(), reverse=True)
    ]


def as_json(memory: TrainingMemory) -> dict[str, Any]:
    """Returns the fields of TrainingMemory, with its total."""
    return {**dataclasses.asdict(memory), "total": memory.total}


def as_lines(memory: TrainingMemory, terminal: Terminal) -> list[str]:
    """Returns the lines of the prediction: what lies on a device, then what the compiled step needs."""
    count = text.counted(memory.devices, f"{memory.platform} device")
    parts = f" in {memory.accumulate} parts" if memory.accumulate > 1 else ""
    share = f", {text.counted(memory.batch_size // memory.devices, 'example')} on each" if memory.devices > 1 else ""
    rows = [(each.what, _layout(each), str(each.leaves), each.whole, each.per_device) for each in memory.held]
    shown = text.format_bytes
    again = f", with --remat={memory.remat}" if memory.remat != "none" else ""
    lines = [f"A training step of {memory.batch_size}{parts} under {memory.strategy} on {count}{share}{again}:"]
    lines += table(
        terminal,
        [
            Column("on the devices", [row[0] for row in rows]),
            Column("layout", [row[1] for row in rows]),
            Column("arrays", [row[2] for row in rows], is_right=True),
            Column("in all", [shown(row[3]) for row in rows], is_right=True),
            Column("per device", [shown(row[4]) for row in rows], is_right=True),
        ],
    )
    needed = {words: memory.compiled[name] for name, words in COMPILED.items() if name in memory.compiled}
    if not needed:
        return [*lines, "", "What the compiled step needs beside these is not known: the backend does not say."]
    needed |= {"data of the other splits": memory.other_splits} if memory.other_splits else {}
    needed |= {"total": memory.total}
    columns = [
        Column("the compiled step", list(needed)),
        Column("per device", [shown(n) for n in needed.values()], is_right=True),
    ]
    return [*lines, "", *table(terminal, columns)]


def _layout(held: Held) -> str:
    return "split" if held.is_split else "whole"
