#!/usr/bin/env python3
"""Launches everything in cnnlab: `python launch.py [VERB] --experiment=NAME [--knob=value …] [run flags]`.

Verbs
  train      trains the experiment, or goes on with an interrupted run (the default)
  evaluate   measures the checkpoint of a run on its held-out splits
  export     writes the network of a run to a file, --to=FILE.safetensors (weights) or --to=FILE.stablehlo (a program)
  sample     draws images from a trained autoencoder, VAE, GAN or PixelCNN: a sheet and the images
  inspect    every layer of a network: output shape, parameters, multiply-accumulates, memory, stride, receptive field
  list       experiments, models and data sets
  ablate     plans, runs and reports a study: many runs that differ by design, compared with statistics
  report     writes the report of a study again, or of any set of runs: report FOLDER [FOLDER …]
  claims     writes the page of claims from the verdicts of studies, --to=docs/claims: claims FOLDER [FOLDER …]
  reproduce  runs a run or a study again and says whether the numbers agree: reproduce FOLDER
  work       trains some runs of a study in this process (what a launcher starts)

Knobs are the keyword arguments of the experiment's function and, below its choices, of the chosen functions:
  python launch.py --experiment=lenet5_digits --optimizer=adam --lr=0.001 --model.activation=tanh
  python launch.py --experiment=lenet5_digits --help      shows them all
  python launch.py ablate --experiment=convnet_digits --vary=norm:batch,none --vary=lr:0.1,0.01 --seeds=5
  python launch.py ablate --experiment=convnet_digits --design=leave_one_out --components=norm,augment
"""

import ast
import functools
import importlib.util
import itertools
import json
import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from cnnlab.errors import CnnlabError, UsageError, did_you_mean
from cnnlab.runs.catalogue import catalogue, experiment_files

ROOT = pathlib.Path(__file__).resolve().parent
FLAGS = flags.FlagValues()
_string, _integer, _float, _boolean, _enum, _list, _texts = (
    functools.partial(define, flag_values=FLAGS)
    for define in (
        flags.DEFINE_string,
        flags.DEFINE_integer,
        flags.DEFINE_float,
        flags.DEFINE_boolean,
        flags.DEFINE_enum,
        flags.DEFINE_list,
        flags.DEFINE_multi_string,
    )
)

