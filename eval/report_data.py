"""The report's part on data: what the copies of the stores' manifests say, in the run's own folder."""

from collections.abc import Sequence
from typing import Any

from eval.figures import percent
from eval.report_charts import short
from eval.report_page import Html, facts, missing, table, tag
from prep.manifest import Column, Manifest


def data_part(manifests: Sequence[Manifest]) -> list[Html]:
    """A block a store: counts, rejects by reason, images, captions, who made the token ids and the word classes."""
    if not manifests:
        return [
            missing("There is no manifest in this run: these weights were imported, and not trained on a store yet.")
        ]
    found = []
    for number, manifest in enumerate(manifests):
        if len(manifests) > 1:
            found.append(tag("h3", f"Store {number + 1}"))
        found += _store(manifest)
    return found


def _store(manifest: Manifest) -> list[Html]:
    lost = sum(manifest.rejects.values())
    told = [
        ("samples", f"{manifest.num_samples:,} of {manifest.num_read:,} pairs"),
        ("rejected", f"{lost:,} ({percent(lost / max(manifest.num_read, 1))})"),
        ("shards", f"{len(manifest.shards):,}"),
        ("captions", _captions(manifest)),
        ("stored text tokens", str(manifest.context_length)),
        ("fingerprint", manifest.fingerprint),
    ]
    views = [view for res in manifest.resolutions for view in manifest.views(res)]
    images = [(view.folder, *_view(view, manifest.num_samples)) for view in views]
    reasons = sorted(manifest.rejects.items(), key=lambda item: (-item[1], item[0]))
    shares = [(reason, f"{num:,}", percent(num / max(manifest.num_read, 1))) for reason, num in reasons]
    return [
        facts(told),
        *([table(("rejected because of", "pairs", "of all read"), shares)] if shares else []),
        table(("images", "px", "encoding", "made as", "size", "crops enlarged"), images),
        table(("text", "made by", "version", "fingerprint"), _makers(manifest)),
    ]


def _captions(manifest: Manifest) -> str:
    told = []
    for column in manifest.of_kind("captions"):
        num = column.counts.get("num_captions", manifest.num_samples)
        told.append(f"{column.folder.split('/')[-1]}: {num:,}")
    return ", ".join(told) or "none"


def _view(view: Column, num_samples: int) -> tuple[str, ...]:
    settings = view.settings
    encoding = str(settings.get("encoding", ""))
    if encoding == "jpeg":
        encoding += f" q{settings.get('quality')} {':'.join(map(str, settings.get('subsampling', ())))}"
    margin = settings.get("margin")
    made = f"crop {settings['crop']} of a bank" if "crop" in settings else f"margin {margin:.3g}" if margin else "–"
    enlarged = view.counts.get("num_enlarged_crops")
    share = "–" if enlarged is None else percent(enlarged / max(num_samples, 1))
    return str(settings.get("res", "")), encoding, made, short(view.num_bytes, "B"), share


def _makers(manifest: Manifest) -> list[tuple[str, ...]]:
    """Tokenizers and taggers, each once."""
    found: dict[tuple[str, ...], None] = {}
    for kind in ("tokenizer", "tagger"):
        for _, column in sorted(manifest.columns.items()):
            made: Any = column.settings.get(kind)
            if isinstance(made, dict):
                name = " ".join(dict.fromkeys(str(made[key]) for key in ("name", "model") if made.get(key)))
                found[(kind, name, str(made.get("version", "")), str(made.get("fingerprint", "")))] = None
    return list(found)
