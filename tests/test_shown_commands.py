"""Every command that README and docs show runs, shortened to two steps on small data, or has a reason here why it does not.

The commands of a piece of code run one after another in one folder, as a reader types them. What stands for something of the
reader's own is filled in: a run by one of two steps that all commands share, a folder of images by a small one. Data of TFDS
give way to stripes, and networks to narrow ones, as in tests/test_experiments.py.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from commands import Here, command
from pages import PAGES, ROOT, Shown, all_shown, shown
from PIL import Image

from cnnlab import knobs
from cnnlab.choices import parameters
from cnnlab.cli import flags
from cnnlab.cli.common import load as load_file
from cnnlab.cli.common import resolve
from cnnlab.cli.verbs import VERBS
from cnnlab.engine import tracing
from tests.test_data_masks import numbers
from tests.test_data_masks import write as write_mask
from tests.test_data_nuclei import write as write_nucleus
from tests.test_experiments import FILES, SMALLER, load, offline

REASONS = {
    r"^(own|columns): ": "tests/test_own_guide.py runs the whole page with its files",
    r"^CONTRIBUTING: results|^use: VERB|claims runs|results runs": "writes pages of the project: tests/test_results.py",
    r"--launcher=slurm": "needs Slurm: tests/test_ablation_slurm.py",
    r"--launcher=ray": "needs Ray: tests/test_ablation_ray.py",
    r"--num_processes": "starts processes: tests/test_processes.py",
    r"efficientnet_lite0|resnet50\.safetensors|backbone=resnet18": "needs weights of ImageNet: tests/test_interop_start.py",
    r"cityscapes:|leftImg8bit": "needs Cityscapes: tests/test_data_cityscapes.py",
    r"ablate --experiment=c\d\d_": "a study that a claim declares: tests/test_ablation_declaration.py plans each",
    r"mask_rcnn_nuclei|--experiment=bccd": "compiles for long: tests/test_experiments.py trains it, or its like",
    r"--experiment=fast_style": "needs weights of a network that takes colours: tests/test_experiments.py trains it",
    r"^check: .*convnet_cifar10": "the page's other command is the same with data that come along",
    r"--judge=run:": "needs a classifier on the same images: tests/test_tasks_sample_quality.py",
}
"""{what a command has in it, after its page: why it is not run here}."""
OTHER_PROGRAMS = {
    "python -m venv": "stage install of .ci/run",
    "python -m pytest": "stages of .ci/run",
    "ruff check . && ruff format --check . && mypy": "stage style of .ci/run",
    "python -m tests.parity.fixtures": "stage fixtures of .ci/run",
    'pip install "ray': "tests/requirements.txt",
    "pip install -r docs/requirements.txt": "stage book of .ci/run",
    "srun ": "needs Slurm",
    "sbatch ": "needs Slurm",
    "tmux ": "keeps a command alive on a login node",
    "gcloud ": "needs TPUs",
}
"""{how a line that starts another program begins: where it is run, or what it needs}."""
RUN_OF = {
    ("compression", "export"): "compressed_lenet300_mnist",
    ("compression", "convnet_digits"): "convnet_digits",
    ("compression", "distil_fashion"): "convnet_fashion",
    ("detection", "predict"): "ssd_scenes",
    ("pretext", "convnet_digits"): "pretext_digits",
    ("pretext", "probe_digits"): "pretext_digits",
    ("segmentation", "predict"): "unet_scenes",
    ("sequences", "sample"): "lstm_shakespeare",
    ("gallery", "sample"): "vae_mnist",
}
"""{(page, verb or experiment): whose run RUN stands for}; LeNet-5's on the digits where it is not said."""
OF_TWO_WORDS = {
    "convnet_digits": ["--model.widths=16,32,64"],  # what starts from it has its usual network
    "pretext_digits": ["--dataset=digits"],
    "lstm_shakespeare": ["--dataset=python_topics"],
    "compressed_lenet300_mnist": ["--dataset=digits"],
}
LEFT_OUT = ("steps", "epochs", "data_dir", "fake_devices", "trials", "jobs", "count", "characters")
"""Flags that say how long, how much or where; a short command has its own."""
ALIKE: dict[str, tuple[str, ...]] = {"check": ("lr",)} | dict.fromkeys(
    ("compress", "sensitivity", "explain"), ("workdir", "to")
)
"""{verb that takes long: flags without which two of its commands are the same}; a check tries four rates itself."""
BEYOND_A_STEP = {
    "workdir",
    "init_from",
    "teacher_from",
    "metrics",
    "folds",
    "seeds",
    "strategy",
    "control",
}
"""Flags and knobs of a training that change more than its step. One without them has its step traced instead of compiled and
taken: what comes after a step is that of the trainings of tests/test_experiments.py."""
VERY_SHORT = {
    "check": ["--seconds=0.1"],
    "explain": ["--count=1"],
    "sample": ["--count=4"],
    "ablate": ["--steps=8"],
    "train": ["--steps=2"],
    "compress": ["--steps=4"],
}
NARROW: dict[str, dict[str, Any]] = {
    "localize_scenes": {"data.dataset.examples": 100},
    "convnet_digits": {"model.widths": "4,8"},
}
"""Knobs with which experiments are small here, beside those of tests/test_experiments.py."""
WITH = {
    "--design=random": "--trials=4",
    "--prune=asha": "--eval_every=4",  # a rung is an evaluation
    "--metrics=robust_accuracy": "--metrics.robust_accuracy.attack.iterations=1",
    "--stem=imagenet": "--model.channels=4",
}
"""{a word of a command: another that makes it short}."""


