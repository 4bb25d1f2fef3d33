"""What `eval.run` prints: the numbers as a table, and what is odd about the data or the prompts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.figures import percent
from eval.scores import interval_text
from prep.labelled_files import readable

NUM_NAMED = 5


def _name(path: str) -> str:
    return readable(Path(path).name)


def _table(report: dict[str, Any]) -> Table:
    budget = report["budget"]
    seen = f"{report['samples_seen']:,} samples, {budget['res']} px, {budget['text_tokens']} text tokens"
    table = Table(title=readable(f"{report['run']}: {seen}"), title_justify="left")
    for name in ("", "right", "95% interval", "guessing"):
        table.add_column(name, justify="right" if name else "left")
    for result in report["zeroshot"]:
        table.add_row(f"{_name(result['folder'])}: {result['num_images']:,} images, {result['num_classes']:,} classes")
        for top in ("top1", "top5"):
            if result[top] is not None:
                interval, chance = interval_text(result[f"{top}_interval"]), percent(result[f"chance_{top}"])
                table.add_row(f"  zero-shot top-{top[-1]}", percent(result[top]), interval, chance)
        for score in result["at_budgets"] if len(result["at_budgets"]) > 1 else ():
            where = f"  top-1 at {score['res']} px, {score['text_tokens']} text tokens"
            table.add_row(where, percent(score["top1"]), interval_text(score["top1_interval"]), "")
        table.add_section()
    result = report["retrieval"]
    if result:
        table.add_row(f"{_name(result['store'])}: {result['num_images']:,} images, {result['num_captions']:,} captions")
        for way, chances in (("text_to_image", "chance"), ("image_to_text", "chance_image_to_text")):
            for k, share in result[way].items():
                interval, chance = interval_text(result[f"{way}_interval"][k]), percent(result[chances][k])
                table.add_row(f"  {way.replace('_', ' ')} recall@{k}", percent(share), interval, chance)
    return table


def named(things: Sequence[str], separator: str = ", ") -> str:
    """The first few of them."""
    return separator.join(map(readable, things[:NUM_NAMED])) + (" ..." if len(things) > NUM_NAMED else "")


def _bad_files(result: dict[str, Any]) -> str:
    return named([f"{entry['path']} ({entry['problem']})" for entry in result["unreadable"]], "; ")


def cut_warning(result: dict[str, Any]) -> str:
    """What the text tokens cut off the prompts of a zero-shot result; "" where nothing."""
    num, num_names, names = result["num_prompts_cut"], result.get("num_names_cut", 0), result.get("names_cut", [])
    if not num:
        return ""
    length = f"{result['text_tokens']} text tokens" if "text_tokens" in result else "the text tokens"
    told = f"{num:,} prompts are longer than {length} and lost their end."
    if num_names:
        of = f"{len(names):,} of {result['num_classes']:,} classes"
        classes = named([repr(name) for name in names])
        told += f" {num_names:,} of them lost the class's name or a part of it: {classes} ({of})."
        remedy = "" if result.get("templates") == "simple" else ", or take --templates simple"
        told += f" Train the last stage with more text tokens{remedy}."
    return told


def _cut_at_budgets(result: dict[str, Any]) -> Iterator[str]:
    """The same of the result's other budgets, once for each number of text tokens."""
    met = {result.get("text_tokens")}
    for score in result.get("at_budgets", []):
        tokens, num, num_names = (score[key] for key in ("text_tokens", "num_prompts_cut", "num_names_cut"))
        if num and tokens not in met:
            told = f"at {score['res']} px: {num:,} prompts are longer than {tokens} text tokens and lost their end"
            yield told + (f", {num_names:,} of them the class's name or a part of it." if num_names else ".")
        met.add(tokens)


def warnings_of(result: dict[str, Any]) -> Iterator[str]:
    """All that is odd about a zero-shot result, a sentence each."""
    folder = readable(result["folder"])
    if result["unreadable"]:
        yield f"{len(result['unreadable']):,} files of {folder} are no readable images: {_bad_files(result)}"
    if num := result.get("num_without_class"):
        labels = named([f"{label!r} ({count:,})" for label, count in result["unmatched"].items()])
        yield f"{num:,} images of {folder} are of no class of the list, and were not judged: {labels}"
    for cut in (cut_warning(result), *_cut_at_budgets(result)):
        if cut:
            yield f"{folder}: {cut}"


def retrieval_warnings(result: dict[str, Any]) -> Iterator[str]:
    """All that is odd about a retrieval result, a sentence each."""
    store = readable(result["store"])
    asked, kind = (result.get(key, "centre") for key in ("preprocess_asked", "preprocess"))
    if asked != kind:
        yield f"The images of {store} are not seen {asked}: a store's are cut at the {kind} when it is built."
    if bad := result.get("unreadable"):
        lost = f"{result['num_captions_lost']:,} captions went with them"
        yield f"{len(bad):,} images of {store} are not readable, or have no caption; {lost}: {_bad_files(result)}"
    if num := result.get("num_captions_empty"):
        yield f"{num:,} captions of {store} hold no word, and were passed over."
    if num := result.get("num_captions_cut"):
        how = f"and were reduced by {result['text_mask']}"
        yield f"{num:,} of {result['num_captions']:,} captions of {store} are longer than the text tokens, {how}."


def _oddities(report: dict[str, Any]) -> Iterator[str]:
    for result in report["zeroshot"]:
        yield from warnings_of(result)
        if pairs := [f"{' and '.join(map(repr, pair['names']))} ({pair['num']:,})" for pair in result["confusions"]]:
            yield f"{_name(result['folder'])}: most often taken for each other: {named(pairs, '; ')}"
    if result := report["retrieval"]:
        yield from retrieval_warnings(result)


def print_report(report: dict[str, Any], out: Path) -> None:
    """The numbers as a table, what was wrong with the data, and where everything lies."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(_table(report))
    for sentence in (*_oddities(report), *(str(out / name) for name in _files(report))):
        console.print(readable(sentence), soft_wrap=True)


def _files(report: dict[str, Any]) -> Sequence[str]:
    return ("eval.json", *report["tables"], *report["figures"])
