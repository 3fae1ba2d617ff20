"""Decodes one image file that is not trusted: the size is checked before the pixels, and every colour mode is handled."""

import contextlib
import io
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnnlab.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "JPEG2000": (".jp2", ".j2k"),
}
"""The endings of the files that are images, by Pillow's name of their format. Pillow reads others, some through programs that
a file of a stranger should not reach (EPS through Ghostscript)."""
EXTENSIONS = tuple(ending for endings in FORMATS.values() for ending in endings)
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
MAX_PIXELS = 50_000_000
"""Size of the largest image that is decoded by default, in pixels: a file of a few kilobytes can decode to gigabytes."""
MOST_BYTES_A_PIXEL = 16
"""Bytes of a file for each pixel of the largest image that is decoded, above which the file is not read. Four channels of 32
bits take as much without compression."""
LEAST_LIMIT = 2**24
"""Bytes that a file may have however small that image is: headers, comments and colour profiles do not shrink with it."""
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""EXIF tag of the orientation, and its values under which height and width change places."""


class BadImage(DataError):
    """A file is not a usable image; the text is the reason, without the path."""


class DecodedImage(NamedTuple):
    """What an image file holds."""

    data: bytes
    """The file's bytes."""
    pixels: np.ndarray
    """u8 [H, W, 1] for a grey file, [H, W, 3] for any other."""


class CheckedImage(NamedTuple):
    """What is known of an image file that can be decoded."""

    data: bytes
    """The file's bytes."""
    shape: tuple[int, int, int]
    """Shape of its pixels, as `read_image` gives them."""
    frames: int
    """Number of pictures in the file, of which the first is used: more than one for animations and pages."""


def read_image(path: pathlib.Path, *, max_pixels: int, draft: int | None = None) -> DecodedImage:
    """Reads and decodes an image file; BadImage says what is wrong with it.

    EXIF orientation is applied. Transparent images are composited on black; palettes, CMYK and the rest become RGB; two-level
    images become 0 and 255. 16-bit grey and floating-point files are refused, since how to scale them is the owner's decision
    (Pillow itself keeps the high byte of 16-bit colour).

    Args:
        path: the file.
        max_pixels: size of the largest image that is decoded, in pixels.
        draft: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if both sides keep this many pixels; None: always whole.
    """
    from PIL import ImageOps

    with opened_file(path, max_pixels) as (data, image):
        if draft is not None and image.format == "JPEG":
            image.draft(None, (draft, draft))
        image.load()
        return DecodedImage(data, pixels_of(ImageOps.exif_transpose(image)))


def check_image(path: pathlib.Path, *, max_pixels: int, draft: int | None = None) -> CheckedImage:
    """Returns what `read_image` would find, without the pixels; BadImage says what is wrong with the file.

    All of the file is read, so one that is cut short is noticed. A JPEG is decoded at an eighth of its size, which takes about
    three quarters of the time.
    """
    with opened_file(path, max_pixels) as (data, image):
        width, height = image.size
        if image.format == "JPEG":
            image.draft(None, (draft or 1, draft or 1))
            width, height = image.size if draft else (width, height)
        image.load()
        if image.getexif().get(ORIENTATION, 1) in TURNED:
            width, height = height, width
        # Last, because counting the frames of a GIF goes through them, after which it is in another mode.
        channels = 1 if image.mode in GREY_MODES else 3
        return CheckedImage(data, (height, width, channels), int(getattr(image, "n_frames", 1)))


@contextlib.contextmanager
def opened_file(path: pathlib.Path, max_pixels: int) -> Iterator[tuple[bytes, "Image.Image"]]:
    """Yields (the file's bytes, the image in it, not decoded yet)."""
    data = _bytes_of(path, max(MOST_BYTES_A_PIXEL * max_pixels, LEAST_LIMIT))
    with opened_bytes(data, max_pixels) as image:
        yield data, image


@contextlib.contextmanager
def opened_bytes(data: bytes, max_pixels: int) -> Iterator["Image.Image"]:
    """Yields an encoded image, opened and not decoded yet, and turns the errors of decoders into BadImage.

    Args:
        data: the content of a file.
        max_pixels: size of the largest image that is opened, in pixels.
    """
    from PIL import Image

    if data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        raise BadImage("a web page or XML, not an image; was a download refused?")
    try:
        with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
            if image.width * image.height > max_pixels:
                raise BadImage(f"{image.width} x {image.height} pixels, above the limit of {max_pixels} (--max_pixels)")
            _require_bytes(image.mode)
            yield image
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(f"more pixels than the limit of {max_pixels} (--max_pixels)") from None
    except Image.UnidentifiedImageError:
        raise BadImage(
            f"not a whole PNG, JPEG, WebP, BMP, GIF, TIFF, PPM, TGA or JPEG 2000 image; it begins with {data[:8]!r}"
        ) from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, … on broken files
        raise BadImage(f"broken or cut short: {str(error) or type(error).__name__}") from None


def _bytes_of(path: pathlib.Path, most: int) -> bytes:
    """Returns the content of a regular file of at most so many bytes; BadImage says why it cannot be an image.

    Pipes and devices are not opened: reading them may wait for ever, or never end.
    """
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise BadImage("a folder, a pipe or a device, expected a file")
        if state.st_size > most:
            raise BadImage(f"{state.st_size:,} bytes, more than an image below the limit of pixels can have (--max_pixels)")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadImage(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not data:
        raise BadImage("empty file (0 bytes)")
    return data


def _require_bytes(mode: str) -> None:
    """Raises BadImage for a mode of Pillow with more than 8 bits per channel."""
    if mode in DEEP_MODES:
        raise BadImage(f"16-bit or floating-point image (mode {mode}); convert it to 8 bits per channel")


def pixels_of(image: "object") -> np.ndarray:
    """Converts a Pillow image to u8 [H, W, 1] where its mode is grey, else to [H, W, 3]; raises BadImage above 8 bits."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    _require_bytes(image.mode)
    grey = image.mode in GREY_MODES
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over)
    if grey and image.mode == "RGBA":
        image = image.getchannel("R")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels
