"""Run flags: each verb has its own, none hides a knob, and what was meant by a wrong word is said."""

import importlib
import inspect
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import jax
import pytest
from commands import ROOT, Here, launch, read

from cnnlab import knobs
from cnnlab.choices import parameters
from cnnlab.cli import flag_files, flags
from cnnlab.cli.suggest import SYNONYMS, explain
from cnnlab.cli.verbs import TABLE, VERBS
from cnnlab.runs import run
from cnnlab.runs.catalogue import experiment_files
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.renamed import RENAMED, current_flag
from cnnlab.text import split_items
from cnnlab.values import ChoiceOf

FLAGS = {name for verb in VERBS if verb != "explain" for name in flags.flags_of(VERBS[verb])}
"""Flags of all verbs but explain, which takes the knobs of no experiment: `--layer` may be one."""
FROM_CONTEXT = {"data_dir"}
"""Parameters that the launcher fills in, which are no knobs."""


def names_of(function: object, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    """(name, path) of every knob of a function and of everything that its choices may choose."""
    for name, annotation, default in parameters(function):  # type: ignore[arg-type]
        if default is inspect.Parameter.empty or name in FROM_CONTEXT:
            continue
        yield name, f"{path}.{name}"
        for meta in getattr(annotation, "__metadata__", ()):
            options = meta.options.items() if isinstance(meta, ChoiceOf) else ()
            for option, chosen in options:
                if id(chosen) not in seen:
                    seen.add(id(chosen))
                    yield from names_of(chosen, f"{path}.{name}={option}", seen)


def test_no_knob_of_any_experiment_has_the_name_of_a_run_flag():
    seen: set[int] = set()
    hidden = []
    for experiment, path in experiment_files().items():
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        function = importlib.import_module(dotted).experiment
        hidden += [full for name, full in names_of(function, experiment, seen) if name in FLAGS]
    assert len(seen) > 100 and hidden == []


def test_every_flag_of_every_verb_has_a_help_and_a_default_that_it_takes():
    for name, verb in VERBS.items():
        for flag in flags.flags_of(verb).values():
            assert flag.help, f"{name} --{flag.name}"
            if flag.default is not None and not flag.takes_list:
                assert flag.read(str(flag.default)) == flag.default, f"{name} --{flag.name}"
        shown = flags.help_of(name, verb)
        assert all(f"  --{flag}" in shown for flag in flags.flags_of(verb)) and max(map(len, shown.splitlines())) <= 118


def test_a_knob_that_was_hidden_by_a_flag_of_another_verb_is_a_knob(here: Here, tmp_path: pathlib.Path):
    code, _, err = here("--experiment=pca_mnist", "--dataset=digits", "--components=5", "--workdir=run", "--devices=1")
    assert code == 0 and read(tmp_path / "run" / "run.json")["knobs"]["components"] == 5, err


@pytest.mark.slow
def test_an_ensemble_of_so_many_members_is_trained_and_reproduced(tmp_path: pathlib.Path):
    words = ["--experiment=c32_ensembles", "--dataset=digits", "--examples_per_class=100", "--members=2", "--steps=3"]
    code, _, err = launch(*words, "--workdir=run", cwd=tmp_path)
    assert code == 0 and read(tmp_path / "run" / "run.json")["knobs"]["members"] == 2, err
    code, out, err = launch("reproduce", "run", cwd=tmp_path)
    assert code == 0 and "the same to the last bit" in out, err


LINEAR = "--experiment=linear_digits"
REFUSED = {
    "flag of ablate": (
        [LINEAR, "--steps=2", "--vary=lr:0.1,0.2", "--jobs=4"],
        "--vary is a flag of ablate. Did you mean: python launch.py ablate --experiment=… --vary=…?",
    ),
    "switch of ablate": ([LINEAR, "--nodry_run"], "Did you mean: python launch.py ablate --experiment=… --dry_run?"),
    "flag without an experiment": (["--vary=lr:1,2"], "--vary is a flag of ablate."),
    "flag of a verb with folders": (
        ["list", "--to=page"],
        "--to is a flag of predict, export, compress, sample, explain, inspect, check, sensitivity, claims and results.",
    ),
    "launcher of another verb": (["reproduce", "run", "--launcher=slurm"], "--launcher is a flag of ablate."),
    "flag that deletes": (
        ["evaluate", LINEAR, "--overwrite"],
        "evaluate deletes nothing and takes no --overwrite: leave it out.",
    ),
    "flag of train": (["evaluate", LINEAR, "--stop_after=3"], "--stop_after is a flag of train."),
    "flag that a check does not read": (["check", LINEAR, "--precision=bf16"], "--precision is a flag of train"),
    "devices of a check": (["check", LINEAR, "--devices=2"], "--devices is a flag of train"),
    "flag of a training step": (
        ["inspect", LINEAR, "--strategy=fsdp"],
        "--strategy=fsdp changes a training step, and neither the layers nor the data.",
    ),
    "process of a study": (["ablate", LINEAR, "--num_processes=2"], "--num_processes is a flag of train and work."),
    "renamed": ([LINEAR, "--members=together"], "--members is now --batch_runs (always, never)."),
    "renamed in its verb": (["ablate", LINEAR, "--components=norm"], "--components is now --toggle."),
    "renamed of another verb": (["work", "--n=3"], "--n is now --count. It is a flag of sample and explain."),
    "renamed duration": ([LINEAR, "--examples=9"], "--examples is now --examples_seen."),
    "knob twice": ([LINEAR, "--lr=0.1", "--lr=0.2"], "--optimizer.lr is given twice: 0.1 and 0.2. Keep one of them."),
    "choice twice": ([LINEAR, "--model=mlp", "--model=linear"], "--model is given twice: mlp and linear."),
    "flag twice": ([LINEAR, "--seed=1", "--seed=2"], "--seed is given twice: 1 and 2. Keep one of them."),
    "knob by two names": ([LINEAR, "--lr=0.1", "--optimizer.lr=0.1"], "are one knob, given twice"),
    "other word for a knob": ([LINEAR, "--learning_rate=1"], "no knob --learning_rate here. Did you mean --optimizer.lr?"),
    "other word for a flag": ([LINEAR, "--logdir=x"], "no knob --logdir here. Did you mean --workdir?"),
    "other word without an experiment": (["--batch=3", "--exp=x"], "no flag --exp. Did you mean --experiment?"),
    "misspelt flag": ([LINEAR, "--sedes=3"], "no knob --sedes here. Did you mean --seeds?"),
    "knob of another choice": ([LINEAR, "--optimizer=adam", "--momentum=0.9"], "It is one with --optimizer=momentum, "),
    "count": ([LINEAR, "--seeds=0"], "--seeds=0: expected int finite and >= 1"),
    "precision": ([LINEAR, "--precision=fp16"], "--precision=fp16: expected f32, bf16, f16 or none"),
    "seed": ([LINEAR, f"--seed={2**32}"], "expected int in [0, 4294967295]"),
    "temperature": (["sample", "--temperature=-1", "--workdir=run"], "--temperature=-1: expected float finite and >= 0"),
    "duration": ([LINEAR, "--eval_every=often"], "--eval_every: 'often' is not a duration."),
    "steps": ([LINEAR, "--steps=2.5"], "a duration in steps is a whole number, got 2.5."),
    "duration and steps": ([LINEAR, "--steps=2", "--duration=3 steps"], "--duration and --steps both say how long"),
    "prune_factor": (["ablate", LINEAR, "--vary=lr:1,2", "--prune_factor=1"], "--prune_factor=1: expected int finite and >= 2"),
    "controls": (
        ["ablate", LINEAR, "--vary=lr:1,2", "--control=shuffle_labels"],
        "--control=shuffle_labels would make every arm one that must fail.",
    ),
    "fake devices": ([LINEAR, "--fake_devices=3"], "--fake_devices=3: jax runs in this process already, with 8 cpu device(s)."),
    "other data": (
        ["ablate", LINEAR, "--vary=dataset:digits,gaussians", "--steps=3"],
        "These arms differ in more than their network and its training",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_flag_is_refused_with_what_was_meant(case: str, here: Here, tmp_path: pathlib.Path):
    words, message = REFUSED[case]
    jax.devices()  # jax runs in this process already, also where no test before has started it
    code, out, err = here(*words)
    assert code == 2 and message in err, err
    assert "Traceback" not in err and out == "" and not list(tmp_path.iterdir())


def test_arms_on_different_data_run_where_that_is_allowed(here: Here):
    words = ["ablate", LINEAR, "--vary=dataset:digits,gaussians", "--steps=3", "--dry_run"]
    code, out, err = here(*words, "--allow=data", "--allow=splits")
    assert code == 0 and "to do: 10 runs" in out, err


def test_lists_that_are_given_twice_add_up_and_options_keep_the_commas_in_brackets_and_quotes():
    words = ["--vary=lr:0.1,0.2", "--vary=norm:a,b", "--launcher_options=a=1,x=n[1-2,4]", '--launcher_options="b=2,3"']
    call = flags.parse(VERBS["ablate"], [*words, "--toggle=norm", "--toggle=dropout,augment", "--controls=shuffle_labels"])
    assert call.arguments["design"].vary == ("lr:0.1,0.2", "norm:a,b")
    assert call.arguments["design"].toggle == ("norm", "dropout", "augment")
    assert call.arguments["launching"].launcher_options == ("a=1", "x=n[1-2,4]", "b=2,3")
    assert flags.parse(VERBS["work"], ["--runs=3,4", "--cores=0"]).arguments["runs"] == (3, 4)


def test_words_may_be_written_in_every_way_that_absl_knows(tmp_path: pathlib.Path):
    (tmp_path / "flags.txt").write_text("--seeds=3\n# why\n--lr=0.5\n")
    words = ["--nooverwrite", "--seed", "4", f"--flagfile={tmp_path / 'flags.txt'}", "--model", "mlp", "-h", "--nesterov"]
    call = flags.parse(VERBS["train"], words)
    assert (call.arguments["seed"], call.arguments["seeds"], call.arguments["overwrite"]) == (4, 3, False)
    assert call.values == {"lr": "0.5", "model": "mlp", "nesterov": "true"} and call.console.help


def test_a_flag_file_is_read_in_utf_8_whatever_the_locale_and_may_include_others(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "größe.txt").write_bytes("\ufeff--dataset=folder:Käse und Brot\n\n  // why\n--flagfile=more.txt\n".encode())
    (tmp_path / "more.txt").write_bytes(b"--lr=0.5\r\n--seeds=3")
    assert list(flag_files.expand(["a", "--flagfile", "größe.txt", "--", "--flagfile=more.txt"])) == [
        *("a", "--dataset=folder:Käse und Brot", "--lr=0.5", "--seeds=3", "--", "--flagfile=more.txt")
    ]
    code = "import sys; from cnnlab.cli import flag_files; print(ascii(list(flag_files.expand(sys.argv[1:]))))"
    shown = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code, "--flagfile=b.txt"],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        cwd=(tmp_path / "größe.txt").rename(tmp_path / "b.txt").parent,
    )
    assert b"K\\xe4se" in shown.stdout


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (None, "--flagfile=x.txt", "--flagfile=x.txt: No such file"),
        (b"--seeds=3\n--dataset=K\xe4se\n", "--flagfile=x.txt", "--flagfile=x.txt: line 2 is not UTF-8"),
        (b"--flagfile=x.txt", "--flagfile=x.txt", "--flagfile=x.txt: it includes itself"),
        (b"--flagfile=y.txt", "--flagfile=x.txt", "--flagfile=y.txt: No such file"),
        (None, "--flagfile", "--flagfile names no file"),
        (None, "--flagfile=.", "--flagfile=.: Is a directory"),
    ],
)
def test_a_flag_file_that_cannot_be_read_is_one_line(
    content: bytes | None, words: str, message: str, here: Here, tmp_path: pathlib.Path
):
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    code, out, err = here(words)
    assert code == 2 and not out and err.startswith(f"error: {message}") and "Traceback" not in err


