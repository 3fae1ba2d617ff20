"""Suggests what was meant by a word that is neither a flag of the verb nor a knob. Imports no jax."""

import re
from collections.abc import Mapping, Sequence

from cnnlab import home, knobs
from cnnlab.cli.flags import Verb, flags_of, takes_folders, takes_knobs
from cnnlab.errors import UsageError
from cnnlab.runs.renamed import RENAMED, renamed_message

SYNONYMS = {
    **dict.fromkeys(("learning_rate", "learningrate", "eta", "step_size"), "lr"),
    **dict.fromkeys(("logdir", "log_dir", "outdir", "output_dir", "save_dir", "checkpoint_dir", "model_dir"), "workdir"),
    **dict.fromkeys(("batch", "batchsize", "bs", "minibatch"), "batch_size"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs"), "epochs"),
    **dict.fromkeys(("num_steps", "n_steps", "max_steps", "iterations", "num_iterations"), "steps"),
    **dict.fromkeys(("wd", "l2"), "weight_decay"),
    **dict.fromkeys(("random_seed", "rng_seed"), "seed"),
    **dict.fromkeys(("num_seeds", "n_seeds", "repeats"), "seeds"),
    **dict.fromkeys(("gpus", "num_gpus", "num_devices", "n_devices"), "devices"),
    **dict.fromkeys(("dtype", "amp", "mixed_precision"), "precision"),
    **dict.fromkeys(("arch", "architecture", "network", "net", "model_name"), "model"),
    **dict.fromkeys(("data", "dataset_name"), "dataset"),
    **dict.fromkeys(("opt", "optim"), "optimizer"),
    **dict.fromkeys(("scheduler", "lr_schedule", "lr_scheduler"), "schedule"),
    **dict.fromkeys(("augmentation", "augmentations", "transform"), "augment"),
    **dict.fromkeys(("label_smoothing",), "smoothing"),
    **dict.fromkeys(("grad_clip", "clip", "clip_grad", "max_grad_norm", "gradient_clip"), "clip_norm"),
    **dict.fromkeys(("beta1",), "b1"),
    **dict.fromkeys(("beta2",), "b2"),
    **dict.fromkeys(("drop_rate", "dropout_rate"), "dropout"),
    **dict.fromkeys(("ema", "ema_decay"), "average_decay"),
    **dict.fromkeys(("swa", "averaging"), "average"),
    **dict.fromkeys(("val_split", "validation_split"), "validation"),
    **dict.fromkeys(("pretrained", "init", "weights", "load_from"), "init_from"),
    **dict.fromkeys(("workers", "num_workers", "n_jobs"), "jobs"),
    **dict.fromkeys(("name", "config", "exp"), "experiment"),
    **dict.fromkeys(("out", "output"), "to"),
}
"""Other programs' names for flags and knobs."""

DESTRUCTIVE = ("overwrite",)
"""Flags that delete what is there: no other command with them is suggested."""


def explain(
    name: str, verb_name: str, verbs: Mapping[str, Verb], paths: Sequence[str] = (), otherwise: str | None = None
) -> UsageError:
    """Returns the error for a word that is neither a flag of the verb nor a knob.

    Args:
        name: the word, without its dashes.
        verb_name: the verb that was given, or train.
        verbs: all verbs by name.
        paths: the knobs that there are; none are known where no experiment is given.
        otherwise: the text where nothing better is known; None: that there is no such flag.
    """
    own = flags_of(verbs[verb_name])
    owners = [other for other, verb in verbs.items() if _flag_named(name, verb)]
    if owners and name in DESTRUCTIVE:
        return UsageError(
            f"--{name} is a flag of {_listed(owners)}. {verb_name} deletes nothing and takes no --{name}: leave it out."
        )
    if owners:
        return UsageError(_of_another_verb(_flag_named(name, verbs[owners[0]]) or name, owners, verbs))
    if name in RENAMED:
        new = RENAMED[name][0]
        where = [other for other, verb in verbs.items() if new in flags_of(verb)]
        more = "" if new in own or not where else f" It is a flag of {_listed(where)}."
        return UsageError(renamed_message(name) + more)
    guess = _synonym(name, [*own, *paths]) or knobs.closest(name, [*own, *paths])
    if not takes_knobs(verbs[verb_name]):
        return UsageError(f"{verb_name} takes no --{name}.{guess}")
    if otherwise is None:
        return UsageError(f"no flag --{name}.{guess}")
    old = re.compile(r"( Did you mean --\S+\?)?(?=\n|$)")
    keeps = not guess or " It is one with " in otherwise.partition("\n")[0]
    return UsageError(otherwise if keeps else old.sub(lambda match: guess, otherwise, count=1))


def has_hint(error: UsageError) -> bool:
    """Returns whether the error states more than that there is no such flag."""
    return not re.fullmatch(r"no flag --\S+\.", str(error))


def _flag_named(name: str, verb: Verb) -> str | None:
    """Returns the flag of a verb that --name or --noname sets; None where it has none."""
    known = flags_of(verb)
    if name in known:
        return name
    positive = name.removeprefix("no")
    return positive if positive != name and positive in known and known[positive].is_switch else None


def _of_another_verb(name: str, owners: Sequence[str], verbs: Mapping[str, Verb]) -> str:
    first = verbs[owners[0]]
    place = "FOLDER" if takes_folders(first) else "--experiment=…" if takes_knobs(first) else "--workdir=…"
    value = "" if flags_of(first)[name].is_switch else "=…"
    return f"--{name} is a flag of {_listed(owners)}. Did you mean: {home.COMMAND} {owners[0]} {place} --{name}{value}?"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _synonym(name: str, paths: Sequence[str]) -> str:
    """Returns ` Did you mean --PATH?` for another program's name, or an empty string."""
    usual = SYNONYMS.get(name.replace("-", "_"), name.replace("-", "_"))
    found = [path for path in paths if path == usual or path.endswith(f".{usual}")]
    return f" Did you mean --{found[0]}?" if found else ""
