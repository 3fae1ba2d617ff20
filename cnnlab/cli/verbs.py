"""The verbs by name. Imports no jax."""

from cnnlab.cli import runs, show, study
from cnnlab.cli.cache import cache
from cnnlab.cli.check import check
from cnnlab.cli.claims import claims
from cnnlab.cli.compress import compress
from cnnlab.cli.explain import explain
from cnnlab.cli.flags import Verb, flags_of, takes_knobs
from cnnlab.cli.measure import measure
from cnnlab.cli.results import results
from cnnlab.cli.sample import sample
from cnnlab.cli.sensitivity import sensitivity
from cnnlab.cli.train import train

VERBS: dict[str, Verb] = {
    "train": train,
    "evaluate": show.evaluate,
    "predict": show.predict,
    "export": show.export,
    "compress": compress,
    "sample": sample,
    "explain": explain,
    "inspect": show.inspect,
    "check": check,
    "sensitivity": sensitivity,
    "list": show.list_,
    "cache": cache,
    "ablate": study.ablate,
    "report": study.report,
    "measure": measure,
    "claims": claims,
    "reproduce": study.reproduce,
    "results": results,
    "runs": runs.runs,
    "runs compare": runs.runs_compare,
    "runs clean": runs.runs_clean,
    "work": study.work,
}


def run_flags() -> set[str]:
    """Returns the names of all flags of those verbs that take the knobs of an experiment too."""
    flags = [flags_of(verb) for verb in VERBS.values() if takes_knobs(verb)]
    return {name for own in flags if "experiment" in own for name in own}