def test_a_list_knob_adds_up_and_keeps_the_commas_of_a_regular_expression():
    def frozen(*, frozen: tuple[str, ...] = (), widths: tuple[int, ...] = ()) -> tuple[tuple[str, ...], tuple[int, ...]]:
        return frozen, widths

    given = {"frozen": knobs.Repeated("a{1,2},b", "[c,d]e"), "widths": knobs.Repeated("1,2", "3")}
    assert knobs.resolve(frozen, given).call() == (("a{1,2}", "b", "[c,d]e"), (1, 2, 3))
    assert split_items(r"x\(,y z") == [r"x\(", "y", "z"] and split_items("a(b,c") == ["a(b", "c"]


def test_a_run_goes_on_as_it_was_begun_unless_the_command_says_otherwise_with_the_default_too(
    here: Here, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    recorded = {"seed": 1, "precision": "bf16", "gradient_norms": "True"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"experiment": "linear_digits", "knobs": {}, "flags": recorded}))
    asked: list[tuple[int, str, bool]] = []

    def train_seeds(resolved: object, spec: RunSpec, folders: dict[int, pathlib.Path], **_: object) -> int:
        asked.append((*folders, spec.precision, spec.gradient_norms))
        return 0

    monkeypatch.setattr(run, "train_seeds", train_seeds)
    assert here("train", "--workdir=run")[0] == here("train", "--workdir=run", "--seed=0", "--nogradient_norms")[0] == 0
    assert here("train", LINEAR)[0] == 0
    assert asked == [(1, "bf16", True), (0, "bf16", False), (0, "f32", False)]
    code, _, err = here("train", "--workdir=run", "--precision=f32")
    assert code == 2 and "--precision=f32: the run in run computes in bf16. Leave the flag out." in err


