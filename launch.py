#!/usr/bin/env python3
"""Launches everything in cnnlab: `python launch.py [VERB] --experiment=NAME [--knob=value …] [run flags]`.

Verbs
  train      trains the experiment, or goes on with an interrupted run (the default)
  evaluate   measures the checkpoint of a run on its held-out splits
  export     writes the network of a run to a file, --to=FILE.safetensors (weights) or --to=FILE.stablehlo (a program)
  inspect    every layer of a network: output shape, parameters, multiply-accumulates, memory, stride, receptive field
  list       experiments, models and data sets

Knobs are the keyword arguments of the experiment's function and, below its choices, of the chosen functions:
  python launch.py --experiment=lenet5_digits --optimizer=adam --lr=0.001 --model.activation=tanh
  python launch.py --experiment=lenet5_digits --help      shows them all
"""

import ast
import functools
import importlib.util
import json
import logging
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from cnnlab.errors import CnnlabError, UsageError, did_you_mean

ROOT = pathlib.Path(__file__).resolve().parent
FLAGS = flags.FlagValues()
_string, _integer, _boolean, _enum = (
    functools.partial(define, flag_values=FLAGS)
    for define in (flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_boolean, flags.DEFINE_enum)
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
_boolean("best", False, "evaluate, export: the checkpoint that was best on the validation split, not the newest")
_string("to", None, "export: the file to write")
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
        values = parse(words)
        logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
        logging.getLogger("cnnlab").setLevel(FLAGS.log_level.upper())
        logging.getLogger("absl").setLevel(logging.DEBUG if FLAGS.log_level == "debug" else logging.ERROR)  # orbax's chatter
        if FLAGS.help and not FLAGS.experiment:
            print(help_text())
            return 0
        return VERBS[verb](values)
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


def experiment_files() -> dict[str, pathlib.Path]:
    """Experiments by name: the files of experiments/ that define `experiment` at the top (parsed, not imported)."""

    def defines(path: pathlib.Path) -> bool:
        targets: list[Any] = []
        for node in ast.parse(path.read_text()).body:
            targets += [node.name] if isinstance(node, ast.FunctionDef) else []
            targets += [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        return "experiment" in targets

    return {path.stem: path for path in sorted((ROOT / "experiments").glob("*.py")) if defines(path)}


def load_experiment(values: dict[str, str]) -> tuple[str, Callable[..., Any], pathlib.Path]:
    """(name, function, file) of --experiment; imports it, and with it jax."""
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
    return (path.stem if name in known else str(path)), module.experiment, path


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
    from cnnlab.parallel import use_compilation_cache

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
    from cnnlab import run

    return run.train_seeds(
        resolved, make_plan(name, path, resolved), seed_folders(name, resolved.digest), overwrite=FLAGS.overwrite
    )


def make_plan(name: str, path: pathlib.Path, resolved: Any) -> Any:
    """The run flags as cnnlab.run.Plan."""
    from cnnlab.folder import Plan
    from cnnlab.values import Duration

    texts = {key: FLAGS[key].value for key in ("log_every", "eval_every", "save_every")}
    every = {key: Duration.parse(text) for key, text in texts.items() if text}
    return Plan(
        experiment=name,
        knobs=resolved.values,
        source=path.read_text(),
        precision=FLAGS.precision,
        strategy=FLAGS.strategy,
        devices=FLAGS.devices,
        stop_after=FLAGS.stop_after,
        dispatch=FLAGS.dispatch,
        quiet=FLAGS.log_level in ("warning", "error"),
        **every,
    )


def seed_folders(name: str, digest: str) -> dict[int, pathlib.Path]:
    """{seed: folder of its run}."""
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    if FLAGS.workdir and FLAGS.seeds == 1:
        return {FLAGS.seed: pathlib.Path(FLAGS.workdir)}
    precision = "" if FLAGS.precision == "f32" else f"-{FLAGS.precision}"
    above = pathlib.Path(FLAGS.workdir or f"runs/{pathlib.Path(name).stem}-{digest}{precision}")
    return {seed: above / f"seed_{seed}" for seed in seeds}


def trained_run(values: dict[str, str]) -> tuple[Any, Any, dict[int, pathlib.Path]]:
    """(knobs, plan, folders by seed) of the run of --workdir, or of those that --experiment and its knobs name."""
    from cnnlab.folder import recorded as read_run

    recorded = {}
    if FLAGS.workdir and not FLAGS.experiment:
        recorded = read_run(pathlib.Path(FLAGS.workdir))
        FLAGS.experiment, FLAGS.precision = recorded["experiment"], recorded["flags"]["precision"]
    name, function, path = load_experiment(values)
    resolved = resolve(function, {**recorded.get("knobs", {}), **values})
    return resolved, make_plan(name, path, resolved), seed_folders(name, resolved.digest)


def evaluate(values: dict[str, str]) -> int:
    """Measures a run's checkpoint."""
    resolved, plan, folders = trained_run(values)
    from cnnlab import run

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
        layers = inspector.of_experiment(resolve(function, values).call())
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
    experiments = {}
    for name, path in experiment_files().items():
        experiments[name] = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    found = {"experiments": experiments, "models": _options("models", "MODELS"), "data sets": _options("data", "DATASETS")}
    if FLAGS.format == "json":
        print(json.dumps(found, indent=1))
        return 0
    for title, entries in found.items():
        print(title)
        for name, text in entries.items():
            print(f"  {name.ljust(22)} {text}")
    return 0


def _options(room: str, variable: str) -> dict[str, str]:
    """{key: first line of its docstring} of the dict literal `variable` in cnnlab/<room>/__init__.py."""
    docs: dict[str, str] = {}
    folder = ROOT / "cnnlab" / room
    for path in sorted(folder.glob("*.py")):
        body = ast.parse(path.read_text()).body
        for node, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                docs[node.name] = (ast.get_docstring(node) or "").partition("\n")[0]
            elif isinstance(node, ast.Assign) and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                docs[_name(node.targets[0])] = str(following.value.value).partition("\n")[0]
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and _name(node.targets[0]) == variable and isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {ast.literal_eval(key): docs.get(_name(value), "") for key, value in pairs if key}
    raise AssertionError(f"cnnlab/{room}/__init__.py has no dict literal {variable}")


def _name(node: ast.expr) -> str:
    """`f` of the expressions `f` and `module.f`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


VERBS: dict[str, Callable[[dict[str, str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "inspect": inspect,
    "list": list_all,
}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # the reader of a pipe, such as head, left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
