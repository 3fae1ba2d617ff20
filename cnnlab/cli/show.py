"""Verbs that list what there is, or show what a run has learned: list, inspect, evaluate, predict, export."""

import dataclasses
import json
import logging
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from cnnlab.cli.common import NoExperiment, load, recorded_run, resolve, run_spec, seed_folders, seeds_from, setup_jax
from cnnlab.cli.groups import Console, Devices, Length, Memory
from cnnlab.errors import UsageError
from cnnlab.runs.catalogue import catalogue
from cnnlab.values import Count, Entries, Seed, Target

if TYPE_CHECKING:
    from cnnlab.inspect import Layer
    from cnnlab.knobs import Resolved
    from cnnlab.runs.folder import RunSpec

log = logging.getLogger("cnnlab")


def list_(*, format: Literal["text", "json"] = "text", console: Console) -> int:
    """Prints the experiments, models and data sets.

    Args:
        format: how to print.
        console: what is shown.
    """
    found = catalogue()  # read from the sources, nothing of which is imported
    if format == "json":
        print(json.dumps(found, indent=1))
        return 0
    width = max(len(name) for entries in found.values() for name in entries) + 1  # one column over all lists
    for title, entries in found.items():
        print("\n".join([title, *(f"  {name.ljust(width)}{text}" for name, text in entries.items())]))
    return 0


def inspect(
    values: dict[str, str],
    /,
    *,
    experiment: str | None = None,
    workdir: Target | None = None,
    train: bool = False,
    format: Literal["text", "json"] = "text",
    to: Target | None = None,
    devices: Devices,
    memory: Memory,
    console: Console,
) -> int:
    """Prints every layer of a network: shape, parameters, operations, memory, receptive field; or a data set's card.

    The network is an experiment's, or a model by name: --model=NAME [--input=HEIGHT,WIDTH,CHANNELS]; or that of a run
    or a file, --workdir=RUN or FILE.cnnz, with the share of weights that are not 0, their bits and what they multiply.
    The card of a data set, --dataset=NAME or KIND:PATH, has its splits, columns, classes, pixels, copies and remarks.
    With --train it predicts the memory of a training step, before anything is trained.

    Args:
        values: the experiment's knobs, or model, input and classes, or dataset.
        experiment: experiment with the network; none: the network of --model, or the data of --dataset.
        workdir: folder of a run, or the FILE.cnnz of its network.
        train: print the bytes per device of a training step of the experiment, instead of the layers.
        format: how to print.
        to: .png file for a sheet of examples of --dataset.
        devices: on what it would be trained.
        memory: what its step would keep in memory.
        console: what is shown.
    """
    if train:
        return show_training_memory(values, experiment, format, devices, memory, console)
    refuse_unread(devices, memory)
    if workdir is not None:
        return show_trained(values, experiment, workdir, format, devices, console)
    if experiment is None and "model" not in values:
        if any(name.removeprefix("data.").startswith("dataset") for name in values):
            return show_card(values, format, devices.data_dir, to)
        if values:
            raise NoExperiment(values)
        raise UsageError(
            "inspect what? Give --experiment=NAME, or --model=NAME [--input=HEIGHT,WIDTH,CHANNELS], or --dataset=NAME."
        )
    setup_jax(devices.fake_devices)
    from cnnlab import inspect as inspector

    if experiment is not None:
        made = resolve(load(experiment, values, devices), values).call()
        layers = inspector.of_experiment(made)
        if not layers and (count := inspector.parameters(made)):
            raise UsageError(f"{experiment}: its {count:,} parameters are no Linen modules, which alone can be listed.")
    else:
        layers = layers_by_name(values)
    print(json.dumps(inspector.as_json(layers), indent=1) if format == "json" else inspector.as_table(layers))
    return 0


PASCAL_CLASSES = 21
"""Number of classes with which networks of segmentation are listed where no other is given: those of PASCAL VOC, with a
background, which networks of detection do not count."""