_string("experiment", None, "name of a file in experiments/, or the path of a .py file of your own")
_string("workdir", None, "folder of the run (default: runs/EXPERIMENT-HASH/seed_K, HASH of the knobs)")
_string("data_dir", None, "where TFDS data sets are or go (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
_integer("seed", 0, "seed of initial weights, data order, augmentation and dropout")
_integer("seeds", 1, "how many seeds to train, from --seed on; reported as mean ± standard deviation", lower_bound=1)
_enum("strategy", "jit", ["jit", "pmap", "fsdp"], "how several devices share the work")
_integer("devices", None, "how many devices to use (default: all)", lower_bound=1)
_integer("fake_devices", None, "split the CPU into this many devices, to try a strategy without the hardware", lower_bound=1)
_enum("precision", "f32", ["f32", "bf16"], "what the network computes in; parameters stay f32")
_string("steps", None, "train for so many steps, instead of the experiment's duration")
_string("epochs", None, "train for so many epochs")
_string("examples", None, "train for so many examples")
_string("log_every", None, "duration between log lines, such as '50 steps' (default: 20 a run, at most 50 steps apart)")
_string("eval_every", None, "duration between evaluations, such as '1 epoch' (default: about 20 a run)")
_string("save_every", None, "duration between checkpoints (default: at every evaluation)")
_integer("dispatch", None, "most steps sent to the device at once (default: 1 on a CPU, 32 on an accelerator)", lower_bound=1)
_integer(
    "stop_after", None, "stop at this step with a checkpoint, schedules unchanged; without it the run goes on", lower_bound=1
)
_boolean("overwrite", False, "delete the run in the workdir and start afresh; export: replace the file")
_boolean("best", False, "evaluate, export, sample: the checkpoint that was best on the validation split, not the newest")
_string("to", None, "export, sample: the file to write; claims: the folder of the page (default: docs/claims)")
_texts("vary", [], "ablate: KNOB:LEVEL,LEVEL, the baseline's first, or KNOB:log(LOW,HIGH), uniform, integer, choice; repeat it")
_enum(
    "design",
    "grid",
    ["grid", "zip", "one_factor_at_a_time", "leave_one_out", "add_one_in", "random", "grid_and_random"],
    "ablate: which arms there are",
)
_list("components", [], "ablate: what leave_one_out and add_one_in switch off and on: KNOB or KNOB:OFF")
_integer("trials", 20, "ablate: arms of the random design", lower_bound=1)
_enum("prune", "none", ["none", "asha", "halving"], "ablate: stop worse arms early, judged on validation at rungs of steps")
_string("prune_from", None, "ablate: duration of the first rung, such as '1 epoch' (default: up to three rungs before the end)")
_integer("prune_factor", 3, "ablate: about one arm in so many goes on to the next rung, which is so many times as far")
_string("metric", None, "ablate, report: the number that is compared (default: the task's own on test)")
_integer(
    "jobs", 1, "ablate: runs at once, each with its share of the cores or one accelerator, or its Slurm job", lower_bound=1
)
_integer("max_attempts", 1, "ablate: how often a run that fails is begun in all", lower_bound=1)
_boolean("fail_fast", False, "ablate: stop at the first failure instead of finishing the rest")
_integer("budget_minutes", None, "ablate: refuse a study that is estimated to take longer", lower_bound=1)
_enum("launcher", "local", ["local", "slurm", "ray"], "ablate: where runs are trained: processes here, Slurm jobs, Ray actors")
_list(
    "launcher_options",
    [],
    "ablate: KEY=VALUE of a worker, slurm: slurm_partition=gpu,timeout_min=60,gpus_per_node=1; ray: address=auto,num_gpus=1",
)
_enum(
    "members",
    "auto",
    ["auto", "together", "apart"],
    "ablate: runs that share a compilation: all in one batched program, or apart (auto: apart on a CPU, where it is faster)",
)
_integer("members_at_once", 32, "ablate: most runs in one batched program; their memory adds up", lower_bound=1)
_boolean("dry_run", False, "ablate: check and plan, but run nothing")
_list("allow", [], "ablate, report: differences between runs that do not matter: data, splits, steps, code")
_list("cells", [], "work: numbers of the runs to train (default: all)")
_list("cores", [], "work: the cores to keep to")
_integer("parent", None, "work: the process with which to end")
_string("note", None, "work: the file in which to say which run is being trained")
_integer("n", 64, "sample: how many images", lower_bound=1)
_float("temperature", 1.0, "sample: 1 draws as the model was trained, less draws what it holds likelier", lower_bound=0.0)
_integer("class", None, "sample: the class to draw, of a model that was trained by class (default: all in turn)")
_boolean("interpolate", False, "sample: rows that go from one code to another, instead of images apart")
_enum("format", "text", ["text", "json"], "inspect, list: how to print")
_enum("log_level", "info", ["debug", "info", "warning", "error"], "how much to say on stderr; warning also hides the progress")
_boolean("debug", False, "show the traceback of an error")
_boolean("help", False, "show this help; with --experiment, its knobs too", short_name="h")

DURATIONS = ("steps", "epochs", "examples")


def main(argv: list[str]) -> int:
    """Runs one command; returns its exit code."""
    verb, words = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("train", argv)
    try:
        if verb == "help":
            verb, words = "train", [*words, "--help"]
        if verb not in VERBS:
            raise UsageError(f"no verb {verb!r}.{did_you_mean(verb, list(VERBS))} Verbs: {', '.join(VERBS)}.")
        folders = [words.pop(0) for _ in itertools.takewhile(lambda word: not word.startswith("-"), list(words))]
        if folders and verb not in TAKES_FOLDERS:
            raise UsageError(
                f"{folders[0]!r} is neither a verb in first place nor a --flag.{did_you_mean(folders[0], list(VERBS))}"
            )
        values = parse(words)
        logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
        logging.getLogger("cnnlab").setLevel(FLAGS.log_level.upper())
        logging.getLogger("absl").setLevel(logging.DEBUG if FLAGS.log_level == "debug" else logging.ERROR)  # orbax's chatter
        if FLAGS.help and not FLAGS.experiment:
            print(help_text())
            return 0
        return VERBS[verb](values, *folders) if verb in TAKES_FOLDERS else VERBS[verb](values)
    except CnnlabError as error:
        if FLAGS.is_parsed() and FLAGS.debug:
            raise
        print(f"{'' if error.exit_code == 75 else 'error: '}{error}", file=sys.stderr)
        return error.exit_code


def parse(words: list[str]) -> dict[str, str]:
    """Parses the run flags into FLAGS and returns what is left, {knob: text}."""
    try:
        rest = FLAGS(["launch.py", *words], known_only=True)[1:]
    except flags.Error as error:
        raise UsageError(f"{error}\n`python launch.py --help` lists the run flags.") from None
    knobs: dict[str, str] = {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UsageError(f"{word!r} is neither a verb in first place nor a --flag.{did_you_mean(word, list(VERBS))}")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        knobs[name] = value
    given = [name for name in DURATIONS if FLAGS[name].present]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} both say how long to train. Keep one.")
    if given:
        knobs["duration"] = f"{FLAGS[given[0]].value} {given[0]}"
    return knobs


def help_text() -> str:
    """The module's docstring and the run flags, without importing jax."""
    lines = [__doc__.rstrip() if __doc__ else "", "", "Run flags"]
    for name in sorted(FLAGS, key=list(FLAGS).index):
        if name != "h":
            flag = FLAGS[name]
            default = f"={flag.default}" if flag.default not in (None, False, "") else ""
            lines.append(f"  --{name}{default}".ljust(22) + f" {flag.help}")
    return "\n".join(lines)


def load_experiment(values: dict[str, str]) -> tuple[str, Callable[..., Any], pathlib.Path]:
    """(name, function, file) of --experiment; imports it, and with it jax."""
    name, module, path = load_module(values)
    return name, module.experiment, path


def load_module(values: dict[str, str]) -> tuple[str, Any, pathlib.Path]:
    """(name, module, file) of --experiment; imports it, and with it jax."""
    name = FLAGS.experiment
    if not name:
        for word in values:
            if guess := did_you_mean(word, list(FLAGS)).replace("mean ", "mean --"):
                raise UsageError(f"no flag --{word}.{guess}")
        raise UsageError("which experiment? Add --experiment=NAME; `python launch.py list` shows them.")
    known = experiment_files()
    path = pathlib.Path(name) if name.endswith(".py") else known.get(name)
    if path is None:
        raise UsageError(f"no experiment {name!r}.{did_you_mean(name, list(known))} `python launch.py list` shows them.")
    if not path.is_file():
        raise UsageError(f"--experiment={name}: there is no such file. Give a name of `python launch.py list`, or a path.")
    setup_jax()
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}" if path.stem in known else path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and Linen modules defined there look themselves up
    spec.loader.exec_module(module)
    if not callable(getattr(module, "experiment", None)):
        raise UsageError(f"{path} defines no function `experiment`. See experiments/lenet5_digits.py for one.")
    return (path.stem if name in known else str(path)), module, path


