"""Follow a training run from a second process: its score after every checkpoint, while it is still being trained.

    python -m eval.run RUN --watch --zeroshot animals/ [--retrieval heldout_store/]

Start it before, during or after the training. Each finished checkpoint is evaluated once, the oldest first, so that the
curve grows from left to right; one that the trainer deletes meanwhile is passed over, with a word. It only reads what
the trainer wrote, takes no lock that the trainer wants, gives way to it (nice 10), and leaves it the GPU unless
--device says otherwise. It ends when the recipe's last checkpoint is evaluated.

    RUN/eval/watch.jsonl   one JSON object a checkpoint, appended when it is known; a line cut by a kill is dropped, and
                           that checkpoint evaluated again
    RUN/report.html        the report, written anew after each (eval.report)

What is odd about the data is said once. Started again after the data changed, it judges anew the checkpoints that are
left. Every checkpoint is judged at the token budget that it was trained at, so a curve leaps where a stage ends.
"""

import time
from collections.abc import Callable
from pathlib import Path

from eval.evaluation import Evaluation, OpenedData
from eval.figures import percent
from eval.report import write_report
from eval.retrieval import NotFinite
from eval.run_summary import retrieval_warnings, warnings_of
from eval.watch_log import WatchLine, append, mend, question_of, read_watch
from prep.errors import UserError
from prep.files import working_in
from prep.labelled_files import readable
from train import checkpoint
from train.config import load_recipe
from train.recipe import Recipe

POLL_SECONDS = 2.0


def _say(text: str) -> None:
    print(text, flush=True)


def _poll() -> None:
    time.sleep(POLL_SECONDS)


def watch(
    run: Path, asked: Evaluation, wait: Callable[[], None] = _poll, say: Callable[[str], None] = _say
) -> list[WatchLine]:
    """Evaluate checkpoints until the recipe's last one is done; returns the lines of this question, old ones too.

    wait: called when there is nothing to do. Nothing is made in `run` before it is a run folder.

    Raises `UserError` when the data are not what they should be, before any waiting where that can be seen; and when
    another process is at this.
    """
    asked.check_machine()
    data = asked.open_data()
    recipe = _recipe(run, wait, say)
    asked.check_run(run, [stage.budget.res for stage in recipe.stages])
    folder = run / "eval"
    with working_in(folder):
        mend(folder)
        lines = _answered(folder, asked, data, say)
        done, told, warned = {line.samples_seen for line in lines}, "", set[str]()
        while recipe.num_samples not in done:
            path = next((path for path in checkpoint.found(run) if int(path.name) not in done), None)
            if path is None:
                told = _once(f"waiting for the next checkpoint of {run}; Ctrl-C ends this", told, say)
                wait()
                continue
            line, warnings = _judged(run, asked, data, path)
            if line is None:
                say(f"{int(path.name):>11,} samples  passed over: the trainer has deleted this checkpoint")
                continue
            append(folder, line)
            lines.append(line)
            done.add(line.samples_seen)
            say(_words(line))
            for warning in warnings:
                if warning not in warned:
                    say(readable(warning))
            warned.update(warnings)
            write_report(run)
    say(f"The run's last checkpoint is evaluated.\n{folder / 'watch.jsonl'}\n{run / 'report.html'}")
    return lines


def _answered(folder: Path, asked: Evaluation, data: OpenedData, say: Callable[[str], None]) -> list[WatchLine]:
    """The lines of this question and these data."""
    of_question = [line for line in read_watch(folder) if line.question == question_of(asked)]
    lines = [line for line in of_question if line.data == data.fingerprints]
    old = {line.samples_seen for line in of_question} - {line.samples_seen for line in lines}
    if old:
        where = "other data than lie there now, or on data that are not known"
        say(f"{len(old):,} checkpoints were judged on {where}; those that are still there are judged anew")
    return lines


def _once(text: str, told: str, say: Callable[[str], None]) -> str:
    if text != told:
        say(text)
    return text


def _recipe(run: Path, wait: Callable[[], None], say: Callable[[str], None]) -> Recipe:
    """The run's recipe, as soon as there is one: `train.run` writes it last of what makes a run folder."""
    kept, told = run / "recipe.toml", ""
    while not kept.is_file():
        if run.exists() and not run.is_dir():
            raise UserError(
                str(run), "wanted a run folder, found a file", "Give the folder that train.run --out names."
            )
        told = _once(f"waiting for a run in {run}; Ctrl-C ends this", told, say)
        wait()
    return load_recipe(str(kept))


def _judged(run: Path, asked: Evaluation, data: OpenedData, path: Path) -> tuple[WatchLine | None, list[str]]:
    """A checkpoint's answers, and what is odd about them; None when the trainer deleted it before it was read."""
    try:
        loaded = checkpoint.load_model(run, str(int(path.name)), asked.device, ema=asked.ema)
        state = checkpoint.read_state(path)
    except UserError:
        if path.exists():
            raise
        return None, []
    try:
        zeroshot, retrieval = asked.of(loaded, data)
    except NotFinite as error:
        return WatchLine.of(asked, data, loaded, state.flops, [], None, error.problem), []
    odd = [warning for result in zeroshot for warning in warnings_of(result.to_json())]
    odd += retrieval_warnings(retrieval.to_json()) if retrieval else []
    return WatchLine.of(asked, data, loaded, state.flops, zeroshot, retrieval), odd


def _words(line: WatchLine) -> str:
    told = [line.problem] if line.problem else []
    for result in line.zeroshot:
        name = readable(Path(result["folder"]).name)
        top1, chance = percent(result["top1"]), percent(result["chance_top1"])
        told.append(f"{name} top-1 {top1} (guessing {chance})")
    if line.retrieval:
        there, back = (percent(line.retrieval[way]["1"]) for way in ("text_to_image", "image_to_text"))
        told.append(f"recall@1 {there} to pictures, {back} to captions")
    where = f"{line.res} px, {line.text_tokens} text tokens"
    return f"{line.samples_seen:>11,} samples  {where}  {'; '.join(told)}"
