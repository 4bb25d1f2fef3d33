"""Images and their captions in webdataset tars, for a retrieval set: KEY.jpg beside KEY.txt, one caption a line, or
KEY.json with a string or a list under `captions` or `caption`. Tars are read as `prep.sources.tars` reads them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from prep.pairs import Pair
from prep.sources.parts import Part, SourceOptions
from prep.sources.tars import read_tar

_FIELDS = (("txt", "txt"), ("captions", "json:captions"), ("caption", "json:caption"))
"""In the order of preference."""


@dataclass(frozen=True, slots=True)
class CaptionedMember:
    """An image's bytes and its captions as they lie there; or, where `problem` is told, why there is none."""

    key: str
    image: bytes = b""
    captions: tuple[bytes, ...] = ()
    problem: str = ""


def read_captioned_tar(url: str) -> Iterator[CaptionedMember]:
    """Every image of a tar in its order, and whatever is none. Raises `UserError` when the tar cannot be opened."""
    for found in read_tar(Part("tar", url, url.rsplit("/", 1)[-1], 0), SourceOptions(captions=_FIELDS)):
        if not isinstance(found, Pair):
            yield CaptionedMember(found.key, problem=f"{found.reason}: {found.detail}")
            continue
        name = next(name for name, _ in _FIELDS if name in found.captions)
        own = found.captions[name]
        lines = tuple(chain.from_iterable(text.splitlines() for text in own)) if name == "txt" else own
        yield CaptionedMember(found.key, found.image, lines)