def layers_by_name(values: dict[str, str]) -> "list[Layer]":
    """Returns the layers of the network --model=NAME with its knobs, for images of the size that it was made for."""
    from cnnlab import inspect as inspector
    from cnnlab import knobs
    from cnnlab.models import DETECTORS, MODELS, SEGMENTERS, native_shape

    if values["model"] in {**MODELS, **SEGMENTERS, **DETECTORS}:
        values = {"input": ",".join(map(str, native_shape(values["model"]))), **values}
    if values["model"] in SEGMENTERS:
        values = {"classes": str(PASCAL_CLASSES), **values}
    if values["model"] in DETECTORS:
        values = {"classes": str(PASCAL_CLASSES - 1), **values}
    layers: list[Layer] = knobs.resolve(inspector.of_model, values).call()
    return layers


def show_trained(
    values: dict[str, str],
    experiment: str | None,
    workdir: Target,
    format: Literal["text", "json"],
    devices: Devices,
    console: Console,
) -> int:
    """Prints the layers of the network of a run or a file, with what its weights add.

    Args:
        values: knobs, which the run has of its own.
        experiment: name of an experiment, which the run says itself.
        workdir: folder of the run, or the file.
        format: how to print.
        devices: on what it was trained.
        console: what is shown.
    """
    if values or experiment:
        raise UsageError("--workdir says which network is inspected. Leave --experiment and the knobs out.")
    resolved, spec, folders = trained_run({}, None, workdir, None, Length(), devices, console, starts=False)
    from cnnlab import inspect as inspector
    from cnnlab.inspect import weights
    from cnnlab.runs.network_leaves import network_of
    from cnnlab.runs.run import restore_run

    program, state, _ = restore_run(resolved, spec, folders[0], best=False, opens_data=False)
    layers = inspector.of_experiment(program.experiment)
    if not layers:
        raise UsageError(f"{workdir}: its parameters are no Linen modules, which alone can be listed.")
    found = weights.weights_of(layers, network_of(state))
    shown = json.dumps(weights.as_json(layers, found), indent=1) if format == "json" else weights.as_table(layers, found)
    print(shown)
    return 0


def refuse_unread(devices: Devices, memory: Memory) -> None:
    """Raises UsageError for a flag that changes neither layers nor data, but a training step."""
    for group, name in ((devices, "strategy"), (devices, "devices"), (devices, "precision"), (memory, "remat")):
        if (value := getattr(group, name)) != getattr(type(group)(), name):
            raise UsageError(
                f"--{name}={value} changes a training step, and neither the layers nor the data.\nAdd --train, or leave it out."
            )


def show_training_memory(
    values: dict[str, str],
    experiment: str | None,
    format: Literal["text", "json"],
    devices: Devices,
    memory: Memory,
    console: Console,
) -> int:
    """Prints the bytes per device that a training step of an experiment will need.

    Args:
        values: the experiment's knobs.
        experiment: name of the experiment.
        format: how to print.
        devices: on what it would be trained.
        memory: what its step would keep in memory.
        console: what is shown.
    """
    if experiment is None:
        raise UsageError("--train: a training step has data and an optimiser. Add --experiment=NAME.")
    loaded = load(experiment, values, devices)
    resolved = resolve(loaded, values)
    from cnnlab.inspect import memory as prediction
    from cnnlab.runs.run import build
    from cnnlab.terminal import Terminal

    found = prediction.training_memory(build(resolved, run_spec(loaded, resolved, devices, console, memory=memory)))
    print(
        json.dumps(prediction.as_json(found), indent=1)
        if format == "json"
        else "\n".join(prediction.as_lines(found, Terminal.of_stdout()))
    )
    return 0


