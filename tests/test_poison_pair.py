"""A pair that segfaults its decoder, hangs it or eats all memory: a named reject, and else the bytes of any build."""

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import prep.build
import prep.views
from prep.build import StartWorker, Worker, main
from prep.images import Decoded, ImageLimits
from prep.work import Report
from tests.test_build import fingerprints, jpeg, write_tar

CRASH, HANG, GREED = (b"JFIF-poison-" + name for name in (b"crash", b"hang", b"greed"))


@dataclass(frozen=True, slots=True)
class PoisonedStart(StartWorker):
    """A worker whose decoder falls for three kinds of picture."""

    def __call__(self, report: Report) -> Worker:
        decode = vars(prep.views)["decode"]

        def poisoned(data: bytes, limits: ImageLimits, min_short_side: int | None = None) -> Decoded:
            if CRASH in data:
                ctypes.string_at(0)
            while HANG in data:
                time.sleep(1)
            held = []
            while GREED in data:
                held.append(bytearray(b"x" * (32 << 20)))
            decoded: Decoded = decode(data, limits, min_short_side)
            return decoded

        vars(prep.views)["decode"] = poisoned
        return StartWorker.__call__(self, report)


def tar(path: Path) -> Path:
    members = []
    for i in range(24):
        poison = {5: CRASH, 6: HANG, 17: GREED}.get(i, b"")
        members += [(f"{i:02d}.jpg", jpeg((i * 9, 40, 90)) + poison), (f"{i:02d}.txt", f"picture {i}".encode())]
    return write_tar(path, members)


@pytest.mark.timeout(600)
def test_a_poison_pair_is_a_named_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tar(tmp_path / "0.tar"), write_tar(tmp_path / "1.tar", [("x.jpg", jpeg()), ("x.txt", b"a square")])]
    monkeypatch.setattr(prep.build, "StartWorker", PoisonedStart)
    common = ["--input", *map(str, paths), "--res", "16", "--tagger", "textblob", "--pair-seconds", "2"]
    main([*common, "--out", str(tmp_path / "one"), "--workers", "1"])
    main([*common, "--out", str(tmp_path / "two"), "--workers", "2"])
    assert fingerprints(tmp_path / "one") == fingerprints(tmp_path / "two")
    rejects = pq.read_table(tmp_path / "one" / "rejects" / "00000.parquet").to_pylist()
    assert {row["key"]: (row["reason"], row["detail"]) for row in rejects} == {
        "05": ("worker_crashed", "died of SIGSEGV"),
        "06": ("worker_hung", "took more than 2 s"),
        "17": ("out_of_memory", "needed more than 1,024 MiB"),
    }
