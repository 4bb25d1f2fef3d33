"""The one thing in EXIF that matters here: which way is up.

Pillow's reader parses every tag of a file that may be hostile; this one looks for tag 0x0112 in the first directory.
"""

import struct

import numpy as np

from prep.image_limits import Pixels

# EXIF 2.32, tag 0x0112: (swap the axes?, step over rows, step over columns) that bring an image upright.
_UPRIGHT = {2: (0, 1, -1), 3: (0, -1, -1), 4: (0, -1, 1), 5: (1, 1, 1), 6: (1, 1, -1), 7: (1, -1, -1), 8: (1, -1, 1)}
_TAG, _SHORT = 0x0112, 3


def orientation_of(exif: bytes) -> int:
    """1-8, from EXIF as a file holds it. EXIF that cannot be read turns nothing, here as in a viewer: 1."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (num_tags,) = struct.unpack_from(order + "H", exif, directory)
        for place in range(directory + 2, directory + 2 + 12 * num_tags, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, place)
            if tag == _TAG:
                return value if (kind, count) == (_SHORT, 1) and value in _UPRIGHT else 1
    except struct.error:
        pass  # it points or ends outside
    return 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels turned and mirrored as an EXIF orientation (1-8) asks; a copy unless it is 1."""
    if orientation not in _UPRIGHT:
        return pixels
    swap, rows, columns = _UPRIGHT[orientation]
    turned = pixels.transpose(1, 0, 2) if swap else pixels
    return np.ascontiguousarray(turned[::rows, ::columns])
