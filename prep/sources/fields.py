"""Where the captions of an image are when it lies among files: in files of their own or in its .json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prep.errors import UserError
from prep.sources.names import IMAGE_EXTENSIONS


@dataclass(frozen=True, slots=True)
class _Field:
    """The whole file with an extension, or the strings under a key of the .json."""

    extension: str
    json_key: str | None = None


class CaptionFields:
    """The fields that `SourceOptions.captions` names. extensions: of the files that are captions."""

    def __init__(self, captions: Sequence[tuple[str, str]]) -> None:
        # Of each name the first field that is there counts.
        usual = (_Field("txt"), _Field("json", "caption"))
        self._named: list[tuple[str, tuple[_Field, ...]]] = [
            (name, (_parse(field),) if field else usual) for name, field in captions or (("original", ""),)
        ]
        fields = [field for _, own in self._named for field in own]
        self.extensions = frozenset(field.extension for field in fields if field.json_key is None)

    def are_decided(self, texts: Mapping[str, bytes | None], has_json: bool) -> bool:
        """Whether no further file of the pair could change its captions. texts: as for `collect`."""
        return all(has_json if own[0].json_key else own[0].extension in texts for _, own in self._named)

    def collect(self, texts: Mapping[str, bytes | None], facts: Mapping[str, object]) -> dict[str, tuple[bytes, ...]]:
        """The captions by name; names without any are left out.

        texts: of the files with `extensions`, by extension, None for one that is too long. facts: the .json.
        """
        found: dict[str, tuple[bytes, ...]] = {}
        for name, fields in self._named:
            for field in fields:
                if field.json_key is None and field.extension not in texts:
                    continue
                text = texts[field.extension] if field.json_key is None else facts.get(field.json_key)
                found[name] = found.get(name, ()) + encoded(text)
                break
        return {name: captions for name, captions in found.items() if captions}


def encoded(value: object, errors: str = "surrogatepass") -> tuple[bytes, ...]:
    """The captions in a value: of a string, bytes or a list of them; nothing else is one.

    errors: what a lone surrogate stands for. JSON can spell one, which UTF-8 cannot: by default it stays wrong, for
    whoever decodes the caption. "surrogateescape": a byte that was not UTF-8, which becomes itself again.
    """
    if isinstance(value, str):
        return (value.encode("utf-8", errors),)
    if isinstance(value, bytes):
        return (value,)
    if isinstance(value, list):
        return tuple(caption for item in value if isinstance(item, str | bytes) for caption in encoded(item, errors))
    return ()


def parse_facts(data: bytes) -> dict[str, object]:
    """What a .json holds. Its damage is no reason by itself: it becomes the detail of what is missing for it."""
    try:
        facts = json.loads(data)
        if not isinstance(facts, dict):
            raise ValueError(f"wanted an object, found a {type(facts).__name__}")
    except (ValueError, RecursionError) as error:
        return {"error_message": f"the .json is damaged: {error}"}
    return facts


def what_is_told(facts: Mapping[str, object]) -> str:
    """What a downloader noted about a pair that failed, to be put behind a detail."""
    return "".join(f"; {name} {facts[name]!r:.200}" for name in ("status", "error_message") if facts.get(name))


def _parse(field: str) -> _Field:
    kind, colon, key = field.partition(":")
    if colon and kind == "json" and key:
        return _Field("json", key)
    extension = field.lower().removeprefix(".")
    if colon or "/" in field or extension in ("", "json") or extension in IMAGE_EXTENSIONS:
        problem = f"wanted an extension or json:KEY as the place of captions, found {field!r}"
        raise UserError("--captions", problem, "Name one, such as txt, caption.txt or json:caption.")
    return _Field(extension)
