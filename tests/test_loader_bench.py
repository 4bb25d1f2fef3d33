"""`python -m pipelines.bench`: a whole run on made-up pairs, a verdict that flips, and peers that really run."""

import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import pixels
from pipelines.bench import main
from pipelines.bench_loaders import LoaderSubject, Setup, Spell
from pipelines.bench_pairs import source_pairs, write_peer_data
from pipelines.bench_peers import PEERS, PeerSetup, PeerSubject, draft
from pipelines.bench_process import NotRunError, Subject
from pipelines.bench_report import judge_row
from pipelines.bench_run import Measured
from pipelines.bench_stages import StageSubject
from pipelines.bench_subjects import Asked, Row
from prep.errors import UserError
from prep.store import Store, open_store

from .damage import small_store
from .nltk_folder import FOLDER

CORES = tuple(sorted(os.sched_getaffinity(0)))[:1]
NO_SECONDS = 1e-6


def setup_of(store: Path, res: int, view: str = "margin", needs: float = 50.0) -> Setup:
    return Setup(str(store), res, text_tokens=8, batch_size=4, view=view, needs=needs)


def bound(setup: Setup, num_spells: int = 1) -> str:
    """Who is found to wait for whom, with the loader and the trainer in this process.

    A stall of the machine speaks against the loader alone: more spells, of which the middle one counts, outlive it.
    """
    subject = LoaderSubject(setup)
    row = Row("torch", setup.view)
    for _ in range(num_spells):
        row.note("alone", subject.alone(NO_SECONDS))
        row.note("both", subject.both(NO_SECONDS))
    asked = Asked(setup.store, setup.res, 8, 4, ("torch",), None, CORES, 0, 1, "cpu", setup.needs, "", None, 1, None)
    found = Measured(asked, open_store(setup.store).manifest, [row])
    found.stages[setup.view] = Row("torch", setup.view, pixel_bytes=1.0)
    found.trainer.note("alone", subject.trainer_alone(NO_SECONDS))
    return judge_row(found, row).bound


def slowed(function: Callable[..., object], seconds: float) -> Callable[..., object]:
    def slow(*arguments: object) -> object:
        time.sleep(seconds)
        return function(*arguments)

    return slow


def test_the_verdict_flips_when_decoding_is_throttled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = setup_of(store.path, 32, needs=8)
    assert bound(setup, num_spells=3) == "trainer"
    monkeypatch.setattr(pixels, "decode", slowed(pixels.decode, 0.2))
    assert bound(setup) == "loader"


def test_the_verdict_flips_when_the_trainer_is_throttled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "decode", slowed(pixels.decode, 0.02))
    assert bound(setup_of(store.path, 32, needs=5000)) == "loader"
    assert bound(setup_of(store.path, 32, needs=8), num_spells=3) == "trainer"