def setup_jax() -> None:
    """Sets what must stand before jax starts (devices, threads), then the persistent compilation cache."""
    if FLAGS.fake_devices:
        os.environ["XLA_FLAGS"] = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={FLAGS.fake_devices}"
        )
        os.environ["JAX_PLATFORMS"] = "cpu"
        # Fewer threads than devices that wait for each other is a deadlock.
        os.environ.setdefault("PJRT_NPROC", str(max(16, 4 * FLAGS.fake_devices)))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from cnnlab.engine.parallel import use_compilation_cache

    use_compilation_cache()


def resolve(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    """The experiment's knobs, filled in from the command line."""
    from cnnlab import knobs

    if "duration" in values and not any(name == "duration" for name, *_ in knobs.parameters(function)):
        given = next(name for name in DURATIONS if FLAGS[name].present)
        raise UsageError(f"--{given}: this experiment has no duration to set.")
    return knobs.resolve(function, values, {"data_dir": FLAGS.data_dir})


def train(values: dict[str, str]) -> int:
    """Trains one or more seeds and says what came out."""
    name, function, path = load_experiment(values)
    resolved = resolve(function, values)
    if FLAGS.help:
        from cnnlab.knobs import as_text

        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"{doc}\n\nKnobs of {name} (the last part of a name is enough where it is unique)\n{as_text(resolved)}")
        return 0
    from cnnlab.runs import run

    return run.train_seeds(
        resolved, make_plan(name, path, resolved), seed_folders(name, resolved.digest), overwrite=FLAGS.overwrite
    )


