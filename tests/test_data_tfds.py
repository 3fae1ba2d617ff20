"""TFDS without TensorFlow. $CNNLAB_TFDS names a folder with mnist prepared; else it is prepared from ../shared/data."""

import gzip
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from commands import launch

from cnnlab.data import tfds
from cnnlab.data.pipeline import build
from cnnlab.data.prepare import unresolved
from cnnlab.errors import DataError, UsageError

ROOT = pathlib.Path(__file__).resolve().parents[1]
tensorflow_datasets = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="session")
def prepared(request, tmp_path_factory):
    """A folder with mnist prepared as array_record."""
    if "CNNLAB_TFDS" in os.environ:
        return os.environ["CNNLAB_TFDS"]
    shared = request.getfixturevalue("shared_data")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("no $CNNLAB_TFDS, and preparing mnist needs tensorflow, which is not installed")
    folder = tmp_path_factory.mktemp("tfds")
    subprocess.run([sys.executable, str(shared / "prepare_tfds.py"), str(folder), "mnist", "bccd"], check=True, timeout=300)
    return str(folder)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", cache)


def idx(path, header):
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


@pytest.mark.slow
def test_mnist_is_mnist_and_the_cached_decode_equals_a_fresh_one(prepared, shared_data):
    data = build(tfds("mnist", data_dir=prepared), batch_size=128, validation=0.0)
    assert data.sizes == {"train": 60000, "test": 10000} and data.image_shape == (28, 28, 1) and data.classes == 10
    published = idx(shared_data / "mnist/t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784)
    labels = idx(shared_data / "mnist/t10k-labels-idx1-ubyte.gz", 8)
    ours, their_order = data.resident["test"], np.lexsort(published.T)
    order = np.lexsort(ours["image"].reshape(-1, 784).T)
    np.testing.assert_array_equal(ours["image"].reshape(-1, 784)[order], published[their_order])
    np.testing.assert_array_equal(ours["label"][order], labels[their_order])
    source = tfds("mnist", data_dir=prepared)
    chosen = np.array([0, 77, 59_999])
    np.testing.assert_array_equal(source.splits["train"].images[chosen], data.resident["train"]["image"][chosen])
    again = build(source, batch_size=128, validation=0.0)
    np.testing.assert_array_equal(again.resident["train"]["image"], data.resident["train"]["image"])
    assert again.fingerprint == data.fingerprint


@pytest.mark.slow
def test_reading_tfds_imports_no_tensorflow(prepared):
    code = (
        "import sys; from cnnlab.data import tfds; from cnnlab.data.pipeline import build\n"
        f"data = build(tfds('mnist', data_dir={prepared!r}), batch_size=8, resident_mib=0)\n"
        "feed = next(data.train(0, 5)); assert feed['image'].shape == (8, 28, 28, 1), feed\n"
        "assert not any(name.partition('.')[0] == 'tensorflow' for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "normalised by the statistics of" not in done.stderr, "a streamed split is normalised as one in memory"


@pytest.mark.slow
def test_streamed_mnist_has_the_order_of_the_resident_one(prepared):
    source = tfds("mnist", data_dir=prepared)
    resident, streamed = build(source, batch_size=50), build(source, batch_size=50, resident_mib=0)
    one, feeds = next(resident.train(1, 2000)), streamed.train(1, 2000)
    other = next(feeds)
    feeds.close()
    np.testing.assert_array_equal(one["index"], other["index"])
    np.testing.assert_array_equal(resident.images("train", one["index"]), other["image"])
    np.testing.assert_array_equal(resident.resident["train"]["label"][one["index"]], other["label"])


def test_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"no data set 'mnits'\. Did you mean mnist"):
        tfds("mnits", data_dir=str(tmp_path))


def test_unprepared_set_without_tensorflow_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))
    with pytest.raises(
        DataError, match=r"needs tensorflow(.|\n)*pip install tensorflow importlib_resources pillow(.|\n)*--data_dir"
    ):
        tfds("mnist", data_dir=str(tmp_path))


def test_failed_preparation_tells_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    failed = subprocess.CompletedProcess([], 3, stdout="noise\nDownloadError: cannot reach the server\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match=r"could not be prepared in .*: DownloadError: cannot reach the server(.|\n)*elsewhere"):
        tfds("mnist", data_dir=str(tmp_path))


def test_unresolved_names_the_host_that_has_no_address(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert unresolved(["http://localhost/a.zip", "file:///tmp/b.zip"]) is None
    assert unresolved(["http://localhost/a.zip", "https://nowhere.invalid/c.zip"]) == "nowhere.invalid"


def test_set_without_image_and_label_is_refused(tmp_path, monkeypatch):
    class Builder:
        info = tensorflow_datasets.builder("ag_news_subset", data_dir=str(tmp_path)).info

        def is_prepared(self):
            return True

    monkeypatch.setattr("cnnlab.data.tfds_sets._builder", lambda *_: Builder())
    with pytest.raises(DataError, match="has no images of 8 bits: its features are"):
        tfds("ag_news_subset", data_dir=str(tmp_path))


@pytest.mark.slow
def test_boxes_of_a_detection_set_become_a_column_that_follows_its_images(prepared):
    if not (pathlib.Path(prepared) / "bccd").is_dir():
        pytest.skip("bccd is not prepared")
    source = tfds("bccd", data_dir=prepared)
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 205, "validation": 87, "test": 72}
    assert source.class_names == ("RBC", "WBC", "Platelets") and "2 boxes without an area not used" in " ".join(source.remarks)
    boxes = source.splits["train"].columns["boxes"]
    assert boxes["corners"].shape[1] <= 30 and np.all(boxes["corners"][..., 2:] <= [[640, 480]])
    data = build(source, batch_size=8, image_size=96)
    moved = data.resident["train"]["boxes"]
    np.testing.assert_allclose(moved["corners"][0], boxes["corners"][0] * [0.15, 0.2, 0.15, 0.2], rtol=1e-5)
    assert np.array_equal(moved["valid"], boxes["valid"])


@pytest.mark.slow
def test_a_run_remembers_where_its_data_were(prepared, tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    given = ["--experiment=mlp_mnist", "--steps=2", "--widths=4", f"--data_dir={prepared}", "--workdir=run"]
    code, _, err = launch(*given, cwd=tmp_path)
    assert code == 0, err
    code, out, err = launch("evaluate", "--workdir=run", cwd=tmp_path)
    assert code == 0 and "test/accuracy" in out, err
    code, out, err = launch("reproduce", "run", cwd=tmp_path)
    assert code == 0 and "the same to the last bit" in out, out + err