def show_card(values: dict[str, str], format: Literal["text", "json"], data_dir: str | None, to: Target | None) -> int:
    """Prints the card of a data set, and writes a sheet of its examples.

    Args:
        values: the knobs `dataset` and those below it, also as `data.dataset`.
        format: how to print.
        data_dir: folder of prepared TFDS data sets; None: the default.
        to: .png file for the sheet; None: none is drawn.
    """
    from cnnlab import figures, knobs
    from cnnlab.data import card, card_text
    from cnnlab.terminal import Terminal

    if to and pathlib.Path(to).suffix != ".png":
        raise UsageError(f"--to={to}: the sheet of examples is a PNG.\nGive a file that ends with .png.")
    given = {name.removeprefix("data."): value for name, value in values.items()}
    resolved = knobs.resolve(card.open_source, given, {"data_dir": data_dir, knobs.FOLDER: pathlib.Path.cwd()})
    source = resolved.call()
    found = card.card_of(source, card.disk_size(source, str(resolved.values["dataset"]).partition(":")[2]))
    lines = card_text.card_lines(found, Terminal.of_stdout())
    print(json.dumps(card.as_json(found), indent=1) if format == "json" else "\n".join(lines))
    if to:
        figures.save(card_text.example_sheet(source), pathlib.Path(to))
        print(f"sheet of examples: {to}", file=sys.stderr)
    return 0


def trained_run(
    values: dict[str, str],
    experiment: str | None,
    workdir: Target | None,
    seed: int | None,
    length: Length,
    devices: Devices,
    console: Console,
    *,
    seeds: int = 1,
    allow: Sequence[str] = (),
    starts: bool = True,
) -> tuple["Resolved", "RunSpec", dict[int, pathlib.Path]]:
    """Returns (knobs, spec, folders by seed) of the run in --workdir, or of the runs of --experiment with its knobs.

    Raises an error where a folder holds another run, or one of other code or weights; of another seed, unless `seed` is None.
    Knobs that are given for the run in --workdir and differ from its own are said. The weights that a run started from are
    compared where it `starts`.
    """
    from cnnlab.knobs import merged
    from cnnlab.runs.folder import compare_run

    setup_jax(devices.fake_devices)
    recorded = {}
    if workdir and not experiment:
        run, devices = recorded_run(workdir, devices)
        experiment, recorded = run["experiment"], run["knobs"]
    loaded = load(experiment, values, devices)
    if length.given and "duration" in recorded:
        recorded = {name: value for name, value in recorded.items() if name != "duration"}
    resolved = resolve(loaded, merged(recorded, values), length)
    folders = seed_folders(loaded, resolved, devices.number_format, workdir, seeds_from(seed or 0, seeds))
    spec = dataclasses.replace(run_spec(loaded, resolved, devices, console, allow=allow), starts=starts)
    if recorded and (values or length.given):
        spec = dataclasses.replace(spec, changed=changed_knobs(loaded.resolve(run["knobs"]), resolved, workdir))
    for number, folder in folders.items():
        compare_run(folder, spec, seed=number if seed is not None or seeds > 1 else None)
    return resolved, spec, folders


def changed_knobs(trained: "Resolved", now: "Resolved", workdir: str | None) -> dict[str, Any]:
    """Returns {knob: value} of what is not as the run was trained, and says it."""
    names = [name for name in {**trained.values, **now.values} if trained.values.get(name) != now.values.get(name)]
    if names:
        rows = "; ".join(f"--{name}: {trained.values.get(name)!r} there, {now.values.get(name)!r} now" for name in names)
        log.warning("not with the knobs that %s was trained with: %s", workdir, rows)
    return {name: now.values.get(name) for name in names}


def evaluate(
    values: dict[str, str],
    /,
    *,
    experiment: str | None = None,
    workdir: Target | None = None,
    seed: Seed | None = None,
    seeds: Count = 1,
    best: bool = False,
    predictions: bool = False,
    allow: tuple[str, ...] = (),
    length: Length,
    devices: Devices,
    console: Console,
) -> int:
    """Measures the checkpoint of a run on its held-out splits.

    Args:
        values: the experiment's knobs; none given: those of the run in --workdir.
        experiment: experiment of the run; none: that of the run in --workdir.
        workdir: folder of the run, or the FILE.cnnz of its network; none: where train puts the run of these knobs.
        seed: seed of the run; none: that of the run in --workdir, or 0.
        seeds: number of runs, from --seed on.
        best: use the checkpoint with the best validation metric, not the newest one.
        predictions: also keep what is predicted for every example, with its file's name, in evaluation_SPLIT.npz.
        allow: what may have changed since the run was trained, of code, data, weights.
        length: length of the run's training.
        devices: on what it runs.
        console: what is shown.
    """
    resolved, spec, folders = trained_run(values, experiment, workdir, seed, length, devices, console, seeds=seeds, allow=allow)
    from cnnlab.runs.evaluation import evaluate_run

    for folder in folders.values():
        print(evaluate_run(resolved, spec, folder, best=best, predictions=predictions))
    return 0