def test_stages_and_limits_are_those_of_the_view(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    margin = StageSubject(setup_of(store.path, 32))
    raw = StageSubject(setup_of(small_store(tmp_path_factory), 16, "bank-raw"))
    costs, raw_costs = margin.stages(NO_SECONDS), raw.stages(NO_SECONDS)
    assert all(costs[name] > 0 for name in ("read", "text", "decode", "crop"))
    assert [name for name in ("decode", "crop", "copy") if raw_costs[name] > 0] == ["copy"]
    assert set(margin.limits(NO_SECONDS)) == {"simplejpeg"}
    assert set(raw.limits(NO_SECONDS)) == {"memcpy", "pyarrow.take"}
    assert raw.pixel_bytes() == 16 * 16 * 3


def test_a_subject_that_cannot_run_says_why(store: Store) -> None:
    with pytest.raises(NotRunError, match="a crop bank at 32 px"):
        Subject(LoaderSubject, [setup_of(store.path, 32, "bank")], CORES)
    with pytest.raises(NotRunError, match="ended with code 3"):
        Subject(os._exit, [3], CORES)
    with Subject(LoaderSubject, [setup_of(store.path, 32)], CORES) as subject:
        assert subject.call("alone", NO_SECONDS).samples == 4
        with pytest.raises(NotRunError, match="TypeError"):
            subject.call("alone", "long")


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, chart = tmp_path / "bench.json", tmp_path / "bench.png"
    command = "--synthetic 24 --res 16 --no-peers --loaders torch --batch-size 4 --cores 1 --seconds 0.01 --repeats 2"
    main([*command.split(), "--json", str(out), "--chart", str(chart)])
    said, report = capsys.readouterr().out, json.loads(out.read_text())
    assert said.splitlines()[-1] == report["verdict"]
    assert report["verdict"].split("-BOUND: ")[0] in ("LOADER", "CORE", "TRAINER")
    assert [row["view"] for row in report["loaders"]] == ["margin", "margin-raw", "bank", "bank-raw"]
    for row in report["loaders"]:
        assert all(rate > 0 for rate in row["alone"] + row["both"])
        assert len(row["alone"]) == len(row["both"]) == len(report["trainer"]["alone"]) == 2
        assert row["peak_bytes"] >= row["own_bytes"] > 0
        assert row["share_of_limit"] > 0
        assert row["view"] in said
    assert [line["what"] for line in report["ratios"]] == [
        "torch on bank, against simplejpeg",
        "torch on bank-raw, against memcpy",
        "torch on bank-raw, against pyarrow.take of 24 rows",
    ]
    assert "simplejpeg alone" in said
    assert "memcpy alone" in said
    assert Image.open(chart).format == "PNG"


def test_what_cannot_be_measured_is_named(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "--res 32 --loaders torch --views margin bank --batch-size 4 --cores 1 --seconds 0.01 --repeats 1"
    main([str(store.path), *command.split(), "--needs", "1000", "--json", str(tmp_path / "bench.json")])
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row.get("not_run") for row in report["loaders"]] == [None, "the store has no such view"]
    said = capsys.readouterr().out
    assert "not run [1]" in said
    assert "[1] the store has no such view" in said
    assert report["trainer"]["what"] == "a given rate"


@pytest.mark.parametrize(
    ("options", "place"),
    [
        (["--res", "16"], "store"),
        (["x", "--res", "16", "--synthetic", "9"], "store"),
        (["x", "--res", "16", "--cores", "100000"], "--cores"),
        (["x", "--res", "16", "--seconds", "0"], "--seconds"),
        (["x", "--res", "16", "--batch-size", "1"], "--batch-size"),
    ],
)
def test_mistakes_name_their_place(options: list[str], place: str) -> None:
    with pytest.raises(UserError) as error:
        main(options)
    assert place in error.value.place


def test_peers_get_the_same_pairs_smaller(demo_data: Path, tmp_path: Path) -> None:
    pattern = str(demo_data / "train" / "*.tar")
    sources = list(source_pairs(pattern))
    data = write_peer_data(tmp_path, pattern, 10, num_tars=2)
    assert data.num == 10
    written = [list(source_pairs(str(tmp_path / f"0000{number}.tar"))) for number in (0, 1)]
    captions = [written[i % 2][i // 2][1] for i in range(10)]
    assert captions == [caption for _, caption in sources[:10]]
    images = sorted(Path(data.images).rglob("*.jpg"))
    assert [path.read_bytes() for path in images] == [written[i % 2][i // 2][0] for i in range(10)]
    assert all(min(Image.open(path).size) <= 256 for path in images)


def test_dct_scaled_decoding_leaves_enough_pixels() -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((256, 341, 3), np.uint8)).save(file, "JPEG")
    for res, side in ((112, 128), (64, 64), (160, 256)):
        image = draft("0.jpg", file.getvalue(), res)
        assert image is not None
        assert min(image.size) == side
    assert draft("0.txt", b"words", 112) is None


@pytest.fixture
def peer_setup(demo_data: Path, tmp_path: Path) -> PeerSetup:
    data = write_peer_data(tmp_path / "peers", str(demo_data / "train" / "*.tar"), 64, num_tars=8)
    return PeerSetup("", data, 32, 8, 4, workers=1, scratch=str(tmp_path), nltk_data=str(FOLDER))


SELDOM = pytest.mark.skipif("SHORTCLIP_PEERS" not in os.environ, reason="SHORTCLIP_PEERS=1 runs every peer")


@pytest.mark.parametrize(
    "name",
    [
        "open_clip, DCT-scaled",
        pytest.param("torchvision ImageFolder", marks=SELDOM),
        pytest.param("Hugging Face datasets", marks=SELDOM),
    ],
)
def test_a_peer_runs(name: str, peer_setup: PeerSetup) -> None:
    if name.startswith("open_clip") and not FOLDER.is_dir():
        pytest.skip("wanted NLTK's data in ../shared/nltk_data, beside this repository")
    with Subject(PeerSubject, [replace(peer_setup, name=name)], CORES) as peer:
        spell = peer.call("alone", NO_SECONDS)
    assert isinstance(spell, Spell)
    assert spell.samples == 4


def test_open_clip_without_nltk_data_says_so(tmp_path: Path) -> None:
    setup = PeerSetup("open_clip", None, 32, 8, 4, workers=1, scratch="", nltk_data=str(tmp_path))
    with pytest.raises(UserError, match=r"NLTK's data, tokenizers/punkt_tab .* are not found"):
        PEERS[setup.name](setup)
