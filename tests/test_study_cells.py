"""What a study's result depends on, and what is left after a kill."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval import study_cell
from eval.study import main
from eval.study_cell import Training, digest, perform
from eval.study_digest import images_of
from eval.study_judge import Judge, check_retrieval
from eval.study_plan_file import load_plan
from eval.study_run import Study, run_all
from pipelines.contract import TokenBudget
from prep.errors import UserError
from prep.store import Store
from train import checkpoint
from train.loop import Trainer
from train.run import train

from .captioned_sets import write_karpathy, write_tars
from .test_study import plan


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return make_classes(tmp_path / "classes")


def make_classes(out: Path) -> Path:
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        (out / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), colour).save(out / name / "0.jpg")
    return out


def one(plan: Path, store: Path, out: Path, judge: Judge) -> tuple[Study, Training]:
    study = Study(load_plan(str(plan)), out, {"": store}, judge, 1)
    return study, next(t for t in study.cells({"s": 1.0}) if not t.untrained)


def judge_by(classes: Path, *, keep: bool = False) -> Judge:
    return Judge(classes, None, "simple", "cpu", 0, keep)


def test_a_digest_tells_stores_apart_by_what_a_recipe_reads(
    plan: Path, store: Store, classes: Path, tmp_path: Path
) -> None:
    shutil.copytree(store.path, tmp_path / "other")
    study, training = one(plan, tmp_path / "other", tmp_path, judge_by(classes))
    assert {stage.budget.res for stage in training.recipe.stages} == {16, 32}

    def changed(change: Callable[[dict[str, Any]], object], training: Training = training) -> str | None:
        manifest = json.loads((store.path / "manifest.json").read_bytes())
        change(manifest["columns"])
        (training.store / "manifest.json").write_text(json.dumps(manifest))
        return digest(training, study.judge)

    def add(like: str, folder: str, **settings: object) -> Callable[[dict[str, Any]], object]:
        return lambda columns: columns.update(
            {folder: columns[like] | {"folder": folder, "settings": columns[like]["settings"] | settings}}
        )

    spacy = "priorities/original/clip/spacy"
    same = changed(lambda columns: None)
    assert same == digest(replace(training, store=store.path), study.judge)
    for unrelated in (
        add("16", "24", res=24),
        add("16", "16-crop0", crop=0),
        add(spacy, "priorities/original/clip/vocabulary", name="vocabulary"),
        add("tokens/original/clip", "tokens/original/bert", name="bert"),
    ):
        assert changed(unrelated) == same
    different = [
        changed(lambda columns: columns["16"]["settings"].update(margin=2.0)),
        changed(lambda columns: columns["32"]["settings"].update(quality=50)),
        changed(add("16", "16-raw", encoding="raw")),
        changed(lambda columns: columns[spacy]["settings"]["tagger"].update(version="other")),
        changed(lambda columns: columns["tokens/original/clip"]["settings"]["tokenizer"].update(fingerprint="x")),
    ]
    assert len({same, *different}) == 1 + len(different)
    # A mask that asks for no word class has none to be told apart by.
    stages = tuple(replace(s, budget=replace(s.budget, text_mask="truncate")) for s in training.recipe.stages)
    blind = replace(training, recipe=replace(training.recipe, stages=stages))
    other_tagger = changed(lambda columns: columns[spacy]["settings"]["tagger"].update(version="other"), blind)
    assert changed(lambda columns: None, blind) == other_tagger


def test_a_digest_tells_retrieval_sets_apart_by_what_is_in_them(
    plan: Path, store: Store, classes: Path, tmp_path: Path
) -> None:
    study, training = one(plan, store.path, tmp_path, judge_by(classes))
    captions = write_tars(tmp_path / "a")
    moved = shutil.copytree(captions, tmp_path / "moved")
    fewer = write_tars(tmp_path / "b")
    (fewer / "1.tar").unlink()
    json_file, other_picture = write_karpathy(tmp_path / "c"), write_karpathy(tmp_path / "d")
    for path in (json_file, other_picture):
        shutil.copytree(path.parent / "images", path.parent, dirs_exist_ok=True)
    copied = shutil.copytree(json_file.parent, tmp_path / "e") / json_file.name
    with (other_picture.parent / "val" / "0.png").open("ab") as file:
        file.write(b"x")
    sets = [None, captions, fewer, json_file, other_picture, store.path]
    known = [digest(training, replace(study.judge, retrieval=path)) for path in (*sets, moved, copied)]
    assert len(set(known)) == len(sets)
    assert known[-2:] == [known[1], known[3]]
    assert digest(training, replace(study.judge, retrieval=tmp_path / "gone")) is None


def test_a_retrieval_set_is_tried_before_anything_is_trained(
    plan: Path, store: Store, classes: Path, tmp_path: Path
) -> None:
    study, training = one(plan, store.path, tmp_path, judge_by(classes))
    recipes = [training.recipe]
    for path in (store.path, write_tars(tmp_path / "a")):
        check_retrieval(replace(study.judge, retrieval=path), recipes)
    other = replace(training.recipe, stages=(replace(training.recipe.stages[0], budget=TokenBudget(24, 8)),))
    with pytest.raises(UserError, match="24"):
        check_retrieval(replace(study.judge, retrieval=store.path), [*recipes, other])
    command = ["--plan", str(plan), "--store", str(store.path), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="gone"):
        main([*command, "--zeroshot", str(classes), "--retrieval", str(tmp_path / "gone")])
    assert not (tmp_path / "out" / "cells").exists()


def test_images_are_known_by_their_names_and_sizes(classes: Path, tmp_path: Path) -> None:
    os.utime(classes / "red" / "0.jpg", (1, 1))
    (tmp_path / "link").symlink_to(classes)
    assert images_of(classes) == images_of(tmp_path / "link") == images_of(make_classes(tmp_path / "again"))
    more = make_classes(tmp_path / "more")
    shutil.copy(more / "red" / "0.jpg", more / "red" / "1.jpg")
    longer = make_classes(tmp_path / "longer")
    with (longer / "red" / "0.jpg").open("ab") as file:
        file.write(b"x")
    renamed = make_classes(tmp_path / "renamed")
    (renamed / "red").rename(renamed / "green")
    assert len({images_of(path) for path in (classes, more, longer, renamed)}) == 4


def test_tars_are_known_by_their_names_and_sizes(tmp_path: Path) -> None:
    for name, tar, names in (("a", b"1", "x\ny"), ("b", b"1", "x\ny"), ("c", b"22", "x\ny"), ("d", b"1", "x\nyy")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.tar").write_bytes(tar)
        (tmp_path / name / "classnames.txt").write_text(names)
    a, b, c, d = (images_of(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


class Killed(BaseException):
    """Stands for the end of a process."""


def test_a_kill_while_judging_leaves_no_checkpoints_for_ever(
    plan: Path, store: Store, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, training = one(plan, store.path, tmp_path / "out", judge_by(classes))
    run = study.out / "runs" / training.name

    def end(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(study_cell, "answers", end)
        with pytest.raises(Killed):
            perform(training, study.judge, study.out)
    assert checkpoint.found(run)
    with monkeypatch.context() as patch:  # and once more, between the result and the end
        patch.setattr(study_cell, "let_go", end)
        with pytest.raises(Killed):
            perform(training, study.judge, study.out)
    assert checkpoint.found(run)
    assert (study.out / "cells" / f"{training.name}.json").exists()
    run_all(study, [training], "cells")
    assert not checkpoint.folder(run).exists()


def test_a_users_run_is_judged_and_left_whole(plan: Path, store: Store, classes: Path, tmp_path: Path) -> None:
    study, training = one(plan, store.path, tmp_path / "out", judge_by(classes))
    run = study.out / "runs" / training.name
    train(Trainer(training.recipe, (store,), run))
    there = checkpoint.found(run)
    perform(training, study.judge, study.out)
    assert checkpoint.found(run) == there
    result = study.out / "cells" / f"{training.name}.json"
    result.unlink()
    manifest = json.loads((run / "manifest.json").read_bytes())
    manifest["columns"]["16"]["settings"]["quality"] = 50
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="other columns"):
        perform(training, study.judge, study.out)
    assert not result.exists()


def test_runs_that_are_kept_are_the_users(plan: Path, store: Store, classes: Path, tmp_path: Path) -> None:
    """A later command without --keep-runs does not delete them."""
    study, training = one(plan, store.path, tmp_path / "out", judge_by(classes, keep=True))
    perform(training, study.judge, study.out)
    run_all(replace(study, judge=judge_by(classes)), [training], "cells")
    assert len(checkpoint.found(study.out / "runs" / training.name)) == 2
