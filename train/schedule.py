"""The learning rate, counted in samples of the stage."""

import math

from train.recipe import Stage


def learning_rate(stage: Stage, samples_in_stage: int) -> float:
    """The rate of the step that begins after `samples_in_stage` samples: linear warm-up, then a cosine to zero.

    As open_clip's schedule counted in samples: the first step has one batch's worth of warm-up, not zero.
    """
    if samples_in_stage < stage.warmup_samples:
        return stage.learning_rate * min(1.0, (samples_in_stage + stage.batch_size) / stage.warmup_samples)
    progress = (samples_in_stage - stage.warmup_samples) / (stage.num_samples - stage.warmup_samples)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
