"""Compression of a run: what its stages change, the bytes by layer, the page, and going on where it was killed."""

import dataclasses
import json
import pathlib
import re
import signal
import time
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import Here, command, start

from cnnlab.compress import command as command_of_compress
from cnnlab.compress import page, report, stages
from cnnlab.compress.sizes import FORMS, codes_of_one_length, sizes_of
from cnnlab.compressed import network
from cnnlab.compressed.container import Shared
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.runs.experiments import load_experiment

ACCURACY = Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True)


def made_sizes():
    """A kernel of 60 x 70 that is pruned to 8 %, and then has 7 values; a bias; and the sizes in the file."""
    random = np.random.default_rng(0)
    kernel = np.where(random.random((60, 70)) < 0.08, random.normal(size=(60, 70)), 0).astype(np.float32)
    few = (np.round(2 * kernel) / 2 + 0.25 * (kernel != 0)).astype(np.float32)
    bias = random.normal(size=70).astype(np.float32)
    pruned, shared = ({"params/a/kernel": one, "params/a/bias": bias} for one in (kernel, few))
    content, coded = network.packed(shared, {"step": 3})
    return sizes_of(pruned, shared, coded, len(content)), few


def test_each_form_is_smaller_and_the_parts_add_up_to_the_file():
    sizes, few = made_sizes()
    kernel, bias = sizes.layers
    assert [kernel.bytes[form] for form in FORMS] == sorted((kernel.bytes[form] for form in FORMS), reverse=True)
    assert set(bias.bytes.values()) == {280} and kernel.bytes["f32"] == 4 * 4200
    assert kernel.kept == np.count_nonzero(few) and sizes.numbers == 4270
    parts = [kernel.size.codes, kernel.size.gaps, kernel.size.codebook, kernel.size.tables]
    assert sum(parts) == kernel.bytes["coded"] and sizes.total("coded") < sizes.file
    assert [size for _, size in sizes.steps] == [*(sizes.total(form) for form in FORMS), sizes.file]


