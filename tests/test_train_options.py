"""What flags and keys promise: averages, frozen parts, checkpoints that are kept, curves, and what is refused or named.

SHORTCLIP_COMPILE=1 trains with --compile too, which takes a C++ compiler and a minute.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prep.errors import UserError
from prep.files import write_json
from prep.store import Store
from train import checkpoint
from train.config import load_recipe
from train.fit import check_fit
from train.log import read_log
from train.model import CLIP
from train.run import main
from train.run_folder import environment

from .warm_runs import BATCH, BOUNDARY, LAST, SHORT, arguments, contents, losses, tensors

DECAY = 0.75
KEPT = [96, 192, BOUNDARY, 336, 432, LAST]
EVERY_STEP = ["log_every=1", "checkpoint_every=1", "stages.0.samples=96", "stages.1.samples=72", "--keep", "9"]
BERT = (
    "model.text={width=16, depth=1, num_heads=2, tokenizer='bert', vocabulary_size=30522, pool='last', end_token=false}"
)
RECIPE = load_recipe("demo", SHORT)


def fresh(number: int) -> CLIP:
    """The model that a run begins a stage with, before it loads weights."""
    stage = RECIPE.stages[number]
    torch.manual_seed(RECIPE.seed)
    return CLIP(RECIPE.model, stage.budget, stage.image_positions, RECIPE.seed)


def back_to(whole: Path, run: Path, seen: int) -> Path:
    """A copy of a run as a kill would leave it whose last checkpoint is that one."""
    shutil.copytree(whole, run)
    for path in checkpoint.found(run):
        if int(path.name) > seen:
            shutil.rmtree(path)
    return run


@pytest.fixture(scope="module")
def averaged(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("averaged") / "run"
    main(arguments(store, run, *EVERY_STEP, "--ema", str(DECAY)))
    return run


def test_averages_are_those_of_the_weights_after_each_step(averaged: Path) -> None:
    for number, (start, end) in enumerate([(0, 96), (96, 168)]):
        model = fresh(0)
        if number:
            checkpoint.load_weights(checkpoint.folder(averaged) / f"{start:012d}", model)
            model.set_budget(RECIPE.stages[1].budget, RECIPE.stages[1].image_positions)
        begun = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
        # What the new stage has resized begins anew; all else goes on.
        before = tensors(averaged, "ema", start) if number else {}
        average = {n: before[n].double() if n in before and before[n].shape == w.shape else w for n, w in begun.items()}
        assert number == 0 or 0 < sum(torch.equal(average[name], begun[name]) for name in begun) < len(begun)
        for seen in range(start + BATCH, end + 1, BATCH):
            weights = tensors(averaged, "weights", seen)
            average = {name: DECAY * old + (1 - DECAY) * weights[name].double() for name, old in average.items()}
            saved = {name: tensor.double() for name, tensor in tensors(averaged, "ema", seen).items()}
            torch.testing.assert_close(saved, average, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seen", [48, 96])
def test_averages_go_on_to_the_same_bits(averaged: Path, store: Store, tmp_path: Path, seen: int) -> None:
    run = back_to(averaged, tmp_path / "run", seen)
    main(arguments(store, run, *EVERY_STEP, "--ema", str(DECAY)))
    assert contents(run) == contents(averaged)
    assert "ema.safetensors" in contents(run)


def test_the_averages_are_what_is_evaluated(averaged: Path, store: Store, tmp_path: Path) -> None:
    model = checkpoint.load_model(averaged, ema=True).model
    saved = tensors(averaged, "ema")
    assert all(torch.equal(parameter, saved[name]) for name, parameter in model.named_parameters())
    assert not all(torch.equal(tensor, saved[name]) for name, tensor in tensors(averaged).items())
    main(arguments(store, tmp_path / "run", *EVERY_STEP))
    with pytest.raises(UserError, match="holds no average"):
        checkpoint.load_model(tmp_path / "run", ema=True)


def test_frozen_parts_end_as_they_began(store: Store, tmp_path: Path) -> None:
    """LiT: the vision tower is frozen, in the second stage the lowest text block and the embeddings with it."""
    more = ["text.token_embedding", "text.blocks.0.", "text.positions"]
    keys = ["stages.0.frozen=['vision']", f"stages.1.frozen={['vision', *more]}"]
    main(arguments(store, tmp_path / "run", *keys, "--keep", "9"))
    begun, middle, end = (
        fresh(0).state_dict(),
        *(tensors(tmp_path / "run", "weights", seen) for seen in (BOUNDARY, LAST)),
    )
    vision = [name for name in begun if name.startswith("vision.") and name != "vision.pos_embed"]
    assert len(vision) > 10
    assert all(torch.equal(begun[name], end[name]) for name in vision)
    assert torch.equal(end["vision.pos_embed"], fresh(1).state_dict()["vision.pos_embed"])
    frozen_later = [name for name in begun if name.startswith(tuple(more[:2]))]
    assert all(torch.equal(middle[name], end[name]) for name in frozen_later)
    assert not any(torch.equal(begun[name], middle[name]) for name in frozen_later)
    trained = [name for name in begun if not name.startswith(("vision", *more))]
    assert not any(torch.equal(middle[name], end[name]) for name in trained)
    kept = tensors(tmp_path / "run", "optimizer", LAST)
    assert {name.rpartition("/")[0] for name in kept} == set(trained)


@pytest.fixture(scope="module")
def whole(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    main(arguments(store, run, "--keep", "9"))
    return run


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--keep", "1"], [BOUNDARY, LAST]),
        (["--keep", "1", "--keep-every", "150"], [192, BOUNDARY, 336, LAST]),
        (["--keep", "2", "--keep-every", "96"], KEPT),
    ],
)
def test_checkpoints_that_are_kept(
    whole: Path, store: Store, tmp_path: Path, flags: list[str], kept: list[int]
) -> None:
    run = tmp_path / "run"
    main(arguments(store, run, *flags))
    assert [int(path.name) for path in checkpoint.found(run)] == kept
    assert contents(run) == contents(whole)


def test_never_resume_refuses_a_folder_with_a_run(whole: Path, store: Store, tmp_path: Path) -> None:
    before = contents(whole)
    with pytest.raises(UserError, match="--resume never, and there is a run in it\n  Choose another --out"):
        main(arguments(store, whole, "--resume", "never"))
    assert contents(whole) == before


def test_other_code_than_the_run_was_begun_with_is_named(
    whole: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = back_to(whole, tmp_path / "run", 432)
    write_json(run / "environment.json", environment())
    main(arguments(store, run))
    assert "this run was begun with" not in capsys.readouterr().out
    write_json(run / "environment.json", {**environment(), "commit": "0123abc-dirty"})
    main(arguments(store, back_to(run, tmp_path / "other", 432)))
    said = f"this run was begun with code 0123abc-dirty, and goes on with {environment()['commit']}\n"
    assert capsys.readouterr().out.count(said) == 1
    assert json.loads((tmp_path / "other" / "environment.json").read_text())["commit"] == "0123abc-dirty"


def test_tensorboard_shows_the_log_of_a_run_that_was_interrupted(whole: Path, store: Store, tmp_path: Path) -> None:
    """Each step once, though the run wrote some of them twice."""
    run = back_to(whole, tmp_path / "run", 336)
    main(arguments(store, run))
    assert len(list((run / "tensorboard").glob("events.*"))) == 2
    log = read_log(run)
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"loss", "lr", "logit_scale", "samples_per_second", "data_wait", "mfu", "memory"} <= set(
        board.Tags()["scalars"]
    )
    for name in ("loss", "lr", "logit_scale", "similarity", "num_skipped"):
        shown = [(scalar.step, scalar.value) for scalar in board.Scalars(name)]
        assert shown == [(line.samples_seen, pytest.approx(getattr(line, name))) for line in log]
    by_flops = EventAccumulator(str(run / "tensorboard" / "flops")).Reload()
    assert [scalar.value for scalar in by_flops.Scalars("loss over GFLOPs")][-2:] == pytest.approx(losses(run)[-2:])


def test_wandb_that_is_not_installed_is_named(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="--wandb: wanted the package wandb; it is not installed\n  pip install wandb"):
        main(arguments(store, tmp_path / "run", "--wandb", "project"))


@pytest.mark.skipif("SHORTCLIP_COMPILE" not in os.environ, reason="takes a minute; SHORTCLIP_COMPILE=1 runs it")
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="wants a C++ compiler")
@pytest.mark.timeout(900)
def test_compiled_towers_train_alike(whole: Path, store: Store, tmp_path: Path) -> None:
    main(arguments(store, tmp_path / "run", "--compile"))
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "world", "place", "says", "remedy"),
    [
        (["stages.1.budget.res=64"], 1, "stages.1.budget.res", "the store holds 16, 32", "64"),
        (["stages.0.budget.res=20"], 1, "stages.0.budget.res", "20 px is not a multiple of the patch size 8", "112"),
        (["stages.0.budget.text_tokens=78"], 1, "stages.0.budget.text_tokens", "holds 77 tokens a caption", "fewer"),
        ([BERT], 1, "store", "wants token ids of the captions 'original' by bert", "--tokenizer bert"),
        (
            ["model.text.vocabulary_size=49407"],
            1,
            "model.text.vocabulary_size",
            "the tokenizer has 49,408 ids",
            "Change",
        ),
        ([], 5, "stages.0.batch_size", "a multiple of the 5 ranks, found 24", "number of processes"),
        (["stages.0.batch_size=97"], 1, "stages.0.batch_size", "97 would repeat samples: the store has 96", "smaller"),
        (["stages.1.frozen=['visoin']"], 1, "stages.1.frozen", "no part of the model is called 'visoin'", "vision"),
        (["stages.1.frozen=['vision','text','logit']"], 1, "stages.1.frozen", "nothing is left to train", "less"),
        (["stages.0.learning_rate=inf"], 1, "stages.0.learning_rate", "wanted more than 0, found inf", "recipe"),
    ],
)
def test_what_does_not_fit_is_said_before_the_run(
    store: Store, overrides: list[str], world: int, place: str, says: str, remedy: str
) -> None:
    with pytest.raises(UserError) as error:
        check_fit(load_recipe("demo", [*SHORT, *overrides]), (store,), world)
    assert place in error.value.place
    assert says in error.value.problem
    assert remedy in error.value.remedy


@pytest.mark.parametrize("world", [1, 2, 3])
def test_without_those_overrides_the_recipe_fits(store: Store, world: int) -> None:
    check_fit(RECIPE, (store,), world)
