"""Pictures as PNG text, the one form in which they travel inside JSON and HTML."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from tvm_rsq.errors import ArtifactError


def encode(picture: np.ndarray) -> str:
    """uint8 (H, W, 3) or (H, W, 1) -> base64 text of a PNG. ValueError: another shape or dtype."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise ValueError(f"picture is {picture.dtype} {picture.shape}, expected uint8 (H, W, 3) or (H, W, 1)")
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode(text: str) -> np.ndarray:
    """What `encode` wrote -> uint8 (H, W, 3) or (H, W, 1). ArtifactError: not such text."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            channels = 1 if image.mode == "L" else 3
            return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(image.height, image.width, channels)
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ArtifactError(f"a picture of the report cannot be read ({error}); make the report again") from error
