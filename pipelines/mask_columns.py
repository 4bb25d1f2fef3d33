"""Which columns of a store a text mask reads, and the command that adds those that it lacks.

    mask            the model's tokenizer    token column          priorities by
    syntax-torch    clip                     clip-nltk             nltk
    syntax-jax      bert                     bert, or a bert:FILE  vocabulary
    any other       clip                     clip                  spacy, or whichever there are
                    bert                     bert, or a bert:FILE  spacy, or whichever there are

`sub-caption` and `syntax-jax` also want the vocabulary, for what an id stands for: it is loaded by the name that the
column was built with, and must be the one that it was built with.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.errors import UserError
from prep.store import Column, Store
from prep.text_masks import MARKED_MASKS
from prep.tokenizer import load_tokenizer

_TOKENIZERS = {"syntax-torch": ("clip", "clip-nltk"), "syntax-jax": ("bert", "bert")}
"""{mask: (the model's tokenizer, the token column's)}."""
_TAGGERS = {"syntax-torch": "nltk", "syntax-jax": "vocabulary"}


@dataclass(frozen=True, slots=True)
class MaskColumns:
    """The token ids of one caption source and their priorities."""

    tokens: Column
    priorities: Column


def mask_columns(
    store: Store, source: str, text_mask: str, tokenizer: str = "clip", tagger: str | None = None
) -> MaskColumns:
    """The columns that a mask reads. tokenizer: the model's, clip or bert. tagger: None for any that the mask takes.

    Raises `UserError`, naming the command that adds them, when the store lacks them, and when the mask is not of the
    model's tokenizer.
    """
    wanted, column = _TOKENIZERS.get(text_mask, (tokenizer, tokenizer))
    if tokenizer != wanted:
        raise UserError(
            f"text_mask {text_mask}",
            f"wanted a model with the tokenizer {wanted}, found {tokenizer}",
            f"Choose a model with that tokenizer, or the mask syntax, which takes the ids of {tokenizer}.",
        )
    tagger = _TAGGERS.get(text_mask, tagger)
    tokens = _token_column(store, source, column)
    name = tokens.folder.split("/")[2] if tokens else column
    priorities = store.manifest.priorities(source, name, tagger)
    if tokens is None or priorities is None:
        of_model = f" --tokenizer {_built_with(tokens) if tokens else column}"
        by_tagger = f" --tagger {tagger}" if tagger else ""
        raise UserError(
            store.folder.url,
            f"text_mask {text_mask} wants token ids of the captions {source!r} by {column} with priorities by "
            f"{tagger or 'any tagger'}, but the store holds {_held(store, source)}",
            f"Add them: prep.build --out {store.folder.url}{of_model}{by_tagger}",
        )
    return MaskColumns(tokens, priorities)


def marks_of_column(tokens: Column, text_mask: str) -> NDArray[np.uint8] | None:
    """What `prep.text_masks.select` wants to know of each id: uint8 [vocabulary size], None for masks that do not ask.

    Raises `UserError` when the vocabulary is not here, or is another one.
    """
    if text_mask not in MARKED_MASKS:
        return None
    name = _built_with(tokens)
    loaded = load_tokenizer(name)
    if loaded.identity() != (planned := tokens.settings["tokenizer"]):
        raise UserError(
            f"tokenizer {name}",
            f"{tokens.folder} was built with {planned}, here is {loaded.identity()}",
            "Put the vocabulary there that the column was built with.",
        )
    return loaded.marks()


def check_text_mask(store: Store, text_mask: str, source: str, tokenizer: str = "clip") -> None:
    """Raise `UserError` when a store cannot serve a text mask to a model with this tokenizer, naming what to do."""
    marks_of_column(mask_columns(store, source, text_mask, tokenizer).tokens, text_mask)


def _token_column(store: Store, source: str, tokenizer: str) -> Column | None:
    """The column of that tokenizer; for `bert` also of one that was read from a file, the first by name."""
    found = store.manifest.tokens(source, tokenizer)
    if found or tokenizer != "bert":
        return found
    columns = [c for c in store.manifest.of_kind("tokens") if c.folder.startswith(f"tokens/{source}/")]
    return next((column for column in columns if _built_with(column).startswith("bert:")), None)


def _built_with(tokens: Column) -> str:
    """What was said to `--tokenizer`; format version 1 knows only clip."""
    return str(tokens.settings.get("name", "clip"))


def _held(store: Store, source: str) -> str:
    folders = [column.folder for column in store.manifest.of_kind("priorities")]
    return ", ".join(folder for folder in folders if folder.split("/")[1] == source) or "none"
