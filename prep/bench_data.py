"""What `prep.bench` works on: pictures with the spectrum of photographs, made here, and the demo's captions.

A photograph's amplitudes fall with one over the frequency (Field 1987), in colours that mostly move together. As JPEGs
of quality 90 (4:2:0) these have 0.25 to 0.37 bytes a pixel, as photographs on the web do, and cost as much to decode.
"""

import io
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import simplejpeg

from prep.demo_captions import caption
from prep.demo_scenes import training_scene

SIZES = {"384 px": (512, 384), "2 megapixels": (1600, 1200)}
"""Width and height in pixels of the two kinds of source."""

_CONTRAST = 52.0
# A little steeper than one: the spectrum of what a camera, its lens and a first resize have softened.
_FALL = 1.4
_COLOURFULNESS = 0.35


def make_jpegs(size: tuple[int, int], count: int, seed: int = 0) -> list[bytes]:
    """Seeded pictures of (width, height) as baseline JPEGs, quality 90, 4:2:0."""
    rng = np.random.default_rng(seed)
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    jpegs = []
    for _ in range(count):
        planes = []
        for _ in range(4):
            phase = np.exp(2j * np.pi * rng.random(frequency.shape))
            plane = np.fft.irfft2(phase / frequency**_FALL, s=(height, width))
            planes.append(plane / plane.std())
        gray, *colours = planes
        pixels = np.stack([gray + _COLOURFULNESS * colour for colour in colours], axis=2) * _CONTRAST + 118
        rgb = np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        jpegs.append(simplejpeg.encode_jpeg(rgb, 90, "RGB", "420"))
    return jpegs


def make_captions(count: int, seed: int = 0) -> list[str]:
    """Seeded captions in the manner of web alt-texts, all different, so that no cache of captions can know them.

    The demo's (drawing its scenes takes time), each continued with the beginning of another one.
    """
    begun, rng = _begun(), Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        words = rng.choice(begun).split()
        found[f"{rng.choice(begun)}, {' '.join(words[: rng.randint(1, 6)])}"] = None
    return list(found)


@cache
def _begun() -> list[str]:
    rng = Random(0)
    return [caption(training_scene(rng)[0], rng) for _ in range(400)]


def write_tars(folder: Path, jpegs: Sequence[bytes], captions: Sequence[str], num_tars: int) -> str:
    """Spread pairs over webdataset tars; returns their pattern."""
    folder.mkdir(parents=True)
    for number in range(num_tars):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for i in range(number, len(captions), num_tars):
                for extension, data in (("jpg", jpegs[i % len(jpegs)]), ("txt", captions[i].encode())):
                    member = tarfile.TarInfo(f"{i:09d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return str(folder / "*.tar")
