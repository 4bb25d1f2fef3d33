"""The syntax masks of CLIPA's two codes and of open_clip, told plainly from captions: the judge of the stored columns.

NLTK and its data must be there: see tests/nltk_folder.py.
"""

from functools import cache

from prep.bert_tokenizer import BertTokenizer
from prep.taggers import penn_class
from prep.tokenizer import Tokenizer
from tests.slow_text_masks import whole_words


@cache
def words_and_classes(caption: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """NLTK's words of a caption as given, and their classes in its context."""
    import nltk

    tagged = nltk.pos_tag(nltk.word_tokenize(caption))
    return tuple(word for word, _ in tagged), tuple(penn_class(tag) for _, tag in tagged)


@cache
def syntax_torch(caption: str, text_tokens: int, clip: Tokenizer) -> list[int]:
    """CLIPA's PyTorch rule: the T - 2 best words as one string, encoded; cut to T, end of text last; zero padded."""
    words, classes = words_and_classes(caption)
    best = sorted(range(len(words)), key=lambda place: classes[place])[: text_tokens - 2]
    ids = clip.encode(" ".join(words[place] for place in sorted(best)))[: text_tokens - 2]
    row = [clip.start, *ids, clip.end]
    return row + [0] * (text_tokens - len(row))


def syntax_jax(caption: str, text_tokens: int, bert: BertTokenizer) -> list[int]:
    """Its JAX rule: [CLS] and T - 1 pieces, of the T - 1 best words where there are more words; zero padded."""
    words = [list(ids) for ids, _, _ in bert.encode_words(caption.lower())]
    pieces = [id_ for ids in words for id_ in ids][: text_tokens - 1]
    if len(words) > text_tokens - 1:
        classes = [_entry_class(bert.entries[ids[0]]) for ids in words]
        pieces = whole_words(words, classes, text_tokens - 1)
    row = [bert.start, *pieces]
    return row + [0] * (text_tokens - len(row))


@cache
def _entry_class(entry: str) -> int:
    """The class of an entry of the vocabulary on its own: that of its last word, 4 where it has none."""
    _, classes = words_and_classes(entry.lower())
    return classes[-1] if classes else 4
