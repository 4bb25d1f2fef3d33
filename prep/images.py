"""Images: bytes in, upright RGB pixels out; and smaller copies of them, as JPEG.

`decode` trusts nothing. The format is sniffed from the first bytes, not from a name; only the formats listed in FORMATS
are tried; the header is read and held against `ImageLimits` before any pixel is decoded, so a decompression bomb costs
nothing. JPEG is decoded by TurboJPEG in strict mode, the one decoder that notices a damaged body; all else by Pillow,
which is left to its default of refusing truncated files. What comes out is what a viewer would show:

- upright: the EXIF orientation is applied, in every format that carries one;
- opaque: alpha, transparent palettes and colour keys lie on white;
- 8 bits: 16-bit (and 12-bit) samples are scaled, not clipped;
- RGB: gray, palettes, YCbCr and CMYK are converted, without colour management;
- still: the first frame of an animation.

`resize` never enlarges. `encode` writes baseline JPEG without chroma subsampling: at 112 px chroma, not quality, is
what is lost.
"""

import ctypes
import io
import logging
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import AvifImagePlugin, ExifTags, Image, TiffImagePlugin, _imaging, features

from prep.pairs import Reason

Pixels = NDArray[np.uint8]
"""uint8 [height, width, 3], RGB, C-contiguous."""

FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", *(("avif",) if features.check("avif") else ()))

_MAGIC = re.compile(
    rb"(?P<jpeg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<webp>RIFF....WEBP)|(?P<gif>GIF8[79]a)|(?P<bmp>BM)"
    rb"|(?P<tiff>II\*\0|MM\0\*|II\+\0|MM\0\+)|(?P<avif>....ftyp(?:avif|avis|mif1....(?:....){0,16}?avif))",
    re.DOTALL,
)
# Modes whose samples are 8 bits or fewer. Floats and 32-bit integers have no known range to scale by.
_MODES_OF_8_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
# EXIF 2.32, tag 0x0112: (swap the axes?, step over rows, step over columns) that bring an image upright.
_UPRIGHT = {2: (0, 1, -1), 3: (0, -1, -1), 4: (0, -1, 1), 5: (1, 1, 1), 6: (1, 1, -1), 7: (1, -1, -1), 8: (1, -1, 1)}
# In a few bytes each, the scans of a progressive JPEG ask for pass after pass over the whole image. Encoders write
# about 10; TurboJPEG's own TJFLAG_LIMITSCANS stops at 500.
_MAX_JPEG_SCANS = 500

# One image is decoded on one core: parallelism is over shards.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Pillow logs what it also raises, and its libtiff prints; a reject says it once.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_set_libtiff_printer = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
if _set_libtiff_printer is not None:
    _set_libtiff_printer(None)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused from its size or its header alone.

    max_bytes: of the encoded image. max_pixels: width x height; Pillow takes at most 178,956,970 whatever is set here.
    max_aspect: long side / short side. min_side: pixels of the short side; less is a spacer or a tracking pixel.
    """

    max_bytes: int = 64 << 20
    max_pixels: int = 64_000_000
    max_aspect: float = 10.0
    min_side: int = 16


class ImageError(Exception):
    """An image that becomes no sample: a typed reason, and for a person what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image: pixels, the sniffed format (one of FORMATS), width and height in pixels, upright."""

    pixels: Pixels
    format: str
    width: int
    height: int


def decode(data: bytes, limits: ImageLimits) -> Decoded:
    """Decode one image of any of FORMATS to upright, opaque RGB.

    Raises only `ImageError`, for IMAGE_FORMAT, IMAGE_TOO_LARGE, IMAGE_ASPECT, IMAGE_TOO_SMALL or IMAGE_DAMAGED.
    """
    if len(data) > limits.max_bytes:
        raise ImageError(Reason.IMAGE_TOO_LARGE, f"{len(data):,} bytes; at most {limits.max_bytes:,} are read")
    found = _MAGIC.match(data)
    kind = found.lastgroup if found else None
    if kind is None or kind not in FORMATS:
        raise ImageError(Reason.IMAGE_FORMAT, f"starts with {data[:16]!r}; wanted one of {', '.join(FORMATS)}")
    try:
        pixels = _decode_jpeg(data, limits) if kind == "jpeg" else _decode_with_pillow(data, kind, limits)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(Reason.IMAGE_TOO_LARGE, str(error)) from error
    except Exception as error:
        # Decoders report damage by a dozen types, down to struct.error and SyntaxError. An address in the message would
        # make the reject differ from run to run.
        message = re.sub(r" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {error}")
        raise ImageError(Reason.IMAGE_DAMAGED, f"{kind}: {message}") from error
    height, width = pixels.shape[:2]
    return Decoded(pixels, kind, width, height)


def resize(pixels: Pixels, short_side: int) -> Pixels:
    """Scale to a short side of `short_side` pixels, the long side rounded to nearest: [H, W, 3] -> [h, w, 3].

    Antialiased bicubic, within 2 gray levels of Pillow's. An image whose short side is no longer is returned as it is.
    """
    height, width = pixels.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return pixels
    # The batch axis comes before the permute: added after it, torch takes the strides for planar and is half as fast.
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    size = (round(height * scale), round(width * scale))
    smaller = torch.nn.functional.interpolate(batch, size, mode="bicubic", antialias=True)
    return np.ascontiguousarray(smaller[0].permute(1, 2, 0).numpy())


def encode(pixels: Pixels, quality: int = 95) -> bytes:
    """Baseline JPEG, 4:4:4, of quality 1-100. Sides may have up to 65,500 pixels (libjpeg's JPEG_MAX_DIMENSION)."""
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "444")
    return encoded


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    size = f"{width:,} x {height:,} pixels"
    short, long = sorted((width, height))
    if width * height > limits.max_pixels:
        raise ImageError(Reason.IMAGE_TOO_LARGE, f"{size}; at most {limits.max_pixels:,} in all are decoded")
    if long > short * limits.max_aspect:
        raise ImageError(Reason.IMAGE_ASPECT, f"{size}; the long side may be {limits.max_aspect:g} times the short one")
    if short < limits.min_side:
        raise ImageError(Reason.IMAGE_TOO_SMALL, f"{size}; the short side needs {limits.min_side}")


