"""Virtual environments of their own for libraries that are compared with, made at first use. The standard library alone."""

import os
import pathlib
import subprocess
import venv
from collections.abc import Sequence


class NotInstalled(Exception):
    """The libraries cannot be installed."""


def python_of(folder: pathlib.Path, steps: Sequence[Sequence[str]]) -> str:
    """Returns the Python of the environment in a folder; it is made where it is not complete.

    Args:
        folder: where the environment lies.
        steps: the words of each `pip install`, in their order.

    Raises:
        NotInstalled: one of them failed.
    """
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        install(python, steps, folder / "complete")
    return python


def install(python: str, steps: Sequence[Sequence[str]], marker: pathlib.Path) -> None:
    """Installs packages into an environment, unless a marker says that they are there; raises NotInstalled."""
    if marker.exists():
        return
    for words in steps:
        if subprocess.run([python, "-m", "pip", "install", "-q", *words], check=False).returncode:
            raise NotInstalled(" ".join(words))
    marker.touch()
