"""A manifest as tables for people, and as a summary for scripts."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from prep.manifest import Column
from prep.store import Store

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def summary(store: Store) -> dict[str, Any]:
    """What the tables say, as plain JSON values. Shares are of captions or of samples, whichever a column counts."""
    manifest = store.manifest
    sizes = [shard.num_samples for shard in manifest.shards]
    captions = {
        column.folder.split("/")[1]: column.counts.get("num_captions") for column in manifest.of_kind("captions")
    }
    columns = []
    for column in _ordered(store):
        source = column.folder.split("/")[1] if "/" in column.folder else ""
        columns.append(_summary_of(column, manifest.num_samples, captions.get(source) or manifest.num_samples))
    return {
        "store": store.folder.url,
        "format_version": manifest.format_version,
        "fingerprint": manifest.fingerprint,
        "context_length": manifest.context_length,
        "num_read": manifest.num_read,
        "num_samples": manifest.num_samples,
        "num_bytes": sum({file.path: file.num_bytes for c in _ordered(store) for file in c.files}.values()),
        "rejects": {
            reason: {"count": count, "share": count / max(manifest.num_read, 1)}
            for reason, count in sorted(manifest.rejects.items(), key=lambda item: (-item[1], item[0]))
        },
        "shards": {
            "count": len(sizes),
            "smallest": min(sizes, default=0),
            "largest": max(sizes, default=0),
            "first_source": manifest.shards[0].source if sizes else "",
            "last_source": manifest.shards[-1].source if sizes else "",
        },
        "columns": columns,
    }


def tables(store: Store) -> list[Table]:
    """The same for a terminal, to be printed one after the other."""
    told = summary(store)
    found = [_overview(told), _columns(told)]
    if told["rejects"]:
        found.append(_rejects(told))
    identities = _identities(store)
    return [*found, identities] if identities.row_count else found


def size(num_bytes: float) -> str:
    """Bytes as people read them, in powers of 1,000: 1.2 GB."""
    power = 0
    while num_bytes >= 999.5 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:,.{1 if power and num_bytes < 99.95 else 0}f} {_UNITS[power]}"


def share(value: float) -> str:
    """A percentage, with a second digit where one would say nothing."""
    return f"{value:.1%}" if value >= 0.01 or value == 0 else f"{value:.2%}"


def _ordered(store: Store) -> list[Column]:
    """Rows, captions, tokens, priorities, then views by resolution."""
    manifest = store.manifest
    views = [view for res in manifest.resolutions for view in manifest.views(res)]
    return [
        column for kind in ("rows", "captions", "tokens", "priorities") for column in manifest.of_kind(kind)
    ] + views


def _summary_of(column: Column, num_samples: int, num_captions: int) -> dict[str, Any]:
    whole = max(num_captions if column.kind in ("captions", "tokens") else num_samples, 1)
    counts = {name: {"count": count, "share": count / whole} for name, count in column.counts.items()}
    if "num_captions" in counts:
        counts["num_captions"] = {"count": num_captions, "per_sample": num_captions / max(num_samples, 1)}
    return {
        "folder": column.folder,
        "kind": column.kind,
        "num_bytes": column.num_bytes,
        "bytes_per_sample": column.num_bytes / max(num_samples, 1),
        "settings": column.settings,
        "counts": counts,
    }


def _overview(told: dict[str, Any]) -> Table:
    table = Table(title=Text(told["store"], "bold"), title_justify="left", box=None, show_header=False, padding=(0, 2))
    rejected = sum(reason["count"] for reason in told["rejects"].values())
    lost = f", {rejected:,} rejected ({share(rejected / max(told['num_read'], 1))})" if rejected else ", none rejected"
    table.add_row("samples", f"{told['num_samples']:,} of {told['num_read']:,} pairs{lost}")
    table.add_row(
        "size", f"{size(told['num_bytes'])}, {size(told['num_bytes'] / max(told['num_samples'], 1))} a sample"
    )
    shards = told["shards"]
    if shards["count"]:
        sources = " ... ".join(dict.fromkeys((shards["first_source"], shards["last_source"])))
        rows = " to ".join(dict.fromkeys(f"{shards[key]:,}" for key in ("smallest", "largest")))
        table.add_row("shards", Text(f"{shards['count']:,}, of {rows} samples, from {sources}"))
    context = f"context of {told['context_length']} text tokens, fingerprint {told['fingerprint']}"
    table.add_row("format", f"version {told['format_version']}, {context}")
    return table


def _columns(told: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("column", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("a sample", justify="right", no_wrap=True)
    table.add_column("what")
    for column in _merged(told["columns"]):
        settings, counts = _describe(column["settings"]), _counted(column["counts"])
        what = Text(settings) + Text(f"{', ' if settings and counts else ''}{counts}", "dim")
        table.add_row(Text(column["folder"]), size(column["num_bytes"]), size(column["bytes_per_sample"]), what)
    return table


def _merged(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The crops of a bank as one column, the others as they are."""
    banks: dict[str, list[dict[str, Any]]] = {}
    for column in columns:
        name = column["folder"].rpartition("-crop")[0] if "crop" in column["settings"] else column["folder"]
        banks.setdefault(f"{name} {'crop' in column['settings']}", []).append(column)
    return [_one(own) if "crop" in own[0]["settings"] else own[0] for own in banks.values()]


