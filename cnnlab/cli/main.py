"""Reads a command, calls its verb, and prints errors with the way to mend them. Imports no jax."""

import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from cnnlab import home, own
from cnnlab.cli import flags, signals, suggest, supervise
from cnnlab.cli.common import NoExperiment, load, resolve
from cnnlab.cli.groups import Console, Devices
from cnnlab.cli.verbs import TABLE, VERBS
from cnnlab.errors import Preempted, UsageError, did_you_mean, of_the_world
from cnnlab.knobs import UnknownKnob
from cnnlab.remarks import begin_command
from cnnlab.runs.revision import code_revision

OVERVIEW = """Trains and studies convolutional networks: {command} [VERB] --experiment=NAME [--knob=value …] [flags]

Verbs
{verbs}
  help         shows the flags of a verb: help VERB, or VERB --help. Without a verb the command trains

Knobs are the keyword arguments of the experiment's function and, below its choices, of the chosen functions:
  {command} --experiment=lenet5_digits --optimizer=adam --lr=0.001 --model.activation=tanh
  {command} --experiment=lenet5_digits --help      shows them all
  {command} ablate --experiment=convnet_digits --vary=norm:batch,none --vary=lr:0.1,0.01 --seeds=5
  {command} ablate --experiment=convnet_digits --design=leave_one_out --toggle=norm,augment

--version shows the version. --flagfile=FILE reads flags from a text file in UTF-8, one on each line. Flags of the verb train
follow; the others are shown by VERB --help.

"""


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns its exit code. May be called any number of times in a process.

    Args:
        argv: the words of the command, without its beginning.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")  # a console that has no ± shows +/- instead of ending the command
    begin_command()
    supervise.WORDS[:] = argv
    received: list[Preempted] = []
    try:
        with signals.raised_as_errors(received):
            return _run(list(argv))
    except BrokenPipeError:
        raise
    except Exception as error:
        # What a signal interrupts may raise an error of its own.
        found = of_the_world(error) or next(iter(received), None)
        if found is None or "--debug" in argv:
            if supervise.CHILD in os.environ:
                traceback.print_exc()
            supervise.leave(1)
            raise
        print(f"{'' if found.exit_code == 75 else 'error: '}{found}", file=sys.stderr)
        supervise.leave(found.exit_code)
        return found.exit_code


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        commit = code_revision()[0]
        print(f"cnnlab {home.VERSION}{f', commit {commit[:12]}' if commit else ''}")
        return 0
    if words and words[0] == "help":
        words = [*words[1:], "--help"]
    is_named = bool(words) and not words[0].startswith("-")
    name = words.pop(0) if is_named else "train"
    if words and f"{name} {words[0]}" in VERBS:  # `runs compare`: a verb of two words
        name = f"{name} {words.pop(0)}"
    if name not in VERBS:
        raise UsageError(f"no verb {name!r}.{did_you_mean(name, list(VERBS))} Verbs: {', '.join(VERBS)}.")
    call = flags.parse(VERBS[name], words)
    own.forget_changed()
    if call.folders and not flags.takes_folders(call.verb):
        word = call.folders[0]
        raise UsageError(f"{word!r} is neither a verb in first place nor a --flag.{did_you_mean(word, list(VERBS))}")
    if call.values and not flags.takes_knobs(call.verb):
        raise suggest.explain(next(iter(call.values)), name, VERBS)
    _set_up_logging(call.console)
    try:
        if call.console.help:
            print(help_text(name if is_named else None, call))
            return 0
        return call.run()
    except NoExperiment as error:
        found = [suggest.explain(word, name, VERBS) for word in error.words]
        raise next(filter(suggest.has_hint, found), error) from None
    except UnknownKnob as error:
        raise suggest.explain(error.name, name, VERBS, error.paths, str(error)) from None


def _set_up_logging(console: Console) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("cnnlab").setLevel(console.log_level.upper())
    logging.getLogger("absl").setLevel(logging.DEBUG if console.log_level == "debug" else logging.ERROR)  # orbax's chatter


def help_text(name: str | None, call: flags.Call) -> str:
    """Returns the flags of a verb, with the text and knobs of a given experiment; without a verb, the overview.

    Args:
        name: the verb; None where none was given.
        call: the words as read.
    """
    own = flags.help_of(name or "train", call.verb)
    experiment = call.arguments.get("experiment")
    if experiment is None and name is None:
        width = max(map(len, TABLE))
        verbs = "\n".join(f"  {verb.ljust(width)} {text}" for verb, (_, text) in TABLE.items())
        return OVERVIEW.format(command=home.COMMAND, verbs=verbs) + own.partition("\n\n")[2].partition("\n\n")[2]
    if experiment is None or not flags.takes_knobs(call.verb):
        return own
    from cnnlab.knobs import as_text

    loaded = load(experiment, call.values, call.arguments.get("devices", Devices()))
    resolved = resolve(loaded, call.values, call.arguments.get("length"))
    title = f"Knobs of {loaded.name} (the last part of a name is enough where it is unique; a choice also takes FILE.py:NAME)"
    return f"{loaded.doc}\n\n{title}\n{as_text(resolved)}\n\n{own}"
