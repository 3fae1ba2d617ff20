"""Data sets that are folders of image files, one sub-folder for each class."""

from typing import Literal

import numpy as np

from cnnlab import files
from cnnlab.data.decode import MAX_PIXELS
from cnnlab.data.image_files import checked_images
from cnnlab.data.kinds import Image, Kind, Label
from cnnlab.data.source import Source, Split, with_test_split
from cnnlab.data.tree import read_tree, read_unlabelled
from cnnlab.text import printable
from cnnlab.values import Count, PathText


def folder(
    path: PathText,
    /,
    *,
    classes: Literal["folders", "none"] = "folders",
    skip_bad_images: int = 0,
    max_pixels: Count = MAX_PIXELS,
    draft: Count | None = None,
) -> Source:
    """Opens the images below `path`, one sub-folder for each class, optionally below train/, test/ and validation/.

    Every file is checked once (the result is cached, by path, size and time, and by content). Images are grey if all files
    are, else RGB. Images in sub-folders of a class belong to the class. Every split has the classes of train. Entries that
    start with a dot are ignored; remarks name all others that are not used. Without a test folder the validation images, or
    else a stratified fifth of train, become the test split.

    Args:
        classes: where the classes come from: the names of folders; none: the images have no labels, whatever their folders.
        skip_bad_images: largest number of unreadable files that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels: a file of a few kilobytes can decode to gigabytes.
        draft: JPEGs are decoded at a half, a quarter or an eighth of their size where both sides keep this many pixels: up to
            twice as fast, and about two grey levels off. Twice the --image_size is a good value; none: they are decoded whole.
    """
    root = files.absolute(path)
    tree = read_tree(root) if classes == "folders" else read_unlabelled(root)
    class_names = tuple(sorted(tree.files["train"]))
    # (split, class, file) of every image; `checked` holds them in this order.
    owners = [(split, label, file) for split, found in tree.files.items() for label in sorted(found) for file in found[label]]
    paths = [file for _, _, file in owners]
    name = f"folder:{printable(root.resolve().name)}"
    names = [tree.name_of(file) for file in paths]
    checked = checked_images(name, root, paths, names, skip_bad_images=skip_bad_images, max_pixels=max_pixels, draft=draft)
    number = {label: position for position, label in enumerate(class_names)}
    splits: dict[str, Split] = {}
    for split in tree.files:
        chosen = [position for position, (owner, _, _) in enumerate(owners) if owner == split and checked.good[position]]
        found = np.array([number[owners[position][1]] for position in chosen], np.int32)
        splits[split] = Split({"image": checked.at(chosen), "label": found})
    kinds: dict[str, Kind] = {"image": Image(), "label": Label(class_names)}
    if classes == "none":
        kinds, splits = {"image": Image()}, {split: Split({"image": part.images}) for split, part in splits.items()}
    splits, carved = with_test_split(name, splits)
    return Source(name, splits, kinds, checked.fingerprint, (*tree.remarks(name), *checked.remarks, *carved))
