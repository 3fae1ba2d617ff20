"""Runs launch.py as a person would, in a process group of its own that cannot outlive its time."""

import contextlib
import io
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]

QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""Flags of XLA for programs that are compiled once and run a few times.

With jaxlib 0.10.2 a step of a small network compiles in a third of the time, an operation on its own in a fifth. What fails at
this level alone may well be a fault of the package: three were, each a gradient that asked whether two numbers were equal
(tests/equalities.py).
"""
CAREFUL_COMPILATION = "--xla_backend_optimization_level=1"
"""Flags of XLA for the slow stage, whose trainings take longer than their compilation.

At level 0 an ensemble's members differ from single ones by rounding (3e-7) where bits have to be equal.
"""


LEVELS = {"quick": QUICK_COMPILATION, "careful": CAREFUL_COMPILATION}


def compilation() -> str:
    """Returns the flags for this session, which the workers of pytest-xdist take over from it.

    $CNNLAB_TEST_COMPILATION names one of LEVELS; without it the slow stage is careful and the fast one quick.
    """
    words = sys.argv[1:]
    marks = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    usual = "careful" if marks.startswith(("slow", "parity", "thorough")) else "quick"
    return LEVELS[os.environ.setdefault("CNNLAB_TEST_COMPILATION", usual)]


Here = Callable[..., tuple[int, str, str]]
"""The fixture `here` of conftest.py: `launch` without a process of its own, in a folder of the test's."""


def start(*words: str, cwd: pathlib.Path, same_devices: bool = False) -> subprocess.Popen[str]:
    """Starts `launch.py WORDS` in `cwd` with a compilation cache that the tests share.

    With `same_devices` it sees the devices of this process, so that its runs have the bits of those of `command`; else
    those that a person has.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    if not same_devices:
        environment = {name: value for name, value in environment.items() if name != "PJRT_NPROC"}
        environment["XLA_FLAGS"] = compilation()
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *words],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], *, seconds: float = 240) -> tuple[int, str, str]:
    """(exit code, stdout, stderr); SIGKILL to the whole group when the time is over."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"killed after {seconds} s\n{out}\n{err}") from None
    return process.returncode, out, err


def wait_for(process: subprocess.Popen[str], path: pathlib.Path, *, seconds: float = 120) -> None:
    """Waits until a process has made a file or is over; kills it when the time is."""
    until = time.monotonic() + seconds
    while process.poll() is None and not path.exists():
        if time.monotonic() > until:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"no {path.name} after {seconds} s\n{out}\n{err}")
        time.sleep(0.001)


def launch(*words: str, cwd: pathlib.Path, seconds: float = 240) -> tuple[int, str, str]:
    """Runs one command to its end."""
    return finish(start(*words, cwd=cwd), seconds=seconds)


def command(*words: str, cwd: pathlib.Path) -> tuple[int, str, str]:
    """Runs one command in this process, which spares the imports and shares compiled programs: (exit code, stdout, stderr)."""
    from cnnlab.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    shown = logging.StreamHandler(err)
    logging.getLogger().addHandler(shown)
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        logging.getLogger().removeHandler(shown)
    return code, out.getvalue(), err.getvalue()


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, with everything it started; nothing where it is over already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def read(path: pathlib.Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
