"""Run flags that were renamed: the command line names the new one, and the study.json of an older version is read with it."""

RENAMED: dict[str, tuple[str, dict[str, str]]] = {
    "members": ("batch_runs", {"together": "always", "apart": "never"}),
    "members_at_once": ("max_batched_runs", {}),
    "components": ("toggle", {}),
    "control": ("controls", {}),
    "dispatch": ("steps_per_dispatch", {}),
    "examples": ("examples_seen", {}),
    "n": ("count", {}),
    "cells": ("runs", {}),
    "note": ("status_file", {}),
}
"""{old name: (new name, {old value: new value})}."""


def current_flag(word: str) -> str:
    """Returns `--NAME=VALUE` of a recorded command in today's names."""
    name, equals, value = word.removeprefix("--").partition("=")
    new, values = RENAMED.get(name, (name, {}))
    return f"--{new}{equals}{values.get(value, value)}"


def renamed_message(name: str) -> str:
    """Returns the message for an old name of RENAMED that is typed on the command line."""
    new, values = RENAMED[name]
    return f"--{name} is now --{new}" + (f" ({', '.join(values.values())})." if values else ".")
