"""No image crashes, hangs or eats the process that decodes it; each is a right picture or a rejection with a reason.

2,000 mutations by default; SHORTCLIP_HOSTILE_IMAGES=100000 makes as many, at about a millisecond each.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prep.images import ImageError, ImageLimits, decode
from prep.pairs import Reason
from tests.image_files import SAMPLES, attempt, photo, save
from tests.image_memory import SIDE, is_allowed

NUM_MUTATIONS = int(os.environ.get("SHORTCLIP_HOSTILE_IMAGES", "2000"))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one image, beside what was wanted; outcome has a size and a mean, or a reason and a detail."""

    name: str
    wanted: list[int] | str | None
    whole: str | None
    outcome: dict[str, Any]

    @property
    def is_kept(self) -> bool:
        return "mean" in self.outcome


@pytest.fixture(scope="module")
def lines() -> list[Any]:
    """What the process printed. It gives back to the system what it frees, so that what it takes can be seen."""
    ran = subprocess.run(
        # Unbuffered, and with a traceback, so that a crash says at which image it came.
        [sys.executable, "-u", "-X", "faulthandler", "-m", "tests.hostile_images", str(NUM_MUTATIONS)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=120 + NUM_MUTATIONS / 50,
    )
    assert ran.returncode == 0, f"{ran.returncode} after {ran.stdout[-500:]} {ran.stderr[-2000:]}"
    assert ran.stderr == ""
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def results(lines: list[Any]) -> list[Result]:
    pairs = zip(lines[:-3:2], lines[1:-3:2], strict=True)
    return [Result(name, wanted, whole, outcome) for (name, wanted, whole), outcome in pairs]


def test_every_image_is_a_picture_or_has_a_reason(results: list[Result]) -> None:
    assert len(results) > NUM_MUTATIONS
    assert 0 < sum(result.is_kept for result in results) < len(results)
    for result in results:
        if not result.is_kept:
            assert Reason(result.outcome["reason"]) is not Reason.OUT_OF_MEMORY, result
            assert result.outcome["detail"], result


def test_known_pictures_keep_their_colour_and_bombs_their_reason(results: list[Result]) -> None:
    known = [result for result in results if result.wanted is not None]
    assert len(known) > 80
    for result in known:
        if not isinstance(result.wanted, list):
            assert result.outcome.get("reason") == result.wanted, result
        else:
            assert result.outcome.get("size") == [64, 48], result
            assert np.abs(np.subtract(result.outcome["mean"], result.wanted)).max() <= 3, result


def test_what_is_kept_of_a_cut_file_or_a_damaged_png_is_all_of_it(results: list[Result]) -> None:
    num_rejected = 0
    for result in results:
        if result.whole is None:
            continue
        num_rejected += not result.is_kept
        if result.is_kept:
            whole = attempt(SAMPLES[result.whole])
            assert not isinstance(whole, ImageError)
            assert result.outcome["size"] == [whole.width, whole.height], result
            tolerance = 3 if result.whole.startswith("jpeg") else 0  # half of them are decoded at a fraction
            assert result.outcome["mean"] == pytest.approx(whole.pixels.mean((0, 1)), abs=tolerance), result
    assert num_rejected > NUM_MUTATIONS / 5


def test_memory_stays_bounded(lines: list[Any]) -> None:
    assert lines[-3] < 64 << 20


def test_decoding_takes_no_more_than_the_limits_assume(lines: list[Any]) -> None:
    growths = lines[-2]
    assert len(growths) >= 14
    assert min(growth for growth, _ in growths.values()) > 2 * SIDE * SIDE
    assert [name for name, (_, would_be_allowed_less) in growths.items() if would_be_allowed_less] == []


def test_a_lack_of_memory_is_a_reason_of_its_own(lines: list[Any]) -> None:
    outcomes = lines[-1]
    assert {outcome for each in outcomes.values() for outcome in each} == {"done", Reason.OUT_OF_MEMORY}
    starved = {name for name, each in outcomes.items() if Reason.OUT_OF_MEMORY in each}
    assert starved >= {"jpeg", "jpeg, cmyk", "png", "webp", "tiff", "resize", "cut", "encode"}


def test_a_costly_format_is_refused_at_fewer_pixels() -> None:
    limits = ImageLimits(max_memory=12 * 320 * 240)
    assert is_allowed(save(photo(320, 240), "PNG"), limits.max_memory)
    with pytest.raises(ImageError, match="takes up to 1 MiB of 0") as caught:
        decode(save(photo(320, 240), "WEBP"), limits)
    assert caught.value.reason is Reason.IMAGE_TOO_LARGE
