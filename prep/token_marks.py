"""What the text masks must know of an id beyond its priority: whether it continues a word or ends a sentence.

A mark is a sum of bits. They are told from what the entries of a tokenizer's vocabulary spell, once when a loader
starts; `Tokenizer.marks` gives them by id.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONTINUES, STOPS, CLOSES, DIGITS = 1, 2, 4, 8
"""CONTINUES: not the first piece of its word (BERT's ##). STOPS: `.`, `!`, `?`, with closing quotes and brackets or
without. CLOSES: such quotes and brackets alone. DIGITS: digits alone.
"""

_STOP = re.compile(rb"""[.!?"')\]]*[.!?][.!?"')\]]*""")
_CLOSE = re.compile(rb"""["')\]]+""")
_DIGITS = re.compile(rb"[0-9]+")


def marks_of(spelled: Sequence[bytes]) -> NDArray[np.uint8]:
    """The marks of what ids spell, but for CONTINUES: uint8 [number of ids]."""
    return np.array(
        [
            STOPS * bool(_STOP.fullmatch(piece))
            | CLOSES * bool(_CLOSE.fullmatch(piece))
            | DIGITS * bool(_DIGITS.fullmatch(piece))
            for piece in spelled
        ],
        np.uint8,
    )