def make_plan(name: str, path: pathlib.Path, resolved: Any) -> Any:
    """The run flags as cnnlab.runs.run.Plan."""
    from cnnlab.runs.folder import RunSpec
    from cnnlab.values import Duration

    texts = {key: FLAGS[key].value for key in ("log_every", "eval_every", "save_every")}
    every = {key: Duration.parse(text) for key, text in texts.items() if text}
    return RunSpec(
        experiment=name,
        knobs=resolved.values,
        source=path.read_text(),
        precision=FLAGS.precision,
        strategy=FLAGS.strategy,
        devices=FLAGS.devices,
        stop_after=FLAGS.stop_after,
        steps_per_dispatch=FLAGS.dispatch,
        data_dir=FLAGS.data_dir and str(pathlib.Path(FLAGS.data_dir).expanduser().absolute()),
        quiet=FLAGS.log_level in ("warning", "error"),
        **every,
    )


def seed_folders(name: str, digest: str) -> dict[int, pathlib.Path]:
    """{seed: folder of its run}."""
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    if FLAGS.workdir and FLAGS.seeds == 1:
        return {FLAGS.seed: pathlib.Path(FLAGS.workdir)}
    above = pathlib.Path(FLAGS.workdir or f"runs/{folder_name(name).format(digest=digest)}")
    return {seed: above / f"seed_{seed}" for seed in seeds}


def folder_name(name: str) -> str:
    """Of the folder of a run's seeds, with {digest} for that of its knobs."""
    return f"{pathlib.Path(name).stem}-{{digest}}{'' if FLAGS.precision == 'f32' else f'-{FLAGS.precision}'}"


def trained_run(values: dict[str, str]) -> tuple[Any, Any, dict[int, pathlib.Path]]:
    """(knobs, plan, folders by seed) of the run of --workdir, or of those that --experiment and its knobs name."""
    from cnnlab.runs.folder import read_run

    recorded = {}
    if FLAGS.workdir and not FLAGS.experiment:
        recorded = read_run(pathlib.Path(FLAGS.workdir))
        FLAGS.experiment, FLAGS.precision = recorded["experiment"], recorded["flags"]["precision"]
        known = recorded["flags"].get("data_dir")
        if FLAGS.data_dir is None and known and pathlib.Path(known).is_dir():  # the run may come from another machine
            FLAGS.data_dir = known
    name, function, path = load_experiment(values)
    resolved = resolve(function, {**recorded.get("knobs", {}), **values})
    return resolved, make_plan(name, path, resolved), seed_folders(name, resolved.digest)


def evaluate(values: dict[str, str]) -> int:
    """Measures a run's checkpoint."""
    resolved, plan, folders = trained_run(values)
    from cnnlab.runs import run

    for folder in folders.values():
        print(run.evaluate_run(resolved, plan, folder, best=FLAGS.best))
    return 0


def export(values: dict[str, str]) -> int:
    """Writes the network of a run's checkpoint to the file --to."""
    if not FLAGS.to:
        raise UsageError("export to what? Add --to=FILE.safetensors (weights) or --to=FILE.stablehlo (a program).")
    if FLAGS.seeds > 1:
        raise UsageError(f"export writes one network, and --seeds={FLAGS.seeds} names several. Give --seed=NUMBER.")
    resolved, plan, folders = trained_run(values)
    from cnnlab.interop.export import export_run

    target = pathlib.Path(FLAGS.to)
    print(export_run(resolved, plan, folders[FLAGS.seed], target, best=FLAGS.best, replace=FLAGS.overwrite))
    return 0