def reason(shown: Shown) -> str:
    """Why a command is not run; empty where it is."""
    found = [why for pattern, why in REASONS.items() if re.search(pattern, str(shown))]
    if found:
        return found[0]
    given = names(shown) - {"experiment", "data_dir", "seeds", "epochs"}
    plain = shown.verb == "train" and shown.experiment in FILES and not given
    return "an experiment as it is: tests/test_experiments.py trains it" if plain else ""


def names(shown: Shown) -> set[str]:
    """The names of the flags and knobs that a command gives."""
    return {word.partition("=")[0].lstrip("-") for word in shown.words if word.startswith("--")}


def divided() -> tuple[dict[tuple[str, int], list[Shown]], list[Shown]]:
    """Returns ({(page, number of its piece): commands that run}, those that are resolved).

    A command that an earlier page has, too, is resolved there, and here left out.
    """
    run: dict[tuple[str, int], list[Shown]] = {}
    resolved, seen = [], set()
    for each in all_shown():
        ignored = (*LEFT_OUT, *ALIKE.get(each.verb, ()))
        words = frozenset(word for word in each.words if word.partition("=")[0].lstrip("-") not in ignored)
        of_a_run = "RUN" in str(words)  # which is another one on each page
        once = (each.page if of_a_run else "", each.verb, words)
        if reason(each):
            resolved.append(each)
        elif once not in seen:
            run.setdefault((each.page, each.block), []).append(each)
        seen.add(once)
    return run, resolved


RUN, RESOLVED = divided()


