"""prep.inspect: the manifest as tables and JSON, and a contact sheet of real rows, whatever characters they hold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.contract import Draws, TokenBudget
from pipelines.torch_loader import TorchLoader
from prep.errors import UserError
from prep.inspect import main
from prep.kept_words import StoredCaption, Word, kept_words
from prep.manifest_tables import size
from prep.sheet_rows import NUM_CROPS, choose_rows, read_rows
from prep.store import open_store
from prep.text_masks import READING_MASKS, select
from prep.tokenizer import load_tokenizer
from prep.typeface import Span, Typeface, printable

from .damage import NUM_ROWS, flip, small_store

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory)


def caption_of(text: str) -> StoredCaption:
    """A caption with token ids, and priorities that go round through the classes."""
    tokens = load_tokenizer().tokenize([text])[0].astype(np.uint16)
    num_tokens = int((np.arange(77) * (tokens > 0)).max()) + 1
    priorities = np.where(np.arange(77) < num_tokens, np.arange(77) % 4 + 1, 255).astype(np.uint8)
    priorities[[0, num_tokens - 1]] = 0
    return StoredCaption(text, tokens, priorities, num_tokens)


def spoken(words: list[Word]) -> str:
    return "".join(" " * word.is_spaced + word.text for word in words).strip()


@pytest.mark.parametrize("text_tokens", [2, 8, 16, 77])
@pytest.mark.parametrize("mask", READING_MASKS)
@pytest.mark.parametrize("text", ["A red dog, don't you see it's 86.50!", "naïve café 犬が走る", "dog " * 90, "x"])
def test_kept_words_are_those_whose_ids_the_loader_keeps(text: str, mask: str, text_tokens: int) -> None:
    caption, key = caption_of(text), np.array([7], np.uint64)
    words = kept_words(caption, load_tokenizer(), text_tokens, mask, key)
    row = caption.tokens[None], caption.priorities[None], np.array([caption.num_tokens], np.uint8)
    ids = [id_ for id_ in select(*row, text_tokens, mask, key)[0].tolist() if id_][1:-1]
    kept = [word for word in words if word.kept]
    encoded = [load_tokenizer().encode(word.text) for word in kept]
    assert len(ids) == round(sum(word.kept * len(own) for word, own in zip(kept, encoded, strict=True)))
    if all(word.kept == 1 for word in kept):
        assert ids == [id_ for own in encoded for id_ in own]
    assert spoken(words) == text.strip()


def test_a_letter_that_lowers_to_two_is_told_once() -> None:
    words = kept_words(caption_of("in İzmir, by İX"), load_tokenizer(), 4, "truncate", np.zeros(1, np.uint64))
    assert spoken(words) == "in İzmir, by İX"


def test_other_ids_than_the_tokenizer_gives_are_refused() -> None:
    caption = caption_of("a red dog")
    caption.tokens[2] += 1
    with pytest.raises(UserError, match="the caption 'a red dog': its stored token ids are not those"):
        kept_words(caption, load_tokenizer(), 8, "syntax", np.zeros(1, np.uint64))


def test_the_sheet_cuts_the_crops_that_the_loader_cuts(store: Path) -> None:
    """Of epoch 0, at the loader's row and seed; its own resize may differ by a little."""
    opened = open_store(store)
    loaded = next(iter(TorchLoader(Draws((opened,), TokenBudget(16, 8), sum(NUM_ROWS), seed=3), threads=0)))
    place = 11
    [row] = read_rows(opened, [int(loaded.index[place])], 3, "clip", None)
    [copy] = row.copies
    assert (len(copy.boxes), len(copy.crops), len(row.bank)) == (NUM_CROPS, NUM_CROPS, 2)
    shown, cut = np.asarray(copy.crops[0], int), loaded.images[place].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(shown - cut).mean() < 1.5


