"""Prompt templates: the sentences that a class name is put into, `{}` standing for the name.

A class is described by the average of its prompts' embeddings (`eval.zeroshot.class_embeddings`), so a list is an
ensemble.

    simple        fits a budget of twelve text tokens with names of up to four tokens, start and end of text included
    imagenet      the 80 of CLIP's ImageNet protocol (Radford et al. 2021, arXiv 2103.00020), which open_clip ships too
    imagenet-81   the same and the bare name, in the canonical spelling that CLIPA's JAX code gives to templates and
                  names before it asks its models, which know no other
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from prep.errors import UserError

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonical_spelling(text: str) -> str:
    """Lower case, `_` as a space, ASCII punctuation dropped, single spaces: big_vision's spelling, which CLIPA took."""
    return " ".join(text.replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


@dataclass(frozen=True, slots=True)
class Templates(Sequence[str]):
    """A list of sentences, each with one `{}`; itself a sequence of them.

    canonical: a name is cut at its first comma, which separates aliases, and spelled as `canonical_spelling` does.
    """

    sentences: tuple[str, ...]
    canonical: bool = False

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        return self.sentences[place]

    def __len__(self) -> int:
        return len(self.sentences)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sentences)

    def prompts(self, class_name: str) -> list[str]:
        """One prompt a sentence, in their order. Raises `UserError` for no name, and where the spelling leaves none."""
        name = canonical_spelling(class_name.split(",")[0]) if self.canonical else class_name
        if not name and not self.canonical:
            raise UserError("class ''", "wanted a class name, found none", "Name the class.")
        if not name:
            problem = "nothing is left of this class name in the canonical spelling, which drops punctuation"
            raise UserError(f"class {class_name!r}", problem, "Choose other --templates, or another name.")
        return [sentence.format(name) for sentence in self.sentences]


# A phrase ends with the name where it does not say otherwise, and a sentence with a full stop.
_IMAGENET = tuple(
    f"{phrase if '{}' in phrase else phrase + ' {}'}."
    for phrase in """a bad photo of a|a photo of many|a sculpture of a|a photo of the hard to see
a low resolution photo of the|a rendering of a|graffiti of a|a bad photo of the|a cropped photo of the|a tattoo of a
the embroidered|a photo of a hard to see|a bright photo of a|a photo of a clean|a photo of a dirty|a dark photo of the
a drawing of a|a photo of my|the plastic|a photo of the cool|a close-up photo of a|a black and white photo of the
a painting of the|a painting of a|a pixelated photo of the|a sculpture of the|a bright photo of the|a cropped photo of a
a plastic|a photo of the dirty|a jpeg corrupted photo of a|a blurry photo of the|a photo of the|a good photo of the
a rendering of the|a {} in a video game|a photo of one|a doodle of a|a close-up photo of the|a photo of a|the origami
the {} in a video game|a sketch of a|a doodle of the|a origami|a low resolution photo of a|the toy|a rendition of the
a photo of the clean|a photo of a large|a rendition of a|a photo of a nice|a photo of a weird|a blurry photo of a
a cartoon|art of a|a sketch of the|a embroidered|a pixelated photo of a|itap of the|a jpeg corrupted photo of the
a good photo of a|a plushie|a photo of the nice|a photo of the small|a photo of the weird|the cartoon|art of the
a drawing of the|a photo of the large|a black and white photo of a|the plushie|a dark photo of a|itap of a
graffiti of the|a toy|itap of my|a photo of a cool|a photo of a small|a tattoo of the""".replace("\n", "|").split("|")
)


def _canonical_sentence(sentence: str) -> str:
    return " ".join(word if word == "{}" else canonical_spelling(word) for word in sentence.removesuffix(".").split())


TEMPLATES: dict[str, Templates] = {
    "simple": Templates(
        (
            "{}",
            "a {}",
            "a photo of a {}",
            "a picture of the {}",
            "an image with one {} in it",
            "a {} up close",
        )
    ),
    "imagenet": Templates(_IMAGENET),
    "imagenet-81": Templates((*map(_canonical_sentence, _IMAGENET), "{}"), canonical=True),
}


def find_templates(name: str) -> Templates:
    """The list of that name. Raises `UserError` when there is none."""
    if name not in TEMPLATES:
        raise UserError(
            f"--templates {name}",
            "there is no such list of prompt templates",
            f"Choose one of: {', '.join(TEMPLATES)}.",
        )
    return TEMPLATES[name]