class Reader:
    """What a reader of the pages has: images of every kind, a text, and runs, each trained when a command first needs it."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        drawn = np.random.default_rng(0)
        for number in range(120):  # of which a batch of 64 is left when validation and test are taken away
            file = place / "classes" / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn.integers(0, 255, (32, 36, 3), dtype=np.uint8)).save(file)
        for number in range(24):  # more than a batch
            write_mask(place / "masks", f"{number}", numbers(number, 32, 32))
            write_nucleus(place / "nuclei" / "stage1_train", f"id{number}", [(1, 2, 5, 6), (6, 3, 12, 9)])
        (place / "text.txt").write_text("To be, or not to be, that is the question.\n" * 200)

    def run(self, experiment: str) -> pathlib.Path:
        """The folder of the shared run of an experiment, of two steps."""
        folder = self.place / experiment
        if not folder.exists():
            words = [f"--experiment={experiment}", *OF_TWO_WORDS.get(experiment, [])]
            short = shortened(Shown("", 0, tuple(words)), self, folder.parent)
            code, _, err = command(*short, f"--workdir={folder}", cwd=self.place)
            assert code == 0, f"{short}\n{err}"
        return folder

    def places(self, shown: Shown, folder: pathlib.Path) -> Iterator[tuple[str, Any]]:
        """Yields (pattern, what stands in its place or a function that makes it) for what a command leaves to its reader."""
        own = RUN_OF.get((shown.page, shown.verb)) or RUN_OF.get((shown.page, shown.experiment)) or "lenet5_digits"
        photo = str(self.place / "classes" / "a" / "0.png")
        # The last by name is that of a study whose arms share a compilation.
        yield r"runs/study-…", lambda _: str(max(folder.glob("runs/study-*")))
        yield r"runs/(\w+)-…/seed_0", lambda found: str(self.run(found[1]))
        yield r"runs/[AB]/seed_0", lambda _: str(self.run("lenet5_digits"))
        yield r"RUN_OF_FAST_STYLE", lambda _: str(self.run("fast_style"))
        is_here = (folder / "RUN").exists() or (shown.verb == "train" and "--workdir=RUN" in shown.words)
        yield r"\bRUN\b", lambda _: str(folder / "RUN" if is_here else self.run(own))
        yield r"\bWEIGHTS\b", lambda _: str(self.run("convnet_digits"))
        yield r"(folder:)(?:PATH|PHOTOS)", rf"\1{self.place}/classes"
        yield r"(masks|nuclei):(?:PATH|FOLDER)", rf"\1:{self.place}/\1"
        yield r"(file:)TEXT\.txt", rf"\1{self.place}/text.txt"
        yield r"(--images=)(?:PHOTOS|FOLDER)", rf"\1{self.place}/classes/a"
        yield r"(PHOTO|PAINTING)\.jpg|BRICK\.png", photo
        yield r"(--image_size=)(?:64|224|256)", r"\g<1>32"
        yield r"--labels=282\S*", "--labels=3,8"
        yield r"--layers=stage4", "--layers=stage1"
        yield r"--layer=stage3", "--layer=conv2"


def small(shown: Shown) -> list[str]:
    """Knobs that make a command's experiment small, but for those that the command gives itself."""
    function = load(shown.experiment)
    found = offline(knobs.resolve(function, {}).values, side=8)
    found |= SMALLER.get(shown.experiment, {}) | NARROW.get(shown.experiment, {})
    there = {parameter for parameter, *_ in parameters(function)}
    found |= {name: value for name, value in {"pretrain": "0 steps", "log_p_samples": 2}.items() if name in there}
    of_tfds = any(word.startswith("--dataset=tfds:") for word in shown.words)
    given = names(shown) - ({"dataset"} if of_tfds else set())
    if {"init_from", "strategy"} & given:  # a run brings its own network, and fsdp splits no arrays of a small one
        given |= {"model", "control"}
    if "dataset" in given:
        given |= {"data", "examples_per_class"} | ({"model"} if shown.experiment == "otsu_nuclei" else set())
    return [f"--{path}={value}" for path, value in found.items() if not any(f".{name}." in f".{path}." for name in given)]


