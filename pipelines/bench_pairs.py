"""What `pipelines.bench` works on where it is not given: a store of synthetic pairs, and the same pairs for the peers.

prep's programs are run, not imported. The peers get what their users have: pictures whose short side is 256 px, as
JPEGs of quality 95, which is how img2dataset leaves them.
"""

import io
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from glob import glob
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from prep.errors import UserError

PEER_SIDE, _PEER_QUALITY = 256, 95

_MAKE = """
import sys
from pathlib import Path
from prep.bench_data import SIZES, make_captions, make_jpegs, write_tars
from prep.build import main
folder, num, res, num_tars = Path(sys.argv[1]), *map(int, sys.argv[2:])
tars = write_tars(folder / "tars", make_jpegs(SIZES["384 px"], min(num, 64)), make_captions(num), num_tars)
options = ["--input", tars, "--out", str(folder / "store"), "--res", str(res), "--tagger", "textblob", "--workers", "0"]
for view in ([], ["--encoding", "raw"], ["--crops", "1"], ["--crops", "1", "--encoding", "raw"]):
    main([*options, *view])
"""


class Pairs(NamedTuple):
    """A store and its sources."""

    store: str
    tars: str


def make_synthetic(folder: Path, num: int, res: int, num_tars: int = 8) -> Pairs:
    """Build a store with all four views, of `num` pairs of 64 different 384-px pictures. Raises `UserError`."""
    _program("-c", _MAKE, str(folder), str(num), str(res), str(num_tars))
    return Pairs(str(folder / "store"), str(folder / "tars" / "*.tar"))


def export_beton(store: str, view: str, out: Path) -> str:
    """Export one view folder of a store for FFCV. Raises `UserError`."""
    _program("-m", "prep.export", store, "--ffcv", str(out), "--view", view)
    return str(out)


def _program(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise UserError("pipelines.bench", f"a program of prep failed and said: {said[-1].strip()}", "Run it alone.")


def source_pairs(pattern: str) -> Iterator[tuple[bytes, str]]:
    """Image files and captions of webdataset tars, in order. Raises `UserError` when there are none."""
    paths = sorted(glob(pattern))
    if not paths:
        raise UserError("--tars", f"wanted tars, found none at {pattern}", "Put the pattern in quotes.")
    for path in paths:
        with tarfile.open(path) as tar:
            key, members = "", dict[str, bytes]()
            for member in tar:
                name = PurePosixPath(member.name)
                file = tar.extractfile(member)  # the bytes; nothing is written
                if file is None:
                    continue
                if name.stem != key:
                    key, members = name.stem, {}
                members[name.suffix.lower()] = file.read()
                image = next((members[end] for end in (".jpg", ".jpeg", ".png", ".webp") if end in members), None)
                if image is not None and ".txt" in members:
                    yield image, members[".txt"].decode(errors="replace")
                    members = {}


class PeerData(NamedTuple):
    """The same pairs in each peer's form: tars, a folder of class folders. num: pairs."""

    tars: str
    images: str
    num: int


def write_peer_data(folder: Path, pattern: str, num: int, num_tars: int) -> PeerData:
    """The first `num` pairs of these tars, resized for the peers. Pictures that Pillow refuses are left out."""
    images = folder / "images" / "all"
    images.mkdir(parents=True)
    written = 0
    with ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(folder / f"{n:05d}.tar", "w")) for n in range(num_tars)]
        for image, caption in islice(source_pairs(pattern), num):
            try:
                data = _resized(image)
            except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
                continue
            (images / f"{written:09d}.jpg").write_bytes(data)
            for extension, content in (("jpg", data), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{written:09d}.{extension}")
                member.size = len(content)
                tars[written % num_tars].addfile(member, io.BytesIO(content))
            written += 1
    # The way webdataset names several files.
    return PeerData(f"{folder}/{{00000..{num_tars - 1:05d}}}.tar", str(images.parent), written)


@lru_cache(maxsize=128)
def _resized(data: bytes) -> bytes:
    """Short side PEER_SIDE at most, as a JPEG."""
    with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as picture:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = picture.convert("RGB")
    scale = min(1.0, PEER_SIDE / min(image.size))
    smaller = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    smaller.save(file, "JPEG", quality=_PEER_QUALITY)
    return file.getvalue()