def predict(
    *,
    workdir: Target | None = None,
    images: Entries = (),
    to: Target | None = None,
    table: Literal["top", "classes"] = "top",
    best: bool = False,
    allow: tuple[str, ...] = (),
    overwrite: bool = False,
    devices: Devices,
    console: Console,
) -> int:
    """Predicts images that have no label, with the checkpoint of a run: classes and probabilities, or reconstructions.

    The images are prepared as those of the training were. The data set of the run is not needed.

    Args:
        workdir: folder of the run, or the FILE.cnnz of its network.
        images: a folder (any depth), image files, FILE.npz with an array of images (FILE.npz:NAME where it has several), or
            - for paths from standard input, one a line; several are separated by commas, or the flag is given again.
        to: a .csv or .json file for the table, a .png for a sheet of the first 100 pictures, a folder for a picture of each
            image; none: the table is printed.
        table: columns of a .csv file: top, the path of the image and its most probable classes; or classes, the image's name
            without folder and ending and the probability of every class, as challenges ask for.
        best: use the checkpoint with the best validation metric, not the newest one.
        allow: what may have changed since the run was trained, of code, data, weights.
        overwrite: replace the file, or write into a folder that is not empty.
        devices: on what it runs.
        console: what is shown.
    """
    if not workdir:
        raise UsageError("predict with which run? Add --workdir=RUN, the folder of a trained run.")
    if not images:
        raise UsageError("predict what? Add --images=FOLDER, image files, FILE.npz, or - for paths from standard input.")
    resolved, spec, folders = trained_run({}, None, workdir, None, Length(), devices, console, allow=allow, starts=False)
    from cnnlab.predict.command import predict_run

    (folder,) = folders.values()
    target = pathlib.Path(to) if to else None
    print(predict_run(resolved, spec, folder, images, target=target, best=best, replace=overwrite, table=table))
    return 0


def export(
    values: dict[str, str],
    /,
    *,
    to: Target | None = None,
    experiment: str | None = None,
    workdir: Target | None = None,
    seed: Seed | None = None,
    best: bool = False,
    allow: tuple[str, ...] = (),
    overwrite: bool = False,
    smaller: bool = False,
    length: Length,
    devices: Devices,
    console: Console,
) -> int:
    """Writes the network of a run to a file: its weights, its weights in few bytes, or a program.

    Args:
        values: the experiment's knobs; none given: those of the run in --workdir.
        to: the file: FILE.safetensors (weights), FILE.cnnz (weights that are pruned or share values, in few bytes) or
            FILE.stablehlo (a program).
        experiment: experiment of the run; none: that of the run in --workdir.
        workdir: folder of the run, or the FILE.cnnz of its network; none: where train puts the run of these knobs.
        seed: seed of the run; none: that of the run in --workdir, or 0.
        best: use the checkpoint with the best validation metric, not the newest one.
        allow: what may have changed since the run was trained, of code, data, weights.
        overwrite: replace the file.
        smaller: leave out the channels that --pruning=channels took away, so that the network really is smaller.
        length: length of the run's training.
        devices: on what it runs.
        console: what is shown.
    """
    if not to:
        raise UsageError(
            "export to what? Add --to=FILE.safetensors or FILE.cnnz (weights), or --to=FILE.stablehlo (a program)."
        )
    resolved, spec, folders = trained_run(values, experiment, workdir, seed, length, devices, console, allow=allow)
    from cnnlab.interop.export import export_run

    folder = folders[seed or 0]
    print(export_run(resolved, spec, folder, pathlib.Path(to), best=best, replace=overwrite, smaller=smaller))
    return 0
