"""Proposals as a column: their places, how they follow their images, the cache, what is said, and what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cnnlab.data import proposals
from cnnlab.data.images import images
from cnnlab.data.kinds import Boxes, Image, Proposals
from cnnlab.data.kinds.recorded import as_json, from_json
from cnnlab.data.proposals import selective_search, with_proposals
from cnnlab.data.scenes import scenes
from cnnlab.data.source import LazyImages, Source, Split
from cnnlab.data.variations.mirror import flip
from cnnlab.errors import DataError, UsageError

SCENES = functools.partial(scenes, examples=8, size=32, most_objects=2, clutter=0, visible=1.0)
SEARCH = functools.partial(selective_search, most=30, spaces=("lab",), scales=(50.0,))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def corner(image):
    """Proposes a box in the upper left corner, twice as wide as high, and the whole image if it is bright there."""
    height, width = image.shape[:2]
    found = [[0, 0, 8, 4], *([[0, 0, width, height]] if image[0, 0, 0] > 100 else [])]
    return np.asarray(found, np.float32)


def painted(values, size=(12, 20), channels=3, dtype=np.uint8):
    """A data set of images of one colour each, without boxes of objects."""
    arrays = np.stack([np.full((*size, channels), value, dtype) for value in values])
    return Source("painted", {"train": Split({"image": arrays})}, {"image": Image()}, "painted")


def test_the_column_holds_what_selective_search_finds_on_each_image_and_covers_the_objects():
    plain = SCENES()
    source = with_proposals(plain, SEARCH)
    assert source.kinds["proposals"] == Proposals() and source.fingerprint != plain.fingerprint
    column, held = (source.splits[split].columns["proposals"] for split in ("train", "test"))
    assert column["corners"].shape[1] == held["corners"].shape[1] <= 30
    for place, image in enumerate(plain.splits["train"].images):
        found = SEARCH(image)
        np.testing.assert_array_equal(column["corners"][place, : len(found)], found)
        assert column["valid"][place].sum() == len(found) and not column["corners"][place, len(found) :].any()
    said = [one for one in source.remarks if "selective_search proposes" in one]
    assert len(said) == 2 and "% with the first 10" in said[0]
    share = float(said[0].rpartition("objects that one covers")[2].rpartition(" % with")[0].rpartition(" ")[2])
    assert share > 90, said[0]
    assert from_json(as_json(source.kinds))["proposals"] == Proposals()


def test_a_box_of_a_reduced_image_ends_with_the_whole_one(monkeypatch):
    # In f32 375 * (768 / 375) is 768.00006.
    monkeypatch.setattr(proposals.search, "proposals", lambda image, **_: np.asarray([[0, 0, 500, 375]], np.float32))
    np.testing.assert_array_equal(selective_search(np.zeros((768, 1024, 3), np.uint8)), [[0, 0, 1024, 768]])


def test_what_was_found_is_read_from_the_cache_and_settings_are_part_of_its_key(monkeypatch):
    first = with_proposals(SCENES(), SEARCH)
    monkeypatch.setattr(proposals.search, "proposals", lambda *image, **settings: pytest.fail("it was searched again"))
    again = with_proposals(SCENES(instances=True), SEARCH)  # the images are the same
    for split in first.splits:
        jax.tree.map(
            np.testing.assert_array_equal,
            first.splits[split].columns["proposals"],
            again.splits[split].columns["proposals"],
        )
    with pytest.raises(pytest.fail.Exception, match="searched again"):
        with_proposals(SCENES(), functools.partial(SEARCH, sigma=0.5))


def test_proposals_follow_images_to_their_size_and_move_with_them():
    data = images(
        proposals=corner, dataset=functools.partial(painted, [0, 200, 0, 200]), batch_size=4, image_size=6, augment=(flip,)
    )
    feed = next(data.train(0, 0))
    assert data.stored["proposals"]["corners"].shape == (2, 4)
    prepare = jax.jit(data.prepare)
    still = prepare(data.resident["train"], feed, None)["proposals"]
    bright = np.asarray(feed["index"]) % 2 == 1
    np.testing.assert_array_equal(still["valid"], np.stack([np.ones(4, bool), bright], axis=1))
    np.testing.assert_allclose(still["corners"][:, 0], [[0, 0, 2.4, 2]] * 4, rtol=1e-6)
    flipped = 0
    for number in range(4):
        moved = prepare(data.resident["train"], feed, jax.random.key(number))["proposals"]["corners"][:, 0]
        flipped += int(np.sum(np.asarray(moved)[:, 0] > 0))
        assert all(np.allclose(box, [0, 0, 2.4, 2]) or np.allclose(box, [3.6, 0, 6, 2]) for box in np.asarray(moved))
    assert 0 < flipped < 16


@pytest.mark.parametrize(("channels", "dtype", "scale"), [(1, np.uint8, 1), (3, np.float32, 255), (2, np.float32, 255)])
def test_images_of_other_channels_and_types_are_shown_as_colours(channels, dtype, scale):
    given = painted(np.asarray([0, 200]) / scale, channels=channels, dtype=dtype)
    column = with_proposals(given, corner).splits["train"].columns["proposals"]
    assert column["valid"].tolist() == [[True, False], [True, True]]


def test_images_that_are_decoded_on_request_may_differ_in_size_and_wide_ones_are_reduced():
    sizes = [(20, 40), (30, 60)]
    drawn = [np.zeros((*size, 3), np.uint8) for size in sizes]
    for image in drawn:
        image[4:12, 10:26] = (250, 240, 30)
    lazy = LazyImages(
        lambda positions: [drawn[place] for place in positions], 2, (None, None, 3), sizes=np.asarray(sizes, np.int32)
    )
    source = Source("lazy", {"train": Split({"image": lazy})}, {"image": Image()}, "lazy")
    for widest in (None, 20):
        column = with_proposals(source, functools.partial(SEARCH, widest=widest, least=4)).splits["train"].columns["proposals"]
        for place, (height, width) in enumerate(sizes):
            boxes = column["corners"][place][column["valid"][place]]
            assert np.abs(boxes - [10, 4, 26, 12]).max(axis=1).min() <= (3 if widest else 1)
            assert [0, 0, width, height] in boxes.tolist()
    digests = dataclasses.replace(lazy, digests=np.asarray(["a", "b"]))
    assert with_proposals(dataclasses.replace(source, splits={"train": Split({"image": digests})}), SEARCH)


def test_every_setting_of_selective_search_changes_what_it_finds():
    image = scenes(examples=1, size=48).splits["train"].images[0]
    first = SEARCH(image)
    others = {"most": 5, "spaces": ("rgb",), "scales": (300.0,), "colour": "with", "sigma": 2.0, "least": 90}
    for name, value in {**others, "smallest_side": 20, "widest": 30}.items():
        assert not np.array_equal(SEARCH(image, **{name: value}), first), name


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([[0, 0, 2, 2]], "list"),
        (np.zeros((2, 4)), r"float64 \[2, 4\]"),
        (np.asarray([[0, 0, 21, 5]], np.float32), "boxes beyond it"),
        (np.asarray([[3, 0, 3, 5]], np.float32), "without an area"),
    ],
)
def test_what_is_no_box_on_the_image_is_refused(found, said):
    with pytest.raises(DataError, match=rf"painted train, image 0: --proposals found .*{said}.*\nExpected float32 \[n, 4\]"):
        with_proposals(painted([0]), lambda image: found)


def test_a_data_set_with_proposals_gets_no_others_and_without_any_is_left_as_it_is():
    source = with_proposals(painted([0]), corner)
    with pytest.raises(UsageError, match="painted has a column proposals of its own"):
        with_proposals(source, corner)
    assert with_proposals(source, proposals.no_proposals) is source


def test_proposals_are_no_objects():
    kinds = with_proposals(SCENES(examples=2), SEARCH).kinds
    assert not isinstance(kinds["proposals"], Boxes) and not kinds["proposals"].names_outputs
    with pytest.raises(DataError, match="box 0 of example 0"):
        Proposals().check({"corners": np.zeros((1, 2, 4), np.float32), "valid": np.ones((1, 2), bool)}, "here")
    with pytest.raises(DataError, match=r"Expected a dict of arrays: corners .*, valid "):
        Proposals().check({"corners": np.zeros((1, 2, 4), np.float32)}, "here")
