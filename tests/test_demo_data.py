"""The demo's data: the same bytes always, whole files only, and held-out sets that are held out."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import emoji
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from prep import demo, demo_patterns
from prep.demo_objects import CLASSES, held_out_pairs, is_held_out
from prep.demo_scenes import zeroshot_scene
from prep.demo_sets import UNFINISHED, Settings, Task, perform
from prep.demo_sprites import TINTS, drawn
from prep.errors import UserError

SETTINGS = Settings(num_pairs=120, num_retrieval=30, num_per_class=1, seed=3)
ARGUMENTS = ["--pairs", "120", "--retrieval", "30", "--per-class", "1", "--seed", "3"]
INDEX = {known.name: i for i, known in enumerate(CLASSES)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "data"
    assert demo.make_demo(SETTINGS, out, num_workers=1) == 120 + 30 + 200
    return out


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_pairs(path: Path) -> list[tuple[bytes, str, dict[str, Any]]]:
    """(JPEG, caption, record) of every pair of a tar; checks that each has its three files, under one key."""
    with tarfile.open(path) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar]
        contents = [(name, file.read()) for name, file in files if file is not None]
    pairs = []
    for (jpg, image), (txt, text), (js, record) in zip(contents[::3], contents[1::3], contents[2::3], strict=True):
        key = Path(jpg).stem
        assert (jpg, txt, js) == (f"{key}.jpg", f"{key}.txt", f"{key}.json")
        pairs.append((image, text.decode("ascii"), json.loads(record)))
    return pairs


def classes_of(record: dict[str, Any]) -> list[str]:
    return [thing["class"] for thing in record["objects"]]


def words_for(name: str) -> tuple[str, ...]:
    known = CLASSES[INDEX[name]]
    return tuple(word for word in (known.name, known.plural, known.synonym) if word)


def test_bytes_depend_on_the_seed_alone(made: Path, tmp_path: Path) -> None:
    demo.make_demo(SETTINGS, tmp_path / "two workers", num_workers=2)
    assert digests(tmp_path / "two workers") == digests(made)
    perform(Task("train", 0), Settings(5, 0, 0, seed=4), tmp_path / "other", lambda _: None)
    other, same = (read_pairs(folder / "train" / "00000.tar") for folder in (tmp_path / "other", made))
    assert not {image for image, _, _ in other} & {image for image, _, _ in same}


def test_pairs_have_the_layout_of_img2dataset(made: Path) -> None:
    pairs = read_pairs(made / "train" / "00000.tar")
    assert [record["key"] for _, _, record in pairs] == [f"00000{row:04d}" for row in range(120)]
    for jpeg, text, record in pairs:
        image = Image.open(io.BytesIO(jpeg))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert (
            image.size == (record["width"], record["height"]) == (record["original_width"], record["original_height"])
        )
        assert record["status"] == "success"
        assert record["caption"] == text
        assert record["sha256"] == hashlib.sha256(jpeg).hexdigest()


def test_a_later_tar_is_numbered_on_and_does_not_know_how_many_follow(tmp_path: Path) -> None:
    for name, num_pairs in (("short", 1003), ("long", 1004)):
        perform(Task("train", 1), Settings(num_pairs, 0, 0, 3), tmp_path / name, lambda _: None)
    short, long = (read_pairs(tmp_path / name / "train" / "00001.tar") for name in ("short", "long"))
    assert [record["key"] for _, _, record in short] == ["000010000", "000010001", "000010002"]
    assert long[:3] == short
    assert len(long) == 4


def test_pictures_are_mixed(made: Path) -> None:
    images = [Image.open(io.BytesIO(jpeg)) for jpeg, _, _ in read_pairs(made / "train" / "00000.tar")]
    assert all(160 <= min(image.size) <= 640 and max(image.size) <= 2.01 * min(image.size) for image in images)
    assert {JpegImagePlugin.get_sampling(image) for image in images} == {0, 1, 2}
    assert {image.width < image.height for image in images} == {True, False}
    # The luminance table's first entry is 16 at quality 50, and (200 - 2 x quality)% of that above it.
    first_entries = {image.quantization[0][0] for image in images if isinstance(image, JpegImagePlugin.JpegImageFile)}
    assert {2, 5} <= first_entries <= {2, 3, 4, 5}


def test_a_finished_demo_is_left_alone_and_a_lost_tar_is_made_again(made: Path) -> None:
    before = digests(made)
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*.jpg")}
    assert demo.make_demo(SETTINGS, made, num_workers=2) == 0
    (made / "retrieval" / "00000.tar").unlink()
    assert demo.make_demo(SETTINGS, made, num_workers=1) == 30
    assert digests(made) == before
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.jpg")} == times


def wait_until_none_runs(group: int) -> bool:
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_killed_run_leaves_no_half_written_file_and_no_process(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    arguments = [*ARGUMENTS, "--per-class", "0", "--workers", "2"]
    command = [sys.executable, "-m", "prep.demo", "--out", str(out), *arguments]
    started = subprocess.Popen(command, cwd=Path(demo.__file__).parents[1], start_new_session=True)
    while not (out / UNFINISHED / "train" / "00000.tar").exists():
        assert started.poll() is None
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert wait_until_none_runs(started.pid)
    assert not (out / "train" / "00000.tar").exists()
    assert demo.make_demo(replace(SETTINGS, num_per_class=0), out, num_workers=1) > 120
    assert not (out / UNFINISHED).exists()
    for tar in ("train/00000.tar", "retrieval/00000.tar"):
        assert digests(out)[tar] == digests(made)[tar]


def test_other_settings_are_refused(made: Path) -> None:
    with pytest.raises(UserError, match=r"num_pairs was 120, is now 121\n.*another --out"):
        demo.main(["--out", str(made), *ARGUMENTS, "--pairs", "121"])


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="found something else"):
        demo.main(["--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_numbers_out_of_range_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        demo.main(["--out", str(tmp_path / "demo"), "--pairs", "0"])
    assert stopped.value.code == 2
    assert "wanted at least 1, got 0" in capsys.readouterr().err


def test_the_artists_are_named(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(["--out", str(made), *ARGUMENTS])
    for text in (capsys.readouterr().out, (made / "ATTRIBUTION.txt").read_text("utf-8")):
        assert "OpenMoji" in text
        assert "CC BY-SA 4.0" in text


def test_training_never_shows_a_held_out_pair_and_retrieval_shows_nothing_else(made: Path) -> None:
    trained = [classes_of(record) for _, _, record in read_pairs(made / "train" / "00000.tar")]
    assert {len(names) for names in trained} == {1, 2, 3, 4}
    together = {tuple(sorted(INDEX[name] for name in pair)) for names in trained for pair in pairwise(names)}
    assert len(together) > 30
    assert not any(is_held_out(INDEX[a], INDEX[b]) for names in trained for a in names for b in names)
    tested = [classes_of(record) for _, _, record in read_pairs(made / "retrieval" / "00000.tar")]
    assert all(is_held_out(*(INDEX[name] for name in names)) for names in tested)
    assert len({frozenset(names) for names in tested}) == 30


def test_every_class_is_held_out_from_some_and_not_from_most() -> None:
    partners = [sum(i in pair for pair in held_out_pairs()) for i in range(len(CLASSES))]
    assert (min(partners), max(partners)) == (9, 10)


def test_retrieval_captions_name_both_objects(made: Path) -> None:
    for _, text, record in read_pairs(made / "retrieval" / "00000.tar"):
        for name in classes_of(record):
            assert any(word in text.lower() for word in words_for(name)), text


def test_zero_shot_sets_are_folders_of_the_classes_on_unseen_backgrounds(made: Path) -> None:
    assert not demo_patterns.TRAINING.keys() & demo_patterns.UNSEEN.keys()
    for kind in ("zeroshot", "zeroshot_shift"):
        assert {path.name for path in (made / kind).iterdir()} == INDEX.keys()
        pictures = [np.asarray(Image.open(path)) for path in sorted((made / kind).glob("*/*.jpg"))]
        num_gray = sum(bool((np.ptp(pixels, axis=2) < 6).mean() > 0.99) for pixels in pictures)
        assert num_gray == 0 if kind == "zeroshot" else 30 < num_gray < 70
    families = {record["background"]["family"] for _, _, record in read_pairs(made / "train" / "00000.tar")}
    assert families == demo_patterns.TRAINING.keys()


@pytest.mark.parametrize("class_index", range(0, 100, 9))
def test_zero_shot_objects_are_prominent(class_index: int) -> None:
    scene, image = zeroshot_scene(class_index, Random(class_index))
    (placed,) = scene.objects
    assert image.size == scene.size
    assert placed.class_index == class_index
    assert 0.58 <= placed.side / min(scene.size) <= 1
    assert scene.background.family in demo_patterns.UNSEEN


def test_classes_are_a_hundred_different_drawings_named_by_the_emoji_package() -> None:
    assert len(CLASSES) == len({known.name for known in CLASSES}) == 100
    drawings = {drawn(i, 64, 0, False, None).tobytes() for i in range(100)}
    assert len(drawings) == 100
    for known in CLASSES:
        assert emoji.demojize(emoji.emojize(f":{known.emoji_name}:")) == f":{known.emoji_name}:"
        assert set(known.name.split()) & set(known.emoji_name.lower().split("_"))


def test_a_tinted_drawing_has_that_tint() -> None:
    targets = np.array(list(TINTS.values()), float)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    for class_index in range(100):
        for number, tint in enumerate(TINTS):
            pixels = np.asarray(drawn(class_index, 48, 0, False, tint), float)
            mean = pixels[pixels[..., 3] > 200][:, :3].mean(0)
            assert int(np.argmax(targets @ mean)) == number, (CLASSES[class_index].name, tint)


def test_most_captions_name_the_object_and_many_name_it_late(made: Path) -> None:
    named, early = 0, 0
    pairs = read_pairs(made / "train" / "00000.tar")
    for _, text, record in pairs:
        words = words_for(classes_of(record)[0])
        named += any(word in text.lower() for word in words)
        early += any(word in " ".join(text.lower().split()[:8]) for word in words)
    assert named > 0.94 * len(pairs)
    assert 0.25 * len(pairs) < early < 0.7 * len(pairs)
