"""Names that come from outside: of members, files and rows. They are shown and stored, never trusted."""

import re

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"})

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Surrogates that stand for no byte: JSON can spell them, and no file can have them in its name.
_LONE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")


def readable(name: str) -> str:
    """A name fit for a column and for a screen: bytes that are not UTF-8 and control characters are spelt out."""
    if not name.isascii():
        name = _LONE.sub(_spelt, name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(_spelt, name)


def _spelt(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def has_control(name: str) -> bool:
    """Whether there is something in a name that no file's name should have: control characters, lone surrogates."""
    return _CONTROL.search(name) is not None or _LONE.search(name) is not None


def danger(name: str) -> str | None:
    """Why this name of a tar's member would be unsafe as a path. Nothing here uses it as one, but keys travel on."""
    parts = re.split(r"[/\\]", name)
    if has_control(name):
        return "control characters in a member's name"
    if ".." in parts:
        return "a member's name climbs out of its folder"
    if len(parts) > 1 and re.fullmatch(r"([A-Za-z]:)?", parts[0]):
        return "a member's name is absolute"
    return None