def test_codes_of_one_length_are_counted_with_their_gaps_fillers_and_codebook():
    positions = np.array([0, 1, 2, 18])  # the last gap is 15: four bits, or three and a filler, or two and three fillers
    array = Shared((5, 5), np.float32([1, 2, 3]), np.int32([0, 1, 2, 0]), positions)
    entries = {1: 4 + 7, 2: 4 + 3, 3: 4 + 1, 4: 4}
    assert codes_of_one_length(array) == 12 + min(-(-count * (2 + bits) // 8) for bits, count in entries.items())
    assert codes_of_one_length(Shared((4,), np.float32([1, 2, 3]), np.int32([0, 1, 2, 0]))) == 12 + 1


def made_compression(tmp_path: pathlib.Path):
    sizes, _ = made_sizes()
    rows = (("dense", 0.98, sizes.total("f32")), ("pruned", 0.979, 2000), ("shared", 0.9785, sizes.file))
    reached = tuple(
        report.Reached(name, f"what {name} does", tmp_path / name, {"test/accuracy": value}, 100, 5.0, size, 0.08)
        for name, value, size in rows
    )
    return report.Compression(
        "net <b>", "digits", 0, tmp_path / "x.cnnz", reached, sizes, ACCURACY, "test", {"params/a/kernel": 4200}
    )


def test_the_page_shows_every_stage_and_layer_and_fetches_nothing(tmp_path: pathlib.Path):
    found = made_compression(tmp_path)
    html = page.as_html(found)
    assert "net &lt;b&gt;" in html and "net <b>" not in html
    macs = f"{found.sizes.layers[0].kept:,} of 4,200"  # each weight multiplies once
    for text in ("2.00 %", "2.15 %", "+0.15 points", f"{found.sizes.file:,}", "a/kernel", "what pruned does", macs):
        assert text in html, text
    assert "http" not in html.replace("http-equiv", "") and "<script" not in html
    assert found.compared == "error" and "2.00 % to 2.15 %" in found.lead


def test_a_metric_without_an_error_is_shown_as_it_is(tmp_path: pathlib.Path):
    found = made_compression(tmp_path)
    loss = Metric("loss", "nats", higher_is_better=False)
    same = tuple(dataclasses.replace(stage, metrics={"test/loss": 0.25}) for stage in found.stages)
    found = dataclasses.replace(found, stages=same, metric=loss)
    assert found.compared == "loss" and found.text(found.stages[0]) == "0.2500 nats" and "points" not in found.lead


def test_stages_take_what_they_are_for_and_the_rest_from_the_run():
    experiment = load_experiment("mlp_digits")
    recorded = experiment.resolve({"widths": "16", "early_stopping": "3", "lr": "0.1"}).values
    whole = stages.compression(experiment, recorded, {"density": "0.2", "rounds": "3", "bits": "4", "part": "0.25"}, "RUN")
    first = stages.pruned(experiment, whole, 400)
    second = stages.shared(experiment, whole, 400, "PRUNED")
    one, two = first.resolved.values, second.resolved.values
    assert (first.steps, second.steps) == (300, 100) and (one["duration"], two["duration"]) == ("300 steps", "100 steps")
    assert one["pruning.rounds"] == 3 and one["pruning.dense"] == 0 and one["pruning.sharing"] == "none"
    assert two["pruning.rounds"] == 1 and two["pruning.sharing.part"] == 1 and two["pruning.sharing.bits"] == 4
    assert one["pruning.density"] == two["pruning.density"] == 0.2 and one["model.widths"] == two["model.widths"] == [16]
    assert one["init_from"].endswith("RUN") and two["init_from"].endswith("PRUNED") and one["early_stopping"] is None
    assert two["optimizer.lr"] == pytest.approx(stages.SHARED_RATE * one["optimizer.lr"]) and one["optimizer.lr"] == 0.1
    plan = second.resolved.call().phases
    assert [phase.steps for phase in plan] == [100]
    for given, said in (({"sharing": "none"}, "prunes and shares"), ({"pruning": "none"}, "no knob|prunes and shares")):
        with pytest.raises(UsageError, match=said):
            stages.compression(experiment, recorded, given, "RUN")


def test_an_experiment_that_prunes_nothing_is_refused():
    experiment = load_experiment("gan_gaussians")
    with pytest.raises(UsageError, match="no knob --pruning"):
        stages.require_trained(experiment, experiment.resolve({}))


def test_the_page_of_another_file_is_not_replaced(tmp_path: pathlib.Path):
    (tmp_path / "index.html").write_text("mine")
    request: Any = SimpleNamespace(target=tmp_path / "index.cnnz", overwrite=False)
    for is_done in (False, True):
        with pytest.raises(UsageError, match=r"its page .*index\.html is there already.*--overwrite"):
            command_of_compress._require_free(request, is_done=is_done)
    request.target.write_bytes(b"ours")
    command_of_compress._require_free(request, is_done=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Add --workdir=RUN"),
        (("--workdir=x",), r"Add --to=FILE\.cnnz"),
        (("--workdir=x", "--to=x.safetensors"), r"Add --to=FILE\.cnnz"),
        (("--workdir=x", "--to=nowhere/x.cnnz"), "there is no folder"),
        (("--workdir=x.cnnz", "--to=y.cnnz"), "is compressed"),
        (("--workdir=x", "--to=y.cnnz"), "is not a run"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(here: Here, words: tuple[str, ...], said: str):
    code, _, err = here("compress", *words)
    assert code == 2 and re.search(said, err), err


@pytest.mark.slow
def test_killed_between_it_goes_on_and_its_file_has_the_numbers_of_its_last_run(tmp_path: pathlib.Path):
    every = ["--eval_every=10000 steps", "--save_every=20 steps"]
    code, _, err = command("--experiment=mlp_digits", "--widths=16", "--steps=60", "--workdir=run", *every, cwd=tmp_path)
    assert code == 0, err
    words = ["compress", "--workdir=run", "--to=x.cnnz", "--density=0.25", "--steps=1500", "--part=0.9", *every]
    process = start(*words, cwd=tmp_path)
    before = time.monotonic()

    def states() -> dict[pathlib.Path, str]:
        found = {path: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/seed_0/status.json")}
        return {path: content["state"] for path, content in found.items() if content["step"] > 0}

    while "RUNNING" not in (seen := states()).values() or "DONE" not in seen.values():
        assert process.poll() is None and time.monotonic() - before < 500, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (done,) = (path.parent for path, state in seen.items() if state == "DONE")
    finished = (done / "result.json").stat().st_mtime_ns
    assert not (tmp_path / "x.cnnz").exists()
    code, out, err = command(*words, cwd=tmp_path)
    assert code == 0 and "finished before" in out and "going on from step" in err, err
    assert (done / "result.json").stat().st_mtime_ns == finished, "a finished stage is not trained again"
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/seed_0/result.json")]
    size = (tmp_path / "x.cnnz").stat().st_size
    (last,) = (result["metrics"] for result in results if result["metrics"]["test/file_bytes"] == size)
    assert f"{size:,}" in out and (tmp_path / "x.html").is_file()
    code, measured, err = command("evaluate", "--workdir=x.cnnz", cwd=tmp_path)
    assert code == 0 and f"{last['test/accuracy']:.6g}" in measured and f"{last['test/loss']:.6g}" in measured, err
    assert str(tmp_path).encode() not in zlib.decompressobj().decompress((tmp_path / "x.cnnz").read_bytes()[9:]), (
        "no path of this machine"
    )
    code, out, _ = command("inspect", "--workdir=x.cnnz", "--format=json", cwd=tmp_path)
    layer = next(row for row in json.loads(out)["layers"] if row["name"] == "dense1")
    assert code == 0 and layer["density"] == 0.25 and layer["bits"] <= 5 and layer["effective_macs"] == layer["macs"] // 4
    (tmp_path / "x.cnnz").write_bytes(b"another")
    code, _, err = command(*words, cwd=tmp_path)
    assert code == 2 and "--overwrite" in err and (tmp_path / "x.cnnz").read_bytes() == b"another"
