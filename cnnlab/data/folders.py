"""Data sets that are folders of image files, one sub-folder for each class."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from cnnlab import files
from cnnlab.data.checked_files import CheckedFiles, check_files, state_of
from cnnlab.data.decode import FORMATS, BadImage, read_image
from cnnlab.data.kinds import Image, Label
from cnnlab.data.source import LazyImages, Source, Split, decoding_threads, with_test_split
from cnnlab.data.tree import ImageTree, read_tree
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

NAMED = 20
"""Number of unreadable files that a remark names."""


def folder(
    path: PathText, /, *, skip_bad_images: int = 0, max_pixels: Count = 50_000_000, draft: Count | None = None
) -> Source:
    """Opens the images below `path`, one sub-folder for each class, optionally below train/, test/ and validation/.

    Every file is checked once (the result is cached, by path, size and time, and by content). Images are grey if all files
    are, else RGB. Images in sub-folders of a class belong to the class. Every split has the classes of train. Entries that
    start with a dot are ignored; remarks name all others that are not used. Without a test folder the validation images, or
    else a stratified fifth of train, become the test split.

    Args:
        skip_bad_images: largest number of unreadable files that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels: a file of a few kilobytes can decode to gigabytes.
        draft: JPEGs are decoded at a half, a quarter or an eighth of their size where both sides keep this many pixels: up to
            twice as fast, and about two grey levels off. Twice the --image_size is a good value; none: they are decoded whole.
    """
    root = files.absolute(path)
    tree = read_tree(root)
    class_names = tuple(sorted(tree.files["train"]))
    # (split, class, file) of every image; the arrays of `index` are in this order.
    owners = [
        (split, label, file) for split, classes in tree.files.items() for label in sorted(classes) for file in classes[label]
    ]
    paths = [file for _, _, file in owners]
    index = check_files(root, [tree.name_of(file) for file in paths], paths, max_pixels=max_pixels, draft=draft)
    name = f"folder:{printable(root.resolve().name)}"
    remarks = tree.remarks(name) + _refuse_bad(name, tree, paths, index.reasons, skip_bad_images)
    good = index.reasons == ""
    channels = 3 if np.any(index.shapes[good, 2] == 3) else 1
    remarks += _conversions(name, tree, paths, index, channels)
    number = {label: position for position, label in enumerate(class_names)}
    splits: dict[str, Split] = {}
    for split in tree.files:
        chosen = [position for position, (owner, _, _) in enumerate(owners) if owner == split and good[position]]
        labels = np.array([number[owners[position][1]] for position in chosen], np.int32)
        images = _lazy([paths[position] for position in chosen], index.at(chosen), channels, max_pixels, draft)
        names = [tree.name_of(paths[position]) for position in chosen]
        splits[split] = Split({"image": dataclasses.replace(images, names=names), "label": labels})
    contents = "\n".join(f"{tree.name_of(paths[position])} {index.digests[position]}" for position in np.flatnonzero(good))
    fingerprint = combined_digest(f"folder {channels}{'' if draft is None else f' draft {draft}'}", contents)
    splits, carved = with_test_split(name, splits)
    return Source(name, splits, {"image": Image(), "label": Label(class_names)}, fingerprint, (*remarks, *carved))


def _refuse_bad(name: str, tree: ImageTree, paths: Sequence[pathlib.Path], reasons: np.ndarray, allowed: int) -> list[str]:
    """Raises DataError where more files are bad than allowed; otherwise returns remarks on those that are left out."""
    wrong = np.flatnonzero(reasons != "").tolist()
    if len(wrong) > allowed:
        found = [f"{paths[position]}: {reasons[position]}" for position in wrong]
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise DataError(
            f"{len(wrong)} of {len(paths)} images cannot be used: {printable('; '.join(found[:3]))}{more}.\n"
            f"Expected whole images of 8 bits per channel ({', '.join(FORMATS)}), but for {allowed} "
            f"(--skip_bad_images={allowed}).\n"
            f"Repair or remove them, or leave them out with --skip_bad_images={len(wrong)}."
        )
    listing = [f"{tree.name_of(paths[position])}: {reasons[position]}" for position in wrong]
    total = f"{len(wrong)} of {counted(len(paths), 'image')}"
    return [f"{name}: {total} cannot be used and are left out: {listed(listing, NAMED)}"] if wrong else []


def _conversions(name: str, tree: ImageTree, paths: Sequence[pathlib.Path], index: CheckedFiles, channels: int) -> list[str]:
    """Returns remarks on the files of which only a part is used, and on those that get more channels."""
    remarks = []
    several = np.flatnonzero(index.frames > 1).tolist()
    if several:
        examples = listed([f"{tree.name_of(paths[position])} ({index.frames[position]})" for position in several])
        holds = (
            "file holds several pictures, of which" if len(several) == 1 else "files hold several pictures, of each of which"
        )
        remarks.append(f"{name}: {len(several)} {holds} the first is used: {examples}")
    grey = int(np.sum(index.shapes[index.reasons == "", 2] == 1))
    if channels == 3 and grey:
        remarks.append(f"{name}: {grey} of {len(paths)} images are grey and become RGB, as the others are")
    return remarks


def _lazy(paths: Sequence[pathlib.Path], index: CheckedFiles, channels: int, max_pixels: int, draft: int | None) -> LazyImages:
    """Returns the checked files as images that are decoded on request, all with the same number of channels."""
    # index.shapes [N, 3] -> the height and the width of all images, or None
    height, width = (
        int(sizes[0]) if len(sizes) and np.all(sizes == sizes[0]) else None
        for sizes in (index.shapes[:, 0], index.shapes[:, 1])
    )
    files = ImageFiles(paths, index, channels, max_pixels, draft)
    threads = decoding_threads(height, width)
    return LazyImages(files.read, len(paths), (height, width, channels), threads, digests=index.digests, check=files.check)


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Checked image files; each is compared with what was checked whenever it is read."""

    paths: Sequence[pathlib.Path]
    index: CheckedFiles
    channels: int
    """Channels of every image that is read."""
    max_pixels: int
    draft: int | None

    def read(self, positions: Sequence[int]) -> list[np.ndarray]:
        """Decodes some files to u8 [H, W, C] each; a file that changed since it was checked is a DataError with its path."""
        images = []
        for position in positions:
            path = self.paths[position]
            try:
                found = read_image(path, max_pixels=self.max_pixels, draft=self.draft)
            except BadImage as error:
                raise _changed(path, str(error)) from None
            # Compared after the file is read, so that one which is overwritten meanwhile is noticed.
            self._compare(position, found.data)
            pixels = found.pixels
            wanted = pixels.shape[-1] == self.channels
            images.append(pixels if wanted else np.repeat(pixels, self.channels, axis=-1))
        return images

    def check(self, positions: Sequence[int]) -> None:
        """Compares files with what was checked, by size and time, without reading those that are the same."""
        for position in positions:
            self._compare(position)

    def _compare(self, position: int, data: bytes | None = None) -> None:
        """Raises DataError where a file is not the one that was checked; `data` is what it holds, if that is known."""
        path, state = self.paths[position], state_of(self.paths[position])
        if state == tuple(self.index.states[position].tolist()):
            return
        if data is None:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise _changed(path, f"cannot be read ({error.strerror})") from None
        # A file that was only touched, or copied back, has another time and the same bytes.
        if combined_digest(np.frombuffer(data, np.uint8)) != self.index.digests[position]:
            raise _changed(path, f"{len(data):,} bytes, formerly {self.index.states[position, 0]:,}")
        self.index.states[position] = state


def _changed(path: pathlib.Path, reason: str) -> DataError:
    return DataError(f"{path} changed since it was checked: {reason}.\nRestore it, or start the command again.")
