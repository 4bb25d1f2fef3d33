"""What `prep.build` says at its end."""

import shlex

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prep.manifest import Column, Manifest
from prep.places import Folder


def counts_of(counts: dict[str, int]) -> str:
    """Counts by name, in words."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def print_summary(folder: Folder, manifest: Manifest, num_now: int, seconds: float) -> None:
    """Print what was read, kept and rejected, each column's size, and the next command."""
    console = Console(highlight=False)
    title = Text(f"{folder.url}: {manifest.num_samples:,} samples")
    table = Table(title=title, title_justify="left", show_header=False)
    rejected = sum(manifest.rejects.values())
    now = f"{num_now:,} now in {seconds:,.1f} s, {num_now / seconds:,.0f}/s" if num_now else "all before"
    table.add_row("read", f"{manifest.num_read:,} pairs ({now})")
    table.add_row("kept", f"{manifest.num_samples:,}")
    table.add_row("rejected", f"{rejected:,}" + (f" ({counts_of(manifest.rejects)})" if rejected else ""))
    for column in manifest.columns.values():
        table.add_row(column.folder, _describe(column, manifest.num_samples))
    console.print(table)
    store = shlex.quote(folder.url)
    console.print(Text(f"Next: python -m train.run RECIPE --store {store} --out run/"), soft_wrap=True)


def _describe(column: Column, num_samples: int) -> str:
    text = f"{column.num_bytes / 1e6:,.1f} MB, {column.num_bytes / num_samples:,.0f} bytes a sample"
    counts = column.counts
    if column.kind == "view":
        text += f"; {counts.get('num_enlarged_crops', 0) / num_samples:.1%} of crops enlarged"
        if counts.get("num_kept"):
            text += f", {counts['num_kept']:,} originals kept as they are"
    elif column.kind == "captions":
        text += f"; {counts.get('num_captions', 0):,} captions"
    elif column.kind == "tokens":
        text += f"; {counts.get('num_truncated', 0):,} longer than 77 tokens"
    elif column.kind == "priorities":
        tagger = column.settings["tagger"]
        text += f"; {' '.join(tagger[key] for key in ('model', 'version') if key in tagger)}"
    return text