def shortened(shown: Shown, reader: Reader, folder: pathlib.Path) -> list[str]:
    """The words of a command that does the same with less."""
    words = [word for word in shown.words if not word.startswith("--dataset=tfds:")]
    for pattern, put in reader.places(shown, folder):
        words = [re.sub(pattern, put, word) for word in words]
    if {"--help", "--version"} & {*words} or shown.verb in (
        "list",
        "cache",
        "runs",
        "runs compare",
        "report",
        "reproduce",
        "export",
    ):
        return words
    if shown.verb == "runs clean":  # which asks a person
        return [*words, "--dry_run"]
    nothing = "--steps=0" in words
    fewer = [word for word in words if word.partition("=")[0].lstrip("-") not in LEFT_OUT]
    fewer = [re.sub(r"^--seeds=\d+$", "--seeds=2", word) for word in fewer]
    fewer += [other for word, other in WITH.items() if word in words]
    if shown.verb == "ablate":
        fewer += ["--seeds=1"] * ("seeds" not in names(shown))
        if shown.page != "studies" or "design" not in names(shown):  # tests/test_ablation_commands.py carries out a grid
            return [*fewer, *small(shown), *["--dry_run"] * ("--dry_run" not in words), "--devices=1"]
    if shown.verb == "explain" and "what" not in names(shown):  # the whole page: tests/test_explain_verb.py
        fewer.append("--what=filters,saliency")
    if shown.experiment in FILES and shown.verb != "inspect":
        fewer += small(shown)
    if shown.verb == "train" and not any(name == "duration" for name, *_ in parameters(load(shown.experiment))):
        return [*fewer, "--devices=1"]
    alone = shown.verb not in ("inspect", "check") and "--strategy=fsdp" not in words
    return [*fewer, *(["--steps=0"] if nothing else VERY_SHORT.get(shown.verb, [])), *["--devices=1"] * alone]


def is_carried_out(shown: Shown) -> bool:
    """Whether a command is run to its end, and not traced."""
    of_a_reader = any(re.search(r"PATH|FOLDER|TEXT|\bRUN\b|WEIGHTS", word) for word in shown.words)
    says_only = {"--help", "--version"} & {*shown.words}
    return shown.verb != "train" or bool(says_only) or of_a_reader or bool(names(shown) & BEYOND_A_STEP)


def trace(words: list[str]) -> None:
    """Traces a step and a measurement of a training, which raises the errors of its knobs and shapes."""
    call = flags.parse(VERBS["train"], words)
    loaded = load_file(call.arguments["experiment"], call.values, call.arguments["devices"])
    resolved = resolve(loaded, call.values, call.arguments["length"])
    tracing.trace(resolved.call(), precision="f32", experiment_of=resolved.call_with, traced_knobs={})


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"))


@pytest.mark.slow
@pytest.mark.parametrize("piece", RUN, ids=lambda piece: f"{piece[0]}-{piece[1]}")
def test_the_commands_of_a_piece_of_code_run(piece: tuple[str, int], reader: Reader, tmp_path: pathlib.Path, here: Here):
    (tmp_path / "runs").mkdir()
    failed = []
    for each in RUN[piece]:
        words = shortened(each, reader, tmp_path)
        if not is_carried_out(each):
            trace(words)
            continue
        code, out, err = here(*words)
        wrong = code not in ((0, 1) if each.verb == "check" else (0,))  # 1: a check found a fault, which short runs have
        failed += [f"{each}\nas {' '.join(words)}\n{out[-2000:]}{err[-2000:]}"] * wrong
    assert not failed, "\n\n".join(failed)


@pytest.mark.slow
@pytest.mark.parametrize("each", [one for one in RESOLVED if one.experiment in FILES and ".py" not in str(one)], ids=str)
def test_every_flag_and_knob_of_a_command_that_is_not_run_is_known(
    each: Shown, reader: Reader, tmp_path: pathlib.Path, here: Here
):
    words = [word for word in each.words if not word.startswith(("--fake_devices", "--judge"))]
    code, out, err = here(*words, *["--help"] * ("--help" not in words))
    assert code == 0 and out, f"{each}\n{err}"


def test_every_line_of_code_for_a_shell_is_a_command_that_is_known():
    for page in PAGES:
        for line in shown(page)[1]:
            assert line.startswith(tuple(OTHER_PROGRAMS)), f"{page.name}: {line}"
    continuous = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(begin in continuous for begin, where in OTHER_PROGRAMS.items() if where.startswith("stage style"))


def test_every_reason_is_that_of_a_command():
    everything = [str(each) for each in all_shown()]
    for pattern in REASONS:
        assert any(re.search(pattern, one) for one in everything), pattern
    for page, _ in RUN_OF:
        assert any(one.startswith(f"{page}: ") for one in everything), page