def test_help_shows_the_flags_of_one_verb_alone(here: Here):
    code, out, _ = here("ablate", "--help")
    assert code == 0 and "  --vary " in out and "--stop_after" not in out and "Flags of ablate" in out
    assert here("help", "ablate")[1] == out
    code, out, _ = here("ablate", "--experiment=lenet5_digits", "--help")
    assert code == 0 and "--optimizer.lr=" in out and "  --vary " in out
    code, out, _ = here("--help")
    assert code == 0 and all(f"\n  {verb} " in out for verb in VERBS) and "  --stop_after" in out and "--vary " not in out


def test_the_overview_says_of_a_verb_what_its_own_help_says():
    for name, (_, summary) in TABLE.items():
        first = (VERBS[name].__doc__ or "").partition("\n")[0].rstrip(".")
        assert summary == first[0].lower() + first[1:], name


def test_a_command_imports_its_own_verb_alone():
    code = (
        "import sys; from cnnlab.cli.main import main; assert main(['--help']) == 0; "
        "assert not {'jax', 'cnnlab.cli.study', 'cnnlab.cli.show'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "  ablate " in done.stdout, done.stderr


def test_an_experiment_whose_knob_has_the_name_of_a_run_flag_is_refused(here: Here, tmp_path: pathlib.Path):
    (tmp_path / "mine.py").write_text("def experiment(*, seeds: int = 3):\n    return None\n")
    code, _, err = here("--experiment=mine.py")
    assert code == 2 and "mine.py: its knob --seeds has the name of a run flag" in err


def test_synonyms_and_old_names_are_no_flags_of_today():
    assert not set(SYNONYMS) & FLAGS and not set(RENAMED) & FLAGS
    assert {new for new, _ in RENAMED.values()} <= FLAGS
    assert current_flag("--dispatch=8") == "--steps_per_dispatch=8" and current_flag("--members=apart") == "--batch_runs=never"
    assert current_flag("--eval_every=1 epoch") == "--eval_every=1 epoch"


def test_a_verb_that_takes_no_knobs_refuses_them():
    assert str(explain("fromat", "list", VERBS)) == "list takes no --fromat. Did you mean --format?"


@pytest.mark.parametrize("words", [["list"], ["ablate", "--help"]])
def test_a_console_without_the_characters_ends_no_command(words: list[str]):
    command = [sys.executable, str(ROOT / "launch.py"), *words]
    asked = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, check=False)
    assert asked.returncode == 0 and not asked.stderr, asked.stderr
    assert b"lenet5_digits" in asked.stdout or b"Flags of ablate" in asked.stdout
