"""What a labelled set is, wherever its images lie: classes by name, a label for each image, and the images one by one.

A source says where an image is and how its pixels come; everything else is the same for all of them: decoding in
threads a batch ahead, counting what cannot be read. Which class an image is of is `eval.labelled_classes`'.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from eval.preprocess import Preprocess
from prep.images import ImageError, ImageLimits, decode
from prep.labelled_files import readable

Pixels = NDArray[np.uint8]
Job = Callable[[], Pixels]
"""Gives an image's RGB pixels, uint8 [H, W, 3]. Raises `ImageError`, `NoImage` or OSError when it cannot be read."""

# A test set's small or long images are part of the test: only what costs memory is refused.
LIMITS = ImageLimits(max_aspect=float("inf"), min_side=1)
_MAX_THREADS = 8


class NoImage(Exception):
    """There is nothing to decode. The message says why."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that is no image we can read, and why. path: the file, or what a tar or a table calls it."""

    path: Path | str
    problem: str


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """images: uint8 [B, 3, R, R]. index: int64 [B], places among the set's images. B is 0 when none could be read.

    unreadable: what was met on the way and is not among the images.
    """

    images: torch.Tensor
    index: torch.Tensor
    unreadable: tuple[Unreadable, ...]


class ImageSource(Protocol):
    """Images by their places, 0 to N - 1."""

    def jobs(self, places: Sequence[int], res: int | None) -> Iterator[Job]:
        """A job for each place, which are ascending. res: the side in pixels that is wanted; None: all there is."""
        ...

    def named(self, place: int) -> Path | str:
        """What people call the image."""
        ...


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Images with a class each. Made by `eval.labelled.open_labelled`.

    name: what people call it. class_names: as prompts use them; all of them are possible answers. labels: int64 [N],
    places in class_names; -1 where an image is of no class among them: these are counted in `unmatched`, and not read.
    faults: what was met while listing and is no image of the set. fingerprint: hex digest of what decides images and
    labels. asked: as of `ClassList`, names of each class, of which the best counts; empty: its class_names.
    """

    path: Path
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    fingerprint: str
    source: ImageSource
    faults: tuple[Unreadable, ...] = ()
    unmatched: Mapping[str, int] = field(default_factory=dict)
    asked: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """What people call it: its path's last component."""
        return readable(self.path.name or str(self.path))

    @property
    def names_of_classes(self) -> tuple[tuple[str, ...], ...]:
        """What each class is asked by: `asked`, or its name."""
        return self.asked or tuple((name,) for name in self.class_names)

    @property
    def num_judged(self) -> int:
        """Images of a class among class_names."""
        return int((self.labels >= 0).sum())

    def read(self, preprocess: Preprocess, batch_size: int) -> Iterator[LabelledBatch]:
        """Every image with a class once, in order, `batch_size` tried at a time, decoded by threads a batch ahead."""
        places = np.flatnonzero(self.labels >= 0).tolist()
        jobs = zip(places, self.source.jobs(places, preprocess.res), strict=True)
        num_threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
        with ThreadPoolExecutor(num_threads, thread_name_prefix="labelled") as pool:
            ahead: deque[list[tuple[int, Future[torch.Tensor | str]]]] = deque()
            while batch := list(islice(jobs, batch_size)):
                ahead.append([(place, pool.submit(_square, job, preprocess)) for place, job in batch])
                if len(ahead) > 1:
                    yield self._batch(ahead.popleft(), preprocess.res)
            while ahead:
                yield self._batch(ahead.popleft(), preprocess.res)

    def _batch(self, coming: list[tuple[int, Future[torch.Tensor | str]]], res: int) -> LabelledBatch:
        read = [(place, future.result()) for place, future in coming]
        images = [image for _, image in read if isinstance(image, torch.Tensor)]
        return LabelledBatch(
            torch.stack(images) if images else torch.empty((0, 3, res, res), dtype=torch.uint8),
            torch.tensor([place for place, image in read if isinstance(image, torch.Tensor)]).long(),
            tuple(Unreadable(self.named(place), problem) for place, problem in read if isinstance(problem, str)),
        )

    def pixels(self, index: int) -> Pixels:
        """The pixels of one image, uint8 [H, W, 3], for a picture. Raises as a `Job` does."""
        (job,) = self.source.jobs([index], None)
        return job()

    def named(self, index: int) -> Path | str:
        """What people call one image: its file, or its key in a tar, a table or a store."""
        return self.source.named(index)


def _square(job: Job, preprocess: Preprocess) -> torch.Tensor | str:
    """The image, or why there is none."""
    try:
        return preprocess.apply(job())
    except ImageError as error:
        return f"{error.reason}: {error.detail}"
    except (NoImage, OSError) as error:
        return str(error)


def decoded(data: bytes) -> Pixels:
    """The pixels of an image file, uint8 [H, W, 3]. Raises `ImageError`."""
    return decode(data, LIMITS).pixels


def digest(parts: Iterable[str | bytes | NDArray[np.int64]]) -> str:
    """xxh3-128 of the parts, each with its length, as 32 hex digits."""
    found = xxhash.xxh3_128()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else bytes(part)
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()


def stamp(file: Path) -> str:
    """What changes when a file does: its size, and when it and its entry were last written, in nanoseconds."""
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def stamp_if_there(file: Path) -> str:
    """The same of a file that may be missing."""
    try:
        return stamp(file)
    except (OSError, ValueError):
        return "missing"
