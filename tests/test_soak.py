"""A long run does not grow; benchmarks/soak.py has 20,000 steps."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.soak import slope
from tests.commands import ROOT


def test_the_slope_is_that_of_the_last_half_in_mb_for_ten_thousand_steps():
    readings = [(step, 10**8 + (10**6 * step if step < 500 else 500 * step)) for step in range(0, 1000, 10)]
    assert slope(readings) == pytest.approx(5.0)


@pytest.mark.slow
def test_the_memory_of_a_long_run_is_flat():
    """At most 3 MB over the last 3,000 of 6,000 steps, 1 kB a step: less than the statistics and feeds of one."""
    words = [sys.executable, "-m", "benchmarks.soak", "--steps=6000", "--most=10"]
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PJRT_NPROC")}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["steps"] == 6000