def _decode_jpeg(data: bytes, limits: ImageLimits) -> Pixels:
    codes = np.frombuffer(data, np.uint8)
    num_scans = np.count_nonzero((codes[:-1] == 0xFF) & (codes[1:] == 0xDA))
    if num_scans > _MAX_JPEG_SCANS:
        raise ImageError(Reason.IMAGE_TOO_LARGE, f"{num_scans:,} scans; at most {_MAX_JPEG_SCANS} are decoded")
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        # Damage, or sampling factors that TurboJPEG has no name for: Pillow tells them apart.
        return _decode_with_pillow(data, "jpeg", limits)
    _check_size(width, height, limits)
    pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)  # CMYK and YCCK, too, with Adobe's inversion undone
    return _upright(pixels, _orientation(lambda: _exif_of_jpeg(data)))


def _exif_of_jpeg(data: bytes) -> Image.Exif:
    """The EXIF among the segments before the first scan, or an empty one."""
    exif, position = Image.Exif(), 2
    while data[position] == 0xFF and data[position + 1] != 0xDA:
        if data[position + 1] == 0xFF:  # a fill byte
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == 0xE1 and data.startswith(b"Exif\0\0", position + 4):
            exif.load(data[position + 4 : end])
            break
        position = end
    return exif


def _orientation(read_exif: Callable[[], Image.Exif]) -> object:
    try:
        with warnings.catch_warnings(action="ignore"):
            return read_exif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, struct.error):
        return 1  # EXIF that cannot be read turns nothing, here as in a viewer


def _decode_with_pillow(data: bytes, kind: str, limits: ImageLimits) -> Pixels:
    # Pillow warns of what the limits and the typed errors already say.
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=[kind]) as image:
        _check_size(image.width, image.height, limits)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # A tile is decoded whole, however small the image that it sticks out of.
            tile_size = image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0), image.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
            if tile_size[0] * tile_size[1] > limits.max_pixels:
                raise ImageError(Reason.IMAGE_TOO_LARGE, f"tiles of {tile_size[0]:,} x {tile_size[1]:,} pixels")
        image.load()
        # Only now: a TIFF has been turned upright by loading it, and says so.
        return _upright(_rgb_of(image), _orientation(image.getexif))


def _rgb_of(image: Image.Image) -> Pixels:
    """A loaded image of any mode on white."""
    if image.mode.startswith("I;16"):
        return np.repeat(_gray_of_16_bits(image)[:, :, None], 3, axis=2)
    if image.mode not in _MODES_OF_8_BITS:
        raise ImageError(Reason.IMAGE_FORMAT, f"samples of Pillow's mode {image.mode} have no known range")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(transparent, mask=transparent.getchannel("A"))
    return np.array(image.convert("RGB"))


def _gray_of_16_bits(image: Image.Image) -> Pixels:
    """[height, width] of 8 bits, rounded."""
    samples, num_bits, white_is_zero = np.asarray(image), 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        (num_bits,) = image.tag_v2[TiffImagePlugin.BITSPERSAMPLE]
        white_is_zero = image.tag_v2[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] == 0
    peak = 2**num_bits - 1
    gray: Pixels = ((samples.astype(np.uint32) * 255 + peak // 2) // peak).astype(np.uint8)
    if white_is_zero:
        gray = 255 - gray
    if "transparency" in image.info:
        gray[samples == image.info["transparency"]] = 255
    return gray


def _upright(pixels: Pixels, orientation: object) -> Pixels:
    if orientation not in _UPRIGHT:
        return pixels
    swap, rows, columns = _UPRIGHT[orientation]
    turned = pixels.transpose(1, 0, 2) if swap else pixels
    return np.ascontiguousarray(turned[::rows, ::columns])
