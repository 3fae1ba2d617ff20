"""Milliseconds of a training step (loss, gradients, SGD with momentum) of four small networks: ours, plain Flax and PyTorch.

    python benchmarks/steps.py [--torch_python=PYTHON] [--nets=lenet5,resnet18] [--threads=2] [--rounds=9]

"cnnlab" convolves by cnnlab.models.layers, "flax" is the same network by flax.linen's Conv, ConvTranspose and max_pool, and
"torch" and "torch channels_last" are PyTorch's in eager mode. Every kind runs in a process of its own; all are alive and take
turns, and medians over the rounds are compared, so that a machine whose speed drifts bends no ratio. CPU time is that of
the whole process: on a busy machine look there, with --threads=1. Every step gets another batch from the host.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("nets", ["lenet5", "autoencoder", "depthwise", "resnet18"], "which networks")
flags.DEFINE_list("kinds", ["cnnlab", "flax", "torch", "torch channels_last"], "which implementations")
flags.DEFINE_string("torch_python", os.environ.get("CNNLAB_ORACLE_PYTHON"), "a Python that has torch")
flags.DEFINE_integer("threads", 2, "cores that every process may use")
flags.DEFINE_integer("rounds", 9, "rounds, each of one measurement of every kind")
flags.DEFINE_float("seconds", 0.5, "length of one measurement, at least one step")

HERE = pathlib.Path(__file__).resolve().parent


class Worker:
    """A process that runs steps of one implementation when it is told to."""

    def __init__(self, kind: str):
        python = FLAGS.torch_python if kind.startswith("torch") else sys.executable
        script = HERE / ("steps_torch.py" if kind.startswith("torch") else "steps_jax.py")
        cores = sorted(os.sched_getaffinity(0))[: FLAGS.threads]
        self.process = subprocess.Popen(
            [python, str(script), kind, ",".join(map(str, cores))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **what) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def measured(workers: dict[str, Worker], net: str) -> tuple[dict[str, dict], dict[str, list], dict[str, list]]:
    """(what each kind said of itself, wall milliseconds per step, CPU milliseconds per step)."""
    about = {kind: worker.ask(build=net) for kind, worker in workers.items()}
    assert len({told["parameters"] for told in about.values()}) == 1, about
    steps = {kind: max(int(FLAGS.seconds / told["seconds"]), 1) for kind, told in about.items()}
    wall: dict[str, list] = {kind: [] for kind in workers}
    cpu: dict[str, list] = {kind: [] for kind in workers}
    for _ in range(FLAGS.rounds):
        for kind, worker in workers.items():
            told = worker.ask(steps=steps[kind])
            wall[kind].append(1e3 * told["wall"] / steps[kind])
            cpu[kind].append(1e3 * told["cpu"] / steps[kind])
    return about, wall, cpu


def report(net: str, about: dict[str, dict], wall: dict[str, list], cpu: dict[str, list]) -> None:
    baselines = [kind for kind in ("torch", "torch channels_last", "flax") if kind in wall]
    parameters = next(iter(about.values()))["parameters"]
    print(f"\n{net}: {parameters:,} parameters, ms per step, medians of {FLAGS.rounds} rounds")
    heads = "".join(f"{'/ ' + name:>23}" for name in baselines)
    print(f"{'':22}{'wall':>9}{'(min)':>9}{'CPU':>9}{'first step':>12}{heads}   (wall, CPU)")
    for kind in wall:
        middle = statistics.median(wall[kind]), statistics.median(cpu[kind])
        ratios = [
            tuple(one / statistics.median(of[name]) for one, of in zip(middle, (wall, cpu), strict=True)) for name in baselines
        ]
        cells = "".join(f"{first:>15.2f}{second:>8.2f}" for first, second in ratios)
        numbers = f"{middle[0]:9.2f}{min(wall[kind]):9.2f}{middle[1]:9.2f}{about[kind]['compile']:10.1f} s"
        print(f"{kind:22}{numbers}{cells}", flush=True)


def main(argv: list[str]) -> None:
    kinds = list(FLAGS.kinds)
    if not FLAGS.torch_python:
        kinds = [kind for kind in kinds if not kind.startswith("torch")]
        print("PyTorch is left out: name a Python that has it by --torch_python or $CNNLAB_ORACLE_PYTHON.")
    workers = {kind: Worker(kind) for kind in kinds}
    print(f"{FLAGS.threads} threads, f32; {time.strftime('%Y-%m-%d')}")
    try:
        for net in FLAGS.nets:
            report(net, *measured(workers, net))
    finally:
        for worker in workers.values():
            worker.process.kill()


if __name__ == "__main__":
    app.run(main)
