"""Runs a measurement seed by seed and keeps its numbers. Imports no jax itself."""

import inspect
import logging
import pathlib
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import files, home
from cnnlab.ablation.plan.measurement import MEASUREMENT, Measured, Measurement, read_measurement
from cnnlab.runs import revision
from cnnlab.runs.folder import versions

log = logging.getLogger("cnnlab")


def run_measurement(
    measurement: Measurement, seeds: Sequence[int], folder: pathlib.Path, *, about: Mapping[str, Any], data_dir: str | None
) -> dict[str, Any]:
    """Measures every seed that measurement.json does not hold yet; returns its content.

    Args:
        measurement: what is measured.
        seeds: the seeds.
        folder: folder of the measurement; each seed is written when it is done.
        about: entries of measurement.json that describe the measurement, such as its experiment.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    content = read_measurement(folder) or {**about, "seeds": {}}
    takes_data = "data_dir" in inspect.signature(measurement.measure).parameters
    given = {"data_dir": data_dir} if takes_data else {}
    for number, seed in enumerate(seeds):
        if str(seed) in content["seeds"]:
            continue
        begun = time.perf_counter()  # a clock that is set meanwhile does not change it
        measured = measurement.check(measurement.measure(seed, **given))
        seconds = time.perf_counter() - begun
        bounds = {metric: sorted(cases) for metric, cases in measured.lower_bounds.items() if cases}
        commit, changed = revision.code_revision()
        content["seeds"][str(seed)] = {
            "numbers": {metric: dict(cases) for metric, cases in measured.numbers.items()},
            **({"lower_bounds": bounds} if bounds else {}),
            "curves": {label: [list(point) for point in line] for label, line in measured.curves.items()},
            "seconds": seconds,
            "time": time.time(),
            "commit": commit,
            "uncommitted_changes": changed,
            "versions": {"cnnlab": home.VERSION, "python": platform.python_version(), **versions()},
        }
        files.write_record(folder / MEASUREMENT, content)
        log.info("seed %d, %d of %d: %.1f s", seed, number + 1, len(seeds), seconds)
    return content


def measured_seeds(content: Mapping[str, Any], seeds: Sequence[int] | None = None) -> dict[int, Measured]:
    """Returns {seed: what was measured} from the content of measurement.json; of these seeds, or of all that it holds."""
    found = {int(seed): one for seed, one in content["seeds"].items()}
    return {
        seed: Measured(
            found[seed]["numbers"],
            {k: tuple((x, y) for x, y in v) for k, v in found[seed]["curves"].items()},
            found[seed].get("lower_bounds", {}),
        )
        for seed in (seeds if seeds is not None else found)
        if seed in found
    }
