"""A retrieval set in webdataset tars, as CLIP_benchmark's come: KEY.jpg beside KEY.txt, one caption a line.

A KEY.json with captions may stand for the .txt. Tars are read from front to back, once for the captions and once for
the images: nothing is extracted, and no name in them is used as a path.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from eval.captioned_set import CaptionedFiles, Listing, checked, with_words
from eval.labelled_set import Job, Unreadable, decoded, digest, stamp
from prep.captioned_tars import read_captioned_tar
from prep.errors import UserError
from prep.files import as_json
from prep.labelled_files import kind_of_files, labelled_files, readable


@dataclass(frozen=True, slots=True)
class _Members:
    """members: (tar, key) each, tar by tar."""

    members: tuple[tuple[str, str], ...]

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        for tar, group in groupby((self.members[place] for place in places), key=lambda member: member[0]):
            found = read_captioned_tar(tar)
            for _, key in group:
                image = next((member.image for member in found if member.key == key and not member.problem), None)
                if image is None:
                    raise UserError(tar, f"{key} is not in it any more", "Run again.")
                yield partial(decoded, image)

    def named(self, place: int) -> str:
        tar, key = self.members[place]
        return readable(f"{tar}: {key}")


def tars_of(path: Path) -> list[str]:
    """The tars of a folder, a pattern or a name; none where something else lies there."""
    return labelled_files(str(path)) if kind_of_files(str(path)) == "tars" else []


def open_captioned_tars(path: Path, tars: Sequence[str], which: str = "all") -> CaptionedFiles:
    """List the captions of tars. which: of `eval.captioned_set.CAPTIONS`.

    Raises `UserError` when a tar cannot be opened, or no image with a caption is in them.
    """
    members: list[tuple[str, str]] = []
    texts: list[tuple[str, ...]] = []
    faults: list[Unreadable] = []
    num_empty = lost = 0
    for tar in tars:
        for member in read_captioned_tar(tar):
            problem, captions = member.problem, tuple[str, ...]()
            if not problem:
                try:
                    captions, empty = with_words([text.decode("utf-8-sig") for text in member.captions], which)
                    num_empty += empty
                    problem = "" if captions else "has no caption"
                except UnicodeDecodeError as error:
                    problem, lost = f"a caption is not UTF-8: {error}", lost + len(member.captions)
            if problem:
                faults.append(Unreadable(readable(f"{tar}: {member.key}" if member.key else tar), problem))
                continue
            members.append((tar, member.key))
            texts.append(captions)
    parts = [part for tar in tars for part in (Path(tar).name, stamp(Path(tar)))]
    sizes = [part for tar in tars for part in (Path(tar).name, str(Path(tar).stat().st_size))]
    content = digest(["tars", *sizes, *map(as_json, texts)])
    listing = Listing(tuple(texts), tuple(faults), num_empty, lost)
    opened = CaptionedFiles(path, listing, _Members(tuple(members)), digest(["tars", which, *parts]), content)
    return checked(opened, "KEY.jpg beside KEY.txt")
