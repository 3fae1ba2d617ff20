"""Measures on an accelerator what half of cnnlab's promises are about, the most valuable first, within its minutes.

    python -m benchmarks.accelerator [--minutes=8] [--only=PART,…] [--data=FOLDER] [--runs=FOLDER] [--tiny] [--to=FILE.json]

Parts, in this order: does it work (every task of the contract table against the CPU), ceilings, steps, batched runs, CIFAR-10
to 94 %, what CPUs could not finish: PixelCNN, and the studies of claims that are declared for an accelerator, each a quarter of
an hour (--minutes=16 --only=c07), whose folders --runs keeps for the page of claims. A table is printed as it is measured and
written to one JSON file; what does not fit in the minutes is left out and named. It needs jax, flax, optax, orbax-checkpoint,
scikit-learn, scipy, matplotlib, safetensors, h5py and absl-py, and no network. PyTorch and torchvision are measured beside it
where they are installed. The last two parts read cifar10.npz and mnist.npz of the folder --data, which
`python -m benchmarks.accelerator.pixels` makes. --tiny takes sizes for a test on a CPU, and data that are made up; of the
studies it shows the plans.
"""

import os
import pathlib
import sys
import tempfile
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_float("minutes", 8.0, "minutes after which nothing more is begun", lower_bound=0.1)
flags.DEFINE_list("only", [], "parts or cases to measure (default: all)")
flags.DEFINE_string("data", "pixels", "folder with cifar10.npz and mnist.npz")
flags.DEFINE_string("runs", None, "folder that keeps the runs and studies (default: they are removed)")
flags.DEFINE_boolean("tiny", False, "sizes for a test on a CPU")
flags.DEFINE_string("to", "accelerator.json", "the file to write")

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))


def main(argv: list[str]) -> int:
    """Runs the cases in order; returns 1 where one failed."""
    del argv
    began = time.monotonic()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch and launch.py use the same device
    from benchmarks.accelerator import session
    from benchmarks.accelerator.board import RESERVE_SECONDS, Board, Settings
    from cnnlab.engine.parallel import use_compilation_cache
    from cnnlab.errors import UsageError

    use_compilation_cache()
    try:
        cases = session.chosen(session.all_cases(), FLAGS.only)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    board = Board(pathlib.Path(FLAGS.to), {"minutes": FLAGS.minutes, "only": FLAGS.only, "tiny": FLAGS.tiny})
    print(", ".join(board.content["machine"]["devices"]), board.content["machine"]["versions"], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data, kept = pathlib.Path(FLAGS.data).resolve(), pathlib.Path(FLAGS.runs or folder).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        good = session.measure(cases, board, Settings(FLAGS.tiny, began + 60 * FLAGS.minutes, kept, data))
    missed = sum(row["met"] is False for row in board.content["rows"])
    total = f"{len(board.content['rows'])} rows, {missed} goals missed, {len(board.content['left_out'])} cases left out"
    print(f"\n{total}, {time.monotonic() - began:.0f} s; in {FLAGS.to} ({RESERVE_SECONDS:g} s were kept in reserve)")
    return 0 if good else 1


if __name__ == "__main__":
    app.run(main)
