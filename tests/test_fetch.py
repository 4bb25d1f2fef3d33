"""prep.fetch from end to end: the real img2dataset, in its own environment, against a server on the loopback address.

The environment is made on first use, beside the launcher's (about 10 s and 80 MB of downloads), and kept.
"""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.errors import UserError
from prep.fetch import main
from prep.fetch_environment import python_of
from prep.images import ImageError, ImageLimits, decode
from prep.pairs import Reason, Reject
from prep.sources import SourceOptions, list_parts, read_part

from .hostile_server import HostileServer, picture, serving

ROOT = Path(__file__).parents[1]
GOOD = [*(f"good/{i}" for i in range(20, 30)), "png", "unannounced", "modest"]
ENDED = {
    "slow-body": "too_slow",
    "slow-headers": "too_slow",
    "silent": "too_slow",  # or timed_out, as the machine has it
    "cut": "truncated",
    "announced-huge": "too_large",
    "endless": "too_large",
    "html": "not_an_image",
    "code/404": "http_404",
    "busy-once/1": "http_503",
    "opted-out": "disallowed",
    "to/file:///etc/passwd": "scheme_refused",
}
FAST = ("--allow-private", "--processes", "1", "--timeout", "3", "--max-seconds", "4", "--retries", "0")


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def write_list(path: Path, urls: Sequence[str | None]) -> Path:
    texts = [f"caption of row {i}" for i in range(len(urls))]
    pq.write_table(pa.table({"URL": urls, "TEXT": texts, "score": [0.5] * len(urls)}), path)
    return path


def rows_of(out: Path, shard: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(out / f"{shard:05d}.parquet").to_pylist()
    return sorted(rows, key=lambda row: str(row["key"]))


def reason_of(row: dict[str, object]) -> str | None:
    reason = str(row["error_message"]).split(":")[0].replace("timed_out", "too_slow")
    return None if row["status"] == "success" else reason


def members_of(out: Path, shard: int) -> dict[str, bytes]:
    with tarfile.open(out / f"{shard:05d}.tar") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_from_a_list_to_pairs(server: HostileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [*GOOD, "understated", *ENDED]
    urls = [*(f"{server.url}/{path}" for path in paths), f"{server.url}/to/{server.url}/good/7"]
    reasons: list[str | None] = [None] * (len(GOOD) + 1) + list(ENDED.values()) + [None]
    urls, reasons = [*urls, "file:///etc/passwd", ""], [*reasons, "scheme_refused", "bad_url"]
    out, shard_size = tmp_path / "pairs", 20
    command = [str(write_list(tmp_path / "urls.parquet", urls)), "--out", str(out), *FAST, "--columns", "score"]
    command += ["--rows-per-shard", str(shard_size), "--max-bytes", "100000"]
    main(command)
    rows = [row for shard in (0, 1) for row in rows_of(out, shard)]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["fetch.json", *(f"0000{i}{end}" for i in (0, 1) for end in (".tar", ".parquet", "_stats.json"))]
    )
    assert [row["row"] for row in rows] == list(range(len(urls)))
    assert [row["url"] for row in rows] == urls
    assert [reason_of(row) for row in rows] == reasons
    first = members_of(out, 0)
    assert first["0000000.jpg"] == picture(20)  # byte for byte
    assert first["0000010.jpg"] == picture(0, "PNG")
    assert first["0000000.txt"] == b"caption of row 0"
    facts = json.loads(first["0000003.json"])
    assert (facts["row"], facts["score"], facts["caption"]) == (3, 0.5, "caption of row 3")
    said = " ".join(capsys.readouterr().out.split())
    assert f"{len(urls)} URLs" in said
    assert f"│ fetched │ {reasons.count(None)} │" in said
    assert "tries the 5 that may pass" in said

    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.glob("0000*")}
    asked = server.requests.copy()
    main(command)
    again = rows_of(out, 2)
    may_pass = [i for i, reason in enumerate(reasons) if reason in {"too_slow", "truncated", "http_503"}]
    assert sorted(int(str(row["row"])) for row in again) == may_pass
    assert (server.requests - asked).total() == len(may_pass)
    assert [row["url"] for row in again if row["status"] == "success"] == [f"{server.url}/busy-once/1"]
    assert {name: (out / name).stat().st_mtime_ns for name in before} == {name: t for name, (t, _) in before.items()}
    keys = [row["key"] for row in [*rows, *again]]
    assert len(set(keys)) == len(keys)
    assert "tries the 4 that may pass" in capsys.readouterr().out

    damaged, rejects = [], 0
    for part in list_parts([f"{out}/*.tar"], SourceOptions()):
        for found in read_part(part, SourceOptions()):
            if isinstance(found, Reject):
                rejects += 1
                continue
            try:
                decode(found.image, ImageLimits())
            except ImageError as error:
                damaged.append((error.reason, found.key))
    assert damaged == [(Reason.IMAGE_DAMAGED, rows[len(GOOD)]["key"])]  # who understates the length, as HTTP has it
    assert rejects == sum(row["status"] != "success" for row in [*rows, *again])


def test_without_allow_private_nothing_is_asked_for(server: HostileServer, tmp_path: Path) -> None:
    before = server.requests.total()
    port = server.server_address[1]
    urls = [f"http://{host}:{port}/good/1" for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0")]
    command = [str(write_list(tmp_path / "a.parquet", urls)), "--out", str(tmp_path / "out"), *FAST[1:]]
    with pytest.raises(UserError, match="not one URL could be fetched: 4 address_refused"):
        main(command)
    assert server.requests.total() == before


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start(command: list[str], server: HostileServer, num_requests: int) -> tuple[subprocess.Popen[bytes], int]:
    """A program that has just sent so many requests more, of which the last is not answered, and its worker."""
    wanted = server.requests.total() + num_requests
    server.num_served = wanted - 1
    program = subprocess.Popen([sys.executable, "-m", "prep.fetch", *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    while server.requests.total() < wanted:
        assert program.poll() is None
        time.sleep(0.01)
    (worker,) = children_of(program.pid)
    return program, worker


def test_what_is_killed_or_interrupted_goes_on(server: HostileServer, tmp_path: Path, ctrl_c: None) -> None:
    python_of()  # so that the only child is a worker
    urls = [f"{server.url}/held/{i}" for i in range(18)]
    out = tmp_path / "out"
    command = [str(write_list(tmp_path / "a.parquet", urls)), "--out", str(out), *FAST]
    command += ["--rows-per-shard", "6", "--threads", "1"]
    program, worker = start(command, server, 9)  # in the second shard
    os.kill(worker, signal.SIGKILL)
    while not any(is_alive(child) and child != worker for child in children_of(program.pid)):
        time.sleep(0.01)
    (worker,) = [child for child in children_of(program.pid) if is_alive(child)]
    program.kill()  # the worker learns of it by the end of its stdin
    program.wait()
    assert [path.name for path in out.glob("*.tar")] == ["00000.tar"]
    first = (out / "00000.tar").read_bytes()
    while is_alive(worker):
        time.sleep(0.01)

    program, worker = start(command, server, 3)
    program.send_signal(signal.SIGINT)
    assert program.wait() == 130
    assert not is_alive(worker)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []

    server.num_served = float("inf")
    main(command)
    assert (out / "00000.tar").read_bytes() == first
    assert sorted(path.name for path in out.glob("*.tar")) == [f"0000{i}.tar" for i in range(3)]
    rows = [row for shard in range(3) for row in rows_of(out, shard)]
    assert [row["row"] for row in rows] == list(range(18))
    assert {row["status"] for row in rows} == {"success"}
