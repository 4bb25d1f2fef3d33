"""How good the stored copies are: PSNR against an ideal copy, in float64.

The judge, `reference_resize`, is plain: the weights of the antialiased bicubic filter as a matrix for each axis,
applied in double precision, nothing rounded or clipped between. Nothing of the fast path is used in it.

`quality_rows` compares ways from the same JPEG to a copy of the same size, before and after the copy is encoded. The
reference is made of the fully decoded JPEG: what the original JPEG lost is nobody's fault here.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from prep.image_copies import Encoding, encode, resize
from prep.image_limits import ImageLimits, Pixels
from prep.images import decode

Floats = NDArray[np.float64]

ENCODINGS = {
    "q95 4:4:4": Encoding(quality=95, subsampling="444"),
    "q90 4:4:4": Encoding(quality=90, subsampling="444"),
    "q95 4:2:0": Encoding(quality=95, subsampling="420"),
}
"""The encodings of a copy that the table compares."""

_LIMITS = ImageLimits()


def _cubic(distance: Floats) -> Floats:
    """Keys' cubic convolution kernel, a = -1/2 (Keys 1981, equation 15), as Pillow and torch's antialiasing use it."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _weights(num_in: int, num_out: int) -> Floats:
    """[num_out, num_in]: row i holds what output i takes of each input. Shrinking, the kernel is as much wider."""
    step = num_in / num_out
    centres = (np.arange(num_out) + 0.5) * step
    weights = _cubic((np.arange(num_in) + 0.5 - centres[:, None]) / max(step, 1.0))
    normalised: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def reference_resize(pixels: Pixels, size: tuple[int, int]) -> Floats:
    """[H, W, 3] uint8 -> [h, w, 3] float64, of size (height, width), neither rounded nor clipped."""
    rows = np.tensordot(_weights(pixels.shape[0], size[0]), pixels.astype(np.float64), (1, 0))
    resized: Floats = np.tensordot(_weights(pixels.shape[1], size[1]), rows, (1, 1)).transpose(1, 0, 2)
    return resized


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255; infinite for equal arrays. Both are clipped to 0-255."""
    assert a.shape == b.shape, f"{a.shape} against {b.shape}"
    difference = np.clip(a.astype(np.float64), 0, 255) - np.clip(b.astype(np.float64), 0, 255)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One line of the table: means over the images, in dB; bytes per encoded copy.

    copy_db: of the pixels of the copy. encoded_db and encoded_bytes: for each of ENCODINGS, of the copy read back.
    """

    way: str
    short_side: int
    num_images: int
    copy_db: float
    encoded_db: dict[str, float]
    encoded_bytes: dict[str, float]


def _with_pillow(data: bytes, size: tuple[int, int]) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB").resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _with_opencv(interpolation: str) -> Callable[[bytes, tuple[int, int]], Pixels]:
    import cv2

    def resized(data: bytes, size: tuple[int, int]) -> Pixels:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        smaller = cv2.resize(pixels, size[::-1], interpolation=getattr(cv2, interpolation))
        return np.ascontiguousarray(smaller[:, :, ::-1], dtype=np.uint8)

    return resized


def _ours(min_short_side: int | None) -> Callable[[bytes, tuple[int, int]], Pixels]:
    def resized(data: bytes, size: tuple[int, int]) -> Pixels:
        decoded = decode(data, _LIMITS, min_short_side)
        return resize(decoded.pixels, min(size), (decoded.width, decoded.height))

    return resized


def _ways(largest_side: int) -> dict[str, Callable[[bytes, tuple[int, int]], Pixels]]:
    ways = {
        "ours, decoded in full": _ours(None),
        "ours, decoded as for the largest copy": _ours(largest_side),
        "Pillow, bicubic": _with_pillow,
    }
    try:
        return ways | {
            "OpenCV, area": _with_opencv("INTER_AREA"),
            "OpenCV, linear": _with_opencv("INTER_LINEAR"),
        }
    except ImportError:
        return ways


def quality_rows(jpegs: Sequence[bytes], short_sides: Sequence[int]) -> Iterator[QualityRow]:
    """A row for each short side (pixels) and each way. The JPEGs are upright, and larger than every short side.

    "As for the largest copy" is what `prep.build` does: a large JPEG is decoded at a half, a quarter or an eighth of
    its size where that leaves enough for the largest of `short_sides`.
    """
    for short_side in short_sides:
        references = []
        for data in jpegs:
            full = decode(data, _LIMITS).pixels
            scale = short_side / min(full.shape[:2])
            references.append(reference_resize(full, (round(full.shape[0] * scale), round(full.shape[1] * scale))))
        for name, way in _ways(max(short_sides)).items():
            copies = [way(data, ideal.shape[:2]) for data, ideal in zip(jpegs, references, strict=True)]
            yield _row(name, short_side, copies, references)


def _row(way: str, short_side: int, copies: Sequence[Pixels], references: Sequence[Floats]) -> QualityRow:
    encoded_db, encoded_bytes = {}, {}
    for name, encoding in ENCODINGS.items():
        encoded = [encode(copy, encoding) for copy in copies]
        read_back = [simplejpeg.decode_jpeg(data, "RGB") for data in encoded]
        encoded_db[name] = float(np.mean([psnr(*pair) for pair in zip(read_back, references, strict=True)]))
        encoded_bytes[name] = float(np.mean([len(data) for data in encoded]))
    copy_db = float(np.mean([psnr(*pair) for pair in zip(copies, references, strict=True)]))
    return QualityRow(way, short_side, len(copies), copy_db, encoded_db, encoded_bytes)
