"""Strict mode for every test: eight fake CPU devices, no implicit dtype or rank promotion, warnings are errors."""

import collections
import gc
import os
import pathlib
import sys
import time
from collections.abc import Iterator

from commands import compilation

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# XLA:CPU deadlocks when more devices than threads wait for each other; the variable must stand before jax starts.
os.environ["PJRT_NPROC"] = "32"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {compilation()}"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import matplotlib  # noqa: E402
import pytest  # noqa: E402

from cnnlab.cli.common import setup_jax  # noqa: E402

# What jax keeps of each compilation lives as long as the process: to search it for garbage takes a fifth of the tests' time.
gc.freeze()
gc.set_threshold(50_000, 20, 100)

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# As a command does. Workers, the commands that tests start and later runs share the cache of compiled programs;
# $JAX_COMPILATION_CACHE_DIR names another place.
setup_jax(None)


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Drops the compiled programs of a file at its end: kept, those of all files take several GB a process."""
    yield
    drop_programs()


def drop_programs() -> None:
    """Drops all compiled programs of this process; what is called again is compiled again, or read from the cache."""
    jax.clear_caches()
    gc.collect()


MOST_MAPS = 30_000
"""Memory maps of this process above which its programs are dropped. Linux grants 65,530 (vm.max_map_count), a program of the
contract table takes about 1,000 on eight devices, and XLA ends the process with a segmentation fault where it gets no more."""
_maps_counted = 0.0


@pytest.fixture(autouse=True)
def keep_room_for_programs() -> Iterator[None]:
    """Drops the compiled programs within a file, too, before they take all memory maps; looked at every other second."""
    global _maps_counted
    yield
    if time.monotonic() - _maps_counted > 2 and os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps", encoding="utf-8") as maps:
            crowded = sum(1 for _ in maps) > MOST_MAPS
        _maps_counted = time.monotonic()
        if crowded:
            drop_programs()


UNTIL = float(os.environ.get("CNNLAB_TEST_UNTIL", "inf"))
"""Seconds since the epoch after which no test is begun; $CNNLAB_TEST_UNTIL is set by .ci/run, whose time is limited."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves out, with a reason that the summary counts, what would begin too late; no fixture is set up for it."""
    if time.time() > UNTIL:
        pytest.skip("the time of this stage was over ($CNNLAB_TEST_UNTIL)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with another file at each value of $CNNLAB_TEST_TURN, so that not always the same tests come too late."""
    files = list(dict.fromkeys(item.path for item in items))
    if files:
        first = int(os.environ.get("CNNLAB_TEST_TURN", "0")) % len(files)
        place = {path: index for index, path in enumerate([*files[first:], *files[:first]])}
        items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real data sets next to the project; tests that need it skip on a machine without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data here: this test reads real data sets")
    return folder


def room_of(nodeid: str) -> str:
    """The room that a test belongs to, from its file's name: tests/test_ablation_check.py -> ablation."""
    return pathlib.PurePath(nodeid.split("::")[0]).stem.removeprefix("test_").split("_")[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how long the tests of each room took: set-up, call and tear-down, added over the workers of pytest-xdist."""
    seconds: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[room_of(report.nodeid)] += report.duration
                counts[room_of(report.nodeid)] += report.when == "call"
    if seconds:
        listed = ", ".join(f"{room} {total:.0f} s ({counts[room]})" for room, total in seconds.most_common())
        terminalreporter.write_line(f"seconds by room (tests): {listed}; in all {sum(seconds.values()):.0f} s")


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command of launch.py in this process and in tmp_path; returns (exit code, stdout, stderr)."""
    from cnnlab.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        return code, *capsys.readouterr()

    return run
