"""Measures the checkpoint of a run on its held-out splits: evaluation.json, and on request what was predicted for each example.

evaluation.json       the step, the metrics, the data, and the digests of the other files
evaluation_SPLIT.npz  for every example of a split the rows that train keeps of test (core.Task.kept_rows), with its file's name
"""

import functools
import pathlib

import numpy as np

from cnnlab import files
from cnnlab.core import Stats
from cnnlab.digests import file_digest
from cnnlab.engine import train
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved
from cnnlab.progress import ProgressLine
from cnnlab.runs import network_file, network_notes, run_files, run_progress
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.run import restore_run
from cnnlab.runs.trained_function import kept_rows, list_classes


def evaluate_run(resolved: Resolved, spec: RunSpec, folder: pathlib.Path, *, best: bool, predictions: bool = False) -> str:
    """Measures the newest checkpoint of a run (or the best on validation); writes evaluation.json and returns a table.

    With `predictions` it writes evaluation_SPLIT.npz as well; those of an earlier evaluation are deleted in any case. In place
    of the folder it may be the file of a network, beside which nothing is written.
    """
    is_file = network_notes.is_network_file(folder)
    if is_file and predictions:
        raise UsageError(f"--predictions are kept in the folder of a run, and {folder} is a file. Give the folder of its run.")
    program, host, step = restore_run(resolved, spec, folder, best=best)
    data = program.experiment.data
    seed = run_files.read_run(folder)["flags"]["seed"]
    state, line = program.strategy.to_devices(host), ProgressLine(quiet=spec.quiet)
    stats: dict[str, Stats] = {
        split: train.evaluate(
            program, state, split, final=split == data.report_split, on_batch=run_progress.measuring(line, split)
        )
        for split in data.measured_splits
    }
    line.erase()
    metrics = network_file.final_metrics(spec, program.experiment, seed, stats, host, step)
    about = {"name": data.name, "fingerprint": data.fingerprint, "class_names": list(data.class_names)}
    changed = {"changed_knobs": dict(spec.changed)} if spec.changed else {}
    for old in () if is_file else folder.glob(run_files.EVALUATION_ROWS.format("*")):
        old.unlink()
    written = {}
    for split in stats if predictions else ():
        path, rows = folder / run_files.EVALUATION_ROWS.format(split), kept_rows(program.experiment, stats[split], split)
        files.replace_file(path, functools.partial(np.savez, **rows))
        written[path.name] = file_digest(path)
    content = {"step": step, "metrics": metrics, "data": about, **changed, "files": written}
    if not is_file:
        files.write_record(folder / run_files.EVALUATION, content)
    lines = [f"  {name.ljust(24)} {value:.6g}" for name, value in metrics.items()]
    lines += [f"  {'classes'.ljust(24)} {list_classes(data.class_names)}"] if data.class_names else []
    lines += [f"  {'predictions'.ljust(24)} {folder / name}" for name in written]
    return "\n".join([f"{folder}, step {step}", *lines])
