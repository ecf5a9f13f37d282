"""PNG pictures as arrays of pixels."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from jaxtyping import UInt8


def pixels_of(png: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Red, green and blue of each pixel of a PNG, from 0 to 255."""
    from PIL import Image

    with Image.open(BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))
