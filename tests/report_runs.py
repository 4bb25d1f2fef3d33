"""Run folders as the report's tests want them: without weights, with whatever text in them."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from eval.watch_log import WatchLine
from prep.files import write_json
from prep.store import Store
from train.config import load_recipe, to_toml
from train.health import Event
from train.log import Line

from .test_figures import noise, two_stages
from .test_train_run import TINY

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;'\" \u202e犬"
VOID = ("img", "meta")


class Strict(HTMLParser):
    """Every element that is opened is closed, in order; what is loaded, and what is said, is kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.said = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.add(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        assert len({key for key, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def told(result: str, top1: float = 0.25) -> dict[str, Any]:
    """A zero-shot result as eval.json has it, of a folder and classes that are called `result`."""
    both = {f"{key}{top}": value for top in ("top1", "top5") for key, value in (("", top1), ("chance_", 0.1))}
    return {
        **both,
        "folder": f"data/{result}",
        "templates": "simple",
        "top1_interval": [top1 - 0.1, top1 + 0.1],
        "top5_interval": [top1 - 0.1, top1 + 0.1],
        "mean_class_top1": top1,
        "num_classes": 10,
        "num_images": 40,
        "num_prompts_cut": 1,
        "num_unreadable": 1,
        "per_class": [{"name": result, "num_images": 4, "top1": 0.5}, {"name": "none", "num_images": 0, "top1": None}],
        "unreadable": [{"path": result, "problem": result}],
        "examples": [],
    }


def make_run(run: Path, store: Store, name: str = "demo", lines: list[Line] | None = None) -> Path:
    """A run folder without weights: its recipe, the store's manifest, and a log."""
    run.mkdir(parents=True)
    recipe = load_recipe("demo", TINY)
    stages = tuple(replace(stage, name=name) for stage in recipe.stages)
    (run / "recipe.toml").write_text(to_toml(replace(recipe, name=name, stages=stages)))
    shutil.copy(store.path / "manifest.json", run)
    write_json(run / "environment.json", {"commit": name, "num_cores": 2})
    write_json(run / "loaders.json", {"0": "torch"})
    lines = [replace(line, stage_name=name, mfu=0.4) for line in two_stages(22)] if lines is None else lines
    (run / "metrics.jsonl").write_text("".join(json.dumps(vars_of(line)) + "\n" for line in lines))
    return run


def vars_of(line: Line | Event | WatchLine) -> dict[str, Any]:
    return {name: getattr(line, name) for name in line.__dataclass_fields__}


def evaluate(run: Path, name: str = "animals") -> None:
    """What eval.run and its --watch leave behind."""
    folder = run / "eval"
    folder.mkdir()
    recalls = {"1": 0.2, "10": 0.6, "5": 0.5}
    retrieval = {"store": name, "num_images": 9, "num_distinct_captions": 8, "chance": recalls}
    retrieval |= dict.fromkeys(("text_to_image", "image_to_text"), recalls)
    budget = {"res": 32, "text_tokens": 12}
    figures = ["curves.png", "zeroshot.png", "../retrieval.png"]
    table = {"samples_seen": 2816, "budget": budget, "zeroshot": [told(name)], "retrieval": retrieval}
    write_json(folder / "eval.json", {**table, "figures": figures})
    Image.fromarray(noise(1)).save(folder / "zeroshot.png")
    lines = [
        WatchLine(seen, 1e9, 16, 6, False, "simple", [f"/a/{name}"], "/s", [told(name, seen / 1e4)], retrieval)
        for seen in (960, 1920, 2816)
    ]
    lines.append(replace(lines[0], zeroshot=[], retrieval=None, problem=f"NaN {name}"))
    (folder / "watch.jsonl").write_text("".join(json.dumps(vars_of(line)) + "\n" for line in lines))
