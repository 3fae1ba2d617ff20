"""Image files of a data set: which can be used, and how they are read on request; for folders and tables of files alike."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from cnnlab.data.checked_files import CheckedFiles, check_files, state_of
from cnnlab.data.decode import FORMATS, BadImage, DecodedImage, read_image
from cnnlab.data.source import LazyImages, decoding_threads
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable

NAMED = 20
"""Number of unreadable files that a remark names."""


@dataclasses.dataclass(frozen=True)
class CheckedImages:
    """N image files that were checked, with the same number of channels for all."""

    paths: Sequence[pathlib.Path]
    names: Sequence[str]
    """The paths as they are printed and recorded."""
    index: CheckedFiles
    channels: int
    max_pixels: int
    draft: int | None
    remarks: tuple[str, ...]
    """What is left out or converted."""

    @property
    def good(self) -> np.ndarray:
        """Whether each file can be used, bool [N]."""
        return self.index.reasons == ""

    @property
    def fingerprint(self) -> str:
        """Returns a digest of the names and contents of the files that can be used."""
        contents = "\n".join(
            f"{self.names[position]} {self.index.digests[position]}" for position in np.flatnonzero(self.good).tolist()
        )
        return combined_digest(f"folder {self.channels}{'' if self.draft is None else f' draft {self.draft}'}", contents)

    def at(self, positions: Sequence[int]) -> LazyImages:
        """Returns some of the files as images that are decoded on request."""
        index = self.index.at(positions)
        # [M, 3] -> the height and the width of all images, or None
        height, width = (
            int(sizes[0]) if len(sizes) and np.all(sizes == sizes[0]) else None
            for sizes in (index.shapes[:, 0], index.shapes[:, 1])
        )
        paths = [self.paths[position] for position in positions]
        files = ImageFiles(paths, index, self.channels, self.max_pixels, self.draft)
        return LazyImages(
            files.read,
            len(paths),
            (height, width, self.channels),
            decoding_threads(height, width),
            digests=index.digests,
            names=[self.names[position] for position in positions],
            sizes=index.shapes[:, :2],
            check=files.check,
        )


def checked_images(
    name: str,
    root: pathlib.Path,
    paths: Sequence[pathlib.Path],
    names: Sequence[str],
    *,
    skip_bad_images: int,
    max_pixels: int,
    draft: int | None,
) -> CheckedImages:
    """Checks image files, or raises DataError where more than `skip_bad_images` of them cannot be used.

    Args:
        name: name of the data set.
        root: folder above the files.
        paths: the files.
        names: their paths as they are printed and recorded.
        skip_bad_images: largest number of unreadable files that are left out.
        max_pixels: size of the largest image that is decoded, in pixels.
        draft: side in pixels that a JPEG keeps when it is decoded at a part of its size; None: it is decoded whole.
    """
    index = check_files(root, names, paths, max_pixels=max_pixels, draft=draft)
    return usable_images(name, paths, names, index, skip_bad_images=skip_bad_images, max_pixels=max_pixels, draft=draft)


def usable_images(
    name: str,
    paths: Sequence[pathlib.Path],
    names: Sequence[str],
    index: CheckedFiles,
    *,
    skip_bad_images: int,
    max_pixels: int,
    draft: int | None,
) -> CheckedImages:
    """Returns files as `checked_images` does, of which `index` says what checking found."""
    remarks = refuse_bad(name, names, paths, index.reasons, skip_bad_images)
    channels = 3 if np.any(index.shapes[index.reasons == "", 2] == 3) else 1
    remarks += _conversions(name, names, index, channels)
    return CheckedImages(paths, names, index, channels, max_pixels, draft, tuple(remarks))


def refuse_bad(name: str, names: Sequence[str], paths: Sequence[pathlib.Path], reasons: np.ndarray, allowed: int) -> list[str]:
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
    listing = [f"{names[position]}: {reasons[position]}" for position in wrong]
    total = f"{len(wrong)} of {counted(len(paths), 'image')}"
    return [f"{name}: {total} cannot be used and are left out: {listed(listing, NAMED)}"] if wrong else []


def _conversions(name: str, names: Sequence[str], index: CheckedFiles, channels: int) -> list[str]:
    """Returns remarks on the files of which only a part is used, and on those that get more channels."""
    remarks = []
    several = np.flatnonzero(index.frames > 1).tolist()
    if several:
        examples = listed([f"{names[position]} ({index.frames[position]})" for position in several])
        holds = (
            "file holds several pictures, of which" if len(several) == 1 else "files hold several pictures, of each of which"
        )
        remarks.append(f"{name}: {len(several)} {holds} the first is used: {examples}")
    grey = int(np.sum(index.shapes[index.reasons == "", 2] == 1))
    if channels == 3 and grey:
        remarks.append(f"{name}: {grey} of {len(names)} images are grey and become RGB, as the others are")
    return remarks


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
                found = self.decoded(path)
            except BadImage as error:
                raise _changed(path, str(error)) from None
            # Compared after the file is read, so that one which is overwritten meanwhile is noticed.
            self._compare(position, found.data)
            images.append(self.as_wanted(found.pixels))
        return images

    def decoded(self, path: pathlib.Path) -> DecodedImage:
        """Returns the bytes and pixels of a file; BadImage says what is wrong with it."""
        return read_image(path, max_pixels=self.max_pixels, draft=self.draft)

    def as_wanted(self, pixels: np.ndarray) -> np.ndarray:
        """Returns pixels u8 [H, W, 1 or 3] with the channels of all images."""
        return pixels if pixels.shape[-1] == self.channels else np.repeat(pixels, self.channels, axis=-1)

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
