"""Cutting boxes into a batch: the same pixels as `cut` gives one by one, from JPEG and from raw copies of any size."""

import numpy as np
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.pixels import cut, decode, fill


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(8, 40))
def test_a_batch_is_filled_with_what_cut_gives(seed: int, count: int, res: int) -> None:
    rng = np.random.default_rng(seed)
    widths, heights = rng.integers(1, 90, count), rng.integers(1, 90, count)
    is_raw, encoded, wanted, boxes = rng.random(count) < 0.5, [], [], []
    for width, height, raw in zip(widths.tolist(), heights.tolist(), is_raw.tolist(), strict=True):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        data = pixels.reshape(-1) if raw else np.frombuffer(simplejpeg.encode_jpeg(pixels, 95), np.uint8)
        data.flags.writeable = False
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        box = (top, left, int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1)))
        encoded.append(data)
        boxes.append(box)
        wanted.append(cut(decode(data, height, width, raw), box, res).permute(1, 2, 0).numpy())
    out = np.zeros((count, res, res, 3), np.uint8)
    fill(out, encoded, (widths, heights), is_raw, np.array(boxes))
    assert np.array_equal(out, np.stack(wanted))
