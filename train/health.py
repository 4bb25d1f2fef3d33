"""What goes wrong in trainings of CLIP, told with its remedy as soon as it shows: on the console and in events.jsonl.

not finite     a loss or gradient that is no number: the step is not taken; after several in a row the run goes
               back to its last checkpoint's weights, past the samples at fault; a second time in vain ends it
stuck          a loss that stays at ln(B): nothing is learned
collapsed      image features that are all alike
ceiling        a temperature at its bound
spike          a loss that leaps up, with the learning rate at which it did
no warm-up     a learning rate that begins high above CLIPA's rule
"""

import json
import math
import os
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from prep.files import written_aside
from train.log import Line
from train.recipe import Recipe

# CLIPA's peak rate for a first stage, a sample of the batch (8e-6 per 256, in its scripts).
_RATE_PER_SAMPLE = 8e-6 / 256
_RATE_TIMES = 32
_STUCK_LINES = 5
_STUCK_WITHIN = 0.02
_ALIKE = 0.98
_SPIKE_TIMES, _SPIKE_OVER = 1.5, 0.5


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell. kind: see the module. indices: rows of the samples at fault, where some are."""

    samples_seen: int
    stage: int
    kind: str
    problem: str
    remedy: str
    indices: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return f"warning ({self.kind}) at {self.samples_seen:,} samples: {self.problem}\n  {self.remedy}"


class Events:
    """events.jsonl of a run; on a resume, events after the checkpoint are dropped, as log lines are."""

    def __init__(self, run: Path, samples_seen: int) -> None:
        self._path = run / "events.jsonl"
        kept = [event for event in read_events(run) if event.samples_seen <= samples_seen]
        with written_aside(self._path) as file:
            file.writelines(_encoded(event) for event in kept)

    def tell(self, event: Event) -> None:
        """Append and print one."""
        with self._path.open("ab") as file:
            file.write(_encoded(event))
            file.flush()
            os.fsync(file.fileno())
        print(event, flush=True)


def read_events(run: Path) -> list[Event]:
    """What a run has told so far, oldest first; a last line cut by a kill is left out."""
    path = run / "events.jsonl"
    if not path.exists():
        return []
    *whole, _cut = path.read_bytes().split(b"\n")
    return [Event(**json.loads(line)) for line in whole]


def _encoded(event: Event) -> bytes:
    return json.dumps(asdict(event)).encode() + b"\n"


class Health:
    """Looks at log lines, one stage after another; each kind is told once a stage."""

    def __init__(self, recipe: Recipe, num_features_alike: float = _ALIKE) -> None:
        self._recipe, self._alike = recipe, num_features_alike
        self._told: set[tuple[int, str]] = set()
        self._stage, self._stuck = 0, 0
        self._before: deque[float] = deque(maxlen=8)

    def remember(self, lines: list[Line], events: list[Event]) -> None:
        """Take up where a run was left, so that it goes on as if it had not been: its lines and events so far."""
        for line in lines:
            self.of_line(line)
        self._told = {(event.stage, event.kind) for event in events}

    def of_stage(self, number: int, samples_seen: int) -> list[Event]:
        """What can be said before a stage begins."""
        stage = self._recipe.stages[number]
        rule = _RATE_PER_SAMPLE * stage.batch_size
        if stage.warmup_samples < stage.batch_size and stage.learning_rate > _RATE_TIMES * rule:
            problem = f"the learning rate {stage.learning_rate:.2g} begins without warm-up"
            remedy = f"CLIPA's rule says {rule:.2g} for batches of {stage.batch_size:,}, warmed up: set warmup_samples."
            return self._once(Event(samples_seen, number, "no warm-up", problem, remedy))
        return []

    def of_line(self, line: Line) -> list[Event]:
        """What a log line gives cause to say."""
        if line.stage != self._stage:
            self._stage, self._stuck = line.stage, 0
            self._before.clear()
        stage = self._recipe.stages[line.stage]
        contrastive = self._recipe.model.loss == "contrastive"
        at = line.samples_seen, line.stage
        found: list[Event] = []
        floor = math.log(stage.batch_size)
        self._stuck = self._stuck + 1 if abs(line.loss - floor) < _STUCK_WITHIN * floor else 0
        if contrastive and self._stuck >= _STUCK_LINES:
            problem = f"the loss has stayed at ln(batch size) = {floor:.2f} for {self._stuck} log steps"
            remedy = "Nothing is learned: lower the learning rate or warm up longer; see that captions fit images."
            found.append(Event(*at, "stuck", problem, remedy))
        if line.similarity is not None and line.similarity > self._alike:
            problem = f"image features are all alike: a mean cosine of {line.similarity:.3f}"
            remedy = "The vision tower has collapsed: lower the learning rate, warm up longer, or go back."
            found.append(Event(*at, "collapsed", problem, remedy))
        if self._recipe.model.clamp_logit_scale and line.logit_scale > 99.9:
            problem = "the temperature is at its bound, a scale of 100"
            remedy = "Late in a long run this is usual; early, the data repeats or the learning rate is too high."
            found.append(Event(*at, "ceiling", problem, remedy))
        usual = median(self._before) if len(self._before) >= 3 else math.inf
        if line.loss > _SPIKE_TIMES * usual and line.loss > usual + _SPIKE_OVER:
            problem = f"the loss leapt from {usual:.2f} to {line.loss:.2f} at a learning rate of {line.lr:.2g}"
            remedy = "Lower the peak or warm up longer; if it does not come down, begin again from a checkpoint before."
            found.append(Event(*at, "spike", problem, remedy))
        if math.isfinite(line.loss):
            self._before.append(line.loss)
        return [event for one in found for event in self._once(one)]

    def _once(self, event: Event) -> list[Event]:
        if (event.stage, event.kind) in self._told:
            return []
        self._told.add((event.stage, event.kind))
        return [event]
