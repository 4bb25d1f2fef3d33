"""Tasks on a real Ray of several nodes, one of which is killed at work: the results are those of the local engine."""

import errno
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prep.build import main as build
from prep.engine import run
from prep.errors import UserError
from prep.progress import bar
from prep.work import WorkerLimits

from .test_build import fingerprints, many_tars
from .toy_work import Toy, start

LIMITS = WorkerLimits(memory_bytes=128 << 20, item_seconds=5.0)
NAPS = dict.fromkeys(range(40), "nap")
"""Long enough for a task to be under way when its node is killed."""


def results(engine: str, address: str | None, *tasks: Toy) -> Iterator[tuple[str, list[str]]]:
    with bar(None, "working", "items") as progress:
        yield from run(engine, address, start, tasks, 2, progress, "items", LIMITS)


def test_a_missing_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="--engine ray: Ray is not installed\n  pip install 'ray"):
        list(results("ray", None, Toy("a", 1)))


def test_a_cluster_that_is_not_there_is_told() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(UserError, match=r"--ray-address 127\.0\.0\.1:1: Ray does not answer: .*refused"):
        list(results("ray", "127.0.0.1:1", Toy("a", 1)))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()  # type: ignore[no-untyped-call]


def test_a_build_with_a_node_killed_in_it_ends_in_the_same_bytes(tmp_path: Path, cluster: Any) -> None:
    tars = many_tars(tmp_path / "tars", 8, 60)
    common = ["--input", tars, "--res", "16", "32", "--tagger", "textblob"]
    build([*common, "--out", str(tmp_path / "here"), "--workers", "0"])
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    out = tmp_path / "there"
    killed = threading.Event()

    def kill() -> None:
        while not list(out.glob("records/rows/*.json")):
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    build([*common, "--out", str(out), "--engine", "ray", "--ray-address", cluster.address, "--workers", "2"])
    killer.join()
    cluster.remove_node(nodes[1], allow_graceful=False)
    assert killed.is_set()
    assert fingerprints(out) == fingerprints(tmp_path / "here")


def test_a_node_killed_at_work_changes_nothing(tmp_path: Path, cluster: Any) -> None:
    tasks = [Toy(str(i), 40, NAPS | ({11: "exit"} if i == 5 else {}), tmp_path) for i in range(10)]
    expected = dict(results("local", None, *tasks))
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    found: dict[str, list[str]] = {}
    for name, said in results("ray", cluster.address, *tasks):
        if not found:
            cluster.remove_node(nodes[0], allow_graceful=False)
        found[name] = said
    assert found == expected
    assert list(tmp_path.glob("*.tmp")), "no task was under way on the node that was killed"
    with pytest.raises(OSError, match="No space left") as caught:
        list(results("ray", cluster.address, Toy("a", 5, {3: "disk full"})))
    assert caught.value.errno == errno.ENOSPC
