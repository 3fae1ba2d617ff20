"""Measures on an accelerator what half of cnnlab's promises are about, the most valuable first, within its minutes.

    python -m benchmarks.accelerator [--minutes=8] [--only=PART,…] [--tiny] [--to=FILE.json]

Parts, in this order: does it work (every task of the contract table against the CPU), ceilings, steps, batched runs. A table is
printed as it is measured and written to one JSON file; what does not fit in the minutes is left out and named. It needs jax,
flax, optax, orbax-checkpoint, scikit-learn, scipy, matplotlib, safetensors, h5py and absl-py, and no network. PyTorch and
torchvision are measured beside it where they are installed. --tiny takes sizes for a test on a CPU.
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
flags.DEFINE_boolean("tiny", False, "sizes for a test on a CPU")
flags.DEFINE_string("to", "accelerator.json", "the file to write")

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))


def main(argv: list[str]) -> int:
    """Runs the cases in order; returns 1 where one failed."""
    del argv
    began = time.monotonic()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch and launch.py use the same device
    from benchmarks.accelerator import batched, ceilings, steps, works
    from benchmarks.accelerator.board import RESERVE_SECONDS, Board, Settings
    from cnnlab.engine.parallel import use_compilation_cache

    use_compilation_cache()
    everything = [*works.cases(), *ceilings.CASES, *steps.CASES, *batched.CASES]
    known = {name for case in everything for name in (case.part, case.name)}
    if wrong := [name for name in FLAGS.only if name not in known]:
        print(f"error: --only={wrong[0]}: no such part or case. There are: {', '.join(sorted(known))}.", file=sys.stderr)
        return 2
    chosen = [case for case in everything if not FLAGS.only or {case.part, case.name} & set(FLAGS.only)]
    board = Board(pathlib.Path(FLAGS.to), {"minutes": FLAGS.minutes, "only": FLAGS.only, "tiny": FLAGS.tiny})
    print(", ".join(board.content["machine"]["devices"]), board.content["machine"]["versions"], flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(FLAGS.tiny, began + 60 * FLAGS.minutes, pathlib.Path(folder))
        for case in chosen:
            needed = 1.0 if FLAGS.tiny else case.seconds
            if settings.left() < needed:
                board.leave_out(case, f"{max(settings.left(), 0):.0f} s are left and it may take {needed:.0f} s")
                continue
            try:
                for row in case.rows(settings):
                    board.add(case, row)
            except Exception as error:  # one case that fails must not take the others' time on a borrowed machine
                failed = True
                board.leave_out(case, f"{type(error).__name__}: {str(error).strip()[:500]}")
    board.write()
    missed = sum(row["met"] is False for row in board.content["rows"])
    total = f"{len(board.content['rows'])} rows, {missed} goals missed, {len(board.content['left_out'])} cases left out"
    print(f"\n{total}, {time.monotonic() - began:.0f} s; in {FLAGS.to} ({RESERVE_SECONDS:g} s were kept in reserve)")
    return int(failed)


if __name__ == "__main__":
    app.run(main)
