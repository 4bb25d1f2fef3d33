"""The report's parts on evaluation: the scores of eval.json, the curve of watch.jsonl, and eval.run's pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.figures import percent
from eval.report_charts import Axis, Curve, chart
from eval.report_page import Html, facts, folded, missing, picture, table, tag
from eval.report_training import SAMPLES
from eval.run_summary import retrieval_warnings, warnings_of
from eval.scores import interval_text
from eval.watch_log import WatchLine

_WAYS = {"text_to_image": "caption to picture", "image_to_text": "picture to caption"}
_PNG = b"\x89PNG\r\n\x1a\n"


def zeroshot_part(evaluation: dict[str, Any] | None, watched: Sequence[WatchLine], run: str) -> list[Html]:
    """The table of the last evaluation, its classes, and the curve over checkpoints. run: as a shell reads it."""
    shown = []
    if evaluation and evaluation["zeroshot"]:
        shown += [_judged(evaluation), _table(evaluation["zeroshot"])]
        for result in evaluation["zeroshot"]:
            shown += [tag("p", text, class_="event") for text in warnings_of(result)]
            shown += [*_budgets(result), _classes(result), *_confusions(result)]
    else:
        shown.append(missing("No zero-shot classification yet.", f"python -m eval.run {run} --zeroshot FOLDER"))
    lines = [line for line in watched if line.zeroshot]
    if lines:
        names = {"top1": "Zero-shot top-1", "top5": "Zero-shot top-5"}
        charts = [_curves(title, lines, key) for key, title in names.items()]
        shown.append(tag("div", *(found for found in charts if found), class_="charts"))
        shown.append(tag("p", _OVER, class_="note"))
    else:
        command = f"python -m eval.run {run} --zeroshot FOLDER --watch"
        shown.append(missing("No score of each checkpoint. Beside a training, in a second terminal:", command))
    wrong = [f"{line.samples_seen:,} samples: {line.problem}" for line in watched if line.problem]
    return [*shown, *(tag("p", text, class_="event") for text in wrong)]


_OVER = (
    "Every checkpoint at the token budget of its own stage. Upright lines: 95% intervals over images, which say "
    "nothing about another training run. Dotted: guessing."
)


def _judged(evaluation: dict[str, Any]) -> Html:
    budget = evaluation["budget"]
    seen = f"{evaluation['samples_seen']:,} samples" + (", averaged weights" if evaluation.get("ema") else "")
    return facts([("checkpoint", seen), ("judged at", f"{budget['res']} px, {budget['text_tokens']} text tokens")])


def _table(results: Sequence[dict[str, Any]]) -> Html:
    rows = []
    for result in results:
        name, of = Path(result["folder"]).name, (f"{result['num_images']:,}", f"{result['num_classes']:,}")
        odd = (f"{result['num_unreadable']:,}", f"{result['num_prompts_cut']:,}")
        for top in ("top1", "top5"):
            if result[top] is not None:
                interval, chance = interval_text(result[f"{top}_interval"]), percent(result[f"chance_{top}"])
                mean = percent(result["mean_class_top1"]) if top == "top1" else "–"
                rows.append((f"{name}, top-{top[-1]}", percent(result[top]), interval, chance, mean, *of, *odd))
    heads = ("right", "95% interval", "guessing", "mean of classes", "images", "classes", "unreadable", "prompts cut")
    return table(("", *heads), rows)


def _classes(result: dict[str, Any]) -> Html:
    known = [entry for entry in result["per_class"] if entry["top1"] is not None]
    known.sort(key=lambda entry: (-entry["top1"], entry["name"]))
    rows = [(entry["name"], percent(entry["top1"]), f"{entry['num_images']:,}") for entry in known]
    unread = [tag("p", f"{entry['path']}: {entry['problem']}", class_="note") for entry in result["unreadable"][:20]]
    return folded(f"{Path(result['folder']).name}, class by class", table(("class", "top-1", "images"), rows), *unread)


def _budgets(result: dict[str, Any]) -> list[Html]:
    """The scores at each budget, where there are several."""
    rows = [
        (
            *(f"{score['res']} px, {score['text_tokens']} text tokens", percent(score["top1"])),
            *(interval_text(score["top1_interval"]), f"{score['num_names_cut']:,}"),
        )
        for score in result.get("at_budgets", [])
    ]
    heads = (f"{Path(result['folder']).name}, the same weights at", "top-1", "95% interval", "prompts without the name")
    return [table(heads, rows)] if len(rows) > 1 else []


def _confusions(result: dict[str, Any]) -> list[Html]:
    rows = []
    for pair in result.get("confusions", []):
        ways = zip((pair["num_first"], pair["num_second"]), pair["num_images"], strict=True)
        rows.append((*pair["names"], *(f"{num:,} of {of:,}" for num, of in ways)))
    heads = ("class", "and class", "first taken for second", "second taken for first")
    return [folded(f"{Path(result['folder']).name}, most confused pairs", table(heads, rows))] if rows else []


def _series(lines: Sequence[WatchLine], key: str) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Answers by what was asked: the same set, and the same of all that was said about it. Of a set whose images
    changed while it was asked about, those of its newest state.
    """
    found: dict[tuple[str, str, bool, str], list[tuple[float, dict[str, Any]]]] = {}
    state: dict[tuple[str, str, bool, str], str | None] = {}
    for line in lines:
        for place, result in enumerate(line.zeroshot if key != "retrieval" else [line.retrieval or {}]):
            where = line.retrieval_store if key == "retrieval" else line.zeroshot_dirs[place]
            said = (line.captions, None) if key == "retrieval" else (line.classes, line.preprocess)
            asked = str(where), line.templates, line.ema, ", ".join(filter(None, said))
            now = line.data[-1 if key == "retrieval" else place] if line.data else None
            if state.setdefault(asked, now) != now:
                found[asked], state[asked] = [], now
            found.setdefault(asked, []).append((float(line.samples_seen), result))
    named: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for (where, templates, ema, more), answers in found.items():
        name = Path(where).name + (", averaged weights" if ema else "") + (f", {more}" if more else "")
        # Two folders of one name, or one folder with other prompts.
        name = ", ".join(filter(None, (where, templates, more))) if name in named else name
        named[name] = sorted(dict(answers).items())
    return named


