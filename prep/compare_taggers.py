"""Two taggers on the same captions: how often they give a token another class, and how often that changes what is kept.

    python -m prep.compare_taggers STORE spacy nltk
    python -m prep.compare_taggers captions.txt spacy vocabulary --tokenizer bert --json comparison.json

Reads the captions of a store (those of every caption source, in the order of its rows) or of a text file, one a line.
Classes are compared token by token, as the `syntax` mask ranks them; kept tokens are what `prep.text_masks.select`
keeps at each number of text tokens. A caption of no more tokens keeps all of them whatever the tagger says, so each
share is told of all captions and of the longer ones. The rates are of one core, by its own clock.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from prep.captions import CaptionError, decode
from prep.errors import UserError, run_main
from prep.files import write_json
from prep.nltk_tokens import NAME as NLTK_WORDS
from prep.progress import bar
from prep.store import CONTEXT_LENGTH, open_store
from prep.taggers import ADJECTIVE, NOUN, OTHER, VERB, Tagged, Tagger, load_tagger
from prep.text_columns import Annotated, annotate
from prep.text_masks import select
from prep.tokenizer import Tokenizer, load_tokenizer

CLASSES = {NOUN: "noun", ADJECTIVE: "adjective", VERB: "verb", OTHER: "other"}
_BATCH = 1024


@dataclass(slots=True)
class Kept:
    """At one number of text tokens: captions with more tokens (ends included), and those that keep other tokens."""

    num_longer: int = 0
    num_other: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """A caption of which the taggers keep other words: the words that each keeps, in order."""

    caption: str
    text_tokens: int
    first: str
    second: str


@dataclass(slots=True)
class Comparison:
    """Counts over captions. confusion[i][j]: tokens of class i + 1 to the first tagger and j + 1 to the second.

    taggers, tokenizer: identities. kept: by number of text tokens. captions_per_second: of each tagger alone, to which
    repeated captions come cheap, as they do in a build.
    """

    taggers: list[dict[str, str]]
    tokenizer: dict[str, str]
    num_captions: int = 0
    num_tokens: int = 0
    agreement: float = 0.0
    confusion: list[list[int]] = field(default_factory=list)
    kept: dict[int, Kept] = field(default_factory=dict)
    captions_per_second: list[float] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


class _Timed:
    """A tagger with a clock: seconds of processor time, and captions tagged in them."""

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger
        self.identity = tagger.identity
        self.seconds, self.num_captions = 0.0, 0

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        start = process_time()
        tagged = self._tagger.tag(texts)
        self.seconds += process_time() - start
        self.num_captions += len(texts)
        return tagged


def compare(
    captions: Iterable[str],
    tokenizer: Tokenizer,
    first: Tagger,
    second: Tagger,
    text_tokens: Sequence[int] = (8, 16),
    num_examples: int = 5,
) -> Comparison:
    """Compare two taggers on clean captions (see `prep.captions`), at each of these numbers of text tokens."""
    timed = _Timed(first), _Timed(second)
    for tagger in (first, second):
        tagger.tag(["A warm-up: what is loaded late is not timed."])
    found = Comparison([first.identity(), second.identity()], tokenizer.identity())
    found.kept = {budget: Kept() for budget in text_tokens}
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    remaining = iter(captions)
    while batch := list(islice(remaining, _BATCH)):
        ours, theirs = (annotate(batch, tokenizer, tagger) for tagger in timed)
        inner = (ours.priorities >= NOUN) & (ours.priorities <= OTHER)
        np.add.at(confusion, (ours.priorities[inner] - NOUN, theirs.priorities[inner] - NOUN), 1)
        found.num_captions += len(batch)
        for budget, kept in found.kept.items():
            places = _kept_places(ours, budget), _kept_places(theirs, budget)
            other = np.flatnonzero((places[0] != places[1]).any(axis=1))
            kept.num_longer += int((ours.num_tokens > budget).sum())
            kept.num_other += len(other)
            shown = ((batch[row], [_words(batch[row], tokenizer, p[row]) for p in places]) for row in other)
            room = num_examples - sum(example.text_tokens == budget for example in found.examples)
            found.examples += islice((Example(c, budget, *w) for c, w in shown if w[0] != w[1]), room)
    found.num_tokens = int(confusion.sum())
    found.agreement = float(confusion.trace() / max(found.num_tokens, 1))
    found.confusion = confusion.tolist()
    found.captions_per_second = [tagger.num_captions / max(tagger.seconds, 1e-9) for tagger in timed]
    return found


def _kept_places(annotated: Annotated, text_tokens: int) -> NDArray[np.int64]:
    """Which tokens of each caption the `syntax` mask keeps, by their places: int64 [N, text_tokens]."""
    num_captions = len(annotated.tokens)
    places = np.broadcast_to(np.arange(CONTEXT_LENGTH, dtype=np.uint16), annotated.tokens.shape)
    no_keys = np.zeros(num_captions, np.uint64)
    return select(places, annotated.priorities, annotated.num_tokens, text_tokens, "syntax", no_keys)


def _words(caption: str, tokenizer: Tokenizer, places: NDArray[np.int64]) -> str:
    """The words with a piece at one of these places."""
    words, place = [], 1
    lowered = caption.lower()
    for ids, start, end in tokenizer.encode_words(lowered):
        if np.any((places >= place) & (places < place + len(ids))):
            words.append(lowered[start:end])
        place += len(ids)
    return " ".join(words)


def read_captions(path: str) -> Iterator[str]:
    """The captions of a store (a folder or URL) or of a text file, clean.

    Of a text file, lines that hold no caption are passed over. Raises `UserError` when there is neither.
    """
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            for line in file:
                try:
                    yield decode(line).text
                except CaptionError:
                    continue
        return
    store = open_store(path)
    for shard in store.manifest.shards:
        for source in store.manifest.caption_sources:
            for captions in store.captions(source, shard.shard):
                yield from captions


def report(found: Comparison, names: Sequence[str]) -> str:
    """The comparison for a person to read."""
    wide = max(map(len, (*names, "adjective"))) + 2
    lines = [f"{found.num_captions:,} captions, {found.num_tokens:,} tokens by {found.tokenizer['name']}", ""]
    for name, identity, rate in zip(names, found.taggers, found.captions_per_second, strict=True):
        lines.append(f"{name:{wide}}{rate:8,.0f} captions/s   {identity['model']} {identity['version']}")
    lines += ["", f"same class for {found.agreement:.1%} of the tokens", ""]
    lines.append(f"{names[0]} down, {names[1]} across".ljust(wide) + "".join(f"{c:>11}" for c in CLASSES.values()))
    indent = max(len(lines[-1]) - 11 * len(CLASSES), wide)
    for name, row in zip(CLASSES.values(), found.confusion, strict=True):
        lines.append(f"{name:{indent}}" + "".join(f"{count:11,}" for count in row))
    lines.append("")
    for budget, kept in found.kept.items():
        of_all, of_longer = (kept.num_other / max(n, 1) for n in (found.num_captions, kept.num_longer))
        lines.append(
            f"at T = {budget}, {kept.num_other:,} captions keep other tokens: {of_all:.1%} of all, "
            f"{of_longer:.1%} of the {kept.num_longer:,} with more tokens than {budget}"
        )
    for example in found.examples:
        lines += ["", f"T = {example.text_tokens}: {example.caption}"]
        lines += [f"  {name:{wide}}{kept}" for name, kept in zip(names, (example.first, example.second), strict=True)]
    return "\n".join(lines)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m prep.compare_taggers", description="Compare two taggers.")
    add = parser.add_argument
    add("captions", help="a store, or a text file with a caption a line")
    add("taggers", nargs=2, metavar="TAGGER", help="spacy, spacy:PIPELINE, nltk, textblob or vocabulary")
    add("--tokenizer", default="clip", help="clip, bert or bert:FILE (default clip)")
    add("--text-tokens", type=int, nargs="+", default=[8, 16], metavar="T", help="ends included (default 8 16)")
    add("--limit", type=int, default=10_000, metavar="N", help="captions at most, 0 for all (default 10000)")
    add("--examples", type=int, default=5, metavar="N", help="captions shown at each T (default 5)")
    add("--json", type=Path, metavar="FILE", help="write the comparison there, too")
    options = parser.parse_args(argv)
    for name in ("limit", "examples"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name}", f"wanted a number from 0, found {getattr(options, name)}", "Choose another.")
    if options.tokenizer == NLTK_WORDS:
        problem = f"the classes of {NLTK_WORDS} are NLTK's whatever the tagger"
        raise UserError("--tokenizer", problem, "Choose clip or bert; prep.compare_masks compares it with these.")
    for budget in options.text_tokens:
        if not 2 <= budget <= CONTEXT_LENGTH:
            raise UserError("--text-tokens", f"wanted 2 to {CONTEXT_LENGTH}, found {budget}", "Choose another number.")
    return options


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    options = _options(argv)
    taggers = [load_tagger(name) for name in options.taggers]
    tokenizer = load_tokenizer(options.tokenizer)
    with bar(options.limit or None, "tagging", "captions") as progress:

        def counted() -> Iterator[str]:
            for caption in islice(read_captions(options.captions), options.limit or None):
                yield caption
                progress.advance()

        found = compare(counted(), tokenizer, taggers[0], taggers[1], options.text_tokens, options.examples)
    if not found.num_captions:
        raise UserError(options.captions, "wanted captions; there is none", "Point at a store or at a file with some.")
    print(report(found, options.taggers))
    if options.json:
        write_json(options.json, asdict(found))
        print(f"\nwritten to {options.json}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
