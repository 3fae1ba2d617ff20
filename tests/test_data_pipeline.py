import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
from PIL import Image

from cnnlab.data import decoder, digits, loading, pipeline, stored_images, stream_order, stripes, xor
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.data.resize import FITS, pad, resize, rule_of, settings_of
from cnnlab.data.source import LazyImages, at_positions, shuffled, stratified_split
from cnnlab.data.stream_order import shuffled_order
from cnnlab.data.variations.compose import NO_AUGMENTATION, Augmentation
from cnnlab.data.variations.crop import pad_crop
from cnnlab.digests import combined_digest
from cnnlab.engine.processes import own_rows
from cnnlab.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def small(examples=50, **knobs):
    return stripes(examples=examples, size=8, **knobs)


def lazily(source):
    """The same source as if its images lay in files."""
    splits = {}
    for name, part in source.splits.items():
        images = part.images
        lazy = LazyImages(lambda ids, images=images: [images[i] for i in ids], len(images), images.shape[1:], threads=2)
        splits[name] = part.having(image=lazy)
    return dataclasses.replace(source, splits=splits)


def take(feeds, count):
    taken = list(itertools.islice(feeds, count))
    feeds.close()
    return taken


def test_shuffled_is_a_permutation_fixed_for_ever_by_its_key():
    assert shuffled(8, 1, 2).tolist() == [4, 2, 0, 6, 1, 5, 7, 3]  # resumed runs rely on these very numbers
    assert sorted(shuffled(100, 5, 0).tolist()) == list(range(100))
    assert not np.array_equal(shuffled(100, 5, 0), shuffled(100, 5, 1))
    assert not np.array_equal(shuffled(100, -1, 0), shuffled(100, 1, 0))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 45])
