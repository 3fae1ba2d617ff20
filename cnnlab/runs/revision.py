"""The revision of this code as git knows it, and which files of a study are not as a commit has them. Imports no jax."""

import dataclasses
import functools
import pathlib
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from cnnlab import home

OURS = ("cnnlab/", "experiments/")
"""Beginnings of the names that the files of this project have in `sources.code_digests`."""


@dataclasses.dataclass(frozen=True)
class Revision:
    """The commit that the code of a study is traced to."""

    commit: str | None
    """None: git knows no commit of this code, since it lies in no repository or there is no git."""
    changed: tuple[str, ...] = ()
    """Files that differ from the commit, or that no commit holds."""


def revision_of(own: Iterable[pathlib.Path], sources: Iterable[str]) -> Revision:
    """Returns the revision of this code and of the files that a study needs beside it.

    Args:
        own: the experiment's file and other files that it needs; outside of this project each is compared with the repository
            in which it lies, where it lies in one.
        sources: names of the files that its code imports, as in `sources.code_digests`.
    """
    commit, _ = code_revision()
    changed = _changed(home.ABOVE, ".") if home.IS_CHECKOUT else []
    if commit is not None:
        known = set((git(home.ABOVE, "ls-files", "--", *OURS) or "").splitlines())
        changed += [name for name in sources if name.startswith(OURS) and name not in known]
    for path in own:
        if not path.resolve().is_relative_to(home.ABOVE) and git(path.parent, "rev-parse", "HEAD") is not None:
            is_known = git(path.parent, "ls-files", "--error-unmatch", "--", path.name) is not None
            changed += _changed(path.parent, path.name) if is_known else [path.name]
    return Revision(commit, tuple(dict.fromkeys(changed)))


def describe_commit(run: Mapping[str, Any]) -> str:
    """Returns the commit in a record of what ran, with ` and changes` where its code differed from it."""
    return f"{str(run.get('commit'))[:12]}{' and changes' if run.get('uncommitted_changes') else ''}"


def _changed(folder: pathlib.Path, name: str) -> list[str]:
    """Returns the tracked files below a folder, or the one file in it, that differ from the commit."""
    return (git(folder, "diff", "--name-only", "HEAD", "--", name) or "").splitlines()


@functools.cache
def code_revision() -> tuple[str | None, bool | None]:
    """Returns (commit of this code, whether files differ from it); None where git does not know."""
    if not home.IS_CHECKOUT:  # a repository around an environment is another project's
        return None, None
    changes = git(home.ABOVE, "status", "--porcelain", "--untracked-files=no")
    return git(home.ABOVE, "rev-parse", "HEAD"), None if changes is None else bool(changes)


def uncommitted() -> str:
    """Returns the uncommitted changes of this code as a diff; empty without any."""
    return (git(home.ABOVE, "diff", "HEAD") or "") if home.IS_CHECKOUT else ""


@functools.cache
def git(folder: pathlib.Path, *words: str) -> str | None:
    """Returns what git says in a folder, as the process found it first; None where git, or what it knows, is missing."""
    command = ["git", "-C", str(folder), *words]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None
