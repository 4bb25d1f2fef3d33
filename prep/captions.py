"""Captions: from a source's bytes to the clean text that is tokenised, tagged and stored.

`clean` is CLIP's cleaning, to the character, without its lower-casing (the tagger needs the capitals; the tokenizer
lowers): repair of broken encodings (ftfy), HTML entities twice over, runs of white space to one space. Control
characters go as ftfy lets them go. Most captions are printable ASCII without entities, on which all of that comes to
the white space alone: a shortcut of identical output.

`decode` adds what a hostile or careless source needs: a typed reason for what is no caption, and bounded work. Only the
first tokens of a caption are ever used, so a long one is not rejected but cut:

- raw text at MAX_RAW_CHARACTERS, before the repair: normalising a run of combining marks takes quadratic time;
- clean text at MAX_CHARACTERS. The longest vocabulary entry of CLIP spells 24 characters, so with the spaces between
  them 75 tokens span at most 75 x 25 - 1 = 1,874: what was cut here fills the context, and the cut is not seen there.

Both cuts fall between words when there is a space to cut at.
"""

import html
import re
from dataclasses import dataclass

import ftfy

from prep.pairs import Reason

MAX_BYTES = 1 << 20
MAX_RAW_CHARACTERS = 8192
MAX_CHARACTERS = 2048
# How far back a cut looks for a space: 2,048 - 128 is still more than the 1,874 characters above.
_LONGEST_WORD = 128

# ASCII that only the collapse of white space can change: no control characters but the four that count as white space
# to ftfy and str.split alike, and an ampersand only before a space, where it starts no entity.
_PLAIN = re.compile(r"[\t\n\f\r\x20-\x25\x27-\x7e]*(?:& [\t\n\f\r\x20-\x25\x27-\x7e]*)*")
# int() refuses more than 4,300 digits (sys.set_int_max_str_digits), and html.unescape passes that on.
_ENDLESS_NUMBER = re.compile(r"&#[0-9]{4000,};?")


@dataclass(frozen=True, slots=True)
class Caption:
    """A clean caption, never empty, with its capitals. cut: it was longer, and its end is gone."""

    text: str
    cut: bool


class CaptionError(Exception):
    """Bytes that are no caption: a typed reason for the reject, and a detail for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def clean(raw: str) -> str:
    """CLIP's cleaning without the lower-casing: `clean(raw).lower()` is what open_clip's tokenizer encodes.

    One difference: a character reference of thousands of digits, on which the reference raises ValueError, becomes
    U+FFFD as every other number beyond Unicode does. Time grows with the square of a run of combining marks.
    """
    if raw.isascii() and raw.isprintable() and "&" not in raw:
        if not (raw[:1] == " " or raw[-1:] == " " or "  " in raw):
            return raw
    elif not _PLAIN.fullmatch(raw):
        raw = _unescape(_unescape(ftfy.fix_text(raw)))
    return " ".join(raw.split())


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:
        return html.unescape(_ENDLESS_NUMBER.sub("\ufffd", text))


def decode(raw: bytes, max_bytes: int = MAX_BYTES) -> Caption:
    """Read a caption as a source holds it: UTF-8, a byte order mark allowed.

    Raises `CaptionError` with CAPTION_TOO_LONG (over max_bytes), CAPTION_NOT_UTF8 or CAPTION_EMPTY (nothing is left
    after cleaning).
    """
    if len(raw) > max_bytes:
        raise CaptionError(Reason.CAPTION_TOO_LONG, f"{len(raw):,} bytes, more than {max_bytes:,}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        detail = f"byte 0x{raw[error.start]:02x} at {error.start:,}: {error.reason}"
        raise CaptionError(Reason.CAPTION_NOT_UTF8, detail) from error
    if len(text) > MAX_RAW_CHARACTERS:
        text = " ".join(text.split())
    short = _cut(text, MAX_RAW_CHARACTERS)
    cleaned = clean(short)
    kept = _cut(cleaned, MAX_CHARACTERS)
    if not kept:
        raise CaptionError(Reason.CAPTION_EMPTY, f"{len(raw):,} bytes, and nothing left after cleaning")
    return Caption(kept, cut=len(short) < len(text) or len(kept) < len(cleaned))


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters, up to a space when the last word begins less than _LONGEST_WORD before the limit."""
    if len(text) <= limit:
        return text
    space = text.rfind(" ", limit - _LONGEST_WORD, limit + 1)
    return text[:limit] if space < 0 else text[:space]
