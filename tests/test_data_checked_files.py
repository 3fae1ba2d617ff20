"""Image files are checked once: touched, moved and interrupted folders are not checked again, and what changed is noticed."""

import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from cnnlab.data import cache, checked_files, folder, image_files
from cnnlab.data.decode import check_image, read_image
from cnnlab.errors import DataError, Preempted
from tests.commands import Here, read

LIMIT = {"max_pixels": 10**6}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded to be checked."""
    found: list[str] = []
    check = checked_files.check_image

    def counting(path: pathlib.Path, **how):
        found.append(path.name)
        return check(path, **how)

    monkeypatch.setattr(checked_files, "check_image", counting)
    return found


def pets(root: pathlib.Path, count: int = 6) -> pathlib.Path:
    """A folder of two classes of JPEGs of noise, each another."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(root / label / f"{number}.jpg")
    return root


def test_a_touched_file_and_a_moved_folder_are_read_and_not_decoded_again(tmp_path, decoded):
    source = folder(str(pets(tmp_path / "pets")))
    assert len(decoded) == 12 and folder(str(tmp_path / "pets")).fingerprint == source.fingerprint and len(decoded) == 12
    os.utime(tmp_path / "pets" / "cat" / "3.jpg", (5, 5))
    assert folder(str(tmp_path / "pets")).fingerprint == source.fingerprint and len(decoded) == 12
    (tmp_path / "pets").rename(tmp_path / "animals")
    assert folder(str(tmp_path / "animals")).fingerprint == source.fingerprint and len(decoded) == 12
    shutil.copy(tmp_path / "animals" / "cat" / "0.jpg", tmp_path / "animals" / "dog" / "0.jpg")
    Image.new("RGB", (40, 30)).save(tmp_path / "animals" / "dog" / "new.jpg")
    assert folder(str(tmp_path / "animals")).fingerprint != source.fingerprint and decoded[12:] == ["new.jpg"]
    kept = [entry.about for entry in cache.entries() if entry.folder.name.startswith(checked_files.PREFIX)]
    assert sorted(kept) == [f"12 checked images below {tmp_path}/pets", f"13 checked images below {tmp_path}/animals"]


def test_a_check_that_is_interrupted_goes_on_where_it_was(tmp_path, decoded, monkeypatch):
    root, whole = pets(tmp_path / "pets"), folder(str(pets(tmp_path / "same"))).fingerprint
    cache.clear()
    decoded.clear()
    monkeypatch.setattr(checked_files, "AT_ONCE", 5)
    check = checked_files.check_image

    def interrupted(path, **how):
        if len(decoded) >= 5:
            raise Preempted("stopped by SIGINT")
        return check(path, **how)

    monkeypatch.setattr(checked_files, "check_image", interrupted)
    with pytest.raises(Preempted):
        folder(str(root))
    assert len(decoded) == 5
    monkeypatch.setattr(checked_files, "check_image", check)
    assert folder(str(root)).fingerprint == whole and len(decoded) == 12
    assert [entry.about for entry in cache.entries()] == [f"12 checked images below {root}"]


@pytest.mark.parametrize("how", ["overwritten", "cut short", "another size", "deleted"])
def test_a_file_that_changes_after_the_check_is_named_when_it_is_read(tmp_path, how):
    source = folder(str(pets(tmp_path / "pets")))
    images = source.splits["train"].images
    images[np.arange(4)]
    file = tmp_path / "pets" / images.names[2]
    if how == "overwritten":  # by an image of the same shape
        Image.new("RGB", (40, 30)).save(file)
    elif how == "cut short":
        file.write_bytes(file.read_bytes()[:-50])
    elif how == "another size":
        Image.new("RGB", (44, 30)).save(file)
    else:
        file.unlink()
    for look in (lambda: images[np.arange(4)], lambda: images.check([1, 2])):
        with pytest.raises(DataError, match=rf"{images.names[2]} changed since it was checked: ") as caught:
            look()
        assert caught.value.exit_code == 3


def test_the_check_finds_the_shape_that_decoding_gives_and_a_draft_is_close(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    picture = Image.fromarray(noise).resize((203, 160), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = picture.convert("L")
    for name, image, more in (("a.jpg", picture, {"exif": exif}), ("b.jpg", grey, {}), ("c.png", grey.convert("LA"), {})):
        image.save(tmp_path / name, **more)
        whole = read_image(tmp_path / name, **LIMIT).pixels
        for draft in (None, 40, 90):
            checked = check_image(tmp_path / name, draft=draft, **LIMIT)
            pixels = read_image(tmp_path / name, draft=draft, **LIMIT).pixels
            assert checked.shape == pixels.shape and checked.frames == 1
            reduced = draft == 40 and name != "c.png"
            assert (pixels.shape[0] < whole.shape[0] // 3) == reduced
        if reduced or name == "c.png":
            continue
        small = Image.fromarray(read_image(tmp_path / name, draft=40, **LIMIT).pixels.squeeze())
        exact = Image.fromarray(whole.squeeze()).resize(small.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(small).astype(int) - np.asarray(exact).astype(int)).mean() < 3


def test_a_draft_is_another_data_set(tmp_path):
    plain, same, reduced = (
        folder(str(pets(tmp_path / name)), draft=draft) for name, draft in (("a", None), ("b", 30), ("c", 5))
    )
    assert len({plain.fingerprint, same.fingerprint, reduced.fingerprint}) == 3
    assert same.splits["train"].images.image_shape == (30, 40, 3) and reduced.splits["train"].images.image_shape == (8, 10, 3)
    assert reduced.splits["train"].images[np.arange(2)].shape == (2, 8, 10, 3)


@pytest.mark.slow
def test_a_file_that_changes_in_a_run_ends_it_with_its_path_and_a_checkpoint(here: Here, tmp_path, monkeypatch):
    pets(tmp_path / "pets", 20)
    looked: list[pathlib.Path] = []
    state_of = image_files.state_of

    def changing(path: pathlib.Path) -> tuple[int, int]:
        looked.append(path)
        if len(looked) == 300:  # when all images come from the cache
            Image.new("RGB", (40, 30)).save(path)
        return state_of(path)

    monkeypatch.setattr(image_files, "state_of", changing)
    words = ("--experiment=lenet5_digits", "--model=linear", "--dataset=folder:pets", "--image_size=8", "--resident_mib=0")
    pace = ("--devices=1", "--batch_size=4", "--steps=400", "--eval_every=400", "--save_every=400", "--workdir=run")
    code, _, err = here(*words, *pace)
    assert code == 3 and f"{looked[299]} changed since it was checked" in err, err
    status = read(tmp_path / "run" / "status.json")
    assert status["state"] == "FAILED" and 0 < status["checkpoint"] < 400
