"""The decoder of image files: its versions, for keys of the cache, and what it makes of one picture, for fingerprints.

A JPEG file says to within a grey level or two what its pixels are, so that decoders may differ; those of one version may, too,
when they were built from other libraries. The versions of two machines therefore say less than the pixels of one picture.
"""

import base64
import functools
import io

import numpy as np

from cnnlab.digests import combined_digest

PROBE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxl"
    "Z2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAATABUDASIAAhEB"
    "AxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAAUEBv/EACUQAAEDAwIGAwAAAAAAAAAAAAEAAhEDBCESYRMUIjFR8EFx0f/EABkBAAIDAQAAAAAAAAAAAAAA"
    "AAQGAQIDBf/EABwRAAICAwEBAAAAAAAAAAAAAAABAgQRITEDQf/aAAwDAQACEQMRAD8A5a2s3QJBI+seyqNG0yAQJGSPH6qFG1cXDDsd5xHoVC3tA4GQ"
    "IOQWiIVYyIqXNk7lQKbYZAz2GpFfbbBrQQW52RbZX1Hejc10z0QPA6hndUqLW8RggRp+BvCIhfPrEOqylQ6KY0gCURERFLAxwWY7P//Z"
)
"""A JPEG of 21 x 19 pixels, noise on slopes, with half as many rows and columns of colour."""
EXPECTED = "00b255814ff1"
"""First digits of the digest of its pixels as libjpeg-turbo decodes them (seen in 3.2.0)."""


@functools.cache
def decoder_key() -> str:
    """Returns what enters the fingerprint of images that are decoded here: nothing where the probe has the expected pixels."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(PROBE)))
    found = combined_digest(pixels)[: len(EXPECTED)]
    return "" if found == EXPECTED else f"decoder {found}"


@functools.cache
def decoder_versions() -> str:
    """Returns the versions of the decoder, for keys of the cache: whatever they change, nothing old is read."""
    import PIL
    from PIL import features

    return f"Pillow {PIL.__version__}, libjpeg {features.version('jpg')} turbo {features.version('libjpeg_turbo')}"
