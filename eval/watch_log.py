"""watch.jsonl: what `eval.run --watch` found, one line a checkpoint."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.captioned import CaptionedSource
from eval.evaluation import Evaluation, OpenedData
from eval.retrieval import RetrievalResult
from eval.zeroshot import ZeroShotResult
from prep.errors import UserError
from train.checkpoint import LoadedModel

# What would make a line long, and is in eval.json for the checkpoint that people look at.
_LONG = (
    *("per_class", "unreadable", "examples", "confusions", "confused", "names_cut", "unmatched"),
    # Asked of the checkpoint that people look at alone.
    "at_budgets",
)


@dataclass(frozen=True, slots=True)
class WatchLine:
    """One checkpoint's answers. flops: of training so far. res, text_tokens: what it was judged at, its stage's.

    zeroshot: a table a set, and retrieval: one table or None, as in eval.json without lists of classes, files and
    examples; paths are absolute. problem: why there are no answers, where the model gave no numbers. classes,
    preprocess: as in `Evaluation`; captions: what was said about the retrieval set beside its path. data: the
    sets' fingerprints, the retrieval set's last; None in lines that were written before they were kept.
    """

    samples_seen: int
    flops: float
    res: int
    text_tokens: int
    ema: bool
    templates: str
    zeroshot_dirs: list[str]
    retrieval_store: str | None
    zeroshot: list[dict[str, Any]]
    retrieval: dict[str, Any] | None
    problem: str = ""
    classes: str | None = None
    preprocess: str | None = None
    captions: str | None = None
    data: list[str] | None = None

    @property
    def question(self) -> str:
        """What was asked, whatever the data were."""
        more = self.classes, self.preprocess, self.captions
        return question(self.zeroshot_dirs, self.retrieval_store, self.templates, self.ema, *more)

    @staticmethod
    def of(
        asked: Evaluation,
        data: OpenedData,
        loaded: LoadedModel,
        flops: float,
        zeroshot: list[ZeroShotResult],
        retrieval: RetrievalResult | None,
        problem: str = "",
    ) -> "WatchLine":
        """The line of a checkpoint."""
        folders, store = _places(asked)
        tables = [_short(result.to_json()) for result in zeroshot]
        return WatchLine(
            samples_seen=loaded.samples_seen,
            flops=flops,
            res=loaded.budget.res,
            text_tokens=loaded.budget.text_tokens,
            ema=asked.ema,
            templates=asked.templates,
            zeroshot_dirs=folders,
            retrieval_store=store,
            zeroshot=tables,
            retrieval=_short(retrieval.to_json()) if retrieval else None,
            problem=problem,
            classes=asked.classes,
            preprocess=asked.preprocess,
            captions=_captions(asked),
            data=data.fingerprints,
        )


def _short(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in _LONG}


def _places(asked: Evaluation) -> tuple[list[str], str | None]:
    source = asked.retrieval
    return [str(folder.resolve()) for folder in asked.zeroshot_dirs], str(source.path.resolve()) if source else None


def _captions(asked: Evaluation) -> str | None:
    """What was said about the retrieval set beside its path."""
    source = asked.retrieval
    if source is None or source == CaptionedSource(source.path):
        return None
    return json.dumps([str(source.images), source.split, source.captions])


def question(
    zeroshot_dirs: list[str], retrieval_store: str | None, templates: str, ema: bool, *more: str | None
) -> str:
    """A string that differs where the question does."""
    return json.dumps([zeroshot_dirs, retrieval_store, templates, ema, *more])


def question_of(asked: Evaluation) -> str:
    """The question that `asked` puts to each checkpoint."""
    more = asked.classes, asked.preprocess, _captions(asked)
    return question(*_places(asked), asked.templates, asked.ema, *more)


def path_of(folder: Path) -> Path:
    """Where the lines lie in an evaluation's folder."""
    return folder / "watch.jsonl"


def read_watch(folder: Path) -> list[WatchLine]:
    """The lines so far, oldest first; none where there is no file. A last line cut by a kill is left out.

    Raises `UserError` naming the file and the line when another line is damaged.
    """
    path = path_of(folder)
    if not path.exists():
        return []
    *whole, _cut = path.read_bytes().split(b"\n")
    lines = []
    for number, line in enumerate(whole, start=1):
        try:
            lines.append(WatchLine(**json.loads(line)))
        except (ValueError, TypeError) as error:
            place = f"{path}, line {number}"
            raise UserError(place, f"wanted an evaluation, but {error}", "Remove the line.") from error
    return lines


def mend(folder: Path) -> None:
    """Drop a last line that a kill cut, so that the next is not glued to it."""
    path = path_of(folder)
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def append(folder: Path, line: WatchLine) -> None:
    """Add a line, in one write, and sync it."""
    with path_of(folder).open("ab", buffering=0) as file:
        file.write(json.dumps(asdict(line)).encode() + b"\n")
        os.fsync(file.fileno())
