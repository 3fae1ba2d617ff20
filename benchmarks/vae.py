"""Milliseconds of a training step, and seconds of an epoch of MNIST, of `vae_mnist`: ours and a PyTorch twin in eager mode.

    python benchmarks/vae.py [--torch_python=PYTHON] [--threads=2] [--rounds=9] [--epoch=54000]

Both train 815,824 parameters with Adam on 100 images a step, which they look up in a set kept in memory and draw afresh as
black and white; the images are stripes of 28x28 (their values cost nothing). Ours is the experiment's own compiled step, fed
as in a run. Each has a process of its own; both are alive and take turns, and medians over the rounds are compared, so that a
machine whose speed drifts bends no ratio. CPU time is that of the whole process: on a busy machine look there, with
--threads=1.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

EXAMPLES = 10_000
BATCH = 100


class Ours:
    """The experiment in training."""

    def __init__(self) -> None:
        from cnnlab import knobs
        from cnnlab.runs import run
        from cnnlab.runs.folder import RunSpec
        from experiments.vae_mnist import experiment

        given = {"dataset": "stripes", "dataset.size": 28, "dataset.examples": EXAMPLES, "validation": 0.0}
        resolved = knobs.resolve(experiment, given)
        self.program = run.build(resolved, RunSpec("vae_mnist", resolved.values, "f32", source=""))
        self.feeds, self.shared = self.program.experiment.data.train(0, 0), self.program.step_inputs("train")
        self.state = self.program.init(0)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        import jax

        return sum(leaf.size for leaf in jax.tree.leaves(self.program.shapes.params))

    def run(self, steps: int) -> None:
        """Takes so many steps."""
        import jax

        for _ in range(steps):
            feed = self.program.strategy.shard_batch({name: leaf[None] for name, leaf in next(self.feeds).items()})
            self.state, _ = self.program.phase_steps[0](self.state, self.shared, feed)
        jax.block_until_ready(self.state)


class Torch:
    """The same in PyTorch."""

    def __init__(self) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.torch = torch
        self.encoder = nn.Sequential(nn.Linear(784, 500), nn.Tanh())
        self.mean, self.log_variance = nn.Linear(500, 20), nn.Linear(500, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 500), nn.Tanh(), nn.Linear(500, 784))
        modules = (self.encoder, self.mean, self.log_variance, self.decoder)
        self.own = [parameter for module in modules for parameter in module.parameters()]
        self.optimizer = torch.optim.Adam(self.own, 1e-3)
        self.images = torch.randint(0, 256, (EXAMPLES, 784), dtype=torch.uint8)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.own)

    def run(self, steps: int) -> None:
        """Takes so many steps."""
        torch = self.torch
        for _ in range(steps):
            chosen = torch.randint(0, EXAMPLES, (BATCH,))
            images = torch.bernoulli(self.images[chosen].float() / 255)
            self.optimizer.zero_grad()
            features = self.encoder(images)
            mean, log_variance = self.mean(features), self.log_variance(features)
            codes = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            logits = self.decoder(codes)
            nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
            cost = 0.5 * torch.sum(mean**2 + log_variance.exp() - 1 - log_variance)
            ((nats + cost) / BATCH).backward()
            self.optimizer.step()


def work(kind: str, threads: int) -> None:
    """Answers {"steps": number} by {"wall": seconds, "cpu": seconds}, line by line, after one line of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    run = Ours() if kind == "cnnlab" else Torch()
    run.run(20)
    print(json.dumps({"parameters": run.parameters}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter(), time.process_time()
        run.run(json.loads(line)["steps"])
        print(json.dumps({"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}), flush=True)


class Worker:
    """A process of `work`."""

    def __init__(self, python: str, kind: str, threads: int):
        command = [python, __file__, "--work", kind, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self) -> dict[str, float]:
        """The next line that it says."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, steps: int) -> dict[str, float]:
        """What so many steps took."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self.process.stdin.flush()
        return self.read()


def measured(kinds: dict[str, str], threads: int, rounds: int, steps: int) -> dict[str, tuple[list[float], list[float]]]:
    """{kind: (wall, CPU milliseconds of a step, by round)}; kinds: the Python of each."""
    workers = {kind: Worker(python, kind, threads) for kind, python in kinds.items()}
    try:
        assert {worker.read()["parameters"] for worker in workers.values()} == {815_824}
        times: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in workers}
        for _ in range(rounds):
            for kind, worker in workers.items():
                told = worker.ask(steps)
                times[kind][0].append(1e3 * told["wall"] / steps)
                times[kind][1].append(1e3 * told["cpu"] / steps)
        return times
    finally:
        for worker in workers.values():
            worker.process.kill()


def main(argv: list[str]) -> None:
    """Prints medians, and the ratio of ours to PyTorch's."""
    import argparse

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch_python", default=os.environ.get("CNNLAB_ORACLE_PYTHON"), help="a Python that has torch")
    parser.add_argument("--threads", type=int, default=2, help="cores that every process may use")
    parser.add_argument("--rounds", type=int, default=9, help="rounds, each of one measurement of both")
    parser.add_argument("--steps", type=int, default=50, help="steps of one measurement")
    parser.add_argument("--epoch", type=int, default=54_000, help="examples of an epoch")
    given = parser.parse_args(argv)
    kinds = {"cnnlab": sys.executable}
    if given.torch_python:
        kinds["torch"] = given.torch_python
    else:
        print("PyTorch is left out: name a Python that has it by --torch_python or $CNNLAB_ORACLE_PYTHON.")
    times = measured(kinds, given.threads, given.rounds, given.steps)
    middle = {kind: tuple(map(statistics.median, pair)) for kind, pair in times.items()}
    print(f"vae_mnist, {given.threads} threads, f32, medians of {given.rounds} rounds of {given.steps} steps")
    for kind, (wall, cpu) in middle.items():
        epoch = wall * given.epoch / BATCH / 1e3
        print(f"{kind:8}{wall:8.2f} ms a step (least {min(times[kind][0]):.2f}), {cpu:.2f} ms of CPU; {epoch:.1f} s an epoch")
    if "torch" in middle:
        wall, cpu = (ours / theirs for ours, theirs in zip(middle["cnnlab"], middle["torch"], strict=True))
        print(f"cnnlab / torch: {wall:.2f} by wall time, {cpu:.2f} by CPU time")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1:])
