"""The model of many accelerators has its limits right, and the page of scaling is that of its record."""

import dataclasses
import json

import pytest

from benchmarks.scaling import model
from benchmarks.scaling.__main__ import PAGE, RECORD
from benchmarks.scaling.page import page


def test_the_model_has_perfect_speed_where_nothing_is_sent_and_hides_what_travels_behind_the_backward_pass():
    silent = model.Step(rate=1000.0, examples=300, sent=0.0, waits=0)
    assert model.speedup(silent, model.A100, 256, overlap=False) == pytest.approx(256)
    # 0.3 s of computation, 0.2 s of them backward; 8 of 8 devices send 7/8 of 80 GB in 0.35 s
    loud = dataclasses.replace(silent, sent=80e9)
    assert model.seconds(loud, model.A100, 8, overlap=False) == pytest.approx(0.3 + 0.35)
    assert model.seconds(loud, model.A100, 8, overlap=True) == pytest.approx(0.3 + 0.15)
    waiting = dataclasses.replace(silent, waits=100)
    assert model.seconds(waiting, model.A100, 16, overlap=True) == pytest.approx(0.3 + 100 * model.A100.wait_across)
    assert model.seconds(loud, model.A100, 1, overlap=False) == pytest.approx(0.3)


def test_the_page_in_docs_is_that_of_the_record():
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RECORD.read_text(encoding="utf-8")))