def sample(values: dict[str, str]) -> int:
    """Draws images from a run's checkpoint."""
    resolved, plan, folders = trained_run(values)
    from cnnlab.runs.sample import SampleRequest, sample_run

    wanted = SampleRequest(FLAGS.n, FLAGS.temperature, FLAGS["class"].value, FLAGS.interpolate, FLAGS.seed)
    folder = folders.get(FLAGS.seed) or next(iter(folders.values()))
    target = pathlib.Path(FLAGS.to) if FLAGS.to else None
    print(sample_run(resolved, plan, folder, wanted, target=target, best=FLAGS.best))
    return 0


def inspect(values: dict[str, str]) -> int:
    """Prints every layer of an experiment's network, or of a model by name."""
    if FLAGS.experiment:
        _, function, _ = load_experiment(values)
    elif "model" in values:
        setup_jax()
    else:
        raise UsageError("inspect what? Give --experiment=NAME, or --model=NAME [--input=HEIGHT,WIDTH,CHANNELS].")
    from cnnlab import inspect as inspector

    if FLAGS.experiment:
        experiment = resolve(function, values).call()
        layers = inspector.of_experiment(experiment)
        if not layers and (count := inspector.parameters(experiment)):
            raise UsageError(f"{FLAGS.experiment}: its {count:,} parameters are no Linen modules, which alone can be listed.")
    else:
        from cnnlab.models import MODELS, native_shape

        if values["model"] in MODELS:
            values = {"input": ",".join(map(str, native_shape(values["model"]))), **values}
        layers = resolve(inspector.of_model, values).call()
    print(json.dumps(inspector.as_json(layers), indent=1) if FLAGS.format == "json" else inspector.as_table(layers))
    return 0


def list_all(values: dict[str, str]) -> int:
    """Prints what there is, read from the source without importing it."""
    if values:
        raise UsageError(f"list takes no --{next(iter(values))}.")
    found = catalogue()
    if FLAGS.format == "json":
        print(json.dumps(found, indent=1))
        return 0
    for title, entries in found.items():
        print(title)
        for name, text in entries.items():
            print(f"  {name.ljust(22)} {text}")
    return 0


PASSED_ON = (
    "data_dir",
    "strategy",
    "devices",
    "fake_devices",
    "precision",
    "log_every",
    "eval_every",
    "save_every",
    "dispatch",
)
"""Run flags of a study that its runs get too."""


def ablate(values: dict[str, str]) -> int:
    """Plans a study, runs what is not finished and reports."""
    from cnnlab.ablation import commands
    from cnnlab.ablation.plan.study import merge_knobs
    from cnnlab.ablation.run import runs
    from cnnlab.runs.folder import locked
    from cnnlab.runs.run import intervals_of
    from cnnlab.values import Duration

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the accelerator's memory is for the workers
    run = launcher()
    name, module, path = load_module(values)
    from cnnlab.engine.parallel import STRATEGIES, pick_devices

    controls = tuple(values.pop("control", "").replace(",", " ").split())
    common = resolve(module.experiment, values)
    own = None if FLAGS.vary or FLAGS.components else getattr(module, "study", None)
    study = study_of(name, values, common, own, controls)
    strategy = STRATEGIES[FLAGS.strategy](pick_devices(FLAGS.devices))
    study, found = commands.plan_study(
        study, lambda arm: resolve(module.experiment, merge_knobs(values, arm)), strategy, folder_name(name)
    )
    flags_of_run = make_plan(name, path, common)
    study = commands.add_rungs(
        study,
        found,
        FLAGS.prune,
        lambda experiment: intervals_of(flags_of_run, experiment, strategy.devices[0].platform).evaluate,
        factor=FLAGS.prune_factor,
        start=Duration.parse(FLAGS.prune_from) if FLAGS.prune_from else None,
    )
    folder = pathlib.Path(FLAGS.workdir or f"runs/study-{study.name}-{commands.study_digest(study)}")
    need = commands.estimate_remaining(study, found, folder)
    print(commands.describe_study(study, need, folder), flush=True)
    if FLAGS.budget_minutes and need.seconds > 60 * FLAGS.budget_minutes:
        raise UsageError(f"--budget_minutes={FLAGS.budget_minutes}: the study takes longer. Take fewer arms, seeds or --steps.")
    if FLAGS.dry_run:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        runs.write_owner(folder)
        runs.save_study(study, folder)
        code = run(
            study,
            folder,
            lambda numbers: worker_command(study, folder, numbers),
            jobs=FLAGS.jobs,
            max_attempts=FLAGS.max_attempts,
            fail_fast=FLAGS.fail_fast,
            quiet=FLAGS.log_level in ("warning", "error"),
        )
    if code in (0, 1):
        print(commands.write_study_report(study, folder, allow=FLAGS.allow, verdict=own.verdict if own else None))
    return code


