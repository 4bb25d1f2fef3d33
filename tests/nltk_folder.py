"""NLTK's data: NLTK downloads them, so they are no part of the project. The tests take them from beside it."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "nltk_data"


def use_nltk_data() -> None:
    """Have NLTK look there first, or skip the test when there is no such folder."""
    if not FOLDER.is_dir():
        pytest.skip("wanted NLTK's data in ../shared/nltk_data, beside this repository")
    import nltk.data

    if str(FOLDER) not in nltk.data.path:
        nltk.data.path.insert(0, str(FOLDER))
