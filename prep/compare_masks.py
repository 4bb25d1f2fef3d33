"""The three syntax masks on the same captions: how often two of them keep other words.

    python -m prep.compare_masks STORE
    python -m prep.compare_masks captions.txt --tagger nltk --text-tokens 8 16 --json masks.json

Reads captions as `prep.compare_taggers` does, and tags and encodes them here, whatever columns the store has:

    syntax          CLIP's ids, classes by --tagger, the budget counted in ids
    syntax-torch    CLIP's ids of NLTK's words, the budget counted in words, what is too long cut
    syntax-jax      BERT's ids, classes by the vocabulary table, the same; no end token, so one more id has room

Two rows are the same when what their ids spell is, put together without white space, accents and case aside, and with
NLTK's two back-ticks and two single quotes for the " that it wrote them for. `syntax-jax` is compared twice, the second
time with an end token: at the same number of ids as the other two. Shares are of all captions, those that fit included.
Needs NLTK's data.
"""

import argparse
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, islice
from pathlib import Path

import numpy as np

from prep.compare_taggers import read_captions
from prep.errors import UserError, run_main
from prep.files import write_json
from prep.progress import bar
from prep.store import CONTEXT_LENGTH
from prep.taggers import Tagger, load_tagger
from prep.text_columns import Annotated, annotate
from prep.text_masks import select
from prep.tokenizer import Tokenizer, load_tokenizer

_BATCH = 512
_QUOTES = (("``", '"'), ("''", '"'))


@dataclass(frozen=True, slots=True)
class Mode:
    """A mask with its columns. end_token: whether rows have one."""

    name: str
    text_mask: str
    tokenizer: Tokenizer
    tagger: Tagger
    end_token: bool = True

    def kept(self, columns: Annotated, text_tokens: int) -> list[list[bytes]]:
        """What the ids that are kept of each caption spell."""
        keys = np.zeros(len(columns.tokens), np.uint64)
        row = columns.tokens, columns.priorities, columns.num_tokens
        marks = self.tokenizer.marks() if self.text_mask == "syntax-jax" else None
        kept = select(*row, text_tokens, self.text_mask, keys, self.end_token, marks)
        spelled = self.tokenizer.spelled()
        # Id 0 is a token of CLIP's, too: content is counted, not looked for.
        counts = np.minimum(columns.num_tokens.astype(np.int64) - 2, text_tokens - 1 - self.end_token)
        rows = zip(kept.tolist(), counts.tolist(), strict=True)
        return [[spelled[id_] for id_ in ids[1 : 1 + count]] for ids, count in rows]


@dataclass(slots=True)
class Difference:
    """At one number of text tokens: captions of which two modes keep other words."""

    first: str
    second: str
    text_tokens: int
    num_other: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """A caption of which not all modes keep the same, and the tokens that each keeps."""

    caption: str
    text_tokens: int
    kept: dict[str, str]