def study_of(name: str, values: dict[str, str], common: Any, own: Any, controls: tuple[str, ...]) -> Any:
    """The study that the command line asks for, or that the experiment declares (`own`) where it asks for none; not planned."""
    from cnnlab.ablation import commands
    from cnnlab.ablation.plan.study import Study

    asked = commands.requested_design(
        commands.DesignRequest(tuple(FLAGS.vary), FLAGS.design, tuple(FLAGS.components), FLAGS.trials, controls), own
    )
    count = FLAGS.seeds if FLAGS["seeds"].present else own.seeds if own else 5
    arms = asked.arms(common, FLAGS.seed)
    return Study(
        name=pathlib.Path(name).stem,
        experiment=name,
        knobs=values,
        design=asked.design,
        arms=arms,
        seeds=tuple(range(FLAGS.seed, FLAGS.seed + count)),
        factors=commands.designs.varied([arm for arm in arms if not arm.control]),
        metric=FLAGS.metric or (own.metric if own else f"test/{common.call().task.primary_metric.name}"),
        precision=FLAGS.precision,
        flags=tuple(f"--{flag}={FLAGS[flag].value}" for flag in PASSED_ON if FLAGS[flag].present),
        question=own.question if own else "",
        claim=own.claim if own else "",
        allow=own.allow if own else (),
    )


def launcher() -> Callable[..., int]:
    """What trains the runs of a study by --launcher, with its options."""
    from cnnlab.ablation.run import local, ray, slurm

    if FLAGS.members == "together" and FLAGS.strategy != "jit":
        raise UsageError(f"--members=together is for --strategy=jit, not {FLAGS.strategy}. Leave one of them out.")
    options = local.parse_options(FLAGS.launcher_options)
    if FLAGS.launcher == "slurm":
        return functools.partial(slurm.run_on_slurm, options=options)
    if FLAGS.launcher == "ray":
        ray.actor_class(options)  # says what is missing or misspelt before the study is planned
        return functools.partial(ray.run_on_ray, options=options)
    if options:
        raise UsageError("--launcher_options are for --launcher=slurm and --launcher=ray; local workers take --jobs alone.")
    return local.run_locally


def worker_command(study: Any, folder: pathlib.Path, numbers: Sequence[int]) -> list[str]:
    """What trains some cells of a study."""
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        "work",
        f"--workdir={folder}",
        f"--cells={','.join(map(str, numbers))}",
        f"--members={FLAGS.members}",
        f"--members_at_once={FLAGS.members_at_once}",
        *study.flags,
    ]


def work(values: dict[str, str]) -> int:
    """Trains some runs of the study in --workdir in this process."""
    from cnnlab.ablation.run import local, runs

    if not FLAGS.workdir:
        raise UsageError("work on what? Give --workdir=FOLDER of a study.")
    local.bind_to_parent(FLAGS.parent, [int(core) for core in FLAGS.cores])
    folder = pathlib.Path(FLAGS.workdir)
    study = runs.load_study(folder)
    FLAGS["experiment"].value = study.experiment
    name, function, path = load_experiment(values)
    from cnnlab.ablation.plan.study import merge_knobs
    from cnnlab.ablation.run.worker import run_worker as train_cells

    def resolved(arm: Any) -> tuple[Any, Any]:
        knobs = resolve(function, merge_knobs(study.knobs, arm))
        return knobs, make_plan(name, path, knobs)

    everything = list(runs.study_runs(study, folder))
    chosen = [everything[int(number)] for number in FLAGS.cells] if FLAGS.cells else everything
    targets = runs.Targets(study, everything) if study.pruning else None
    train_cells(chosen, resolved, pathlib.Path(FLAGS.note) if FLAGS.note else None, targets, at_once=members_at_once())
    return 0


