"""A process with its own number of CPU devices, which trains networks by a strategy when it is told to.

    python -m benchmarks.scaling.worker DEVICES [PROCESS PROCESSES PORT]

It answers lines of JSON: {"build": [net, strategy, batch size]} compiles a step, {"steps": number} takes some with the newest
program that was built, {"use": …} goes back to an earlier one, {"forget": true} drops them all, and {"count": …} reads what the
devices exchange.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time
from typing import Any
from unittest import mock

NOISE = f"{pathlib.Path(__file__).with_name('noise.py')}:noise"
NETS: dict[str, dict[str, Any]] = {
    "LeNet-5": {"model": "lenet5", "dataset.channels": 1},
    "ResNet-18 for CIFAR": {"model": "resnet18", "model.stem": "small"},
    "ResNet-50": {"model": "resnet50_v1_5", "dataset.size": 64, "dataset.classes": 1000, "dataset.examples": 512},
    "ResNet-50 at 224": {"model": "resnet50_v1_5", "dataset.size": 224, "dataset.classes": 1000, "dataset.examples": 128},
}
"""{name: knobs of recipes/classification.py}."""


@dataclasses.dataclass
class Run:
    """A network in training."""

    program: Any
    state: Any
    shared: Any
    feed: Any

    def steps(self, number: int) -> dict[str, float]:
        """Takes steps, and returns the seconds of a clock and of all threads of this process."""
        import jax

        began = time.perf_counter(), time.process_time()
        for _ in range(number):
            self.state, _ = self.program.phase_steps[0](self.state, self.shared, self.feed)
        jax.block_until_ready(self.state)
        return {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}


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


def build(net: str, strategy: str, batch_size: int) -> tuple[Run, dict[str, Any]]:
    """Returns a network before its first step, the seconds to compile it, and the bytes that a device sends in a step.

    No step is taken: several processes may compile for unequal times, and their first exchange gives up after 30 s.
    """
    from cnnlab.inspect.traffic import step_traffic

    program, feed = program_of(net, strategy, batch_size)
    run = Run(program, program.init(0), program.step_inputs("train"), feed)
    began = time.perf_counter()
    found = step_traffic(program.phase_steps[0], run.state, run.shared, feed, devices=len(program.strategy.devices))
    return run, {"compile": time.perf_counter() - began, "sent": sum(each.sent for each in found)}


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


def main() -> None:
    """Answers until its input ends."""
    devices, *group = map(int, sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    if devices > 1:
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        os.environ["PJRT_NPROC"] = str(max(16, 4 * devices))  # fewer threads than devices that wait is a deadlock
    os.environ["JAX_PLATFORMS"] = "cpu"
    from cnnlab.engine import processes
    from cnnlab.engine.parallel import use_compilation_cache

    if group:
        os.environ["PJRT_NPROC"] = "16"
        index, number, port = group
        processes.start(processes.Group(number, index, f"127.0.0.1:{port}", 60))
    use_compilation_cache()
    runs: dict[str, Run] = {}
    chosen = ""
    for line in sys.stdin:
        asked = json.loads(line)
        told: dict[str, Any] = {}
        if "build" in asked:
            chosen = json.dumps(asked["build"])
            runs[chosen], told = build(*asked["build"])
        if "count" in asked:
            told = count(*asked["count"])
        if "use" in asked:
            chosen = json.dumps(asked["use"])
        if "steps" in asked:
            told = runs[chosen].steps(asked["steps"])
        if "forget" in asked:
            runs.clear()
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
