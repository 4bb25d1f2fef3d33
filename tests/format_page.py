"""The blocks of prep/FORMAT.md that tests run or compare: each behind a comment with its name."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "prep" / "FORMAT.md"

_BLOCK = re.compile(r"(<!-- (?P<name>[\w: ]+) -->\n```\w+\n)(?P<text>.*?)(?=^```$)", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """{name: text}."""
    return {match["name"]: match["text"] for match in _BLOCK.finditer(PAGE.read_text())}


def rewritten(texts: dict[str, str]) -> str:
    """The page with other texts in some of its blocks."""
    return _BLOCK.sub(lambda match: match[1] + texts.get(match["name"], match["text"]), PAGE.read_text())