def _curves(title: str, lines: Sequence[WatchLine], key: str) -> Html | None:
    drawn = []
    for colour, (name, answers) in enumerate(_series(lines, key).items()):
        told = [(seen, result) for seen, result in answers if result[key] is not None]
        if told:
            xs = [seen for seen, _ in told]
            spreads = [tuple(result[f"{key}_interval"]) for _, result in told]
            drawn.append(Curve(name, xs, [result[key] for _, result in told], colour, "points", spreads))
            chance = [result[f"chance_{key}"] for _, result in told]
            drawn.append(Curve("", [0.0, *xs], [chance[0], *chance], colour, "dashed"))
    return chart(title, drawn, SAMPLES, Axis("share", percent, from_zero=True)) if drawn else None


def retrieval_part(evaluation: dict[str, Any] | None, watched: Sequence[WatchLine], run: str) -> list[Html]:
    """Recall both ways, and its curve over checkpoints."""
    found = (evaluation or {}).get("retrieval")
    if not found:
        shown = [missing("No retrieval yet.", f"python -m eval.run {run} --retrieval STORE")]
    else:
        rows = []
        for way, name in _WAYS.items():
            intervals, chance = found.get(f"{way}_interval", {}), found.get(f"chance_{way}", found["chance"])
            for k, share in sorted(found[way].items(), key=lambda item: int(item[0])):
                interval = interval_text(intervals[k]) if k in intervals else "–"
                rows.append((f"{name}, recall@{k}", percent(share), interval, percent(chance[k])))
        num_captions = found.get("num_captions", found["num_images"])
        of = f"{found['num_images']:,} images and {num_captions:,} captions of {Path(found['store']).name}"
        distinct = f"{found['num_distinct_captions']:,} captions still differ at this number of text tokens"
        shown = [tag("p", f"Among {of}; {distinct}."), table(("", "found", "95% interval", "guessing"), rows)]
        shown += [tag("p", text, class_="event") for text in retrieval_warnings(found)]
    lines = [line for line in watched if line.retrieval]
    if lines:
        drawn = []
        for name, answers in _series(lines, "retrieval").items():
            for place, (way, words) in enumerate(_WAYS.items()):
                ys = [result[way]["1"] for _, result in answers]
                drawn.append(Curve(f"{name}, {words}", [seen for seen, _ in answers], ys, place, "points"))
        drawn_chart = chart("Recall@1", drawn, SAMPLES, Axis("share", percent, from_zero=True))
        shown.append(tag("div", drawn_chart, class_="charts"))
    return shown


def pictures_part(evaluation: dict[str, Any] | None, folder: Path, run: str) -> list[Html]:
    """The PNGs that eval.run drew, but for the curves, which are drawn here; those that are gone are named."""
    names = [name for name in (evaluation or {}).get("figures", []) if name != "curves.png"]
    if not names:
        command = f"python -m eval.run {run} --zeroshot FOLDER --retrieval STORE"
        return [missing("No pictures yet.", command)]
    shown = []
    for name in names:
        path = folder / Path(name).name
        data = path.read_bytes() if path.is_file() else b""
        if data.startswith(_PNG):
            shown.append(picture(data, _WORDS.get(name.split(".")[0].split("-")[0], name)))
        else:
            shown.append(missing(f"{path} is not there any more, or is no PNG: run the evaluation again."))
    return shown


_WORDS = {
    "confusions": "classes that are taken for each other most often, with images of both",
    "zeroshot": "images of the zero-shot set, each with what it was taken for",
    "retrieval": "captions drawn at random, each with its own picture and the pictures it found",
}
