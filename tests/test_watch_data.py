"""eval.run --watch and its data: what changes is judged again, what is odd is said once."""

import json
import shutil
from pathlib import Path

import pytest

from eval.captioned import CaptionedSource
from eval.evaluation import Evaluation
from eval.watch_log import read_watch
from prep.store import Store

from .captioned_sets import write_karpathy
from .played_trainer import Trainer, classes, finished


def test_changed_pictures_are_judged_again(finished: Path, classes: Path, tmp_path: Path) -> None:
    """And so is a log of before fingerprints were kept in it; it can still be read."""
    own = shutil.copytree(classes, tmp_path / "six")
    karpathy = write_karpathy(tmp_path / "karpathy")
    asked = Evaluation((own,), CaptionedSource(karpathy, karpathy.parent / "images"))
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    trainer.finish(192)
    log = trainer.run / "eval" / "watch.jsonl"

    def num_lines() -> int:
        assert trainer.watch(asked) == [192]
        return len(read_watch(log.parent))

    assert [num_lines(), num_lines()] == [1, 1]
    assert not [said for said in trainer.said if "other data" in said]
    first, *others = sorted(own.glob("*/*"))
    first.write_bytes(others[-1].read_bytes())
    assert [num_lines(), num_lines()] == [2, 2]
    assert "1 checkpoints were judged on other data" in "".join(trainer.said)
    (karpathy.parent / "images" / "val" / "2.png").write_bytes(first.read_bytes())
    assert [num_lines(), num_lines()] == [3, 3]
    old = [json.loads(line) for line in log.read_text().splitlines()]
    for line in old:
        del line["data"]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in old))
    assert [line.data for line in read_watch(log.parent)] == [None] * 3
    assert [num_lines(), num_lines()] == [4, 4]


def test_what_is_odd_about_the_data_is_said_once(finished: Path, classes: Path, tmp_path: Path) -> None:
    own = shutil.copytree(classes, tmp_path / "six")
    (sorted(own.iterdir())[0] / "a\x1b[31m.png").write_bytes(b"no image")
    trainer = Trainer(finished, tmp_path / "run", [])
    trainer.begin()
    for seen in (48, 96, 192):
        trainer.finish(seen)
    assert trainer.watch(Evaluation((own,))) == [48, 96, 192]
    (told,) = (said for said in trainer.said if "1 files of" in said)
    assert "a\\x1b[31m.png (image_format" in told
    assert not any("\x1b" in said for said in trainer.said)
