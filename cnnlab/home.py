"""Where this code lies: in a checkout of the project, or installed by pip together with the experiments; where
its caches lie. Imports no jax."""

import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

VERSION = "0.1.0"
PACKAGE = pathlib.Path(__file__).resolve().parent
ABOVE = PACKAGE.parent
"""The folder that holds the package cnnlab."""
IS_CHECKOUT = (ABOVE / "launch.py").is_file()
EXPERIMENTS = (ABOVE if IS_CHECKOUT else PACKAGE / "shipped") / "experiments"
"""The folder of the experiments; a wheel has it inside cnnlab (pyproject.toml), so that no other package is called so."""
WORDS = ("python", "launch.py") if IS_CHECKOUT else ("cnnlab",)
COMMAND = " ".join(WORDS)
"""How a person begins a command, for messages."""


def make_experiments_importable() -> None:
    """Lets experiments import one another by `from experiments import …` whatever began the process."""
    above = str(EXPERIMENTS.parent)
    if above not in sys.path:
        sys.path.append(above)


def cache_folder() -> pathlib.Path:
    """Returns `$XDG_CACHE_HOME/cnnlab`, by default below ~/.cache; it is safe to delete at any time."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnlab"


def process(words: Sequence[str]) -> list[str]:
    """Returns the command line of another process that carries out a command, given its words without the beginning."""
    # -P: a folder of the same name in the working folder is not imported in place of this package.
    start = [str(ABOVE / "launch.py")] if IS_CHECKOUT else ["-P", "-m", "cnnlab"]
    return [sys.executable, *start, *words]


def this_command() -> str:
    """Returns the command of this process as a person would type it again."""
    return shlex.join(["python", *sys.argv] if IS_CHECKOUT else [*WORDS, *sys.argv[1:]])
