"""Prompt templates: the sentences that a class name is put into, `{}` standing for the name.

A class is described by the average of its prompts' embeddings (`eval.zeroshot.class_embeddings`), so a list is an
ensemble. `simple` fits a budget of twelve text tokens with names of up to four tokens, start and end of text included.
"""

from prep.errors import UserError

TEMPLATES: dict[str, tuple[str, ...]] = {
    "simple": (
        "{}",
        "a {}",
        "a photo of a {}",
        "a picture of the {}",
        "an image with one {} in it",
        "a {} up close",
    ),
}


def find_templates(name: str) -> tuple[str, ...]:
    """The list of that name. Raises `UserError` when there is none."""
    if name not in TEMPLATES:
        raise UserError(
            f"--templates {name}",
            "there is no such list of prompt templates",
            f"Choose one of: {', '.join(TEMPLATES)}.",
        )
    return TEMPLATES[name]
