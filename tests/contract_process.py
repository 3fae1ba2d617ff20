"""One of two processes that train the rows of tests/contract.py together on two devices each: see test_tasks_contract.py.

    python -m tests.contract_process INDEX PORT FOLDER NAME…

One pair of processes trains all the rows that are named, since each start takes seconds. Process 0 writes FOLDER/NAME.npz, the
leaves of the state in their order, and FOLDER/NAME.json, the curve and what was measured of the test split.
"""

import json
import pathlib
import sys

import contract
import jax
import numpy as np

from cnnlab.engine import processes, train
from cnnlab.engine.parallel import use_compilation_cache

DEVICES = 4


def main(index: int, port: int, folder: pathlib.Path, names: list[str]) -> None:
    """Trains the rows one after another."""
    processes.start(processes.Group(2, index, f"127.0.0.1:{port}", 60))
    use_compilation_cache()
    for name in names:
        built, (state, _, curve, _) = contract.program(name, "jit", DEVICES), contract.reference(name, "jit", DEVICES)
        stats = train.evaluate(built, built.strategy.to_devices(state), "test")
        if processes.is_main():
            np.savez(folder / f"{name}.npz", *jax.tree.leaves(state))
            found = {"curve": curve, "measured": contract.experiment(name).task.summary(stats)}
            (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4:])
