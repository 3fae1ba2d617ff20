"""Which image belongs to which mask: folders of images beside folders of masks, their splits, and groups that stay together."""

import dataclasses
import pathlib
from collections.abc import Sequence

from cnnlab.data.csv_files import FILE_COLUMNS, known_column, read_table
from cnnlab.data.decode import EXTENSIONS
from cnnlab.data.split_names import split_named
from cnnlab.data.tree import ImageTree, entries, images_below
from cnnlab.errors import DataError, did_you_mean
from cnnlab.text import counted, listed, printable

IMAGES, MASKS, GROUPS = "images", "masks", "groups.csv"
LAYOUT = (
    "Expected PATH/images and PATH/masks with files of equal names but for their endings, or such a pair of folders in "
    "PATH/train, PATH/test and PATH/validation, or in one folder for each group of images, such as PATH/tile1."
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    image: pathlib.Path
    mask: pathlib.Path
    split: str
    group: str | None
    """What the image is a part of, such as a scene; None: not known."""


def pairs_below(tree: ImageTree) -> list[Pair]:
    """Returns the pairs of all folders below the root of a tree, training first; DataError where there are none."""
    root, order = tree.root, ("train", "validation", "test")
    found = sorted(_folders(root), key=lambda one: order.index(one[0] or "train"))
    if not found:
        raise DataError(f"{root} has no folders {IMAGES} and {MASKS}.\nFound there: {entries(root)}.\n{LAYOUT}")
    if {group is None for _, group, _ in found} == {False, True}:
        bare = next(folder for _, group, folder in found if group is None)
        raise DataError(f"{root} has folders of groups, and images outside of them in {bare}.\n{LAYOUT}")
    return [pair for split, group, folder in found for pair in _pairs_in(tree, folder, split or "train", group)]


def _folders(root: pathlib.Path) -> list[tuple[str | None, str | None, pathlib.Path]]:
    """Returns (split, group, folder) of every folder that has folders of images and of masks, down to two below the root."""
    if _has_pair(root):
        return [(None, None, root)]
    found: list[tuple[str | None, str | None, pathlib.Path]] = []
    for place in _subfolders(root):
        split = split_named(place.name)
        if _has_pair(place):
            found.append((split, None if split else printable(place.name), place))
        elif split:
            found += [(split, printable(one.name), one) for one in _subfolders(place) if _has_pair(one)]
    return found


def _has_pair(folder: pathlib.Path) -> bool:
    return (folder / IMAGES).is_dir() or (folder / MASKS).is_dir()


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the visible folders in a folder, sorted; [] where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pairs_in(tree: ImageTree, folder: pathlib.Path, split: str, group: str | None) -> list[Pair]:
    """Returns the pairs of a folder; DataError names images without a mask, and masks without an image."""
    stems: dict[str, dict[str, pathlib.Path]] = {}
    for part in (IMAGES, MASKS):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder {part}.\nFound there: {entries(folder)}.\n{LAYOUT}")
        stems[part] = {}
        for file in images_below(tree, folder / part):
            stem = file.relative_to(folder / part).with_suffix("").as_posix()
            if stem in stems[part]:
                raise DataError(
                    f"{file} and {stems[part][stem].name} have one name but for the ending.\n"
                    f"Expected one file of each name in {folder / part}. Rename or remove one."
                )
            stems[part][stem] = file
    tree.deeper.clear()  # a sub-folder is no class
    for part, other, one, partner in ((IMAGES, MASKS, "image", "a mask"), (MASKS, IMAGES, "mask", "an image")):
        if alone := [stem for stem in stems[part] if stem not in stems[other]]:
            raise DataError(
                f"{counted(len(alone), one)} of {len(stems[part])} in {folder / part} without {partner}: "
                f"{listed([stems[part][stem].name for stem in alone], 5)}.\n"
                f"Expected a file of the same name, but for the ending, in {folder / other}. Add it, or move the {one} away."
            )
    if not stems[IMAGES]:
        raise DataError(
            f"{folder / IMAGES} has no images.\nFound there: {entries(folder / IMAGES)}.\n"
            f"Images end in {', '.join(EXTENSIONS)}."
        )
    return [Pair(file, stems[MASKS][stem], split, group) for stem, file in stems[IMAGES].items()]


def with_groups(root: pathlib.Path, pairs: list[Pair]) -> list[Pair]:
    """Returns the pairs with the groups of a table at the root, if there is one; DataError where an image is not in it."""
    if not (root / GROUPS).is_file():
        return pairs
    table = read_table(root / GROUPS)
    column = next((name for name in table.columns if name.lower() in FILE_COLUMNS), "file")
    stems, groups = (table.cells(known_column(table, name, "test_groups")) for name in (column, "group"))
    known: dict[str, str] = {}
    for line, stem, group in zip(table.lines, stems, groups, strict=True):
        if known.setdefault(_stem(stem), group) != group:
            raise DataError(
                f"{table.path}, line {line}: {printable(stem)} is in {printable(group)} here and in "
                f"{printable(known[_stem(stem)])} above.\nExpected one group for each image."
            )
    names = [pair.image.relative_to(root).as_posix() for pair in pairs]
    if missing := [name for name in names if _stem(name) not in known]:
        raise DataError(
            f"{table.path}: {counted(len(missing), 'image')} of {len(pairs)} in no row: {listed(missing)}.\n"
            f"Expected a row file,group for every image, such as {printable(names[0])},scene1."
        )
    grouped = [dataclasses.replace(pair, group=known[_stem(name)]) for name, pair in zip(names, pairs, strict=True)]
    splits: dict[str, set[str]] = {group: set() for group in known.values()}
    for pair, name in zip(pairs, names, strict=True):
        splits[known[_stem(name)]].add(pair.split)
    if cut := [group for group, own in splits.items() if len(own) > 1]:
        raise DataError(
            f"{table.path}: {counted(len(cut), 'group')} of {len(splits)} in more than one split: {listed(cut, 3)}.\n"
            "Expected all images of a group in one of the folders train, validation and test. Move them, or correct the groups."
        )
    return grouped


def _stem(path: str) -> str:
    """Returns the path of an image without the folder `images` and the ending: `train/a` for train/images/a.png."""
    place = pathlib.PurePosixPath(path)
    place = place.with_suffix("") if place.suffix.lower() in EXTENSIONS else place
    return "/".join(part for part in place.parts if part != IMAGES)


def with_test_groups(root: pathlib.Path, pairs: list[Pair], chosen: Sequence[str]) -> list[Pair]:
    """Returns the pairs with some groups as the test split; DataError for a group that there is not."""
    if not chosen:
        return pairs
    groups = list(dict.fromkeys(pair.group for pair in pairs if pair.group is not None))
    flag, rest = f"--dataset.test_groups={','.join(chosen)}", set(groups) - set(chosen)
    if unknown := [group for group in chosen if group not in groups]:
        known = listed(groups, 20) if groups else f"none, since there is no {GROUPS} and no folder for each group"
        guess = did_you_mean(unknown[0], groups)
        raise DataError(f"{flag}: {root} has no group {unknown[0]}.{guess}\nIts groups: {known}.")
    if not rest or any(pair.split == "test" for pair in pairs):
        reason = "there is a folder of test images already" if rest else "no other group is left for training"
        raise DataError(f"{flag}: {reason}.\nLeave it out, or name other groups of {listed(groups, 20)}.")
    moved = [dataclasses.replace(pair, split="test") if pair.group in chosen else pair for pair in pairs]
    return sorted(moved, key=lambda pair: pair.split == "test")
