"""The demo's sets as files: training and retrieval tars in img2dataset's layout, zero-shot folders.

A `Task` is one tar or one class folder, and a pure function of (settings, task): its bytes depend neither on the
workers nor on what was there before. It is written under `.unfinished/` and renamed: a final name holds a whole set.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image

from prep.demo_captions import caption
from prep.demo_objects import CLASSES, held_out_pairs
from prep.demo_scenes import Scene, encoded, retrieval_scene, shifted_scene, training_scene, zeroshot_scene
from prep.files import sync_folder

PAIRS_PER_TAR = 1000
UNFINISHED = ".unfinished"

Report = Callable[[int], None]
"""Called with the number of pictures just made, for a progress bar."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the demo's bytes.

    num_pairs: for training. num_retrieval: held-out pairs. num_per_class: pictures a class in each zero-shot set.
    """

    num_pairs: int
    num_retrieval: int
    num_per_class: int
    seed: int


@dataclass(frozen=True, slots=True)
class Task:
    """One tar or one class folder.

    kind: "train" or "retrieval" (then `index` is the tar's number), "zeroshot" or "zeroshot_shift" (then the class's).
    """

    kind: str
    index: int

    @property
    def path(self) -> str:
        """Where the finished work lies, relative to the demo's folder."""
        folder = self.kind in _SINGLE_OBJECT
        return f"{self.kind}/{CLASSES[self.index].name if folder else f'{self.index:05d}.tar'}"

    def num_pictures(self, settings: Settings) -> int:
        """How many pictures the task makes."""
        if self.kind in _SINGLE_OBJECT:
            return settings.num_per_class
        total = settings.num_pairs if self.kind == "train" else settings.num_retrieval
        return min(PAIRS_PER_TAR, total - self.index * PAIRS_PER_TAR)


_SINGLE_OBJECT = {"zeroshot": zeroshot_scene, "zeroshot_shift": shifted_scene}


def all_tasks(settings: Settings) -> list[Task]:
    """Every task of a demo, the longest first."""
    totals = {"train": settings.num_pairs, "retrieval": settings.num_retrieval}
    tars = [Task(kind, i) for kind, total in totals.items() for i in range(-(-total // PAIRS_PER_TAR))]
    folders = [Task(kind, i) for kind in _SINGLE_OBJECT for i in range(len(CLASSES))] if settings.num_per_class else []
    return tars + folders


def perform(task: Task, settings: Settings, out: Path, report: Report) -> None:
    """Make one task's pictures and give them their final name."""
    target = out / task.path
    aside = out / UNFINISHED / task.path
    aside.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if task.kind in _SINGLE_OBJECT:
        _write_folder(aside, task, settings, report)
    else:
        _write_tar(aside, task, settings, report)
    aside.replace(target)
    sync_folder(target.parent)


def remove_unfinished(out: Path) -> None:
    """Clear away what a killed run left behind."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def _rng(settings: Settings, *place: object) -> Random:
    """The source of chance of one place in the demo, independent of all others."""
    return Random("/".join(map(str, (settings.seed, *place))))


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_folder(folder: Path, task: Task, settings: Settings, report: Report) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i in range(settings.num_per_class):
        rng = _rng(settings, task.kind, task.index, i)
        _, image = _SINGLE_OBJECT[task.kind](task.index, rng)
        _write_synced(folder / f"{i:03d}.jpg", encoded(image, rng))
        report(1)
    sync_folder(folder)


def _write_tar(path: Path, task: Task, settings: Settings, report: Report) -> None:
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in _members(task, settings, report):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o644
                tar.addfile(member, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())


def _members(task: Task, settings: Settings, report: Report) -> Iterator[tuple[str, bytes]]:
    """The files of a tar, three a pair: key.jpg, key.txt, key.json."""
    for row in range(task.num_pictures(settings)):
        number = task.index * PAIRS_PER_TAR + row
        rng = _rng(settings, task.kind, number)
        scene, image, text = _pair(task.kind, number, settings, rng)
        key, jpeg = f"{task.index:05d}{row:04d}", encoded(image, rng)
        yield f"{key}.jpg", jpeg
        yield f"{key}.txt", text.encode()
        yield f"{key}.json", json.dumps(_record(key, scene, text, jpeg), sort_keys=True).encode()
        report(1)


def _pair(kind: str, number: int, settings: Settings, rng: Random) -> tuple[Scene, Image.Image, str]:
    if kind == "train":
        scene, image = training_scene(rng)
        return scene, image, caption(scene, rng)
    # Each held-out pair of classes once before any comes a second time.
    pairs = held_out_pairs()
    _rng(settings, "held-out pairs", number // len(pairs)).shuffle(pairs)
    scene, image = retrieval_scene(pairs[number % len(pairs)], rng)
    return scene, image, caption(scene, rng, always_named=True)


def _record(key: str, scene: Scene, text: str, jpeg: bytes) -> dict[str, object]:
    """What img2dataset writes of a pair, and the truth about the scene."""
    width, height = scene.size
    return {
        "key": key,
        "status": "success",
        "error_message": None,
        "caption": text,
        "width": width,
        "height": height,
        "original_width": width,
        "original_height": height,
        "exif": "{}",
        "sha256": hashlib.sha256(jpeg).hexdigest(),
        "background": {"family": scene.background.family, "colours": scene.background.colours},
        "objects": [
            {
                "class": CLASSES[placed.class_index].name,
                "box": placed.box,
                "tint": placed.tint,
                "angle": placed.angle,
                "mirrored": placed.mirrored,
            }
            for placed in scene.objects
        ],
    }
