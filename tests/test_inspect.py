"""prep.inspect: the manifest as tables and JSON, and a contact sheet of real rows, whatever characters they hold."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.torch_loader import TorchLoader, TokenBudget
from prep.crops import Augmentation, random_boxes
from prep.draws import row_keys
from prep.errors import UserError
from prep.inspect import main
from prep.kept_words import StoredCaption, kept_words
from prep.manifest_tables import size
from prep.sheet_rows import NUM_CROPS, choose_rows, read_rows
from prep.store import open_store
from prep.text_masks import TEXT_MASKS, select
from prep.tokenizer import load_tokenizer
from prep.typeface import Span, Typeface, printable

from .damage import NUM_ROWS, flip, small_store

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory)


def caption_of(text: str) -> StoredCaption:
    """A caption with token ids, and priorities that go round through the classes."""
    tokens = load_tokenizer().tokenize([text])[0].astype(np.uint16)
    num_tokens = int((np.arange(77) * (tokens > 0)).max()) + 1
    priorities = np.where(np.arange(77) < num_tokens, np.arange(77) % 4 + 1, 255).astype(np.uint8)
    priorities[[0, num_tokens - 1]] = 0
    return StoredCaption(text, tokens, priorities, num_tokens)