def test_train_visits_every_example_once_per_epoch_also_where_a_batch_straddles_two(batch_size):
    data = build(small(), batch_size=batch_size)
    size = data.sizes["train"]
    indices = np.concatenate([feed["index"] for feed in take(data.train(3, 0), 3 * size // batch_size + 1)])
    for epoch in range(3):
        assert sorted(indices[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))
    assert not np.array_equal(indices[:size], indices[size : 2 * size])


def test_train_goes_on_from_any_step_as_if_it_had_never_stopped_and_seeds_differ():
    data = build(small(), batch_size=7)
    straight = [feed["index"] for feed in take(data.train(0, 0), 40)]
    for step in (1, 6, 7, 33):
        np.testing.assert_array_equal(straight[step:], [feed["index"] for feed in take(data.train(0, step), 40 - step)])
    assert straight[0].dtype == np.int32
    assert not np.array_equal(straight, [feed["index"] for feed in take(data.train(1, 0), 40)])
    far = next(data.train(0, 10**9))  # constant time
    index, shown = shuffled_order(0, np.zeros(data.sizes["train"]))(np.arange(7 * 10**9, 7 * 10**9 + 7))
    assert np.array_equal(far["index"], index) and shown.max() == 7 * 10**9 // data.sizes["train"]


def test_full_batch_is_the_whole_training_split_in_every_step():
    data = build(xor(), batch_size=None)
    assert data.batch_size == 4 and data.sizes == {"train": 4, "test": 4}
    assert all(sorted(feed["index"].tolist()) == [0, 1, 2, 3] for feed in take(data.train(0, 0), 5))


@pytest.mark.parametrize("batch_size", [1, 4, 5, 13, 64])
@pytest.mark.parametrize("resident_mib", [0, 10])
def test_evaluate_passes_once_in_order_and_masks_the_padding(batch_size, resident_mib):
    data = build(small(), batch_size=5, resident_mib=resident_mib)
    for split, size in data.sizes.items():
        feeds = list(data.evaluate(split, batch_size))
        assert len(feeds) == -(-size // batch_size)
        assert all(feed["index"].shape == feed["mask"].shape == (batch_size,) for feed in feeds)
        index, mask = (np.concatenate([feed[name] for feed in feeds]) for name in ("index", "mask"))
        assert mask.sum() == size and index[mask].tolist() == list(range(size))
        assert index.max() < size and mask.dtype == bool and index.dtype == np.int32


@pytest.mark.parametrize("owners", [[0, 0, 1, 1], [0, 1, 2, 0, 1, 2], [1, 0]], ids=str)
def test_processes_read_their_own_rows_which_together_are_the_batches_of_one(owners, monkeypatch):
    """Streamed, over the end of an epoch, and padded; neighbours in a batch may belong to any process."""
    read = []
    monkeypatch.setattr(
        stream_order, "at_positions", lambda values, index: read.append(len(index)) or at_positions(values, index)
    )
    augmentation = Augmentation((lambda images, keys, *, epoch: images,))
    data = build(lazily(small()), batch_size=12, resident_mib=0, augment=augmentation)
    parts = {process: own_rows(np.array(owners), process) for process in set(owners)}
    np.testing.assert_array_equal(np.sort(np.concatenate([rows(12) for rows in parts.values()])), np.arange(12))
    passes = (lambda data: take(data.train(2, 1), 4), lambda data: list(data.evaluate("validation", 12)))
    own = {process: [feeds_of(data.for_process(rows)) for feeds_of in passes] for process, rows in parts.items()}
    assert set(read) == {12 // len(parts)}, "no other example is read"
    for number, feeds_of in enumerate(passes):
        whole = feeds_of(data)
        for process, rows in parts.items():
            assert len(own[process][number]) == len(whole)
            for feed, part in zip(whole, own[process][number], strict=True):
                assert feed.keys() == part.keys() >= {"image", "label", "index"}
                jax.tree.map(lambda one, other, rows=rows: np.testing.assert_array_equal(one[rows(12)], other), feed, part)


def test_streamed_feeds_equal_resident_ones_in_order_pixels_and_labels():
    source = small()
    resident, streamed = (build(one, batch_size=7, resident_mib=mib) for one, mib in ((source, 10), (lazily(source), 0)))
    assert streamed.resident == {"train": {}, "test": {}, "validation": {}}
    assert streamed.sizes == resident.sizes and streamed.fingerprint == resident.fingerprint
    pairs = [(resident.train(2, step), streamed.train(2, step)) for step in (0, 12)]
    pairs += [(resident.evaluate("test", 5), streamed.evaluate("test", 5))]
    split_of = ["train", "train", "test"]
    for split, (left, right) in zip(split_of, pairs, strict=True):
        for one, other in zip(itertools.islice(left, 9), itertools.islice(right, 9), strict=True):
            np.testing.assert_array_equal(one["index"], other["index"])
            assert other["image"].dtype == np.uint8 and other["label"].dtype == np.int32
            looked_up = jax.jit(resident.prepare)(resident.resident[split], one, None)
            fed = jax.jit(streamed.prepare)({}, other, None)
            assert looked_up.keys() == fed.keys()
            for name in fed:
                np.testing.assert_array_equal(looked_up[name], fed[name])
        right.close()
    chosen = np.array([3, 0])
    np.testing.assert_array_equal(resident.images("test", chosen), streamed.images("test", chosen))


def test_streaming_decides_by_size_training_split_first():
    source = lazily(small(examples=20_000))
    data = build(source, batch_size=10, resident_mib=1)
    assert data.resident["train"] == data.resident["validation"] == {}
    assert data.resident["test"]["image"].shape == (5000, 8, 8, 1)


def test_reading_error_of_a_streamed_split_surfaces_with_its_text():
    def broken(positions):
        raise DataError("a.png changed since it was checked")

    source = small()
    images = LazyImages(broken, len(source.splits["test"].labels), (8, 8, 1))
    splits = dict(source.splits) | {"test": source.splits["test"].having(image=images)}
    data = build(dataclasses.replace(source, splits=splits), batch_size=5, resident_mib=0)
    with pytest.raises(DataError, match=r"a\.png changed"):
        list(data.evaluate("test", 4))


def test_carve_is_deterministic_disjoint_and_stratified():
    labels = np.repeat(np.arange(5), [3, 10, 41, 100, 1]).astype(np.int32)
    for fraction in (0.0, 0.1, 0.25, 0.5):
        kept, carved = stratified_split(labels, fraction)
        assert sorted([*kept, *carved]) == list(range(len(labels)))
        assert len(carved) == round(fraction * len(labels))
        counts = np.bincount(labels[carved], minlength=5)
        assert np.all(np.abs(counts - fraction * np.bincount(labels)) <= 1)
        assert counts[4] == 0  # a class is never emptied
        assert np.array_equal(carved, stratified_split(labels, fraction)[1])


def test_validation_comes_from_train_alone_and_does_not_depend_on_the_batch():
    source = digits()
    data, again = build(source, batch_size=32), build(source, batch_size=64)
    assert data.sizes == {"train": 1294, "test": 359, "validation": 144}
    np.testing.assert_array_equal(data.resident["validation"]["image"], again.resident["validation"]["image"])
    pixels = [image.tobytes() for split in ("train", "validation") for image in data.resident[split]["image"]]
    assert sorted(pixels) == sorted(image.tobytes() for image in source.splits["train"].images)
    assert "validation" not in build(source, batch_size=32, validation=0.0).sizes


def test_prepare_normalises_looks_up_and_fills_the_mask():
    source = small()
    stored = source.splits["train"].images
    for name, expected in {
        "none": lambda x: x / np.float32(255),
        "raw": lambda x: x,
        "standard": lambda x: (x - stored.mean()) / stored.std(),
        "per_pixel": lambda x: (x - stored.mean(axis=0)) / 255,
    }.items():
        data = build(source, batch_size=5, validation=0.0, normalize=NORMALIZERS[name])
        batch = jax.jit(data.prepare)(data.resident["train"], {"index": np.array([4, 0], np.int32)}, None)
        np.testing.assert_allclose(batch["image"], expected(stored[[4, 0]].astype(np.float32)), rtol=1e-5, atol=1e-5)
        assert batch["image"].dtype == np.float32 and np.all(batch["mask"])
        assert np.array_equal(batch["label"], source.splits["train"].labels[[4, 0]])
    feed = {"index": np.array([1, 0], np.int32), "mask": np.array([True, False])}
    assert np.asarray(data.prepare(data.resident["train"], feed, None)["mask"]).tolist() == [True, False]


def test_standard_gives_zero_mean_and_unit_deviation_per_channel_and_survives_a_constant_one():
    rng = np.random.default_rng(0)
    for images in (rng.integers(0, 256, (5000, 3, 4, 3), np.uint8), rng.uniform(-2, 3, (70, 3, 4, 3)).astype(np.float32)):
        images[..., 2] = 1
        subtract, divide = NORMALIZERS["standard"](images)
        out = (images.astype(np.float64) - subtract) / divide
        np.testing.assert_allclose(out.mean(axis=(0, 1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(out.std(axis=(0, 1, 2))[:2], 1, rtol=1e-5)
        assert not out[..., 2].any()


def test_raw_gives_whole_grey_levels_exactly_also_after_an_augmentation():
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    source = small(examples=4, classes=2)
    splits = {name: source.splits["train"].having(image=values) for name in ("train", "test")}
    source = dataclasses.replace(source, splits=splits)
    data = build(source, batch_size=4, validation=0.0, normalize=NORMALIZERS["raw"], augment=NO_AUGMENTATION)
    feed = {"index": np.arange(4, dtype=np.int32)}
    for key in (None, jax.random.key(0)):
        np.testing.assert_array_equal(jax.jit(data.prepare)(data.resident["train"], feed, key)["image"], values)


def test_augmentation_needs_a_key_and_follows_the_example_not_its_place():
    data = build(small(), batch_size=5, augment=Augmentation((pad_crop,)))
    resident, key = data.resident["train"], jax.random.key(1)
    one, other = ({"index": np.array(index, np.int32)} for index in ([3, 9, 2], [2, 3, 9]))
    left, right = (data.prepare(resident, feed, key)["image"] for feed in (one, other))
    np.testing.assert_array_equal(left, right[np.array([1, 2, 0])])
    plain = data.prepare(resident, one, None)["image"]
    np.testing.assert_array_equal(plain, build(small(), batch_size=5).prepare(resident, one, None)["image"])
    assert not np.array_equal(plain, left)


def test_float_images_are_used_as_they_are():
    data = build(xor(), batch_size=None, normalize=NORMALIZERS["none"])
    batch = data.prepare(data.resident["train"], {"index": np.arange(4, dtype=np.int32)}, jax.random.key(0))
    np.testing.assert_array_equal(batch["image"].reshape(4, 2), [[-1, -1], [-1, 1], [1, -1], [1, 1]])


@pytest.mark.parametrize(("height", "width", "size"), [(28, 28, 32), (40, 31, 16), (9, 9, 9), (5, 60, 23)])
def test_resize_is_pillows_and_within_a_grey_level_of_its_own_definition(height, width, size):
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
    ours = resize(images, size)
    theirs = np.stack([np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR)) for i in images])
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(resize(images[..., :2], size), ours[..., :2])
    floats = resize(images.astype(np.float32), size)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, ours, atol=1)
    # [size, H] x [B, H, W, C] x [size, W] -> [B, size, size, C]
    expected = np.einsum("ah,bhwc,dw->badc", triangle_weights(height, size), images, triangle_weights(width, size))
    np.testing.assert_allclose(floats, expected, atol=1e-3)


def triangle_weights(source: int, target: int) -> np.ndarray:
    """The weight of each source pixel in each target pixel, f64 [target, source]; rows sum to 1."""
    ratio = source / target
    centres = (np.arange(target) + 0.5) * ratio - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(source) - centres[:, None]) / max(ratio, 1.0))
    return weights / weights.sum(axis=1, keepdims=True)


PIXELS = {"resize": (2, "2fd5833ab802"), "pad": (None, "47cac1df9762"), "crop": (None, "cddede814bcd")}
"""{rule: (its format, first digits of the digest of its pixels)}. A rule that makes other pixels needs the next number in
data/resize.FORMATS: it enters fingerprints and the keys of the cache."""


@pytest.mark.parametrize("rule", FITS)
def test_a_rule_that_makes_other_pixels_has_another_format(rule: str):
    side = 12 if rule == "pad" else 40
    images = shuffled(2 * side * 31 * 3, 1, 0).astype(np.uint8).reshape(2, side, 31, 3)[:, :, : min(side, 31)]
    found = settings_of(FITS[rule]).get("format"), combined_digest(FITS[rule](images, 16))[:12]
    assert found == PIXELS[rule]
    assert settings_of(rule_of(json.loads(json.dumps(settings_of(FITS[rule]))))) == settings_of(FITS[rule])


@pytest.mark.parametrize("settings", [{"name": "resize"}, {"name": "resize", "format": 3}, {"name": "mine"}])
def test_a_rule_that_this_version_does_not_have_is_refused(settings: dict[str, object]):
    with pytest.raises(UsageError, match=r"cannot be brought to size(.|\n)*Known: resize, pad, crop, canvas"):
        rule_of(settings)


def test_pad_centres_in_zeros_and_refuses_to_cut():
    images = np.full((2, 5, 4, 1), 7, np.uint8)
    out = pad(images, 8)
    assert out.shape == (2, 8, 8, 1) and out.sum() == images.sum()
    assert np.all(out[:, 1:6, 2:6] == 7)
    with pytest.raises(UsageError, match=r"5 x 4 cannot be padded to 4 x 4(.|\n)*image_size >= 5(.|\n)*image_fit=resize"):
        pad(images, 4)


def test_image_size_changes_shape_pixels_and_fingerprint():
    plain, padded, resized = (
        build(small(), batch_size=5, **knobs)
        for knobs in ({}, {"image_size": 12, "image_fit": pad}, {"image_size": 12, "image_fit": resize})
    )
    assert plain.image_shape == (8, 8, 1) and padded.image_shape == resized.image_shape == (12, 12, 1)
    assert len({plain.fingerprint, padded.fingerprint, resized.fingerprint}) == 3
    lazy = build(lazily(small()), batch_size=5, image_size=12, image_fit=pad, resident_mib=0)
    assert lazy.fingerprint == padded.fingerprint
    np.testing.assert_array_equal(lazy.images("train", np.array([1])), padded.images("train", np.array([1])))


def test_pixels_of_another_decoder_are_other_data_and_its_version_has_a_cache_of_its_own(monkeypatch: pytest.MonkeyPatch):
    assert decoder.decoder_key() == "" and decoder.decoder_versions().startswith("Pillow ")
    reads = []
    source = lazily(small())
    for part in source.splits.values():
        read = part.images.read
        object.__setattr__(part.images, "read", lambda ids, read=read: reads.extend(ids) or read(ids))
    first = build(source, batch_size=5).fingerprint
    for module in (pipeline, loading):
        monkeypatch.setattr(module, "decoder_versions", lambda: "Pillow 99")
    assert build(source, batch_size=5).fingerprint == first and len(reads) == 2 * (50 + 12)
    monkeypatch.setattr(pipeline, "decoder_key", lambda: "decoder 012345")
    assert build(source, batch_size=5).fingerprint != first
    assert build(small(), batch_size=5).fingerprint == first, "arrays are not decoded"


def test_fingerprint_follows_examples_and_splits():
    base = build(small(), batch_size=5).fingerprint
    assert base == build(small(), batch_size=7).fingerprint
    assert base != build(small(data_seed=1), batch_size=5).fingerprint
    assert base != build(small(), batch_size=5, validation=0.2).fingerprint


def test_batch_larger_than_train_says_both_numbers_and_the_fix():
    with pytest.raises(UsageError, match=r"0 steps per epoch: 45 examples < batch 128(.|\n)*5 more are held out(.|\n)*=45"):
        build(small(), batch_size=128)


def test_images_of_different_sizes_need_an_image_size():
    source = lazily(small())
    splits = {
        name: part.having(image=dataclasses.replace(part.images, image_shape=(None, 8, 1)))
        for name, part in source.splits.items()
    }
    source = dataclasses.replace(source, splits=splits)
    with pytest.raises(DataError, match=r"differ in size(.|\n)*--image_size"):
        build(source, batch_size=5)
    assert build(source, batch_size=5, image_size=8).image_shape == (8, 8, 1)


def test_wrong_split_name_lists_the_splits():
    with pytest.raises(UsageError, match=r"no split 'vaild'.*validation(.|\n)*train, test"):
        build(small(), batch_size=5).evaluate("vaild", 5)


def test_decoded_images_come_from_the_cache_and_a_damaged_entry_is_made_again(tmp_path, capfd):
    reads = []
    source = lazily(small())
    for part in source.splits.values():
        read = part.images.read
        object.__setattr__(part.images, "read", lambda ids, read=read: reads.extend(ids) or read(ids))
    fresh = build(source, batch_size=5)
    assert len(reads) == 50 + 12
    cached = build(source, batch_size=5)
    assert len(reads) == 50 + 12
    for split in fresh.sizes:
        np.testing.assert_array_equal(fresh.resident[split]["image"], cached.resident[split]["image"])
        assert not isinstance(cached.resident[split]["image"], jax.Array)
    file = max((tmp_path / "cache").rglob("images.npy"), key=lambda path: path.stat().st_size)
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.unlink()
    file.write_bytes(bytes(damaged))
    loading.IN_MEMORY.clear()  # as in a process of its own
    stored_images.OPENED.clear()
    again = build(source, batch_size=5)
    np.testing.assert_array_equal(fresh.resident["train"]["image"], again.resident["train"]["image"])
    assert len(reads) == 50 + 12 + 1 and reads[-1] == 49
    assert capfd.readouterr().err.count("decoding stripes train 8 x 8 x 1, 50 images") == 2


def test_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build(lazily(small()), batch_size=5).sizes["train"] == 45
    assert "not cached" in capfd.readouterr().err


def test_decoded_arrays_are_shared_by_what_is_built_in_a_process_and_by_the_device():
    first, second = (build(lazily(small()), batch_size=5) for _ in range(2))
    for split in first.sizes:
        images = first.resident[split]["image"]
        assert images is second.resident[split]["image"] and images.ctypes.data % loading.ALIGNMENT == 0
        assert not images.flags.writeable
    assert build(lazily(small()), batch_size=5, validation=0.2).resident["train"]["image"].shape[0] == 40