def _one(crops: list[dict[str, Any]]) -> dict[str, Any]:
    sums = {key: sum(crop[key] for crop in crops) for key in ("num_bytes", "bytes_per_sample")}
    counts = {
        name: {key: sum(crop["counts"][name][key] for crop in crops) / len(crops) for key in ("count", "share")}
        for name in crops[0]["counts"]
    }
    settings = {**crops[0]["settings"], "num_crops": len(crops)}
    folder = crops[0]["folder"] + (f"...{crops[-1]['settings']['crop']}" if len(crops) > 1 else "")
    return {**crops[0], **sums, "folder": folder, "counts": counts, "settings": settings}


def _describe(settings: dict[str, Any]) -> str:
    """A column's settings in words."""
    if "res" in settings:
        encoding = settings["encoding"]
        if encoding == "jpeg":
            encoding += f" q{settings['quality']} {':'.join(settings['subsampling'])}"
        if "crop" in settings:
            low, high = settings["crop_area"]
            number = "1 crop" if settings["num_crops"] == 1 else f"{settings['num_crops']} crops"
            area = f"{number} of {low:.0%} to {high:.0%} of the area, seed {settings['crop_seed']}"
            return f"{settings['res']} px {encoding}, {area}"
        return f"{settings['res']} px {encoding}, margin {settings['margin']:.3g}"
    if "tagger" in settings:
        return str(settings["tagger"].get("model") or settings["tagger"].get("name", ""))
    if "tokenizer" in settings:
        return str(settings["tokenizer"].get("name", ""))
    return f"from {settings['field']}" if settings.get("field") else ""


def _counted(counts: dict[str, dict[str, float]]) -> str:
    """A column's counts in words."""
    told = []
    if captions := counts.get("num_captions"):
        told.append(f"{captions['count']:,} captions, {captions['per_sample']:,.2f} an image")
    names = {
        "num_cut": "cut",
        "num_truncated": "longer than the context",
        "num_enlarged_crops": "of crops enlarged",
        "num_kept": "the original's own bytes",
        "num_small": "smaller than asked for",
    }
    told += [
        f"{share(counts[name]['share'])} {words}"
        for name, words in names.items()
        if name in counts
        if counts[name]["count"] or name == "num_enlarged_crops"
    ]
    return ", ".join(told)


def _rejects(told: dict[str, Any]) -> Table:
    table = Table("rejected because of", box=box.SIMPLE_HEAD)
    table.add_column("pairs", justify="right")
    table.add_column("of all read", justify="right")
    for reason, found in told["rejects"].items():
        table.add_row(Text(reason), f"{found['count']:,}", share(found["share"]))
    return table


def _identities(store: Store) -> Table:
    """Tokenizers and taggers, each once."""
    table = Table("made by", "name", "version", box=box.SIMPLE_HEAD)
    table.add_column("fingerprint", overflow="fold")
    found = {
        (kind, *(str(identity.get(key, "")) for key in ("model", "name", "version", "fingerprint")))
        for column in store.manifest.columns.values()
        for kind in ("tokenizer", "tagger")
        for identity in [column.settings.get(kind)]
        if isinstance(identity, dict)
    }
    for kind, model, name, version, fingerprint in sorted(found):
        table.add_row(kind, Text(" ".join(dict.fromkeys((name, model))).strip()), Text(version), Text(fingerprint))
    return table