def members_at_once() -> int:
    """How many runs of one compilation take their steps in one batched program, by --members and what was measured.

    On a CPU a batched convolution is slower than as many plain ones (benchmarks/members.py); an accelerator that one small
    network leaves idle takes them at once.
    """
    import jax

    together = FLAGS.members == "together" or (FLAGS.members == "auto" and jax.default_backend() != "cpu")
    return FLAGS.members_at_once if together and FLAGS.strategy == "jit" else 1


def report(values: dict[str, str], *folders: str) -> int:
    """Writes the report of a study, or of runs."""
    from cnnlab.ablation import commands
    from cnnlab.ablation.run import runs

    if values:
        raise UsageError(f"report takes no --{next(iter(values))}.")
    if not folders:
        raise UsageError("report on what? Give the folder of a study, or folders of runs: python launch.py report runs/…")
    places = [pathlib.Path(folder) for folder in folders]
    if len(places) == 1 and (places[0] / runs.STUDY).exists():
        study = runs.load_study(places[0])
        verdict = declared_verdict(study) if study.claim and FLAGS.metric in (None, study.metric) else None
        print(commands.write_study_report(study, places[0], allow=FLAGS.allow, metric=FLAGS.metric, verdict=verdict))
    else:
        print(commands.report_runs(places, allow=FLAGS.allow, metric=FLAGS.metric, to=FLAGS.workdir))
    return 0


def declared_verdict(study: Any) -> Any:
    """The verdict of a study's experiment, where its file is still there and declares one."""
    FLAGS.experiment = study.experiment
    if study.experiment not in experiment_files() and not pathlib.Path(study.experiment).is_file():
        return None
    return getattr(getattr(load_module({})[1], "study", None), "verdict", None)


def claims(values: dict[str, str], *folders: str) -> int:
    """Writes the page of claims from the verdicts of studies."""
    from cnnlab.ablation.report.claims import write_page

    if values:
        raise UsageError(f"claims takes no --{next(iter(values))}.")
    if not folders:
        raise UsageError("claims of what? Give the folders of studies, or the folder above them: python launch.py claims runs")
    print(write_page([pathlib.Path(folder) for folder in folders], pathlib.Path(FLAGS.to or "docs/claims")))
    return 0


def reproduce(values: dict[str, str], *folders: str) -> int:
    """Runs a run or a study again and compares; 1 where the numbers do not agree."""
    from cnnlab.ablation.run import local, runs
    from cnnlab.ablation.run import reproduce as reproducing

    if values:
        raise UsageError(f"reproduce takes no --{next(iter(values))}: it repeats what the run's own file says.")
    if len(folders) != 1:
        raise UsageError("reproduce what? Give the folder of one run or study, such as runs/NAME-HASH/seed_0.")
    folder = pathlib.Path(folders[0])
    target = pathlib.Path(FLAGS.workdir) if FLAGS.workdir else reproducing.again(folder)
    if not (folder / runs.STUDY).exists():
        moved = [f"--data_dir={FLAGS.data_dir}"] if FLAGS.data_dir else []
        agree, text = reproducing.reproduce_run(folder, target, lambda words: main_again([*words, *moved]))
        print(f"{folder}: {text}\n  the second run is in {target}")
        return int(not agree)
    study, inner = runs.load_study(folder), target / folder.name
    runs.save_study(study, inner)
    code = local.run_locally(study, inner, lambda numbers: worker_command(study, inner, numbers), jobs=FLAGS.jobs)
    if code > 1:
        return code
    agree, text = reproducing.compare_study(study, folder, inner)
    print(f"{text}\n{'all runs agree' if agree else 'NOT all runs agree'}; the second ones are in {target}")
    return int(not agree)


def main_again(words: Sequence[str]) -> int:
    """Another command of launch.py in a process of its own."""
    return subprocess.run([sys.executable, str(ROOT / "launch.py"), *words], check=False).returncode


VERBS: dict[str, Callable[..., int]] = {
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "sample": sample,
    "inspect": inspect,
    "list": list_all,
    "ablate": ablate,
    "report": report,
    "claims": claims,
    "reproduce": reproduce,
    "work": work,
}
TAKES_FOLDERS = ("report", "claims", "reproduce")
"""Verbs that take words that are no flags."""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # the reader of a pipe, such as head, left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