def test_a_sheet_of_a_real_store(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "sheet.png"
    main([str(store), "--out", str(out), "--rows", "3"])
    said = capsys.readouterr().out
    assert f"{sum(NUM_ROWS):,} of {sum(NUM_ROWS) + 2:,} pairs, 2 rejected (0.19%)" in said
    for text in ("16-raw-crop0...1", "captions/synthetic", "of crops enlarged", "clip-bpe-49408", "Contact sheet: "):
        assert text in said
    with Image.open(out) as sheet:
        assert sheet.width > 1500
        assert sheet.height > 3 * 300
        colours = {colour for _, colour in sheet.getcolors(1 << 24) or []}
    for colour in (
        (0xD9, 0x82, 0x2B),
        (0x2F, 0x66, 0x90),
        (0xB3, 0xBC, 0xC6),
    ):  # a crop's frame, a noun, a dropped word
        assert colour in colours
    first = out.read_bytes()
    main([str(store), "--out", str(out), "--rows", "3"])
    assert out.read_bytes() == first
    main([str(store), "--out", str(out), "--rows", "3", "--seed", "1"])
    assert out.read_bytes() != first


def test_json_for_scripts(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main([str(store), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["num_samples"], told["shards"]["count"]) == (sum(NUM_ROWS), 2)
    assert told["rejects"] == {"image_format": {"count": 2, "share": 2 / (sum(NUM_ROWS) + 2)}}
    columns = {column["folder"]: column for column in told["columns"]}
    manifest = open_store(store).manifest
    assert {name: column["num_bytes"] for name, column in columns.items()} == {
        name: column.num_bytes for name, column in manifest.columns.items()
    }
    captions = columns["captions/original"]["counts"]["num_captions"]
    assert captions == {"count": sum(NUM_ROWS) + 345, "per_sample": (sum(NUM_ROWS) + 345) / sum(NUM_ROWS)}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["store-v1", "store-v2"])
def test_stores_of_every_version_are_shown(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main([str(GOLDEN / name)])
    with Image.open(tmp_path / f"{name}-contact-sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_a_damaged_row_is_refused(store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "store"))
    flip(copy / "16" / "00001.arrow", 1500, 8)
    with pytest.raises(UserError, match=r"16/00001\.arrow, batch 0, row \d of the batch: its hash does not fit"):
        list(read_rows(open_store(copy), list(range(NUM_ROWS[0], sum(NUM_ROWS))), 0, "clip", None))


@pytest.mark.parametrize(("total", "count"), [(5, 3), (5, 5), (5, 9), (10**9, 50)])
def test_chosen_rows_are_different_and_in_order(total: int, count: int) -> None:
    rows = choose_rows(total, count, 1)
    assert rows == sorted(set(rows))
    assert len(rows) == min(total, count)
    assert all(0 <= row < total for row in rows)
    assert rows == choose_rows(total, count, 1)


def test_text_of_any_kind_is_drawn_within_its_lines() -> None:
    face = Typeface(17)
    canvas = ImageDraw.Draw(Image.new("RGB", (400, 400), "white"))
    for text in (
        "plain words",
        "x" * 300,
        "犬" * 90,
        "a\tb\nc\x00\x1b[1m",
        "👩‍👩‍👧 ☂ \U0001f980",
        "\ue000\ud800",
        "שלום مرحبا",
        "",
    ):
        lines = face.wrap([Span(word, "#000000", bold=True) for word in text.split(" ")], 200, 3)
        assert 1 <= len(lines) <= 3
        for line in lines:
            for x, span in line:
                assert x + face.width(span.text, span.bold) <= 201
                face.draw(canvas, (x, 10), span)
    assert printable("a\tb\x00\u200d") == "a b\N{REPLACEMENT CHARACTER}"


def test_a_long_caption_ends_in_an_ellipsis_in_its_place() -> None:
    lines = Typeface(17).wrap([Span(f"word{number}", "#000000") for number in range(99)], 200, 2)
    assert len(lines) == 2
    assert lines[-1][-1][1].text == "…"


@pytest.mark.parametrize(
    ("num_bytes", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123456, "123 kB"), (5.1e13, "51.0 TB")]
)
def test_sizes_are_said_as_people_read_them(num_bytes: float, said: str) -> None:
    assert size(num_bytes) == said


def test_too_many_rows_are_refused(store: Path) -> None:
    with pytest.raises(UserError, match="--rows: wanted 0 to 100, found 101"):
        main([str(store), "--rows", "101"])
