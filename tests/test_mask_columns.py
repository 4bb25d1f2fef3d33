"""From prep.build to a batch: each text mask finds its columns in a store, or says which command adds them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.contract import Draws, TokenBudget
from pipelines.drawing import Drawer
from pipelines.evaluation import batches
from pipelines.mask_columns import check_text_mask, mask_columns
from pipelines.store_view import TextView
from prep.bert_tokenizer import BertTokenizer, load_bert_tokenizer
from prep.build import main as build_main
from prep.errors import UserError
from prep.store import Store, open_store
from prep.taggers import nltk_tagger
from prep.text_masks import TEXT_MASKS
from prep.tokenizer import load_tokenizer
from prep.verify import main as verify_main

from .caption_corpus import demo_captions, long_captions
from .conftest import once
from .nltk_folder import use_nltk_data
from .plain_syntax import syntax_jax, syntax_torch
from .test_adding_columns import unchanged
from .test_build import fingerprints, jpeg, write_tar

CAPTIONS = [*demo_captions(30), *long_captions(6)]
BERT_MASKS = ("truncate", "random", "block", "syntax", "shuffle", "sub-caption", "syntax-jax")


def build(out: Path, *options: str) -> Store:
    build_main(["--out", str(out), "--workers", "0", *options])
    return open_store(out)


def plain(out: Path) -> str:
    members = [(f"{i:02d}.jpg", jpeg()) for i in range(len(CAPTIONS))]
    members += [(f"{i:02d}.txt", text.encode()) for i, text in enumerate(CAPTIONS)]
    build(out, "--input", str(write_tar(out.parent / "captions.tar", sorted(members))), "--res", "16")
    return ""


def full(out: Path) -> str:
    """Each tokenizer and tagger added alone, without the input, and nothing that was there touched."""
    plain(out)
    before = fingerprints(out)
    build(out, "--tokenizer", "clip-nltk", "--tagger", "nltk")
    build(out, "--tokenizer", "bert", "--tagger", "vocabulary")
    assert unchanged(before, out)
    return ""


@pytest.fixture
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(once(tmp_path_factory, "mask-columns-lacking", plain)[0])


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    use_nltk_data()
    return open_store(once(tmp_path_factory, "mask-columns", full)[0])


def draws(store: Store, text_mask: str, tokenizer: str = "clip", end_token: bool = True) -> Draws:
    budget = TokenBudget(16, 8, text_mask=text_mask)
    return Draws((store,), budget, len(CAPTIONS), 0, tokenizer=tokenizer, end_token=end_token)


def test_the_columns_of_each_mask(store: Store) -> None:
    def folders(text_mask: str, tokenizer: str = "clip", tagger: str | None = None) -> tuple[str, str]:
        columns = mask_columns(store, "original", text_mask, tokenizer, tagger)
        return columns.tokens.folder, columns.priorities.folder

    clip, bert = "tokens/original/clip", "tokens/original/bert"
    assert folders("syntax") == folders("shuffle", tagger="spacy") == (clip, "priorities/original/clip/spacy")
    assert folders("syntax-torch") == (f"{clip}-nltk", "priorities/original/clip-nltk/nltk")
    assert folders("syntax-jax", "bert") == folders("block", "bert") == (bert, "priorities/original/bert/vocabulary")


def test_the_build_is_whole(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    verify_main([str(store.path)])
    assert "clip-nltk" in {column.folder.split("/")[2] for column in store.manifest.of_kind("tokens")}
    capsys.readouterr()


def test_loaded_rows_are_those_of_the_plain_rules(store: Store) -> None:
    bert = load_bert_tokenizer()
    torch_rows = Drawer(draws(store, "syntax-torch"))(0)
    jax_rows = Drawer(draws(store, "syntax-jax", "bert", end_token=False))(0)
    texts = store.captions("original", 0)
    for row, tokens in zip(torch_rows.index.tolist(), torch_rows.tokens.tolist(), strict=True):
        assert tokens == syntax_torch(texts[row][0], 8, load_tokenizer())
    is_short = [len(bert.encode(text)) <= 75 for (text,) in texts]
    for row, tokens in zip(jax_rows.index.tolist(), jax_rows.tokens.tolist(), strict=True):
        assert not is_short[row] or tokens == syntax_jax(texts[row][0], 8, bert)
    assert sum(is_short) > 30


@pytest.mark.parametrize("end_token", [True, False])
@pytest.mark.parametrize(
    ("text_mask", "tokenizer"), [*((m, "clip") for m in TEXT_MASKS[:7]), *((m, "bert") for m in BERT_MASKS)]
)
def test_every_mask_loads_with_and_without_an_end(
    store: Store, text_mask: str, tokenizer: str, end_token: bool
) -> None:
    check_text_mask(store, text_mask, "original", tokenizer)
    tokens = Drawer(draws(store, text_mask, tokenizer, end_token))(0).tokens
    named = load_tokenizer(tokenizer)
    assert (tokens[:, 0] == named.start).all()
    assert ((tokens == named.end).sum(axis=1) == end_token).all()
    (batch,) = batches(store.path, TokenBudget(16, 8, text_mask=text_mask), 64, end_token, tokenizer)
    assert ((batch.tokens == named.end).sum(dim=1) == end_token).all()
    assert (batch.tokens[:, 0] == named.start).all()


@pytest.mark.parametrize(
    ("text_mask", "tokenizer", "said"),
    [
        ("syntax-torch", "clip", r"prep.build --out .* --tokenizer clip-nltk --tagger nltk$"),
        ("syntax-jax", "bert", r"prep.build --out .* --tokenizer bert --tagger vocabulary$"),
        ("syntax", "bert", r"prep.build --out .* --tokenizer bert$"),
        ("syntax-jax", "clip", "wanted a model with the tokenizer bert, found clip"),
        ("syntax-torch", "bert", "wanted a model with the tokenizer clip, found bert"),
    ],
)
def test_what_a_store_lacks_is_named_with_its_command(
    text_mask: str, tokenizer: str, said: str, lacking: Store
) -> None:
    with pytest.raises(UserError, match=said):
        check_text_mask(lacking, text_mask, "original", tokenizer)
    with pytest.raises(UserError):
        TextView(lacking, tokenizer=tokenizer, text_mask=text_mask)


def test_priorities_by_another_tagger_are_not_enough(store: Store) -> None:
    grown = {name: c for name, c in store.manifest.columns.items() if name != "priorities/original/bert/vocabulary"}
    without = replace(store, manifest=replace(store.manifest, columns=grown))
    with pytest.raises(UserError, match="--tokenizer bert --tagger vocabulary"):
        check_text_mask(without, "syntax-jax", "original", "bert")


def test_another_vocabulary_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    other = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dog"])
    monkeypatch.setattr("pipelines.mask_columns.load_tokenizer", lambda name: other)
    with pytest.raises(UserError, match="was built with"):
        check_text_mask(store, "sub-caption", "original", "bert")
    check_text_mask(store, "random", "original", "bert")  # which does not ask


def test_stores_of_two_vocabularies_are_not_mixed(store: Store, lacking: Store) -> None:
    column = lacking.manifest.columns["tokens/original/clip"]
    settings = {**column.settings, "tokenizer": {"name": "clip-bpe-49408", "fingerprint": "sha256:0"}}
    columns = {**lacking.manifest.columns, column.folder: replace(column, settings=settings)}
    other = replace(lacking, manifest=replace(lacking.manifest, columns=columns))
    with pytest.raises(UserError, match="Mix stores of one tokenizer"):
        Drawer(replace(draws(store, "syntax"), stores=(store, other)))


def test_a_column_of_a_vocabulary_file_serves_bert(lacking: Store, tmp_path: Path) -> None:
    use_nltk_data()
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("".join(f"{entry}\n" for entry in load_bert_tokenizer().entries), encoding="utf-8")
    out, tar = tmp_path / "store", tmp_path / "a.tar"
    write_tar(tar, [("a.jpg", jpeg()), ("a.txt", b"two unaffable dogs. a red house")])
    build(out, "--input", str(tar), "--res", "16", "--tokenizer", f"bert:{vocabulary}", "--tagger", "vocabulary")
    built = open_store(out)
    check_text_mask(built, "syntax-jax", "original", "bert")
    vocabulary.unlink()
    load_tokenizer.cache_clear()
    with pytest.raises(UserError, match="wanted a vocabulary file; there is none"):
        check_text_mask(built, "syntax-jax", "original", "bert")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tagger", "nltk"), nltk_tagger.DOWNLOAD),
        (("--tokenizer", "bert", "--tagger", "vocabulary"), nltk_tagger.DOWNLOAD),
        (("--tokenizer", "clip-nltk", "--tagger", "nltk"), nltk_tagger.DOWNLOAD),
        (("--tokenizer", "clip-nltk"), "Add --tagger nltk"),
        (("--tokenizer", "bert:nowhere/vocab.txt"), "Give the vocab.txt"),
    ],
)
def test_missing_data_are_a_message_before_any_work(
    options: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]
) -> None:
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nowhere")])
    fresh()
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", jpeg()), ("a.txt", b"a dog")])
    with pytest.raises(UserError) as caught:
        build(tmp_path / "store", "--input", str(tar), "--res", "16", *options)
    assert said in str(caught.value)
    assert not (tmp_path / "store").exists()


@pytest.fixture
def fresh() -> Callable[[], None]:
    """Forget what this process has loaded."""
    from prep import build_options

    def forget() -> None:
        load_tokenizer.cache_clear()
        build_options.tagger.cache_clear()

    return forget
