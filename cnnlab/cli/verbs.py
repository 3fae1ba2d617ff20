"""The verbs by name. Each is imported when it is looked up, and none imports jax."""

import importlib
from collections.abc import Iterator, Mapping

from cnnlab.cli.flags import Verb, flags_of, takes_knobs

TABLE = {
    "train": (
        "train.train",
        "trains the experiment, or continues an interrupted run",
    ),
    "evaluate": (
        "show.evaluate",
        "measures the checkpoint of a run on its held-out splits",
    ),
    "predict": (
        "show.predict",
        "predicts images that have no label, with the checkpoint of a run: classes and probabilities, or reconstructions",
    ),
    "export": (
        "show.export",
        "writes the network of a run to a file: its weights, its weights in few bytes, or a program",
    ),
    "compress": (
        "compress.compress",
        "makes the network of a run small: prune, retrain, share values, retrain, Huffman codes; a file and a page",
    ),
    "sample": (
        "sample.sample",
        "draws images from a trained autoencoder, VAE, GAN or PixelCNN: a sheet and the images; or writes text with a writer",
    ),
    "explain": (
        "explain.explain",
        "looks inside a trained network: which pixels a class depends on, with checks of the maps; one HTML page",
    ),
    "inspect": (
        "show.inspect",
        "prints every layer of a network: shape, parameters, operations, memory, receptive field; or a data set's card",
    ),
    "check": (
        "check.check",
        "checks an experiment before a long run: data, start, gradients, learning rate, and whether it can memorise",
    ),
    "sensitivity": (
        "sensitivity.sensitivity",
        "measures a trained network with one layer pruned at a time, without training: which layers can lose more than others",
    ),
    "list": (
        "show.list_",
        "prints the experiments, models and data sets",
    ),
    "cache": (
        "cache.cache",
        "shows the cache of decoded data with its size and its limit, or deletes it",
    ),
    "ablate": (
        "study.ablate",
        "plans, runs and reports a study: many runs that differ by design, compared with statistics",
    ),
    "report": (
        "study.report",
        "writes the report of a study again, or of any set of runs",
    ),
    "measure": (
        "measure.measure",
        "decides a claim whose numbers are computed without training, such as c05_symmetry",
    ),
    "claims": (
        "claims.claims",
        "writes the page of claims from the verdicts of studies and measurements: an index, a card and a figure for each",
    ),
    "reproduce": (
        "study.reproduce",
        "runs a run or a study again and compares the numbers; the exit code is 1 where they differ",
    ),
    "results": (
        "results.results",
        "writes the table of the shipped experiments' results into docs/results.md, from the folders of their runs",
    ),
    "runs": (
        "runs.runs",
        "lists every run and study below a folder: state, step, metric, age, and how to go on",
    ),
    "runs compare": (
        "runs.runs_compare",
        "compares runs with the first of them: the knobs that differ, and code, data, seed and devices, beside their numbers",
    ),
    "runs clean": (
        "runs.runs_clean",
        "removes, after asking, failed runs without a checkpoint, superseded runs and what is left over below a folder",
    ),
    "work": (
        "study.work",
        "trains some runs of a study in this process (started by a launcher)",
    ),
}
"""{verb: (its module below cnnlab.cli and its function, what the overview says about it)}. The text is the first line of the
function's docstring, which a test compares, so that the overview imports no verb."""


class Verbs(Mapping[str, Verb]):
    """The verbs by name.

    A command needs one of them; to import them all takes a quarter of the time of `--help`.
    """

    def __getitem__(self, name: str) -> Verb:
        module, _, function = TABLE[name][0].rpartition(".")
        found: Verb = getattr(importlib.import_module(f"cnnlab.cli.{module}"), function)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(TABLE)

    def __len__(self) -> int:
        return len(TABLE)


VERBS = Verbs()


def run_flags() -> set[str]:
    """Returns the names of all flags of those verbs that take the knobs of an experiment too."""
    flags = [flags_of(verb) for verb in VERBS.values() if takes_knobs(verb)]
    return {name for own in flags if "experiment" in own for name in own}