@dataclass(slots=True)
class Comparison:
    """Counts over captions. num_longer: by number of text tokens, captions with more of CLIP's tokens than that."""

    num_captions: int = 0
    num_longer: dict[int, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


def modes(tagger: Tagger) -> tuple[Mode, ...]:
    """The three, and `syntax-jax` with an end token. tagger: of `syntax`.

    Raises `UserError` when NLTK's data or a vocabulary are missing.
    """
    clip, words, bert = (load_tokenizer(name) for name in ("clip", "clip-nltk", "bert"))
    table = load_tagger("vocabulary")
    return (
        Mode("syntax", "syntax", clip, tagger),
        Mode("syntax-torch", "syntax-torch", words, tagger),
        Mode("syntax-jax", "syntax-jax", bert, table, end_token=False),
        Mode("syntax-jax, as many ids", "syntax-jax", bert, table),
    )


def compare(
    captions: Iterable[str], known: Sequence[Mode], text_tokens: Sequence[int], num_examples: int = 3
) -> Comparison:
    """Compare every two of the modes on clean captions. num_examples: at each number of text tokens, at most."""
    pairs = [pair for pair in combinations(known, 2) if pair[0].text_mask != pair[1].text_mask]
    found = Comparison(0, dict.fromkeys(text_tokens, 0))
    found.differences = [Difference(a.name, b.name, size) for size in text_tokens for a, b in pairs]
    remaining = iter(captions)
    while batch := list(islice(remaining, _BATCH)):
        columns = {mode.tokenizer.name: annotate(batch, mode.tokenizer, mode.tagger) for mode in known}
        found.num_captions += len(batch)
        for size in text_tokens:
            found.num_longer[size] += int((columns[known[0].tokenizer.name].num_tokens > size).sum())
            kept = {mode.name: mode.kept(columns[mode.tokenizer.name], size) for mode in known}
            plain = {name: list(map(_plain, rows)) for name, rows in kept.items()}
            for difference in found.differences:
                if difference.text_tokens == size:
                    both = zip(plain[difference.first], plain[difference.second], strict=True)
                    difference.num_other += sum(one != other for one, other in both)
            room = num_examples - sum(example.text_tokens == size for example in found.examples)
            other = (row for row in range(len(batch)) if len({plain[mode.name][row] for mode in known}) > 1)
            for row in islice(other, room):
                shown = {name: b" ".join(rows[row]).decode(errors="replace") for name, rows in kept.items()}
                found.examples.append(Example(batch[row], size, shown))
    return found


def _plain(spelled: Sequence[bytes]) -> str:
    text = unicodedata.normalize("NFD", b"".join(spelled).decode(errors="replace"))
    for written, meant in _QUOTES:
        text = text.replace(written, meant)
    return "".join(char for char in text if not unicodedata.combining(char)).lower()


def report(found: Comparison) -> str:
    """The comparison for a person to read."""
    lines = [f"{found.num_captions:,} captions", ""]
    for size, num_longer in found.num_longer.items():
        lines.append(f"T = {size}: {num_longer:,} captions have more than {size} tokens of CLIP's")
        for difference in found.differences:
            if difference.text_tokens == size:
                share = difference.num_other / max(found.num_captions, 1)
                lines.append(f"  {difference.first:14}{difference.second:26}{share:7.1%} keep other words")
        lines.append("")
    for example in found.examples:
        lines += [f"T = {example.text_tokens}: {example.caption}"]
        lines += [f"  {name:26}{kept}" for name, kept in example.kept.items()]
    return "\n".join(lines)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m prep.compare_masks", description="Compare the three syntax masks.")
    add = parser.add_argument
    add("captions", help="a store, or a text file with a caption a line")
    add("--tagger", default="spacy", help="of the mask syntax: spacy, nltk, textblob, vocabulary (default spacy)")
    add("--text-tokens", type=int, nargs="+", default=[8, 16, 32], metavar="T", help="ends included (default 8 16 32)")
    add("--limit", type=int, default=10_000, metavar="N", help="captions at most, 0 for all (default 10000)")
    add("--examples", type=int, default=3, metavar="N", help="captions shown at each T (default 3)")
    add("--json", type=Path, metavar="FILE", help="write the comparison there, too")
    options = parser.parse_args(argv)
    for name in ("limit", "examples"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name}", f"wanted a number from 0, found {getattr(options, name)}", "Choose another.")
    for size in options.text_tokens:
        if not 3 <= size <= CONTEXT_LENGTH:
            raise UserError("--text-tokens", f"wanted 3 to {CONTEXT_LENGTH}, found {size}", "Choose another number.")
    return options


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    options = _options(argv)
    known = modes(load_tagger(options.tagger))
    with bar(options.limit or None, "comparing", "captions") as progress:

        def counted() -> Iterator[str]:
            for caption in islice(read_captions(options.captions), options.limit or None):
                yield caption
                progress.advance()

        found = compare(counted(), known, options.text_tokens, options.examples)
    if not found.num_captions:
        raise UserError(options.captions, "wanted captions; there is none", "Point at a store or at a file with some.")
    print(report(found))
    if options.json:
        write_json(options.json, asdict(found))
        print(f"\nwritten to {options.json}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
