"""The verbs by name. Imports no jax."""

from cnnlab.cli import show, study
from cnnlab.cli.cache import cache
from cnnlab.cli.flags import Verb, flags_of, takes_knobs
from cnnlab.cli.runs import runs
from cnnlab.cli.train import train

VERBS: dict[str, Verb] = {
    "train": train,
    "evaluate": show.evaluate,
    "predict": show.predict,
    "export": show.export,
    "sample": show.sample,
    "inspect": show.inspect,
    "list": show.list_,
    "cache": cache,
    "runs": runs,
    "ablate": study.ablate,
    "report": study.report,
    "claims": study.claims,
    "reproduce": study.reproduce,
    "work": study.work,
}


def run_flags() -> set[str]:
    """Returns the names of all flags of those verbs that take knobs too."""
    return {name for verb in VERBS.values() if takes_knobs(verb) for name in flags_of(verb)}
