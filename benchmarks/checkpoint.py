"""What a checkpoint of ResNet-50 with momentum (205 MB) costs: how long a save keeps training waiting, and a restore takes.

    python -m benchmarks.checkpoint [--rounds=5] [--width=1] [--folder=DIR]

The stall of a save is what `train` waits for: the state is fetched from the device and checked to be finite, the room on the
disk is looked up, and orbax takes the arrays over; then it writes them, and their digests, in the background. Each round waits
until they are on the disk, so the stalls are those of a run whose checkpoints are far enough apart. A restore verifies the
digests, reads the arrays and places them; the files come from the memory of the system where that holds them. Medians of the
rounds, the fastest and the slowest. Before them one round warms up.
"""

import argparse
import itertools
import pathlib
import statistics
import tempfile
import time

import jax

from cnnlab import knobs
from cnnlab.engine.checkpoint import Checkpoints, leaves, tree_digest
from cnnlab.engine.parallel import STRATEGIES, pick_devices, use_compilation_cache
from cnnlab.engine.program import Program, build_program
from cnnlab.recipes.classification import classification
from cnnlab.runs import finite

MB = 1e6


def resnet50(width: float) -> Program:
    """Returns ResNet-50 for 1,000 classes with momentum; the images do not matter, since no step is taken."""
    given = {"model": "resnet50_v1_5", "model.width": width, "optimizer": "momentum", "batch_size": 8, "duration": "1 steps"}
    data = {"dataset": "stripes", "dataset.examples": 2000, "dataset.classes": 1000, "dataset.size": 32}
    experiment = knobs.resolve(classification, {**given, **data}).call()
    return build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")


def measure(program: Program, folder: pathlib.Path, rounds: int) -> dict[str, list[float]]:
    """Returns {part: its seconds in each round} of saves and restores of one state."""
    ranked_by = program.experiment.task.primary_metric
    state, checkpoints = jax.block_until_ready(program.init(0)), Checkpoints(folder, ranked_by=ranked_by)
    digest, seconds = tree_digest(program.strategy.to_host(state)), {}
    for step in range(rounds + 1):
        times = [time.perf_counter()]
        host = program.strategy.to_host(state)
        times.append(time.perf_counter())
        assert not finite.bad_leaves(host)
        times.append(time.perf_counter())
        checkpoints.save(step, host, {}, None)
        times.append(time.perf_counter())
        checkpoints.close()
        times.append(time.perf_counter())
        restored = checkpoints.restore(program.shapes)
        times.append(time.perf_counter())
        assert restored is not None and restored[2] == step
        jax.block_until_ready(program.strategy.to_devices(restored[0]))
        times.append(time.perf_counter())
        assert tree_digest(restored[0]) == digest
        fetched, checked, taken, written, read, placed = (after - before for before, after in itertools.pairwise(times))
        parts = {
            "save: stall": fetched + checked + taken,
            "  fetch the state": fetched,
            "  check that it is finite": checked,
            "  hand it to orbax": taken,
            "save: in the background": written,
            "restore": read + placed,
            "  verify and read": read,
            "  place": placed,
        }
        for name, value in parts.items():
            seconds.setdefault(name, []).append(value)
    return {name: values[1:] for name, values in seconds.items()}


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--width", type=float, default=1.0, help="multiple of ResNet-50's channels; a smaller one is a quick trial"
    )
    parser.add_argument("--folder", type=pathlib.Path, help="where a temporary folder is made, on the disk that is of interest")
    given = parser.parse_args()
    use_compilation_cache()
    program = resnet50(given.width)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves(program.shapes).values())
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        seconds = measure(program, pathlib.Path(folder) / "checkpoints", given.rounds)
        newest = max((pathlib.Path(folder) / "checkpoints").iterdir(), key=lambda path: int(path.name))
        stored = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    print(
        f"state {size / MB:.1f} MB, on the disk {stored / MB:.1f} MB; {given.rounds} rounds on {jax.devices()[0].device_kind}\n"
    )
    print(f"{'seconds':28}{'median':>9}{'min':>9}{'max':>9}")
    for name, values in seconds.items():
        print(f"{name:28}{statistics.median(values):9.3f}{min(values):9.3f}{max(values):9.3f}")


if __name__ == "__main__":
    main()
