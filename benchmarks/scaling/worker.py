"""Trains a network by a strategy on a number of CPU devices of its own, or reads what they exchange."""

import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from benchmarks.measure import Work
from cnnlab.cli.common import setup_jax

NOISE = f"{pathlib.Path(__file__).with_name('noise.py')}:noise"
NETS: dict[str, dict[str, Any]] = {
    "LeNet-5": {"model": "lenet5", "dataset.channels": 1},
    "ResNet-18 for CIFAR": {"model": "resnet18", "model.stem": "small"},
    "ResNet-50": {"model": "resnet50_v1_5", "dataset.size": 64, "dataset.classes": 1000, "dataset.examples": 512},
    "ResNet-50 at 224": {"model": "resnet50_v1_5", "dataset.size": 224, "dataset.classes": 1000, "dataset.examples": 128},
}
"""{name: knobs of recipes/classification.py}."""


def program_of(net: str, strategy: str, batch_size: int) -> tuple[Any, Any]:
    """Returns a program on all devices of this process, and the feed of its first step."""
    import jax

    from cnnlab import knobs
    from cnnlab.engine.parallel import STRATEGIES
    from cnnlab.engine.program import build_program, stack_steps
    from cnnlab.recipes.classification import classification

    given = {
        "dataset": NOISE,
        "validation": 0.0,
        "batch_size": batch_size,
        "duration": "1000000 steps",
        "optimizer": "momentum",
    }
    experiment = knobs.resolve(classification, {**given, **NETS[net]}).call()
    program = build_program(experiment, STRATEGIES[strategy](jax.devices()), precision="f32")
    feeds = program.experiment.data.for_process(program.strategy.rows).train(0, 0)
    return program, program.strategy.shard_batch(stack_steps([next(feeds)]))


def build(net: str, strategy: str, batch_size: int) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Returns a function that takes steps; and the seconds to compile one, and the bytes that a device sends in it.

    No step is taken: several processes may compile for unequal times, and their first exchange gives up after 30 s.
    """
    import jax

    from cnnlab.inspect.traffic import step_traffic

    program, feed = program_of(net, strategy, batch_size)
    state, shared = program.init(0), program.step_inputs("train")
    began = time.perf_counter()
    found = step_traffic(program.phase_steps[0], state, shared, feed, devices=len(program.strategy.devices))
    about = {"compile": time.perf_counter() - began, "sent": sum(each.sent for each in found)}

    def take(number: int) -> None:
        nonlocal state
        for _ in range(number):
            state, _ = program.phase_steps[0](state, shared, feed)
        jax.block_until_ready(state)

    return take, about


def count(net: str, strategy: str, batch_size: int) -> dict[str, Any]:
    """Returns what devices exchange in a step that is compiled as for accelerators, whose forms of convolution it has."""
    import jax
    import numpy as np

    from cnnlab.engine.parallel import fsdp_bytes
    from cnnlab.inspect.traffic import collectives

    program, feed = program_of(net, strategy, batch_size)
    devices, params = len(program.strategy.devices), program.shapes.params
    state = program.strategy.to_devices(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), program.shapes))
    with mock.patch.object(jax, "default_backend", lambda: "gpu"):  # by which cnnlab/ops picks its forms
        lowered = program.phase_steps[0].lower(state, program.step_inputs("train"), feed)
    # The exchanges are in the program before its instructions are made, and these are made quickly.
    text = lowered.compile({"xla_backend_optimization_level": 0}).as_text()
    split, whole = fsdp_bytes(params, devices)
    return {
        "bytes": sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)),
        "split": split * devices if strategy == "fsdp" else 0,
        "whole": whole,
        "collectives": [[each.kind, each.whole, each.devices] for each in collectives(text, devices)],
    }


def work(
    devices: int,
    net: str,
    cases: Sequence[tuple[str, str, int]] = (),
    counted: int = 0,
    group: tuple[int, int, str] | None = None,
) -> Work:
    """Returns a run for each case, on CPU devices of this process and of the others of its group.

    Args:
        devices: number of devices of this process.
        net: the network.
        cases: (name, strategy, batch size) of each.
        counted: size of the batch whose exchanges are counted, instead of cases, by strategy; 0: none.
        group: number of processes that train together, which of them this is, and the address of the first.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if group:
        os.environ["PJRT_NPROC"] = "16"  # as the parent of a run's processes sets it
    setup_jax(devices if devices > 1 else None)
    if group:
        from cnnlab.engine import processes

        processes.start(processes.Group(*group, 60))
    if counted:
        return Work({}, {strategy: count(net, strategy, counted) for strategy in ("jit", "fsdp")})
    built = {name: build(net, strategy, batch_size) for name, strategy, batch_size in cases}
    return Work({name: take for name, (take, _) in built.items()}, {name: about for name, (_, about) in built.items()})
