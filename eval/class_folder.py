"""A labelled set as anyone can lay it out: one folder per class, the folder's name being the class's name.

    animals/
      cat/         1.jpg 2.png ...        class "cat"
      polar_bear/  a.webp ...             class "polar bear"

Classes are in the order of their folders' names. Every file in a class's folder is tried, whatever its name ends in;
what is no readable image is counted and named, not fatal. Hidden files and folders, files beside the class folders and
folders inside them are passed over.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.pixels import central_boxes, cut
from prep.errors import UserError
from prep.images import ImageError, ImageLimits, decode

# A test set's small or long images are part of the test: only what costs memory is refused.
_LIMITS = ImageLimits(max_aspect=float("inf"), min_side=1)
_REMEDY = "Point at a folder that has one folder of images per class, e.g. animals/cat/1.jpg and animals/dog/1.jpg."


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """files: every candidate image, class by class. labels: int64 [N], for each file its place in class_names."""

    path: Path
    class_names: tuple[str, ...]
    files: tuple[Path, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no image we can read, and why."""

    path: Path
    problem: str


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """images: uint8 [B, 3, R, R]. index: int64 [B], places in the folder's files. B is 0 when no file could be read.

    unreadable: the files that were met on the way and are not among the images.
    """

    images: torch.Tensor
    index: torch.Tensor
    unreadable: tuple[Unreadable, ...]


def open_class_folder(path: Path) -> ClassFolder:
    """List the classes and their files; nothing is decoded yet.

    Raises `UserError` when the path is no folder, has fewer than two classes or no files, or when two folders give the
    same class name.
    """
    if not path.is_dir():
        came = "this is a file" if path.exists() else "nothing is there"
        raise UserError(str(path), f"wanted a folder with one folder of images per class, but {came}", _REMEDY)
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    names = tuple(folder.name.replace("_", " ").strip() for folder in folders)
    if len(folders) < 2:
        raise UserError(str(path), f"wanted at least two class folders, found {len(folders)}", _REMEDY)
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise UserError(str(path), f"two folders stand for the class {twins[0]!r}", "Rename one; `_` reads as a space.")
    files, labels = [], []
    for label, folder in enumerate(folders):
        inside = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise UserError(str(path), f"found {len(folders)} class folders, but no image in any of them", _REMEDY)
    return ClassFolder(path, names, tuple(files), np.array(labels, np.int64))


def read_pixels(file: Path) -> NDArray[np.uint8]:
    """An image's pixels as uint8 [H, W, 3]. Raises `ImageError` or `OSError` when it cannot be read."""
    return decode(file.read_bytes(), _LIMITS).pixels


def central_square(pixels: NDArray[np.uint8], res: int) -> torch.Tensor:
    """uint8 [3, res, res]: short side resized (bicubic, antialiased) and centre cropped, as for a store's rows."""
    height, width = pixels.shape[:2]
    return cut(pixels, central_boxes(np.array([width]), np.array([height]))[0], res)


def thumbnail(pixels: NDArray[np.uint8], side: int = 180) -> NDArray[np.uint8]:
    """The central square as uint8 [side, side, 3], for a picture."""
    square: NDArray[np.uint8] = central_square(pixels, side).permute(1, 2, 0).numpy()
    return square


def _read(file: Path, res: int) -> torch.Tensor | Unreadable:
    try:
        return central_square(read_pixels(file), res)
    except ImageError as error:
        return Unreadable(file, f"{error.reason}: {error.detail}")
    except OSError as error:
        return Unreadable(file, str(error))


def read_batches(folder: ClassFolder, res: int, batch_size: int, threads: int = 2) -> Iterator[LabelledBatch]:
    """Every file once, in the folder's order, `batch_size` files at a time, decoded by so many threads."""
    with ThreadPoolExecutor(threads, thread_name_prefix="class-folder") as pool:
        for start in range(0, len(folder.files), batch_size):
            files = folder.files[start : start + batch_size]
            read = list(pool.map(lambda file: _read(file, res), files))
            images = [image for image in read if isinstance(image, torch.Tensor)]
            yield LabelledBatch(
                torch.stack(images) if images else torch.empty((0, 3, res, res), dtype=torch.uint8),
                torch.tensor([start + i for i, image in enumerate(read) if isinstance(image, torch.Tensor)]).long(),
                tuple(bad for bad in read if isinstance(bad, Unreadable)),
            )
