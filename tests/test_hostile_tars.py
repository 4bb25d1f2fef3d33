"""Tars made by an enemy or by a bad disk: no crash, nothing run or written, and no pair lost or changed in silence."""

import codecs
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from prep import captions
from prep.pairs import Pair, Reason, Reject
from prep.sources import SourceOptions, read_part
from prep.sources.names import has_control
from tests.hostile_tars import KEYS, PAIRS, Case, corpus
from tests.tar_files import held, original, tar_part

CORPUS = corpus()

for codec in ("utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le"):
    codecs.lookup(codec)  # json asks for them, and the first time imports them

_WATCHED = ("exec", "import", "os.", "pickle.find_class", "shutil.", "socket.", "subprocess.", "tempfile.", "open")
_seen: list[tuple[str, object]] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event.startswith(_WATCHED):
        _seen.append((event, arguments[0] if arguments else None))


@contextmanager
def watched() -> Iterator[list[tuple[str, object]]]:
    """What Python is asked to open, run or change meanwhile."""
    global _seen
    if not hasattr(_watch, "is_added"):
        sys.addaudithook(_watch)  # for good: there is no way to take one off
        _watch.is_added = True  # type: ignore[attr-defined]
    found: list[tuple[str, object]] = []
    _seen = found
    try:
        yield found
    finally:
        _seen = None


def read(path: Path, case: Case) -> list[Pair | Reject]:
    path.write_bytes(case.data)
    with watched() as events:
        results = held(read_part(tar_part(path), SourceOptions()), path.name)
    assert set(events) <= {("open", str(path))}, case.kind
    return results


def test_the_corpus_is_large_and_always_the_same() -> None:
    assert len(CORPUS) >= 500
    assert [case.data for case in corpus()] == [case.data for case in CORPUS]
    assert len({case.kind for case in CORPUS}) >= 20


@pytest.mark.parametrize("kind", sorted({case.kind for case in CORPUS}))
def test_every_pair_is_kept_unchanged_or_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    for number, case in enumerate(case for case in CORPUS if case.kind == kind):
        where = f"{kind}, number {number}"
        results = read(tmp_path / "x.tar", case)
        pairs = {result.key: result for result in results if isinstance(result, Pair)}
        rejects = [result for result in results if isinstance(result, Reject)]
        assert len(pairs) + len(rejects) == len(results), where
        for key in KEYS:
            if key in pairs and key not in case.touched:
                image, caption = PAIRS[key]
                assert (pairs[key].image, pairs[key].captions) == (image, original(caption)), where
        assert pairs.keys() >= case.kept, where
        if case.is_told and not {result.key for result in results} >= set(KEYS) - case.touched:
            assert Reason.SOURCE_CUT in {reject.reason for reject in rejects}, where
        found = {reject.key: reject.reason.value for reject in rejects} | dict.fromkeys(pairs, "pair")
        found |= {f"{reject.key} again": reject.reason.value for reject in rejects if reject.key in pairs}
        assert case.outcomes.items() <= found.items(), where
        for pair in pairs.values():
            _check_captions(pair)
    assert os.listdir(tmp_path) == ["x.tar"]


def _check_captions(pair: Pair) -> None:
    """Whatever a caption holds, it is a clean one or a typed fault."""
    for caption in pair.captions["original"]:
        with suppress(captions.CaptionError):
            assert not has_control(captions.decode(caption).text)


def test_the_same_tar_gives_the_same_results(tmp_path: Path) -> None:
    for case in CORPUS[::7]:
        assert read(tmp_path / "x.tar", case) == read(tmp_path / "x.tar", case)


def test_most_damage_is_noticed(tmp_path: Path) -> None:
    reasons = Counter(
        result.reason for case in CORPUS[::2] for result in read(tmp_path / "x.tar", case) if isinstance(result, Reject)
    )
    assert reasons[Reason.SOURCE_CUT] > len(CORPUS) / 6
    assert reasons.keys() >= {
        *(Reason.UNSAFE_NAME, Reason.NOT_A_FILE, Reason.DUPLICATE_KEY, Reason.CAPTION_MISSING, Reason.CAPTION_TOO_LONG),
        *(Reason.IMAGE_MISSING, Reason.SOURCE_CUT),
    }
