"""The pictures of a zero-shot result: images with their answers, and the pairs of classes that are mixed up."""

from pathlib import Path

import numpy as np

from eval import figures
from eval.figures import percent
from eval.labelled import LabelledSet
from eval.labelled_set import NoImage
from eval.preprocess import thumbnail
from eval.scores import Confusion, interval_text
from eval.zeroshot import ZeroShotExample, ZeroShotResult
from prep.images import ImageError


def draw(result: ZeroShotResult, labelled: LabelledSet, path: Path) -> None:
    """The result's examples as a grid of pictures with their answers, a PNG at `path`."""
    title = f"Zero-shot: {percent(result.top1)} of {result.num_images:,} images right"
    what = f"{labelled.name}, {result.num_classes:,} classes"
    spread = f"95% interval {interval_text(result.top1_interval)}, guessing {percent(result.chance_top1)}"
    subtitle = f"{what}; {spread}; images drawn at random, evenly over classes"
    figures.zeroshot([_tile(example, labelled) for example in result.examples], title, subtitle, path)


def _tile(example: ZeroShotExample, labelled: LabelledSet) -> figures.Tile:
    """A grey tile where the image cannot be read any more, whose features may have come from a cache."""
    try:
        pixels = thumbnail(labelled.pixels(example.index))
    except (ImageError, NoImage, OSError):
        pixels = np.full((180, 180, 3), 200, np.uint8)
    return figures.Tile(pixels, example.class_name, example.predicted)


def _words(pair: Confusion) -> str:
    ways = ((pair.num_first, 0), (pair.num_second, 1))
    told = [
        f"{num:,} of {pair.num_images[way]:,} {pair.names[way]!r} taken for {pair.names[1 - way]!r}"
        for num, way in ways
        if num
    ]
    return "; ".join(told)


def draw_confusions(result: ZeroShotResult, labelled: LabelledSet, path: Path) -> bool:
    """The most confused pairs of classes, a line of their pictures each, a PNG at `path`; False where there is none."""
    rows = []
    for pair in result.confusions:
        ways = {pair.names, pair.names[::-1]}
        mine = [example for example in result.confused if (example.class_name, example.predicted) in ways]
        if mine:
            rows.append(figures.ConfusionRow(_words(pair), tuple(_tile(example, labelled) for example in mine)))
    if rows:
        of = f"{labelled.name}: of {result.num_images:,} images {percent(1 - result.top1)} are taken for another class"
        figures.confusions(rows, f"{of}; under each picture: what it is, and what it was taken for", path)
    return bool(rows)
