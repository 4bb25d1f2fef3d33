"""The cache of a retrieval set's features, and the memory that they take."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eval import retrieval
from eval.captioned import CaptionedSource, ModelInput, open_captioned
from eval.captioned_set import CaptionedBatch
from eval.retrieval_features import NotFinite, Rows, pair_features
from eval.retrieval_result import RetrievalResult
from pipelines.contract import TokenBudget

from .captioned_sets import NUM, TEXT_TOKENS, ColourModel, write_karpathy, write_store, write_tars

BUDGET = TokenBudget(res=16, text_tokens=TEXT_TOKENS, text_mask="truncate")
NUM_ROWS, WIDTH = 2000, 1280


class Counting(ColourModel):
    """Counts the images and captions that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = [0, 0]

    def encode_image(self, images: Tensor) -> Tensor:
        self.seen[0] += len(images)
        return super().encode_image(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        self.seen[1] += len(tokens)
        return super().encode_text(tokens)


@pytest.fixture
def source(tmp_path: Path) -> CaptionedSource:
    """Twelve images and a file that is none."""
    path = write_karpathy(tmp_path / "karpathy")
    (path.parent / "images" / "val" / "3.png").write_bytes(b"no image")
    return CaptionedSource(path, path.parent / "images")


def judged(
    source: CaptionedSource, cache: Path | None, key: str = "k", **how: str
) -> tuple[RetrievalResult, list[int]]:
    model = Counting()
    found = retrieval.evaluate(model, BUDGET, source, 5, cache=cache, model_key=key, **how)  # type: ignore[arg-type]
    return found, model.seen


def test_a_second_evaluation_sees_nothing_and_says_the_same(source: CaptionedSource, tmp_path: Path) -> None:
    plain, seen = judged(source, None)
    assert seen[0] == NUM - 1
    assert [Path(bad.path).name for bad in plain.unreadable] == ["3.png"]
    assert judged(source, tmp_path / "c") == (plain, seen)
    assert judged(source, tmp_path / "c") == (plain, [0, 0])
    assert len(list((tmp_path / "c").iterdir())) == 1
    judged(source, tmp_path / "none", key="")
    assert not (tmp_path / "none").exists()


def test_whatever_decides_the_features_is_in_the_key(source: CaptionedSource, tmp_path: Path) -> None:
    cache = tmp_path / "c"
    judged(source, cache)
    opened = open_captioned(source)
    seen = ModelInput(BUDGET)
    for other in (
        replace(seen, budget=replace(BUDGET, res=20)),
        replace(seen, tokenizer="bert"),
        replace(seen, end_token=False),
        replace(seen, kind="square"),
        replace(seen, budget=replace(BUDGET, text_tokens=9)),
    ):
        before = len(list(cache.iterdir()))
        model = Counting()
        model.encode_text = lambda tokens: torch.ones(len(tokens), 6)  # type: ignore[method-assign]
        pair_features(model, opened, other, 5, "cpu", cache, "k")
        assert (model.seen[0], len(list(cache.iterdir()))) == (NUM - 1, before + 1), other
    assert judged(replace(source, captions="first"), cache)[1] == [NUM - 1, NUM - 1]
    assert judged(source, cache, "other weights")[1][0] == NUM - 1
    image = source.path.parent / "images" / "val" / "3.png"
    image.write_bytes((image.parent / "4.png").read_bytes())
    assert judged(source, cache)[1][0] == NUM


def test_damage_is_told_and_mended(source: CaptionedSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, seen = judged(source, tmp_path / "c")
    (file,) = (tmp_path / "c").iterdir()
    whole = file.read_bytes()
    for place in [*range(0, len(whole), 41), len(whole) - 1]:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        found, again = judged(source, tmp_path / "c")
        assert found == plain, place
        assert ("damaged" in capsys.readouterr().err) == (again == seen)
        assert again in (seen, [0, 0])
        assert again == seen or place < int.from_bytes(whole[:8], "little") + 8, "in the header a space may be hit"
    assert not list((tmp_path / "c").glob(".*"))


def test_a_model_without_numbers_leaves_nothing_behind(source: CaptionedSource, tmp_path: Path) -> None:
    model = Counting()
    model.points = model.points * float("nan")
    with pytest.raises(NotFinite, match="of 4 images"):
        retrieval.evaluate(model, BUDGET, source, 5, cache=tmp_path / "c", model_key="k")
    assert not list(tmp_path.glob("c/*"))


def test_a_set_s_fingerprint_is_of_all_that_decides_it(tmp_path: Path) -> None:
    built = write_store(tmp_path)
    tars = write_tars(tmp_path / "t")
    for path, file in ((built, next(built.glob("16-raw/*"))), (tars, tars / "1.tar")):
        before = open_captioned(CaptionedSource(path)).fingerprint
        assert open_captioned(CaptionedSource(path, captions="first")).fingerprint != before
        file.write_bytes(file.read_bytes())
        assert open_captioned(CaptionedSource(path)).fingerprint != before, "written again"
    manifest = (built / "manifest.json").read_text()
    before = open_captioned(CaptionedSource(built)).fingerprint
    (built / "manifest.json").write_text(manifest.replace('"res": 16', '"res": 17', 1))
    assert open_captioned(CaptionedSource(built)).fingerprint != before


def test_a_store_s_images_are_cut_at_the_centre_whatever_is_asked(tmp_path: Path) -> None:
    source = CaptionedSource(write_store(tmp_path))
    first, seen = judged(source, tmp_path / "c", kind="centre")
    square, again = judged(source, tmp_path / "c", kind="square")
    assert (seen[0], again) == (NUM, [0, 0])
    assert (first.preprocess, square.preprocess, square.preprocess_asked) == ("centre", "centre", "square")
    assert square.text_to_image == first.text_to_image


def test_rows_are_all_there_however_many_were_expected() -> None:
    parts = torch.arange(60.0).reshape(20, 3).split([4, 1, 9, 6])
    for most in (0, 3, 20, 50):
        rows = Rows(most)
        for part in parts:
            rows.add(part, "rows")
        assert torch.equal(rows.all(), torch.cat(parts))


class Many:
    """NUM_ROWS images of five captions each, made up as they are read."""

    path, num_images, num_captions, faults, fingerprint = Path("many"), NUM_ROWS, 5 * NUM_ROWS, (), "f"

    def preprocess(self, kind: str) -> str:
        return kind

    def read(self, seen: ModelInput, batch_size: int) -> Iterator[CaptionedBatch]:
        for places in torch.arange(NUM_ROWS).split(batch_size):
            tokens = torch.arange(5 * len(places)).reshape(-1, 1)
            owners = torch.arange(len(places)).repeat_interleave(5)
            yield CaptionedBatch(torch.zeros(len(places), 3, 2, 2, dtype=torch.uint8), places, tokens, owners, 0)


class Wide:
    """Gives vectors of WIDTH numbers."""

    def encode_image(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), WIDTH)

    encode_text = encode_image


def peak() -> int:
    """The most memory that this process has held so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def measure(cache: str) -> None:
    before = peak()
    found = pair_features(Wide(), Many(), ModelInput(BUDGET), 100, "cpu", Path(cache), "k")  # type: ignore[arg-type]
    print(peak() - before, found.texts.nbytes + found.images.nbytes)


def test_features_are_in_memory_once(tmp_path: Path) -> None:
    """While they are made, checked and kept, in a process that does nothing else."""
    code = f"import tests.test_retrieval_features as t; t.measure({str(tmp_path)!r})"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    took, size = map(int, said)
    assert took < 1.6 * size
