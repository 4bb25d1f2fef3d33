"""One image of the list: fetched, told from what is none, and made smaller if that is asked for.

Runs in img2dataset's environment, which has Pillow beside the standard library.
"""

import http.client
import io
import re
import socket
import ssl
import time
import urllib.error
from collections.abc import Callable
from email.message import Message

from prep.fetch_guard import FetchError, Limits, Patience, may_pass, open_url

# A superset of what prep.images decodes; AVIF is told from its relatives there.
_IMAGE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8[79]a|BM|II[*+]\0|MM\0[*+]|....ftyp", re.DOTALL)
_CHUNK = 64 << 10
# As prep.images has it: larger images would be refused there.
_MAX_PIXELS = 64_000_000


def fetch(url: object, limits: Limits, is_disallowed: Callable[[Message], bool] = lambda headers: False) -> bytes:
    """One URL's image, encoded as it came. is_disallowed: judges the headers. Raises `FetchError`, nothing else.

    A body that is shorter than announced, or does not begin like an image, is none. The type that the server claims is
    not asked.
    """
    patience = Patience(limits)
    try:
        with open_url(url, patience) as response:
            if is_disallowed(response.headers):
                raise FetchError("disallowed", "X-Robots-Tag says not to use it")
            return _read(response, limits.max_bytes)
    except FetchError:
        raise
    except Exception as error:
        raise _named(error, patience) from error


def fetch_patiently(url: object, limits: Limits, is_disallowed: Callable[[Message], bool]) -> bytes:
    """`fetch`, again after 1, 2, 4 ... seconds when it failed for something that may pass."""
    for attempt in range(limits.retries):
        try:
            return fetch(url, limits, is_disallowed)
        except FetchError as error:
            if not may_pass(error.reason):
                raise
            time.sleep(2**attempt)
    return fetch(url, limits, is_disallowed)


def _read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if response.length is not None and response.length > max_bytes:
        raise FetchError("too_large", f"{response.length:,} bytes are announced; at most {max_bytes:,} are read")
    data = bytearray()
    while len(data) <= max_bytes and (chunk := response.read(_CHUNK)):
        data += chunk
        if not _IMAGE.match(data):
            raise FetchError("not_an_image", f"starts with {bytes(data[:24])!r}")
    if len(data) > max_bytes:
        raise FetchError("too_large", f"more than {max_bytes:,} bytes")
    if response.length:
        raise FetchError("truncated", f"{response.length:,} bytes short of what was announced")
    if not data:
        raise FetchError("not_an_image", "an empty body")
    return bytes(data)


def _named(error: Exception, patience: Patience) -> FetchError:
    while isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    match error:
        case urllib.error.HTTPError():
            error.close()
            reason = f"http_{error.code}" if error.code >= 400 else "redirects"
        case TimeoutError():
            reason = "too_slow" if time.monotonic() >= patience.end else "timed_out"
        case socket.gaierror():
            reason = "name_not_found" if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else "name_server"
        case ssl.SSLCertVerificationError():
            reason = "certificate"
        case ssl.SSLError():
            reason = "tls"
        case http.client.IncompleteRead():
            reason = "truncated"
        case OSError():
            reason = "unreachable"
        case ValueError() | http.client.InvalidURL():
            reason = "bad_url"
        case http.client.HTTPException():
            reason = "bad_response"
        case _:
            reason = "unexpected"  # one URL's oddity must not end the other ten thousand of its shard
    return FetchError(reason, f"{type(error).__name__}: {error}")


def shrink(data: bytes, size: int) -> tuple[bytes, int, int, int, int]:
    """An image with its short side at most `size`: (bytes, width, height, original width, original height).

    The bytes stay as they are if it is small enough already, or not of 8 bits: prep.images knows how to scale those.
    Else it comes upright, opaque on white, as a JPEG of quality 95 without chroma subsampling. Raises `FetchError`.
    """
    from PIL import Image, ImageOps  # its home is the environment, and without --size it is not needed

    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > _MAX_PIXELS:
                raise FetchError("too_large", f"{width} x {height} pixels; at most {_MAX_PIXELS:,} are decoded")
            if min(width, height) <= size or image.mode.startswith(("I", "F")):
                return data, width, height, width, height
            scale = size / min(width, height)
            image.draft("RGB", (round(width * scale * 2), round(height * scale * 2)))
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            turned = (upright.width > upright.height) != (width > height)
            across, down = (height, width) if turned else (width, height)
            wanted = (max(size, round(across * scale)), max(size, round(down * scale)))
            small = upright.convert("RGB").resize(wanted, Image.Resampling.LANCZOS)
            file = io.BytesIO()
            small.save(file, "JPEG", quality=95, subsampling=0)
            return file.getvalue(), *wanted, across, down
    except FetchError:
        raise
    except Exception as error:  # Pillow reports damage by a dozen types
        raise FetchError("image_damaged", f"{type(error).__name__}: {error}") from error
