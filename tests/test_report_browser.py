"""The report as a browser lays it out: on a desk, on a phone at night, and with hostile data in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.report import write_report
from prep.store import Store

from .report_runs import HOSTILE, evaluate, make_run


@pytest.fixture(scope="module")
def full(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("reported") / "run", store)
    evaluate(run)
    return run


def browse(page: Path, width: int, colours: str) -> dict[str, Any]:
    # A slim machine lacks what Qt's browser links to: libnss3, libasound2, libEGL and others.
    pytest.importorskip("PySide6.QtWebEngineWidgets", reason="no browser: PySide6-WebEngine", exc_type=ImportError)
    program = Path(__file__).with_name("browser.py")
    command = [sys.executable, str(program), str(page), str(width), colours]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("width", "colours", "background"), [(1200, "light", 255), (360, "dark", 21)])
def test_in_a_browser(full: Path, width: int, colours: str, background: int) -> None:
    """Chromium, on a desk and on a phone at night."""
    seen = browse(write_report(full), width, colours)
    page = seen["page"]
    assert (seen["loaded"], seen["console"], page["title"], page["num_scripts"]) == (True, [], "demo: run", 0)
    assert seen["asked_for"] == [(full / "report.html").resolve().as_uri()]
    assert page["background"].startswith(f"rgb({background}, ")
    assert page["content_width"] <= page["width"] <= width
    assert "Zero-shot classification" in page["headings"]
    assert len(page["charts"]) == 10
    for drawn in page["charts"]:
        assert min(drawn["size"]) > 100, drawn["label"]
        assert min(drawn["curves"]) > 20, drawn["label"]
        assert "none" not in drawn["colours"], drawn["label"]
    assert all(0 < shown <= width and own == 40 for own, shown in page["pictures"])


def test_in_a_browser_nothing_hostile_runs(store: Store, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", store, HOSTILE)
    evaluate(run, HOSTILE)
    seen = browse(write_report(run), 800, "light")
    assert (seen["console"], seen["page"]["num_scripts"]) == ([], 0)
    assert seen["page"]["title"] == f"{HOSTILE}: run"
    assert seen["asked_for"] == [(run / "report.html").resolve().as_uri()]
    assert HOSTILE in seen["page"]["text"]
