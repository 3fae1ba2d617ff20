"""The verb that decides a claim without training: measure."""

import dataclasses
import functools
import pathlib

from cnnlab.cli.common import NoExperiment, seeds_from, setup_jax
from cnnlab.cli.groups import Console
from cnnlab.values import Count, PathText, Target


def measure(
    *,
    experiment: str | None = None,
    workdir: Target | None = None,
    seeds: Count | None = None,
    data_dir: PathText | None = None,
    exploratory: bool = False,
    console: Console,
) -> int:
    """Decides a claim whose numbers are computed without training, such as c05_symmetry.

    Args:
        experiment: name of a file in experiments/ that declares a measurement, or the path of a .py file of your own.
        workdir: folder of the measurement; none: runs/measurement-EXPERIMENT-HASH.
        seeds: number of seeds; none: those of the declaration. With another number there is no verdict.
        data_dir: folder of prepared TFDS data sets; none: $TFDS_DATA_DIR or ~/tensorflow_datasets.
        exploratory: give no verdict on the claim; the code may then have uncommitted changes.
        console: what is shown.
    """
    if not experiment:
        raise NoExperiment({})
    setup_jax(None)
    from cnnlab import files
    from cnnlab.ablation.analyse.measured import analyse_measured
    from cnnlab.ablation.plan import declaration
    from cnnlab.ablation.report.measured import VERDICT, markdown_text, terminal_text
    from cnnlab.ablation.run.measure import measured_seeds, run_measurement
    from cnnlab.digests import SHORT, json_digest
    from cnnlab.runs.experiments import load_measurement
    from cnnlab.runs.lock import locked

    file = load_measurement(experiment)
    measurement = file.measurement
    chosen = tuple(seeds_from(measurement.first_seed, seeds or measurement.seeds))
    why, content = declaration.follow_measurement(file, chosen, exploratory=exploratory)
    # A measurement by other code has another folder, so what is there already was measured by this code.
    digest = json_digest([file.sources, content.get("digest", ""), list(chosen) if why else []])[:SHORT]
    folder = pathlib.Path(workdir or f"runs/measurement-{pathlib.Path(file.title).stem}-{digest}")
    tested = f"{why}; no verdict" if why else f"tests {measurement.claim} as declared (declaration {content['digest'][:SHORT]})"
    print(f"{file.title}: {measurement.question}\n{tested}\nin {folder}", flush=True)
    declaration.keep_measured_declaration(folder, content, why, file.sources)
    about = {"experiment": file.name, "question": measurement.question, "claim": measurement.claim, "exploratory": why}
    about |= {"metrics": [dataclasses.asdict(metric) for metric in measurement.metrics], "sources": file.sources}
    with locked(folder):
        measured = measured_seeds(run_measurement(measurement, chosen, folder, about=about, data_dir=data_dir), chosen)
    look = functools.cache(functools.partial(analyse_measured, measurement, measured))  # several parts may ask for one metric
    found = measurement.verdict(look(measurement.metrics[0].name), look)
    found = dataclasses.replace(found, declaration=content.get("digest", ""))
    if content:
        files.write_record(folder / VERDICT, dataclasses.asdict(found))
    files.write_text(folder / "report.md", markdown_text(measurement.question, measurement.metrics, measured, found, why))
    print(terminal_text(measured, measurement.metrics, found, why))
    print(f"\n  in {folder}")
    return 0
