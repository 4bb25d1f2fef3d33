"""Images: bytes in, upright RGB pixels out; and smaller copies of them.

`decode` trusts nothing. The format is sniffed from the first bytes, not from a name; only the formats listed in FORMATS
are tried; the header is read and held against `ImageLimits` before any pixel is decoded, so a decompression bomb costs
nothing. JPEG is decoded by TurboJPEG in strict mode (`prep.image_jpeg`); all else by Pillow (`prep.image_pillow`),
which is left to its default of refusing truncated files. What comes out is what a viewer would show:

- upright: the EXIF orientation is applied, in every format that carries one;
- opaque: alpha, transparent palettes and colour keys lie on white;
- 8 bits: 16-bit (and 12-bit) samples are scaled, not clipped;
- RGB: gray, palettes, YCbCr and CMYK are converted, without colour management;
- still: the first frame of an animation.

`resize`, `cut`, `encode` and `keep` (`prep.image_copies`) make what a store holds of it.
"""

import re

from PIL import Image, features

from prep.image_copies import Encoding, cut, encode, keep, resize
from prep.image_jpeg import decode_jpeg, without_metadata
from prep.image_limits import Decoded, ImageError, ImageLimits, Pixels, is_out_of_memory
from prep.image_pillow import decode_with_pillow
from prep.pairs import Reason

__all__ = [
    "FORMATS",
    "Decoded",
    "Encoding",
    "ImageError",
    "ImageLimits",
    "Pixels",
    "cut",
    "decode",
    "encode",
    "keep",
    "resize",
]

FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", *(("avif",) if features.check("avif") else ()))

_MAGIC = re.compile(
    rb"(?P<jpeg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<webp>RIFF....WEBP)|(?P<gif>GIF8[79]a)|(?P<bmp>BM)"
    rb"|(?P<tiff>II\*\0|MM\0\*|II\+\0|MM\0\+)|(?P<avif>....ftyp(?:avif|avis|mif1....(?:....){0,16}?avif))",
    re.DOTALL,
)


def decode(data: bytes, limits: ImageLimits, min_short_side: int | None = None) -> Decoded:
    """Decode one image of any of FORMATS to upright, opaque RGB.

    min_short_side: pixels that the short side of the largest copy needs. A JPEG that is much larger is decoded at a
    half, a quarter or an eighth of its size, which is faster. None decodes at full size.
    Raises only `ImageError`, for IMAGE_FORMAT, IMAGE_TOO_LARGE, IMAGE_ASPECT, IMAGE_TOO_SMALL, IMAGE_DAMAGED or
    OUT_OF_MEMORY.
    """
    if len(data) > limits.max_bytes:
        raise ImageError(Reason.IMAGE_TOO_LARGE, f"{len(data):,} bytes; at most {limits.max_bytes:,} are read")
    found = _MAGIC.match(data)
    kind = found.lastgroup if found else None
    if kind is None or kind not in FORMATS:
        raise ImageError(Reason.IMAGE_FORMAT, f"starts with {data[:16]!r}; wanted one of {', '.join(FORMATS)}")
    try:
        return _decode(data, kind, limits, min_short_side)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(Reason.IMAGE_TOO_LARGE, str(error)) from error
    except Exception as error:
        # Decoders report damage by a dozen types, down to struct.error and SyntaxError. An address in the message would
        # make the reject differ from run to run.
        message = re.sub(r" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {error}")
        reason = Reason.OUT_OF_MEMORY if is_out_of_memory(error) else Reason.IMAGE_DAMAGED
        raise ImageError(reason, f"{kind}: {message}") from error


def _decode(data: bytes, kind: str, limits: ImageLimits, min_short_side: int | None) -> Decoded:
    if kind == "jpeg":
        if decoded := decode_jpeg(data, limits, min_short_side):
            return Decoded(decoded[0], kind, decoded[1], decoded[2])
        data = without_metadata(data)  # Pillow would open what is in it
    pixels = decode_with_pillow(data, kind, limits)
    return Decoded(pixels, kind, pixels.shape[1], pixels.shape[0])
