"""The text path's benchmark: both paths do the work, on the same captions, to the same ids."""

import numpy as np
import pytest

from prep.bench_text import ReadyTagger, _open_clip, text_ratio
from prep.text_columns import annotate
from prep.tokenizer import load_tokenizer

CAPTIONS = ["A red dog, sleeping", "Two  children's &amp; toys", "an old boat in the harbour of Nice"]


def test_both_paths_make_the_same_ids_of_captions_that_fit() -> None:
    ready = ReadyTagger(CAPTIONS[::2])
    reference = _open_clip(ready)(CAPTIONS[::2])
    assert np.array_equal(annotate(CAPTIONS[::2], load_tokenizer(), ready).tokens, np.asarray(reference))


def test_the_ready_tagger_knows_where_words_begin() -> None:
    (tagged,) = ReadyTagger(["a red dog"]).tag(["a red dog"])
    assert tagged.starts.tolist() == [0, 2, 6]


def test_the_ratio_is_of_the_rates() -> None:
    rates = text_ratio(CAPTIONS * 20, rounds=2, batch_size=16)
    assert rates["ours"] > 0
    assert rates["ratio"] == pytest.approx(rates["ours"] / rates["open_clip"])
