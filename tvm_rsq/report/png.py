"""Pictures as PNG text, the one form in which they travel inside JSON and HTML. Written here, since it takes no more than zlib.

Every row is stored with PNG's filter 1 (difference to the pixel on the left), which is what `decode` reads back.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

import numpy as np

from tvm_rsq.errors import ArtifactError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # channels -> greyscale, RGB
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bits, colour type, compression, filter method, interlace
_SUB = 1


def encode(picture: np.ndarray) -> str:
    """uint8 (H, W, 3) or (H, W, 1) -> base64 text of a PNG. ValueError: another shape or dtype."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in _COLOUR_TYPES or picture.size == 0:
        raise ValueError(f"picture is {picture.dtype} {picture.shape}, expected uint8 (H, W, 3) or (H, W, 1)")
    height, width, channels = picture.shape
    difference = picture.copy()
    difference[:, 1:] -= picture[:, :-1]  # modulo 256, as uint8 does
    rows = np.concatenate([np.full((height, 1), _SUB, np.uint8), difference.reshape(height, -1)], axis=1)
    header = _HEADER.pack(width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    data = _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return base64.b64encode(data).decode("ascii")


def decode(text: str, most_bytes: int = 2**28) -> np.ndarray:
    """What `encode` wrote -> uint8 (H, W, 3) or (H, W, 1). ArtifactError: anything else, or more than `most_bytes`."""
    try:
        chunks = _chunks(base64.b64decode(text, validate=True))
        width, height, *form = _HEADER.unpack(chunks[b"IHDR"])
        channels = {colour: n for n, colour in _COLOUR_TYPES.items()}[form[1]]
        size = height * (1 + width * channels)
        if size > most_bytes:
            raise ValueError(f"{size} bytes, expected up to {most_bytes}")
        rows = np.frombuffer(zlib.decompressobj().decompress(chunks[b"IDAT"], size), np.uint8).reshape(height, 1 + width * channels)
        if form != [8, _COLOUR_TYPES[channels], 0, 0, 0] or (rows[:, 0] != _SUB).any():
            raise ValueError("a form of PNG that tvm_rsq does not write")
    except (TypeError, ValueError, KeyError, binascii.Error, struct.error, zlib.error) as error:
        raise ArtifactError(f"a picture of the report cannot be read ({error!r}); make the report again") from error
    return np.cumsum(rows[:, 1:].reshape(height, width, channels), axis=1, dtype=np.uint8)


def _chunks(data: bytes) -> dict[bytes, bytes]:
    if not data.startswith(_SIGNATURE):
        raise ValueError("not a PNG")
    found: dict[bytes, bytes] = {}
    at = len(_SIGNATURE)
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + size)
        if checksum != zlib.crc32(kind + body):
            raise ValueError("wrong checksum")
        found[kind] = body
        at += 12 + size
    return found
