"""A run that was begun with open_clip's weights is a run: it is judged, trained on and resumed like any other."""

from pathlib import Path

import pytest
import torch
from open_clip import image_transform
from torch.nn.functional import normalize

from eval.run import evaluate_run
from eval.templates import TEMPLATES
from prep.errors import UserError
from prep.store import Store
from tests.open_clip_models import reduced, their_model, write_config
from train.certificate import images_of
from train.checkpoint import load_model
from train.import_weights import import_weights, main
from train.positions import sincos_2d
from train.run import main as train_main
from train.text_tokens import tokens_of

RECIPE = """
name = "on"
log_every = 1
checkpoint_every = 1
[model]
embed_dim = 32
vision = {{ patch_size = 16, width = 64, depth = 2, num_heads = 4, class_token = true, pre_norm = true, \
pool = "{pool}", norm_eps = 1e-5, patch_bias = false, positions = "sincos-mae" }}
text = {{ width = 48, depth = 2, num_heads = 3 }}
[[stages]]
name = "all"
samples = 16
batch_size = 8
learning_rate = 1e-4
image_positions = "{image_positions}"
budget = {{ res = 32, text_tokens = 12, text_mask = "truncate" }}
"""


@pytest.mark.parametrize("pool", ["class", "mean_with_class"])
def test_a_recipe_goes_on_from_the_weights(pool: str, store: Store, tmp_path: Path) -> None:
    """v1's layouts: the run trains from them with a fresh optimizer, and can be resumed like any other."""
    model = reduced("ViT-B-16")
    torch.save(their_model(model).state_dict(), tmp_path / "weights.pt")
    recipe, run = tmp_path / "on.toml", tmp_path / "run"
    recipe.write_text(RECIPE.format(pool=pool, image_positions="learned"))
    main([str(tmp_path / "weights.pt"), str(recipe), "--out", str(run)])
    before = load_model(run).model.state_dict()
    assert evaluate_run(run, retrieval_store=store.path)["retrieval"]["num_images"] == store.manifest.num_samples
    train = [str(recipe), "--store", str(store.path), "--out", str(run), "--device", "cpu"]
    train_main(train)
    after = load_model(run)
    assert after.samples_seen == 16
    moved = max((after.model.state_dict()[name] - value).abs().max().item() for name, value in before.items())
    assert 0 < moved < 1e-3, "two small steps away from the weights"
    assert (run / "manifest.json").exists()
    train_main(train)
    with pytest.raises(UserError, match="begun on 1 stores"):
        train_main([*train, "--store", str(store.path)])


@torch.inference_mode()
def test_eval_judges_them_by_their_own_tokenizer(tmp_path: Path) -> None:
    """BERT's ids without an end of text: the classes that are found are those that open_clip's model finds."""
    model = reduced("ViT-L-14-CLIPA")
    theirs = their_model(model)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    import_weights(tmp_path / "weights.pt", tmp_path / "run", write_config(tmp_path, model))
    names = ["dog", "red house", "watermelon"]
    pictures = images_of(56, 56, 12)
    for number, picture in enumerate(pictures):
        folder = tmp_path / "classes" / names[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number:02d}.png")
    found = evaluate_run(tmp_path / "run", [tmp_path / "classes"])["zeroshot"][0]["examples"]
    tokens = tokens_of([template.format(name) for name in names for template in TEMPLATES["simple"]], 32, "bert", False)
    classes = normalize(theirs.encode_text(tokens, normalize=True).unflatten(0, (3, -1)).mean(dim=1), dim=-1)
    preprocess = image_transform(56, is_train=False)
    answers = {}
    for number, picture in enumerate(pictures):
        features = theirs.encode_image(preprocess(picture)[None], normalize=True)
        answers[f"{number:02d}.png"] = names[int((features @ classes.T).argmax())]
    assert {Path(example["file"]).name: example["predicted"] for example in found} == answers


def test_fixed_positions_are_not_put_over_learned_ones(tmp_path: Path) -> None:
    model = reduced("ViT-B-16")
    theirs = their_model(model)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "on.toml").write_text(RECIPE.format(pool="class", image_positions="fixed"))
    with pytest.raises(UserError, match="image_positions"):
        import_weights(tmp_path / "weights.pt", tmp_path / "run", str(tmp_path / "on.toml"))
    assert not (tmp_path / "run").exists()
    state = theirs.state_dict() | {"visual.positional_embedding": sincos_2d(4, 64, "sincos-mae", 1)[0]}
    torch.save(state, tmp_path / "weights.pt")
    import_weights(tmp_path / "weights.pt", tmp_path / "run", str(tmp_path / "on.toml"), ["stages.0.budget.res=96"])
    table = load_model(tmp_path / "run").model.vision.pos_embed
    assert table is not None
    assert torch.equal(table, sincos_2d(6, 64, "sincos-mae", 1))
