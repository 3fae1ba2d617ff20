"""Decodes one image file that is not trusted: the size is checked before the pixels, and every colour mode is handled."""

import io
import pathlib

import numpy as np

from cnnlab.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


class BadImage(DataError):
    """A file is not a usable image; the text is the reason, without the path."""


def read_image(path: pathlib.Path, *, max_pixels: int) -> tuple[bytes, np.ndarray]:
    """Returns (the file's bytes, u8 [H, W, 1] for a grey file or [H, W, 3] for any other); BadImage says what is wrong.

    EXIF orientation is applied. Transparent images are composited on black; palettes, CMYK and the rest become RGB; two-level
    images become 0 and 255. 16-bit grey and floating-point files are refused, since how to scale them is the owner's decision
    (Pillow itself keeps the high byte of 16-bit colour).
    """
    from PIL import Image, ImageOps

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(f"cannot be read ({error.strerror})") from None
    if not data:
        raise BadImage("empty file (0 bytes)")
    if data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        raise BadImage("a web page or XML, not an image; was a download refused?")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise BadImage(f"{image.width} x {image.height} pixels, above the limit of {max_pixels} (--max_pixels)")
            if image.mode in DEEP_MODES:
                raise BadImage(f"16-bit or floating-point image (mode {image.mode}); convert it to 8 bits per channel")
            image.load()
            return data, _pixels(ImageOps.exif_transpose(image))
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(f"more pixels than the limit of {max_pixels} (--max_pixels)") from None
    except Image.UnidentifiedImageError:
        raise BadImage(f"not a whole PNG, JPEG, WebP or BMP image; it begins with {data[:8]!r}") from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, … on broken files
        raise BadImage(f"broken or cut short: {str(error) or type(error).__name__}") from None


def _pixels(image: "object") -> np.ndarray:
    """Converts a Pillow image to u8 [H, W, 1] where its mode is grey, else to [H, W, 3]."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    grey = image.mode in GREY_MODES
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over)
    if grey and image.mode == "RGBA":
        image = image.getchannel("R")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels
