"""The report: whole, self-contained, and harmless whatever stands in the data."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report import main as report_main
from eval.report import write_report
from eval.report_charts import Axis, Curve, chart, lasting, short, thinned, ticks
from eval.report_page import Html, join, tag
from prep.errors import UserError
from prep.files import write_json
from prep.manifest import parse_manifest
from prep.store import Store
from train.config import load_recipe, to_toml
from train.health import Event

from .report_runs import HOSTILE, Strict, evaluate, make_run, vars_of
from .test_figures import two_stages


def read(path: Path) -> tuple[str, Strict]:
    text = path.read_text()
    return text, Strict(text)


@pytest.fixture(scope="module")
def full(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("reported") / "run", store)
    evaluate(run)
    return run


def test_everything_of_a_run_is_told(full: Path, store: Store) -> None:
    text, page = read(write_report(full))
    manifest = parse_manifest(store.path / "manifest.json")
    assert manifest.views(16)[0].counts["num_enlarged_crops"] >= 0
    for word in (
        *("Loss over samples seen", "Loss over compute", "Learning rate", "Logit scale", "Throughput", "MFU"),
        *("Waiting for data", 'text_mask = "syntax"', "clip-bpe-49408", "crops enlarged", "margin 1.58", "spacy"),
        *("class by class", "Nothing: no loss", "num cores", "loader of stage 1", "stage 2: demo", "40.0%"),
    ):
        assert word in page.said, word
    assert f"{manifest.num_samples:,} of {manifest.num_read:,} pairs" in page.said
    assert "25.0%" in page.said
    assert "15.0–35.0%" in page.said
    assert page.said.index("recall@5") < page.said.index("recall@10")
    assert text.count("<svg") == 10
    assert text.count("data:image/png;base64,") == 1
    assert "retrieval.png is not there any more" in page.said


def test_a_page_asks_for_nothing(full: Path) -> None:
    text, page = read(write_report(full))
    assert not page.met & {"script", "link", "iframe", "object", "embed", "form", "base", "audio", "video", "use"}
    for element, key, value in page.attributes:
        assert not key.startswith("on"), (element, key)
        assert key not in ("src", "href", "xlink:href", "srcset", "style") or value.startswith(("data:image/png", "#"))
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text


def test_data_are_text_and_never_markup(store: Store, tmp_path: Path) -> None:
    """Names of recipes, stages, classes and files, reasons, events, versions: all of them hostile."""
    run = make_run(tmp_path / "run", store, HOSTILE)
    evaluate(run, HOSTILE)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest |= {"rejects": {HOSTILE: 3}, "num_read": manifest["num_read"] + 3, "fingerprint": HOSTILE}
    for column in manifest["columns"].values():
        column["settings"] |= {"encoding": HOSTILE}
        column["settings"].get("tagger", {})["name"] = HOSTILE
    write_json(run / "manifest.json", manifest)
    event = Event(96, 0, HOSTILE, HOSTILE, HOSTILE, [4, 7])
    (run / "events.jsonl").write_text(json.dumps(vars_of(event)) + "\n")
    text, page = read(write_report(run))
    assert not page.met & {"script", "x"}
    assert [value for _, key, value in page.attributes if key == "src" and not value.startswith("data:")] == []
    assert "<script" not in text
    assert 'onerror="' not in text
    assert page.said.count(HOSTILE) > 20
    assert "4, 7" in page.said


# But for what HTML itself reads otherwise.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))


@given(ANY_TEXT, ANY_TEXT)
def test_text_comes_back_as_it_was(inside: str, attribute: str) -> None:
    page = Strict(tag("p", inside, tag("b", inside), title=attribute))
    assert page.said == inside * 2
    assert page.attributes == [("p", "title", attribute)]
    assert join([Html("<br>"), "<br>"]) == "<br>&lt;br&gt;"


def test_a_run_that_is_not_finished_nor_evaluated_says_what_brings_the_rest(store: Store, tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run", store, lines=two_stages(10)[:2])
    page = read(write_report(run))[1]
    for words in (
        "not finished, 8.9%",
        "The log ends at 256 of 2,880 samples",
        f"python -m train.run '{run}/recipe.toml' --store STORE --out '{run}'",
        f"python -m eval.run '{run}' --zeroshot FOLDER --watch",
        f"python -m eval.run '{run}' --retrieval STORE",
        f"python -m eval.run '{run}' --zeroshot FOLDER --retrieval STORE",
        "MFU: not known",
        "Throughput, samples a second: not told",
    ):
        assert words in page.said, words


def test_imported_weights_have_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(to_toml(load_recipe("demo")))
    page = read(write_report(tmp_path))[1]
    assert "There is no log yet" in page.said
    assert "no manifest in this run" in page.said
    assert "no environment.json" in page.said


def test_what_is_no_run_or_is_damaged_is_named(full: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe\.toml in it"):
        report_main([str(tmp_path)])
    shutil.copytree(full, tmp_path / "run")
    for name in ("eval/eval.json", "eval/watch.jsonl", "metrics.jsonl", "events.jsonl"):
        path = tmp_path / "run" / name
        before = path.read_bytes() if path.exists() else None
        for damaged in ("{", '{"zeroshot": 3}\n'):
            path.write_text(damaged + "\n")
            with pytest.raises(UserError):
                write_report(tmp_path / "run")
        path.unlink() if before is None else path.write_bytes(before)
    report_main([str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").read_text() == write_report(tmp_path / "run").read_text()


FINITE = st.floats(-1e12, 1e12)


@given(FINITE, FINITE, st.integers(2, 9))
def test_ticks_are_few_round_and_inside(low: float, high: float, most: int) -> None:
    if high - low <= 1e-9 * max(1, abs(low), abs(high)):
        return
    found = ticks(low, high, most)
    step = 0.1 * (high - low)
    assert len(found) <= most
    assert all(low - 1e-6 * step <= value <= high + 1e-6 * step for value in found)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=3000))
def test_a_thinned_log_keeps_its_ends_and_its_extremes(ys: list[float]) -> None:
    kept = thinned(range(len(ys)), ys, most=100)
    assert len(kept) <= 104
    assert [x for x, _ in kept] == sorted({x for x, _ in kept})
    finite = [y for y in ys if y == y]
    if finite:
        own = [y for _, y in kept if y == y]
        assert (min(own), max(own), own[0], own[-1]) == (min(finite), max(finite), finite[0], finite[-1])


def test_what_is_not_finite_interrupts_a_curve() -> None:
    axis = Axis("y", short)
    nan = float("nan")
    text = chart("t", [Curve("a", [0, 1, 2, 3, 4, 5], [1, 2, nan, 4, 5, nan])], Axis("x", short), axis)
    (path,) = [value for element, key, value in Strict(text).attributes if (element, key) == ("path", "d")]
    assert (path.count("M"), path.count("L")) == (2, 2)
    assert "Not one number" in chart("t", [Curve("a", [0, 1], [nan, nan])], axis, axis)
    level = Strict(chart("t", [Curve("a", [0, 1], [3, 3], kind="points")], axis, axis))
    assert {value for element, key, value in level.attributes if (element, key) == ("circle", "cy")} == {"124.0"}


NUMBERS = ["0", "1e-07", "1,234", "12.35k", "1.44M", "3Z"]


def test_numbers_as_people_say_them() -> None:
    assert [short(value) for value in (0, 1e-7, 1234, 12345, 1.44e6, 3e21)] == NUMBERS
    assert short(1.673e9, "FLOP") == "1.673 GFLOP"
    assert [lasting(value) for value in (4.2, 900, 36_000, 1e6)] == ["4 s", "15 min", "10.0 hours", "278 hours"]
