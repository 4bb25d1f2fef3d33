"""The program that `prep.fetch` runs in img2dataset's own environment: downloads shards as they are handed to it.

    python -m prep.fetch_worker SETTINGS      settings as JSON, see `Settings`

Jobs come on stdin, a JSON object a line: {"shard": 3, "list": path of an Arrow file}. On stdout go {"urls": n}, the
number done since the last such line, and at a job's end {"urls": n, "ended": 3, "well": true}. The end of stdin ends
the process at once, so it does not outlive whoever started it.

From img2dataset comes what makes its output: `Downloader`, with its threads, statuses, counts and hashes, and the
writer of tars. What fetches an image is `prep.fetch_image`, in place of its function of the same work; what shrinks one
is too, as its resizer ignores the EXIF orientation and turns 16-bit images white. Its pool of processes (which waits
for ever for one that died), its reader (which holds the whole list) and its `main` (which exits with 0 when
interrupted) are not used, and its package is entered by a side door, so that what only they need can be absent.
"""

import importlib
import importlib.util
import io
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from types import ModuleType
from typing import Any

from prep.fetch_guard import FetchError, Limits, refuse_private_sockets
from prep.fetch_image import fetch_patiently, shrink

_SECONDS_BETWEEN_REPORTS = 0.5
# img2dataset's defaults: those who say in X-Robots-Tag that they do not want to be in a data set are left out.
_DISALLOWED = {"noai", "noimageai", "noindex", "noimageindex"}
_ROBOT = "img2dataset"


@dataclass(frozen=True, slots=True)
class Settings:
    """out: the folder to write in. columns: of the list, url and caption included. size: the short side, or None."""

    out: str
    columns: tuple[str, ...]
    rows_per_shard: int
    threads: int
    size: int | None
    limits: Limits

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Settings":
        """The inverse of `to_json`."""
        values = json.loads(text)
        return Settings(**values | {"columns": tuple(values["columns"]), "limits": Limits(**values["limits"])})


def _resizer(size: int | None) -> Callable[..., tuple[Any, ...]]:
    def resize(stream: io.BytesIO, boxes: object = None) -> tuple[Any, ...]:
        if size is None:
            return stream.read(), None, None, None, None, None
        try:
            return *shrink(stream.read(), size), None
        except FetchError as error:
            return None, None, None, None, None, str(error)

    return resize


def _img2dataset() -> tuple[ModuleType, ModuleType]:
    spec = importlib.util.find_spec("img2dataset")
    assert spec is not None
    package = ModuleType("img2dataset")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules |= {"img2dataset": package, "wandb": ModuleType("wandb")}
    return importlib.import_module("img2dataset.downloader"), importlib.import_module("img2dataset.writer")


class _Reporter:
    """Speaks on what was stdout; what anything else prints there goes to stderr."""

    def __init__(self) -> None:
        self._to = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._lock, self._num, self._last = threading.Lock(), 0, 0.0

    def url_done(self) -> None:
        with self._lock:
            self._num += 1
            if time.monotonic() - self._last < _SECONDS_BETWEEN_REPORTS:
                return
        self.say({})

    def say(self, more: dict[str, object]) -> None:
        with self._lock:
            self._to.write(json.dumps({"urls": self._num, **more}) + "\n")
            self._to.flush()
            self._num, self._last = 0, time.monotonic()


def main(argv: list[str]) -> None:
    """Run the program; see the module's docstring."""
    settings = Settings.from_json(argv[0])
    if not settings.limits.allow_private:
        refuse_private_sockets()
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    reporter = _Reporter()
    download = _downloader(settings, reporter)
    while True:
        job = jobs.get()
        well, _ = download((job["shard"], job["list"]))
        reporter.say({"ended": job["shard"], "well": well})


def _downloader(settings: Settings, reporter: _Reporter) -> Callable[[tuple[int, str]], tuple[bool, object]]:
    downloader, writer = _img2dataset()

    def is_disallowed(headers: Message) -> bool:
        return bool(downloader.is_disallowed(headers, _ROBOT, _DISALLOWED))

    def one(row: tuple[int, object], **_: object) -> tuple[int, io.BytesIO | None, str | None]:
        try:
            return row[0], io.BytesIO(fetch_patiently(row[1], settings.limits, is_disallowed)), None
        except FetchError as error:
            return row[0], None, str(error)
        finally:
            reporter.url_done()

    assert callable(downloader.download_image_with_retry)  # another version might call another name, unguarded
    vars(downloader)["download_image_with_retry"] = one
    made: Callable[[tuple[int, str]], tuple[bool, object]] = downloader.Downloader(
        sample_writer_class=writer.WebDatasetSampleWriter,
        resizer=_resizer(settings.size),
        thread_count=settings.threads,
        save_caption=True,
        extract_exif=False,
        output_folder=settings.out,
        column_list=list(settings.columns),
        timeout=settings.limits.timeout,
        number_sample_per_shard=settings.rows_per_shard,
        oom_shard_count=5,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=settings.limits.retries,
        user_agent_token=_ROBOT,
        disallowed_header_directives=sorted(_DISALLOWED),
    )
    return made


if __name__ == "__main__":
    main(sys.argv[1:])
